//! Publishing: the steps by which a set takes its place, in an order in which a kill is harmless.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use corekit_base::control::POLL;
use corekit_base::sync::lock;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::staging::{DRAFT, Held, JOURNAL, RETIRED, sweep};
use super::survey::Survey;
use super::{Manifest, ShardSet};
use crate::error::{At, Error, Result};
use crate::run::Run;

/// The steps of publishing; a kill between two of them is harmless.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The new manifest becomes the journal.
    Journal,
    /// The old manifest goes.
    Retire,
    /// A file that is not in the new set goes.
    Remove(OsString),
    /// File `.0` of the set gets its final name.
    Place(u64, OsString),
    /// All the above is on disk.
    Sync,
    /// The journal becomes the manifest.
    Manifest,
    /// A staging directory of the dead goes.
    Sweep(OsString),
}

impl ShardSet {
    /// Makes the files the set that is in the directory; file `i` gets the name `manifest.files[i]`.
    pub fn publish(mut self, manifest: &Manifest, run: &Run) -> Result<()> {
        let _alone = self.alone(run)?;
        for step in self.steps(manifest)? {
            // The old set is as it was; what is renamed below cannot be undone.
            if matches!(step, Step::Journal) {
                run.check()?;
            }
            self.take(&step, manifest)?;
            if matches!(step, Step::Journal) {
                run.check()?;
            }
        }
        Ok(())
    }

    /// A lock on the directory, so that the renames of two runs do not mix. Where the file system
    /// has none, they may.
    fn alone(&self, run: &Run) -> Result<Held> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir_fd, ".", flags, Mode::empty()).at(&self.dir)?;
        while let Err(Errno::WOULDBLOCK | Errno::INTR) =
            rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)
        {
            run.check()?;
            std::thread::sleep(POLL);
        }
        Ok(Held(fd))
    }

    /// What is to be done to publish, after a look at whether it can be.
    pub(super) fn steps(&self, manifest: &Manifest) -> Result<Vec<Step>> {
        let mut new = BTreeMap::new();
        for (number, file) in (0u64..).zip(&manifest.files) {
            let name = OsString::from(&file.name);
            if !self.pattern.matches(&name) {
                return Err(Error::InvalidArgument(format!(
                    "output: {:?} cannot be the name of a file of the set",
                    file.name
                )));
            }
            if new.insert(name, number).is_some() {
                return Err(Error::InvalidArgument(format!(
                    "output: two files of the set would be called {:?}",
                    file.name
                )));
            }
            let staged = number.to_string();
            let stat = rustix::fs::statat(&self.staging.fd, &staged, AtFlags::SYMLINK_NOFOLLOW)
                .at(&self.dir)?;
            if stat.st_size as u64 != file.size {
                return Err(Error::Internal(format!(
                    "{} has {} bytes, its manifest says {}",
                    file.name, stat.st_size, file.size
                )));
            }
        }
        let known = lock(&self.state).known.len();
        if known != new.len() {
            return Err(Error::Internal(format!(
                "{known} files were written, the manifest names {}",
                new.len()
            )));
        }
        // Again, and now for good: another run may have published since this one began.
        let survey = Survey::of(&self.dir, &self.dir_fd, &self.pattern)?;
        let mut steps = vec![Step::Journal];
        if survey.manifest {
            steps.push(Step::Retire);
        }
        let gone = survey
            .named
            .into_iter()
            .filter(|name| !new.contains_key(name));
        steps.extend(gone.map(Step::Remove));
        let mut place: Vec<_> = new
            .into_iter()
            .map(|(name, number)| (number, name))
            .collect();
        place.sort_unstable();
        steps.extend(
            place
                .into_iter()
                .map(|(number, name)| Step::Place(number, name)),
        );
        steps.extend([Step::Sync, Step::Manifest]);
        let dead = survey.dead.into_iter().chain(survey.empty);
        steps.extend(dead.map(Step::Sweep));
        Ok(steps)
    }

    pub(super) fn take(&mut self, step: &Step, manifest: &Manifest) -> Result<()> {
        let (dir, staging) = (&self.dir_fd, &self.staging.fd);
        match step {
            Step::Journal => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o666);
                let file = rustix::fs::openat(staging, DRAFT, flags, mode).at(&self.dir)?;
                let mut file = std::io::BufWriter::new(File::from(file));
                serde_json::to_writer_pretty(&mut file, manifest)
                    .map_err(std::io::Error::from)
                    .and_then(|()| file.write_all(b"\n"))
                    .and_then(|()| file.flush())
                    .and_then(|()| file.get_ref().sync_all())
                    .at(&self.dir)?;
                rename(staging, DRAFT.as_ref(), staging, JOURNAL.as_ref()).at(&self.dir)?;
                // Both: the staging directory's own name must be there after a crash, too.
                sync(staging).and_then(|()| sync(dir)).at(&self.dir)
            }
            Step::Retire => {
                self.staging.keep = true;
                let name = self.pattern.manifest_name();
                let path = self.dir.join(&name);
                rename(dir, &name, staging, RETIRED.as_ref()).at(&path)?;
                // Both, and first of all: no file may change while the manifest is still there
                // after a crash.
                sync(staging).and_then(|()| sync(dir)).at(&path)
            }
            Step::Remove(name) => {
                self.staging.keep = true;
                match retry_on_intr(|| rustix::fs::unlinkat(dir, name, AtFlags::empty())) {
                    Ok(()) | Err(Errno::NOENT) => Ok(()),
                    Err(error) => Err(error).at(&self.dir.join(name)),
                }
            }
            Step::Place(number, name) => {
                self.staging.keep = true;
                let staged = number.to_string();
                rename(staging, staged.as_ref(), dir, name).at(&self.dir.join(name))
            }
            Step::Sync => sync(dir).at(&self.dir),
            Step::Manifest => {
                let name = self.pattern.manifest_name();
                rename(staging, JOURNAL.as_ref(), dir, &name).at(&self.dir.join(&name))?;
                // The set is complete: what is staged is not needed any more.
                self.staging.keep = false;
                sync(dir).at(&self.dir)
            }
            Step::Sweep(name) => {
                sweep(dir, name);
                Ok(())
            }
        }
    }
}

fn rename(from: &OwnedFd, old: &OsStr, to: &OwnedFd, new: &OsStr) -> rustix::io::Result<()> {
    retry_on_intr(|| rustix::fs::renameat(from, old, to, new))
}

/// Makes a directory's names durable, where the file system can.
fn sync(dir: &OwnedFd) -> rustix::io::Result<()> {
    match retry_on_intr(|| rustix::fs::fsync(dir)) {
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}
