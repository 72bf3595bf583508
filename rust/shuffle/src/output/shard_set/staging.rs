//! The staging directory of a run: how it is made, how it is known to be alive, and how it goes.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::output::destination::random;
use crate::output::pattern::Pattern;

/// The new manifest, while the set is being published.
pub(super) const JOURNAL: &str = "journal.json";
/// The journal before it is whole.
pub(super) const DRAFT: &str = "journal.draft";
/// The old manifest, once it is out of its place.
pub(super) const RETIRED: &str = "retired.json";
/// What a live run has locked.
pub(super) const LOCK: &str = "lock";

/// The directory that files are written in.
pub(super) struct Staging {
    /// Its own descriptor, and its name in its parent.
    pub(super) fd: OwnedFd,
    pub(super) name: OsString,
    /// Held while the run lives.
    #[allow(dead_code, reason = "it is released when it is dropped")]
    pub(super) lock: Held,
    /// Whether it is to be left as it is: something of it is already published.
    pub(super) keep: bool,
}

/// A lock that ends with its owner, even when a process that was forked meanwhile has a copy of the
/// descriptor.
pub(super) struct Held(pub(super) OwnedFd);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

impl Staging {
    /// Makes a directory of a name that nobody has.
    pub(super) fn new(parent: &OwnedFd, prefix: &OsStr) -> rustix::io::Result<Self> {
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
    pub(super) fn is_direct(&self) -> bool {
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.fd, DRAFT, flags, Mode::RUSR | Mode::WUSR);
        // A file system without direct I/O makes the file before it refuses it.
        let _ = rustix::fs::unlinkat(&self.fd, DRAFT, AtFlags::empty());
        opened.is_ok()
    }

    pub(super) fn remove(&self, parent: &OwnedFd) {
        remove(parent, &self.name, &self.fd);
    }
}

/// What staging directories are called, up to their random end.
pub(super) fn staging_prefix(pattern: &Pattern) -> OsString {
    let manifest = pattern.manifest_name();
    let mut prefix = OsString::from(".");
    prefix.push(Path::new(&manifest).file_stem().unwrap_or_default());
    prefix.push(".corekit-");
    prefix
}

/// Shows `each` the names in a directory.
pub(super) fn each_name(dir: &OwnedFd, mut each: impl FnMut(&OsStr)) -> rustix::io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            each(name);
        }
    }
    Ok(())
}

/// Opens a staging directory of this user's, and tells whether its run lives.
pub(super) fn open_staging(dir: &OwnedFd, name: &OsStr) -> Option<(OwnedFd, bool)> {
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
pub(super) fn sweep(dir: &OwnedFd, name: &OsStr) {
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
    // What cannot be removed now is a later run's: it needs the lock to tell that nobody lives.
    if clear(staging, &[LOCK]) {
        let _ = rustix::fs::unlinkat(staging, LOCK, AtFlags::empty());
        let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    }
}

/// Removes all files but `keep`; false when some are still there.
pub(super) fn clear(staging: &OwnedFd, keep: &[&str]) -> bool {
    let mut gone = Vec::new();
    let _ = each_name(staging, |name| {
        if !keep.iter().any(|&kept| name == kept) {
            gone.push(name.to_owned());
        }
    });
    gone.iter().fold(true, |all, name| {
        all & rustix::fs::unlinkat(staging, name, AtFlags::empty()).is_ok()
    })
}
