//! Pipes and devices: waiting for them without being stuck in them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use corekit_base::control::POLL;

use crate::error::{At, Result};
use crate::run::Run;

/// What one waits for.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Waits at most one poll step until `file` can be read from or written to (or has failed, which
/// the next call on it will tell).
pub(crate) fn ready(file: &File, direction: Direction) -> rustix::io::Result<bool> {
    let flags = match direction {
        Direction::Read => PollFlags::IN,
        Direction::Write => PollFlags::OUT,
    };
    let step = Timespec {
        tv_sec: 0,
        tv_nsec: POLL.as_nanos() as _,
    };
    match poll(
        &mut [PollFd::from_borrowed_fd(file.as_fd(), flags)],
        Some(&step),
    ) {
        Ok(n) => Ok(n > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Something that takes bytes in order.
pub(crate) struct Stream {
    path: PathBuf,
    file: File,
    /// Most bytes of one write: a pipe that is ready takes this many without blocking.
    step: usize,
}

impl Stream {
    /// An inherited descriptor. A pipe is opened anew, so that writing to it never blocks and the
    /// flags that it shares with other processes stay as they are.
    pub fn of(file: &File, path: &Path) -> Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(file).at(path)?.st_mode);
        if kind == FileType::Directory {
            return Err(Errno::ISDIR).at(path);
        }
        let own = file.try_clone().at(path)?;
        if kind != FileType::Fifo {
            let step = if kind == FileType::RegularFile {
                1 << 20
            } else {
                PIPE_BUF
            };
            return Ok(Self {
                path: path.to_owned(),
                file: own,
                step,
            });
        }
        let proc = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(match rustix::fs::open(proc, flags, Mode::empty()) {
            Ok(again) => Self {
                path: path.to_owned(),
                file: again.into(),
                step: usize::MAX,
            },
            Err(_) => Self {
                path: path.to_owned(),
                file: own,
                step: PIPE_BUF,
            },
        })
    }

    /// A device or FIFO. A FIFO without a reader is waited for.
    pub fn open(path: &Path, run: &Run) -> Result<Self> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        loop {
            match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(file) => {
                    return Ok(Self {
                        path: path.to_owned(),
                        file: file.into(),
                        step: usize::MAX,
                    });
                }
                Err(Errno::NXIO) => {
                    run.check()?;
                    std::thread::sleep(POLL);
                }
                Err(error) => return Err(error).at(path),
            }
        }
    }

    pub fn write(&self, mut bytes: &[u8], run: &Run) -> Result<()> {
        while !bytes.is_empty() {
            run.check()?;
            if !ready(&self.file, Direction::Write).at(&self.path)? {
                continue;
            }
            match rustix::io::write(&self.file, &bytes[..bytes.len().min(self.step)]) {
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error).at(&self.path),
            }
        }
        Ok(())
    }
}

/// POSIX: a ready pipe takes this many bytes at once.
const PIPE_BUF: usize = 4096;
