//! Whether there is room on the disk for what a plan will write.

use std::path::Path;

use crate::error::{At, Error, Result};
use crate::plan::Plan;

/// Fails when the space that the plan surely needs is not there.
pub(crate) fn check_space(
    plan: &Plan,
    scratch: Option<&Path>,
    output: Option<&Path>,
) -> Result<()> {
    if plan.estimated {
        return Ok(());
    }
    let needed_out = match (plan.bytes_written, plan.scratch_bytes) {
        (Some(written), Some(scratch)) => written - scratch,
        _ => return Ok(()),
    };
    let needed_scratch = plan.scratch_bytes.unwrap_or(0);
    let full = |dir: &Path| -> Result<()> {
        Err(Error::Io {
            path: dir.to_owned(),
            source: std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()),
        })
    };
    let device = |dir: &Path| rustix::fs::stat(dir).map(|stat| stat.st_dev).ok();
    let same = match (scratch, output) {
        (Some(scratch), Some(output)) => device(scratch) == device(output),
        _ => false,
    };
    if let Some(output) = output {
        let needed = needed_out + if same { needed_scratch } else { 0 };
        if space(output)?.0 < needed {
            return full(output);
        }
    }
    if let Some(scratch) = scratch
        && !same
        && needed_scratch > 0
        && space(scratch)?.0 < needed_scratch
    {
        return full(scratch);
    }
    Ok(())
}

/// Free bytes that this process may use where `dir` is, and whether that is memory (tmpfs).
pub(crate) fn space(dir: &Path) -> Result<(u64, bool)> {
    let stat = rustix::fs::statvfs(dir).at(dir)?;
    #[cfg(target_os = "linux")]
    let in_memory = {
        const TMPFS_MAGIC: u64 = 0x0102_1994;
        const RAMFS_MAGIC: u64 = 0x8584_58f6;
        let kind = rustix::fs::statfs(dir).at(dir)?.f_type as u64 & 0xffff_ffff;
        kind == TMPFS_MAGIC || kind == RAMFS_MAGIC
    };
    #[cfg(not(target_os = "linux"))]
    let in_memory = false;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), in_memory))
}
