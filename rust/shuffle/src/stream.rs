//! Pipes and devices: waiting for them without being stuck in them.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use corekit_base::control::POLL;

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
