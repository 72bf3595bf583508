//! A set of files that appears as a whole.
//!
//! The files are written in a *staging directory* beside their final places, and published by
//! renames: first the set's old manifest goes, last the new manifest comes. So a manifest that is in
//! place names a complete set, whatever happened, and a directory without one is incomplete.
//!
//! Before anything is renamed the new manifest lies in the staging directory as its *journal*. What
//! a run that was killed left half published is known from there, and the next run to the same
//! names replaces or removes it. Files that match the pattern and that nothing names are somebody
//! else's: they are never touched, and refused before any work is done.
//!
//! The staging directory has a locked file in it while its run lives. What is staged by others than
//! the user is not believed.

mod manifest;
mod publish;
mod staging;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;

use corekit_base::sync::{lock, unpoisoned};

pub(crate) use self::manifest::{Manifest, ManifestFile};
use self::staging::{JOURNAL, LOCK, RETIRED, Staging, clear, staging_prefix, sweep};
use self::survey::Survey;
use crate::error::{At, Error, Result};
use crate::options::Tuning;
use crate::output::pattern::Pattern;
use crate::store::scratch::{UNSYNCED, is_direct, write_all_at};

/// Most files of the set that are open at a time.
const MOST_OPEN: usize = 4;

/// A set of files that is being written.
pub(crate) struct ShardSet {
    pattern: Pattern,
    dir: PathBuf,
    dir_fd: OwnedFd,
    staging: Staging,
    direct: bool,
    state: Mutex<State>,
    released: Condvar,
}

struct State {
    /// Open files; the one used last is at the end.
    open: Vec<Open>,
    /// Files that were opened before.
    known: BTreeSet<u64>,
}

struct Open {
    number: u64,
    file: Arc<File>,
    users: usize,
    /// Bytes that may not be on disk.
    unsynced: u64,
}

impl ShardSet {
    /// Makes ready for a set of files: finds out whether it can be written, before any work is done.
    pub fn open(pattern: Pattern, tuning: &Tuning) -> Result<Self> {
        let dir = pattern.dir().to_owned();
        if !pattern.is_utf8() {
            return Err(Error::InvalidArgument(format!(
                "output: {} is not UTF-8, which the manifest of a set needs",
                dir.join(pattern.name(0, "", 0)).display()
            )));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir_fd = rustix::fs::open(&dir, flags, Mode::empty()).at(&dir)?;
        let survey = Survey::of(&dir, &dir_fd, &pattern)?;
        for name in &survey.empty {
            sweep(&dir_fd, name);
        }
        let staging = Staging::new(&dir_fd, &staging_prefix(&pattern)).at(&dir)?;
        let direct = !tuning.no_direct && staging.is_direct();
        Ok(Self {
            pattern,
            dir,
            dir_fd,
            staging,
            direct,
            state: Mutex::new(State {
                open: Vec::with_capacity(MOST_OPEN),
                known: BTreeSet::new(),
            }),
            released: Condvar::new(),
        })
    }

    /// The directory that the files will be in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether writes must begin, end and lie in memory at multiples of
    /// [`ALIGN`](crate::store::pool::ALIGN).
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Writes `bytes` at `offset` of file `number`, which is made when it is first written to.
    pub fn write_at(&self, number: u64, bytes: &[u8], offset: u64) -> Result<()> {
        let file = self.acquire(number)?;
        let done = write_all_at(&file, bytes, offset).at(&self.dir);
        let buffered = !is_direct(&file);
        drop(file);
        let mut state = lock(&self.state);
        let mut flush = None;
        if buffered && let Some(open) = state.open.iter_mut().find(|open| open.number == number) {
            open.unsynced += bytes.len() as u64;
            // Few dirty bytes at any time: the last flush, and so Ctrl-C, is quick.
            if state.open.iter().map(|open| open.unsynced).sum::<u64>() > UNSYNCED
                && let Some(most) = state.open.iter_mut().max_by_key(|open| open.unsynced)
            {
                most.unsynced = 0;
                most.users += 1;
                flush = Some((most.number, most.file.clone()));
            }
        }
        drop(state);
        self.release(number);
        if let Some((number, file)) = flush {
            let flushed = retry_on_intr(|| rustix::fs::fdatasync(&file)).at(&self.dir);
            drop(file);
            self.release(number);
            flushed?;
        }
        done
    }

    /// All bytes of file `number` are written, and it is `len` bytes long. Called once for each
    /// file of the set; one that was never written to is empty.
    pub fn finish(&self, number: u64, len: u64) -> Result<()> {
        let file = self.acquire(number)?;
        let done = retry_on_intr(|| rustix::fs::ftruncate(&file, len))
            .and_then(|()| retry_on_intr(|| rustix::fs::fsync(&file)))
            .at(&self.dir);
        drop(file);
        let mut state = lock(&self.state);
        if let Some(open) = state.open.iter_mut().find(|open| open.number == number) {
            open.unsynced = 0;
        }
        drop(state);
        self.release(number);
        let mut state = lock(&self.state);
        state
            .open
            .retain(|open| open.number != number || open.users > 0);
        drop(state);
        self.released.notify_all();
        done
    }

    /// A file that is open until it is released as often as it was acquired. Waits when too many
    /// others are in use.
    fn acquire(&self, number: u64) -> Result<Arc<File>> {
        let mut state = lock(&self.state);
        loop {
            if let Some(at) = state.open.iter().position(|open| open.number == number) {
                let mut open = state.open.remove(at);
                open.users += 1;
                let file = open.file.clone();
                state.open.push(open);
                return Ok(file);
            }
            if state.open.len() < MOST_OPEN {
                break;
            }
            let Some(at) = state.open.iter().position(|open| open.users == 0) else {
                state = unpoisoned(self.released.wait(state));
                continue;
            };
            let old = state.open.remove(at);
            if old.unsynced > 0 {
                // Once a file is closed the system may forget that its bytes did not reach the disk.
                retry_on_intr(|| rustix::fs::fdatasync(&old.file)).at(&self.dir)?;
            }
        }
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if !state.known.contains(&number) {
            flags |= OFlags::CREATE | OFlags::EXCL;
        }
        if self.direct {
            flags |= OFlags::DIRECT;
        }
        let name = number.to_string();
        let mode = Mode::from_raw_mode(0o666);
        let file = retry_on_intr(|| rustix::fs::openat(&self.staging.fd, &name, flags, mode));
        let file = Arc::new(File::from(file.at(&self.dir)?));
        state.known.insert(number);
        state.open.push(Open {
            number,
            file: file.clone(),
            users: 1,
            unsynced: 0,
        });
        Ok(file)
    }

    fn release(&self, number: u64) {
        let mut state = lock(&self.state);
        if let Some(open) = state.open.iter_mut().find(|open| open.number == number) {
            open.users -= 1;
        }
        drop(state);
        self.released.notify_all();
    }
}

impl Drop for ShardSet {
    fn drop(&mut self) {
        lock(&self.state).open.clear();
        if self.staging.keep {
            // A failure in the middle: the names are needed to go on from here, the bytes are not.
            clear(&self.staging.fd, &[JOURNAL, RETIRED, LOCK]);
        } else {
            self.staging.remove(&self.dir_fd);
        }
    }
}
