//! Scratch files: without a name, of fixed-size blocks, read and written past the page cache.
//!
//! A scratch file never has a name that outlives its creation, so nothing is left behind however
//! the process ends. Direct I/O keeps tens of gigabytes of short-lived blocks out of the page cache;
//! where the file system has no direct I/O, written bytes are flushed every few megabytes, so that a
//! flush is always short.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use corekit_base::sync::lock;

use crate::error::{At, Error, Result};
use crate::input::read_at;
use crate::options::Tuning;
use crate::output::destination::{random, sweep};

/// Space asked for at a time, so that a full disk is met early and extents are long.
const GROW: u64 = 256 << 20;

/// Dirty bytes of buffered writes that may wait for the disk.
pub(crate) const UNSYNCED: u64 = 32 << 20;

/// What a file that must be named for a moment is called.
const PREFIX: &str = ".corekit-scratch-";

/// One level's blocks on disk.
pub(crate) struct Scratch {
    dir: PathBuf,
    file: File,
    block: usize,
    allocated: Mutex<u64>,
    unsynced: AtomicU64,
}

impl Scratch {
    pub fn new(dir: &Path, block: usize, tuning: &Tuning) -> Result<Self> {
        let file = unnamed_file(dir, !tuning.no_direct, !tuning.no_tmpfile)?;
        Ok(Self {
            dir: dir.to_owned(),
            file,
            block,
            allocated: Mutex::new(if tuning.no_fallocate { u64::MAX } else { 0 }),
            unsynced: AtomicU64::new(0),
        })
    }

    /// Writes whole blocks side by side, the first at number `first`.
    pub fn write(&self, first: u32, blocks: &[&[u8]]) -> Result<()> {
        let offset = u64::from(first) * self.block as u64;
        let bytes = (blocks.len() * self.block) as u64;
        self.grow(offset + bytes);
        let slices: Vec<IoSlice> = blocks.iter().map(|block| IoSlice::new(block)).collect();
        // Short or refused: the rest block by block, which names the reason if there is one.
        let done = match retry_on_intr(|| rustix::io::pwritev(&self.file, &slices, offset)) {
            Err(Errno::INVAL) => 0,
            other => other.at(&self.dir)?,
        };
        if done < bytes as usize {
            for (i, block) in blocks.iter().enumerate() {
                write_all_at(&self.file, block, offset + (i * self.block) as u64).at(&self.dir)?;
            }
        }
        if !is_direct(&self.file) && self.unsynced.fetch_add(bytes, Relaxed) > UNSYNCED {
            self.unsynced.store(0, Relaxed);
            retry_on_intr(|| rustix::fs::fdatasync(&self.file)).at(&self.dir)?;
        }
        Ok(())
    }

    /// Reads block `number` into `block`.
    pub fn read(&self, number: u32, block: &mut [u8]) -> Result<()> {
        let offset = u64::from(number) * self.block as u64;
        let mut done = 0;
        while done < block.len() {
            match read_at(&self.file, &mut block[done..], offset + done as u64).at(&self.dir)? {
                0 => return Err(Error::Integrity("scratch became shorter".into())),
                n => done += n,
            }
        }
        Ok(())
    }

    /// Reserves space up to `end`, ahead of the writes. A refusal is not an error here: the write
    /// that really needs the space will say so.
    fn grow(&self, end: u64) {
        let mut allocated = lock(&self.allocated);
        if end > *allocated {
            let to = end.next_multiple_of(GROW);
            let asked =
                retry_on_intr(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, to));
            *allocated = if asked.is_ok() { to } else { u64::MAX };
        }
    }
}

/// Opens a file in `dir` that has no name; it does direct I/O if that is asked for and possible.
///
/// Where the file system cannot make one without a name (`tmpfile` false stands in for that in
/// tests), it is made with a random one and unlinked at once.
pub(crate) fn unnamed_file(dir: &Path, direct: bool, tmpfile: bool) -> Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let open = |extra: OFlags| {
        if tmpfile {
            match rustix::fs::open(dir, flags | extra | OFlags::TMPFILE, mode) {
                Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
                other => return other,
            }
        }
        let parent = rustix::fs::open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        // A run that was killed between making such a file and unlinking it left it behind.
        sweep(dir, PREFIX.as_bytes());
        loop {
            let name = format!("{PREFIX}{:016x}", random());
            let file = rustix::fs::openat(
                &parent,
                &name,
                flags | extra | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW,
                mode,
            );
            match file {
                Err(Errno::EXIST) => {}
                Err(error) => {
                    // A file system without direct I/O makes the file before it refuses it.
                    let _ = rustix::fs::unlinkat(&parent, &name, AtFlags::empty());
                    return Err(error);
                }
                Ok(file) => match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => return Ok(file),
                    Err(error) => return Err(error),
                },
            }
        }
    };
    if direct {
        match open(OFlags::DIRECT) {
            Err(Errno::INVAL) => {}
            other => return Ok(other.at(dir)?.into()),
        }
    }
    Ok(open(OFlags::empty()).at(dir)?.into())
}

/// `pwrite` of all of `bytes`; interruptions and short writes are gone on from.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pwrite(file, &bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            // A direct write that a limit cuts short is not aligned any more. The rest goes through
            // the cache, or gives the real reason.
            Err(Errno::INVAL) if is_direct(file) => {
                rustix::fs::fcntl_setfl(file, OFlags::empty())?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether writes to a file must be aligned.
pub(crate) fn is_direct(file: &File) -> bool {
    rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(OFlags::DIRECT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(4096))]
    struct Block([u8; 8192]);

    #[test]
    fn blocks_come_back_with_and_without_each_feature() {
        let dir = tempfile::tempdir().expect("a directory");
        for bits in 0..8 {
            let tuning = Tuning {
                no_direct: bits & 1 != 0,
                no_tmpfile: bits & 2 != 0,
                no_fallocate: bits & 4 != 0,
                ..Tuning::default()
            };
            let scratch = Scratch::new(dir.path(), 8192, &tuning).expect("made");
            assert_eq!(
                std::fs::read_dir(dir.path()).expect("readable").count(),
                0,
                "no name"
            );
            let blocks = [1u8, 2, 3].map(|byte| Box::new(Block([byte; 8192])));
            let slices = blocks.each_ref().map(|block| &block.0[..]);
            scratch.write(0, &slices[..2]).expect("written");
            scratch.write(2, &slices[2..]).expect("written");
            let mut back = Box::new(Block([0; 8192]));
            for (number, block) in slices.iter().enumerate() {
                scratch.read(number as u32, &mut back.0).expect("read");
                assert_eq!(&back.0[..], *block);
            }
        }
    }
}
