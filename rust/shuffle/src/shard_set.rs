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

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use corekit_base::control::POLL;
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use serde::{Deserialize, Serialize};

use crate::destination::random;
use crate::error::{At, Error, Result};
use crate::options::Tuning;
use crate::pattern::Pattern;
use crate::run::{Run, lock};
use crate::scratch::{UNSYNCED, is_direct, write_all_at};

/// Most files of the set that are open at a time.
const MOST_OPEN: usize = 4;

/// A larger manifest is none of ours.
const MOST_MANIFEST: u64 = 256 << 20;

/// The new manifest, while the set is being published.
const JOURNAL: &str = "journal.json";
/// The journal before it is whole.
const DRAFT: &str = "journal.draft";
/// The old manifest, once it is out of its place.
const RETIRED: &str = "retired.json";
/// What a live run has locked.
const LOCK: &str = "lock";

/// What is in a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The version of this crate.
    pub corekit: String,
    /// The version of the order.
    pub algorithm: u32,
    /// The seed, in decimal.
    pub seed: String,
    pub records: u64,
    /// Bytes before compression, delimiters and headers counted.
    pub bytes: u64,
    /// Of all records, in 32 hexadecimal digits.
    pub digest: String,
    pub compression: Option<String>,
    pub files: Vec<ManifestFile>,
}

/// One file of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    pub name: String,
    pub records: u64,
    /// Bytes before compression.
    pub bytes: u64,
    /// Bytes on disk.
    pub size: u64,
    pub digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
}

/// What is needed of a manifest that is already there, whichever version wrote it.
#[derive(Deserialize)]
struct Names {
    files: Vec<Name>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

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

/// The directory that files are written in.
struct Staging {
    /// Its own descriptor, and its name in its parent.
    fd: OwnedFd,
    name: OsString,
    /// Held while the run lives.
    #[allow(dead_code, reason = "it is released when it is dropped")]
    lock: Held,
    /// Whether it is to be left as it is: something of it is already published.
    keep: bool,
}

/// What is in the directory before the set comes.
#[derive(Default)]
struct Survey {
    /// Names that are there and belong to this set: of the manifest in place, or, when there is
    /// none, of what other runs had begun to publish.
    named: BTreeSet<OsString>,
    /// Whether a manifest is in place.
    manifest: bool,
    /// Staging directories of the dead that hold nothing worth knowing.
    empty: Vec<OsString>,
    /// Those that name files.
    dead: Vec<OsString>,
}

/// A lock that ends with its owner, even when a process that was forked meanwhile has a copy of the
/// descriptor.
struct Held(OwnedFd);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// The steps of publishing; a kill between two of them is harmless.
#[derive(Clone, Debug)]
enum Step {
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
        let survey = survey(&dir, &dir_fd, &pattern)?;
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
    /// [`ALIGN`](crate::pool::ALIGN).
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
                state = self
                    .released
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
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
    fn steps(&self, manifest: &Manifest) -> Result<Vec<Step>> {
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
        let survey = survey(&self.dir, &self.dir_fd, &self.pattern)?;
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

    fn take(&mut self, step: &Step, manifest: &Manifest) -> Result<()> {
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

impl Staging {
    /// Makes a directory of a name that nobody has.
    fn new(parent: &OwnedFd, prefix: &OsStr) -> rustix::io::Result<Self> {
        loop {
            let mut name = prefix.to_owned();
            name.push(format!("{:016x}", random()));
            match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                other => other?,
            }
            let made = || -> rustix::io::Result<Option<(OwnedFd, Held)>> {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd =
                    rustix::fs::openat(parent, &name, flags | OFlags::DIRECTORY, Mode::empty())?;
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let lock = rustix::fs::openat(&fd, LOCK, flags, Mode::RUSR | Mode::WUSR)?;
                // Another run may have taken this for a dead one's in the moment before.
                let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
                let linked = rustix::fs::fstat(&lock)?.st_nlink > 0;
                let ours = locked != Err(Errno::WOULDBLOCK) && linked;
                Ok(ours.then(|| (fd, Held(lock))))
            };
            match made() {
                Ok(Some((fd, lock))) => {
                    return Ok(Self {
                        fd,
                        name,
                        lock,
                        keep: false,
                    });
                }
                Ok(None) | Err(Errno::NOENT) => {}
                Err(error) => {
                    let _ = rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR);
                    return Err(error);
                }
            }
        }
    }

    /// Whether files here can do direct I/O.
    fn is_direct(&self) -> bool {
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.fd, DRAFT, flags, Mode::RUSR | Mode::WUSR);
        // A file system without direct I/O makes the file before it refuses it.
        let _ = rustix::fs::unlinkat(&self.fd, DRAFT, AtFlags::empty());
        opened.is_ok()
    }

    fn remove(&self, parent: &OwnedFd) {
        remove(parent, &self.name, &self.fd);
    }
}

/// What staging directories are called, up to their random end.
fn staging_prefix(pattern: &Pattern) -> OsString {
    let manifest = pattern.manifest_name();
    let mut prefix = OsString::from(".");
    prefix.push(Path::new(&manifest).file_stem().unwrap_or_default());
    prefix.push(".corekit-");
    prefix
}

/// Shows `each` the names in a directory.
fn each_name(dir: &OwnedFd, mut each: impl FnMut(&OsStr)) -> rustix::io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            each(name);
        }
    }
    Ok(())
}

/// Looks at what is in the directory, and refuses what is in the way.
fn survey(dir: &Path, dir_fd: &OwnedFd, pattern: &Pattern) -> Result<Survey> {
    let mut found = Survey::default();
    let (mut staged, mut present) = (Vec::new(), Vec::new());
    let prefix = staging_prefix(pattern);
    each_name(dir_fd, |name| {
        let end = name.as_bytes().strip_prefix(prefix.as_bytes());
        if end.is_some_and(|end| end.len() == 16 && end.iter().all(u8::is_ascii_hexdigit)) {
            staged.push(name.to_owned());
        } else if pattern.matches(name) {
            present.push(name.to_owned());
        }
    })
    .at(dir)?;
    let manifest = pattern.manifest_name();
    let mut named = BTreeSet::new();
    if let Some(names) = read_names(dir_fd, &manifest, &dir.join(&manifest))? {
        found.manifest = true;
        named.extend(names);
    }
    for name in staged {
        let Some((fd, live)) = open_staging(dir_fd, &name) else {
            continue;
        };
        let mut knows = false;
        // A manifest is in place only before anything is renamed and after all is, so that what
        // others have staged beside it tells nothing.
        if !found.manifest {
            for file in [JOURNAL, RETIRED] {
                let path = dir.join(&name).join(file);
                if let Some(names) = read_names(&fd, file.as_ref(), &path)? {
                    knows = true;
                    named.extend(names);
                }
            }
        }
        match (live, knows) {
            (true, _) => {}
            (false, true) => found.dead.push(name),
            (false, false) => found.empty.push(name),
        }
    }
    for name in present {
        let path = dir.join(&name);
        match rustix::fs::statat(dir_fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => {
                let mode = other.at(&path)?.st_mode;
                if FileType::from_raw_mode(mode) == FileType::Directory {
                    return Err(Errno::ISDIR).at(&path);
                }
            }
        }
        if !named.contains(&name) {
            // Another run may have published between the looks at its manifest and at its journal.
            if !found.manifest && read_names(dir_fd, &manifest, &dir.join(&manifest))?.is_some() {
                return survey(dir, dir_fd, pattern);
            }
            return Err(Errno::EXIST).at(&path);
        }
        found.named.insert(name);
    }
    Ok(found)
}

/// The files that a manifest names, if there is one.
fn read_names(dir: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<Vec<OsString>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at(path)?,
    };
    let stat = rustix::fs::fstat(&file).at(path)?;
    let garbage = |why: &dyn std::fmt::Display| {
        Error::InvalidArgument(format!(
            "output: {} is not the manifest of a set of files ({why}); remove it if it is not needed",
            path.display()
        ))
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(garbage(&"not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::from(file);
    file.take(MOST_MANIFEST + 1)
        .read_to_end(&mut bytes)
        .at(path)?;
    if bytes.len() as u64 > MOST_MANIFEST {
        return Err(garbage(&"too large"));
    }
    let names: Names = serde_json::from_slice(&bytes).map_err(|error| garbage(&error))?;
    Ok(Some(
        names
            .files
            .into_iter()
            .map(|file| file.name.into())
            .collect(),
    ))
}

/// Opens a staging directory of this user's, and tells whether its run lives.
fn open_staging(dir: &OwnedFd, name: &OsStr) -> Option<(OwnedFd, bool)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?;
    let owner = rustix::fs::fstat(&fd).ok()?.st_uid;
    if owner != rustix::process::geteuid().as_raw() {
        return None;
    }
    let live = dead_lock(&fd).is_none();
    Some((fd, live))
}

/// Takes the lock of a dead run: inside is its file, if it came so far.
fn dead_lock(staging: &OwnedFd) -> Option<Option<Held>> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(staging, LOCK, flags, Mode::empty()) {
        Ok(lock) => rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .is_ok()
            .then(|| Some(Held(lock))),
        Err(Errno::NOENT) => Some(None),
        Err(_) => None,
    }
}

/// Removes a dead run's staging directory. What cannot be removed is left.
fn sweep(dir: &OwnedFd, name: &OsStr) {
    let Some((fd, _)) = open_staging(dir, name) else {
        return;
    };
    match dead_lock(&fd) {
        Some(Some(_lock)) => remove(dir, name, &fd),
        // Without a lock there is nothing in it yet, unless its run lives and goes on just now:
        // then it is not empty any more, or it finds out and begins again.
        Some(None) => {
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR);
        }
        None => {}
    }
}

/// Removes a staging directory whose lock is held; the lock goes last.
fn remove(parent: &OwnedFd, name: &OsStr, staging: &OwnedFd) {
    clear(staging, &[LOCK]);
    let _ = rustix::fs::unlinkat(staging, LOCK, AtFlags::empty());
    let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
}

/// Removes all files but `keep`.
fn clear(staging: &OwnedFd, keep: &[&str]) {
    let mut gone = Vec::new();
    let _ = each_name(staging, |name| {
        if !keep.iter().any(|&kept| name == kept) {
            gone.push(name.to_owned());
        }
    });
    for name in gone {
        let _ = rustix::fs::unlinkat(staging, &name, AtFlags::empty());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::ALIGN;
    use corekit_base::control::Control;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[repr(align(4096))]
    struct Page([u8; ALIGN]);

    fn pattern(dir: &Path) -> Pattern {
        Pattern::parse(&dir.join("out-{index:02d}.txt")).expect("a pattern")
    }

    fn open(dir: &Path) -> Result<ShardSet> {
        ShardSet::open(pattern(dir), &Tuning::default())
    }

    /// The bytes of file `number` of set `mark`.
    fn content(mark: u8, number: u64) -> Vec<u8> {
        vec![mark; number as usize * 700 % 5000]
    }

    fn manifest(pattern: &Pattern, mark: u8, files: u64) -> Manifest {
        let files = (0..files).map(|number| ManifestFile {
            name: pattern.name(number, "", 0).into_string().expect("UTF-8"),
            size: content(mark, number).len() as u64,
            digest: format!("{:032x}", u128::MAX - u128::from(mark)),
            index: Some(number),
            ..ManifestFile::default()
        });
        Manifest {
            corekit: env!("CARGO_PKG_VERSION").into(),
            algorithm: 1,
            seed: u128::MAX.to_string(),
            records: 0,
            bytes: 0,
            digest: format!("{mark:032x}"),
            compression: None,
            files: files.collect(),
        }
    }

    /// Writes the files of a set, the pages of all of them in turn.
    fn fill(set: &ShardSet, mark: u8, files: u64) {
        for page in 0..2 {
            for number in 0..files {
                let bytes = content(mark, number);
                let bytes = &bytes[(page * ALIGN).min(bytes.len())..];
                if bytes.is_empty() {
                    continue;
                }
                let bytes = &bytes[..bytes.len().min(ALIGN)];
                let mut buffer = Box::new(Page([0xEE; ALIGN]));
                buffer.0[..bytes.len()].copy_from_slice(bytes);
                let len = if set.is_direct() { ALIGN } else { bytes.len() };
                set.write_at(number, &buffer.0[..len], (page * ALIGN) as u64)
                    .expect("written");
            }
        }
        for number in 0..files {
            set.finish(number, content(mark, number).len() as u64)
                .expect("finished");
        }
    }

    fn publish(set: ShardSet, manifest: &Manifest) -> Result<()> {
        let control = Control::new();
        set.publish(manifest, &Run::new(&control))
    }

    fn write(dir: &Path, mark: u8, files: u64) -> Result<()> {
        let set = open(dir)?;
        fill(&set, mark, files);
        let manifest = manifest(&set.pattern, mark, files);
        publish(set, &manifest)
    }

    /// As a kill would: nothing is tidied up, and the lock is gone.
    fn kill(set: ShardSet) {
        rustix::fs::flock(&set.staging.lock.0, FlockOperation::Unlock).expect("unlocked");
        std::mem::forget(set);
    }

    fn listing(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("readable");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    fn read_manifest(dir: &Path) -> Option<Manifest> {
        let bytes = std::fs::read(dir.join("out.manifest.json")).ok()?;
        assert_eq!(bytes.last(), Some(&b'\n'));
        Some(serde_json::from_slice(&bytes).expect("a manifest"))
    }

    /// The directory holds that set; and nothing else, but for `others`.
    fn holds(dir: &Path, mark: u8, files: u64) -> bool {
        let pattern = pattern(dir);
        read_manifest(dir) == Some(manifest(&pattern, mark, files))
            && (0..files).all(|number| {
                std::fs::read(dir.join(pattern.name(number, "", 0))).ok()
                    == Some(content(mark, number))
            })
    }

    fn holds_only(dir: &Path, mark: u8, files: u64) {
        assert!(holds(dir, mark, files), "set {mark}: {:?}", listing(dir));
        assert_eq!(listing(dir).len() as u64, files + 1, "{:?}", listing(dir));
    }

    fn is_io(error: &Error, errno: Errno, name: &str) -> bool {
        matches!(error, Error::Io { path, source }
            if source.raw_os_error() == Some(errno.raw_os_error())
                && path.file_name().is_some_and(|found| found == name))
    }

    #[test]
    fn sets_are_replaced_by_smaller_and_larger_ones() {
        for no_direct in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let tuning = Tuning {
                no_direct,
                ..Tuning::default()
            };
            for (mark, files) in [(1, 9), (2, 4), (3, 0), (4, 12)] {
                let set = ShardSet::open(pattern(dir.path()), &tuning).expect("ready");
                assert!(!(no_direct && set.is_direct()));
                assert_eq!(set.dir(), dir.path());
                fill(&set, mark, files);
                let manifest = manifest(&set.pattern, mark, files);
                publish(set, &manifest).expect("published");
                holds_only(dir.path(), mark, files);
            }
        }
    }

    #[test]
    fn published_files_are_ordinary_and_staged_ones_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let set = open(dir.path()).expect("ready");
        let staged = dir.path().join(&set.staging.name);
        assert_eq!(staged.metadata().expect("there").mode() & 0o777, 0o700);
        fill(&set, 1, 1);
        let manifest = manifest(&set.pattern, 1, 1);
        publish(set, &manifest).expect("published");
        std::fs::write(dir.path().join("plain"), "").expect("written");
        let mode = |name: &str| {
            dir.path()
                .join(name)
                .metadata()
                .expect("there")
                .permissions()
                .mode()
        };
        assert_eq!(mode("out-00.txt"), mode("plain"));
        assert_eq!(mode("out.manifest.json"), mode("plain"));
    }

    #[test]
    fn an_abandoned_set_leaves_the_old_one() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 1, 3).expect("published");
        let set = open(dir.path()).expect("ready");
        fill(&set, 2, 5);
        drop(set);
        holds_only(dir.path(), 1, 3);
    }

    #[test]
    fn a_cancelled_run_publishes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 1, 3).expect("published");
        let set = open(dir.path()).expect("ready");
        fill(&set, 2, 2);
        let manifest = manifest(&set.pattern, 2, 2);
        let control = Control::new();
        control.cancel();
        let error = set
            .publish(&manifest, &Run::new(&control))
            .expect_err("cancelled");
        assert!(matches!(error, Error::Cancelled));
        holds_only(dir.path(), 1, 3);
    }

    #[test]
    fn what_is_not_the_sets_is_refused_and_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("out-1.txt"), "other").expect("written");
        std::fs::write(path("out-07.txt"), "mine").expect("written");
        let error = open(dir.path()).err().expect("refused");
        assert!(is_io(&error, Errno::EXIST, "out-07.txt"), "{error}");
        std::fs::remove_file(path("out-07.txt")).expect("removed");
        write(dir.path(), 1, 3).expect("published");
        std::fs::write(path("out-07.txt"), "mine").expect("written");
        let error = open(dir.path()).err().expect("refused");
        assert!(is_io(&error, Errno::EXIST, "out-07.txt"), "{error}");
        assert_eq!(listing(dir.path()).len(), 6);
        std::fs::remove_file(path("out-07.txt")).expect("removed");
        // One that appears while the run lasts.
        let set = open(dir.path()).expect("ready");
        fill(&set, 2, 9);
        std::fs::write(path("out-07.txt"), "mine").expect("written");
        let manifest = manifest(&set.pattern, 2, 9);
        let error = publish(set, &manifest).expect_err("refused");
        assert!(is_io(&error, Errno::EXIST, "out-07.txt"), "{error}");
        assert!(holds(dir.path(), 1, 3));
        assert_eq!(std::fs::read(path("out-07.txt")).expect("there"), b"mine");
        std::fs::remove_file(path("out-07.txt")).expect("removed");
        std::fs::remove_file(path("out-01.txt")).expect("removed");
        std::fs::create_dir(path("out-01.txt")).expect("made");
        let error = open(dir.path()).err().expect("refused");
        assert!(is_io(&error, Errno::ISDIR, "out-01.txt"), "{error}");
    }

    #[test]
    fn links_are_replaced_and_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 1, 3).expect("published");
        let (link, target) = (dir.path().join("out-02.txt"), dir.path().join("target"));
        std::fs::remove_file(&link).expect("removed");
        std::fs::write(&target, "precious").expect("written");
        symlink(&target, &link).expect("made");
        write(dir.path(), 2, 3).expect("published");
        assert!(!link.is_symlink() && holds(dir.path(), 2, 3));
        assert_eq!(std::fs::read(&target).expect("there"), b"precious");
    }

    #[test]
    fn names_of_old_manifests_are_not_believed() {
        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).expect("made");
        for path in ["out-05.txt", "other.txt", "inner/out-06.txt"] {
            std::fs::write(dir.path().join(path), "mine").expect("written");
        }
        let names = [
            "out-00.txt",
            "../out-05.txt",
            "other.txt",
            "out-06.txt",
            "..",
            "",
            "/etc/x",
        ];
        let files: Vec<_> = names
            .map(|name| serde_json::json!({"name": name, "new": 1}))
            .into();
        let old = serde_json::json!({"version": "of the future", "files": files});
        std::fs::write(inner.join("out.manifest.json"), old.to_string()).expect("written");
        write(&inner, 1, 2).expect("published");
        holds_only(&inner, 1, 2);
        assert_eq!(listing(dir.path()), ["inner", "other.txt", "out-05.txt"]);
    }

    #[test]
    fn what_is_no_manifest_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("out.manifest.json");
        let refused = || {
            let error = open(dir.path()).err().expect("refused").to_string();
            assert!(
                error.starts_with("output: ") && error.contains("out.manifest.json"),
                "{error}"
            );
            assert_eq!(listing(dir.path()).len(), 1);
        };
        for garbage in ["", "{", "[]", "{\"files\": 3}", "{\"files\": [{}]}", "\0\0"] {
            std::fs::write(&path, garbage).expect("written");
            refused();
        }
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("made");
        refused();
        std::fs::remove_dir(&path).expect("removed");
        symlink("/dev/null", &path).expect("made");
        let error = open(dir.path()).err().expect("refused");
        assert!(is_io(&error, Errno::LOOP, "out.manifest.json"), "{error}");
    }

    #[test]
    fn manifests_that_do_not_fit_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 1, 2).expect("published");
        let pattern = pattern(dir.path());
        let right = manifest(&pattern, 2, 4);
        let mut wrong = vec![right.clone(); 5];
        wrong[0].files[1].name = wrong[0].files[0].name.clone();
        wrong[1].files[1].name = "../out-01.txt".into();
        wrong[2].files[1].size += 1;
        wrong[3].files.pop();
        wrong[4].files = manifest(&pattern, 2, 5).files;
        for wrong in wrong {
            let set = open(dir.path()).expect("ready");
            fill(&set, 2, 4);
            publish(set, &wrong).expect_err("refused");
            holds_only(dir.path(), 1, 2);
        }
    }

    #[test]
    fn only_utf8_and_directories_that_exist() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(OsStr::from_bytes(b"o\xFF-{index}"));
        let pattern = Pattern::parse(&path).expect("a pattern");
        let error = ShardSet::open(pattern, &Tuning::default())
            .err()
            .expect("refused");
        assert!(matches!(&error, Error::InvalidArgument(text) if text.starts_with("output")));
        let error = open(&dir.path().join("none")).err().expect("refused");
        assert!(is_io(&error, Errno::NOENT, "none"), "{error}");
    }

    /// Publishes a set of `files` up to step `steps` and dies; whether all steps were taken.
    fn killed(dir: &Path, mark: u8, files: u64, most: usize) -> bool {
        let mut set = open(dir).expect("ready");
        fill(&set, mark, files);
        let manifest = manifest(&set.pattern, mark, files);
        let steps = set.steps(&manifest).expect("steps");
        for step in steps.iter().take(most) {
            set.take(step, &manifest).expect("taken");
        }
        kill(set);
        most >= steps.len()
    }

    fn either_or(dir: &Path, sets: &[(u8, u64)], when: &str) {
        let whole = sets.iter().any(|&(mark, files)| holds(dir, mark, files));
        let none = read_manifest(dir).is_none();
        assert!(whole || none, "{when}: {:?}", listing(dir));
    }

    #[test]
    fn a_kill_at_any_step_is_recovered_from() {
        // Fresh, smaller, larger.
        for (old, new) in [(None, 3), (Some(5), 3), (Some(2), 4)] {
            for most in 0.. {
                let dir = tempfile::tempdir().expect("a directory");
                if let Some(old) = old {
                    write(dir.path(), 1, old).expect("published");
                }
                let all = killed(dir.path(), 2, new, most);
                let sets = [(1, old.unwrap_or(0)), (2, new)];
                either_or(dir.path(), &sets, &format!("{old:?} {new} {most}"));
                if all {
                    assert!(holds(dir.path(), 2, new));
                }
                // A run that gives up does not lose what is known.
                drop(open(dir.path()).expect("ready"));
                write(dir.path(), 3, 1).expect("published");
                holds_only(dir.path(), 3, 1);
                if all {
                    break;
                }
            }
        }
    }

    #[test]
    fn two_kills_in_a_row_are_recovered_from() {
        for first in [0, 1, 2, 4, 7, 9, 10] {
            for second in 0..16 {
                let dir = tempfile::tempdir().expect("a directory");
                write(dir.path(), 1, 4).expect("published");
                killed(dir.path(), 2, 6, first);
                killed(dir.path(), 3, 2, second);
                let sets = [(1, 4), (2, 6), (3, 2)];
                either_or(dir.path(), &sets, &format!("{first} {second}"));
                write(dir.path(), 4, 3).expect("published");
                holds_only(dir.path(), 4, 3);
            }
        }
    }

    /// A failure in the middle is like a kill, but the bytes need no room any more.
    #[test]
    fn a_failure_while_renaming_is_recovered_from() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 1, 4).expect("published");
        let mut set = open(dir.path()).expect("ready");
        fill(&set, 2, 6);
        let manifest = manifest(&set.pattern, 2, 6);
        let steps = set.steps(&manifest).expect("steps");
        steps[..4]
            .iter()
            .for_each(|step| set.take(step, &manifest).expect("taken"));
        let in_the_way = dir.path().join("out-05.txt");
        std::fs::create_dir(&in_the_way).expect("made");
        let failed = steps[4..]
            .iter()
            .try_for_each(|step| set.take(step, &manifest));
        let error = failed.expect_err("a directory is in the way");
        assert!(is_io(&error, Errno::ISDIR, "out-05.txt"), "{error}");
        let staging = dir.path().join(&set.staging.name);
        drop(set);
        assert_eq!(listing(&staging), [JOURNAL, LOCK, RETIRED]);
        assert!(read_manifest(dir.path()).is_none());
        std::fs::remove_dir(&in_the_way).expect("removed");
        write(dir.path(), 3, 2).expect("published");
        holds_only(dir.path(), 3, 2);
    }

    #[test]
    fn the_dead_are_swept_and_the_living_and_strangers_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let names = [
            ".out.manifest.corekit-0123456789abcdef",
            ".out.manifest.corekit-notes",
            ".other.manifest.corekit-0123456789abcdef",
        ];
        names
            .iter()
            .for_each(|name| std::fs::create_dir(dir.path().join(name)).expect("made"));
        let dead = open(dir.path()).expect("ready");
        fill(&dead, 1, 3);
        let dead_name = dead.staging.name.clone();
        kill(dead);
        let living = open(dir.path()).expect("ready");
        assert!(!dir.path().join(&dead_name).exists());
        let second = open(dir.path()).expect("ready");
        assert_eq!(listing(dir.path()).len(), 4);
        for (mark, set) in [(2, living), (3, second)] {
            fill(&set, mark, 2);
            let manifest = manifest(&set.pattern, mark, 2);
            publish(set, &manifest).expect("published");
            assert!(holds(dir.path(), mark, 2));
        }
        let left = listing(dir.path());
        assert_eq!(&left[..2], [names[2], names[1]]);
        assert_eq!(left.len(), 5);
    }

    #[test]
    fn a_locked_directory_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = File::open(dir.path()).expect("open");
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("locked");
        let set = open(dir.path()).expect("ready");
        fill(&set, 1, 1);
        let manifest = manifest(&set.pattern, 1, 1);
        let control = Control::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| set.publish(&manifest, &Run::new(&control)));
            std::thread::sleep(2 * POLL);
            assert!(!waiting.is_finished());
            control.cancel();
            let error = waiting.join().expect("no panic").expect_err("cancelled");
            assert!(matches!(error, Error::Cancelled));
        });
        assert_eq!(listing(dir.path()).len(), 0);
    }

    /// Writes a thousand files from more threads than files may be open.
    #[test]
    fn a_thousand_files_need_few_descriptors() {
        const CHILD: &str = "COREKIT_TEST_SHARDS";
        const FILES: u64 = 1000;
        if std::env::var_os(CHILD).is_none() {
            let name = "shard_set::tests::a_thousand_files_need_few_descriptors";
            let child = std::process::Command::new(std::env::current_exe().expect("a path"))
                .args(["--exact", name, "--test-threads=1"])
                .env(CHILD, "1")
                .output()
                .expect("started");
            let output = String::from_utf8_lossy(&child.stdout);
            assert!(
                child.status.success() && output.contains("1 passed"),
                "{output}"
            );
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let limit = rustix::process::Rlimit {
            current: Some(32),
            maximum: Some(32),
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("lowered");
        for no_direct in [false, true] {
            let tuning = Tuning {
                no_direct,
                ..Tuning::default()
            };
            let pattern = Pattern::parse(&dir.path().join("x-{index}")).expect("a pattern");
            let set = ShardSet::open(pattern, &tuning).expect("ready");
            std::thread::scope(|scope| {
                for thread in 0..8u64 {
                    let set = &set;
                    scope.spawn(move || {
                        // Every thread writes one page of every file.
                        for i in 0..FILES {
                            let number = (i + thread * 100) % FILES;
                            let page = Box::new(Page([number as u8 ^ thread as u8; ALIGN]));
                            let offset = thread * ALIGN as u64;
                            set.write_at(number, &page.0, offset).expect("written");
                        }
                    });
                }
            });
            assert!(lock(&set.state).open.len() <= MOST_OPEN);
            let size = 8 * ALIGN as u64 - 5;
            let mut manifest = manifest(&set.pattern, 1, FILES);
            for number in 0..FILES {
                set.finish(number, size).expect("finished");
                manifest.files[number as usize].size = size;
            }
            assert_eq!(lock(&set.state).open.len(), 0);
            publish(set, &manifest).expect("published");
            assert_eq!(listing(dir.path()).len() as u64, FILES + 1);
            for number in 0..FILES {
                let bytes = std::fs::read(dir.path().join(format!("x-{number}"))).expect("there");
                assert_eq!(bytes.len() as u64, size);
                let right = |(at, &byte): (usize, &u8)| byte == number as u8 ^ (at / ALIGN) as u8;
                assert!(bytes.iter().enumerate().all(right));
            }
        }
    }

    #[test]
    fn buffered_bytes_are_flushed_as_they_come() {
        let dir = tempfile::tempdir().expect("a directory");
        let tuning = Tuning {
            no_direct: true,
            ..Tuning::default()
        };
        let set = ShardSet::open(pattern(dir.path()), &tuning).expect("ready");
        let bytes = vec![1; 1 << 20];
        let total = 80u64;
        for at in 0..total {
            set.write_at(at % 2, &bytes, (at / 2) << 20)
                .expect("written");
            let dirty: u64 = lock(&set.state).open.iter().map(|open| open.unsynced).sum();
            assert!(dirty <= UNSYNCED);
        }
    }
}
