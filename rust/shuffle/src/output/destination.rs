//! Where the output goes, and the promise that comes with it.
//!
//! A regular file holds its old bytes or the complete new ones, whatever happens: the new bytes are
//! written to a file without a name beside it, which is flushed, linked under a sibling's name,
//! renamed over the old one, and the directory is flushed. Only between the last two a kill can
//! leave the sibling (`.NAME.corekit-*`); it is locked while its run lives, so that the next run to
//! the same destination can tell and remove it. Where a file system has no unnamed files the sibling
//! exists from the start.
//!
//! Devices, FIFOs and descriptors are streamed to and never replaced. Several files are a
//! [`ShardSet`], which has a way of its own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use corekit_base::sync::lock;

use crate::error::{At, Error, Result};
use crate::input::stream::Stream;
use crate::options::{Output, Tuning};
use crate::output::pattern::Pattern;
use crate::output::shard_set::{Manifest, ShardSet};
use crate::plan::space::space;
use crate::run::Run;
use crate::store::pool::ALIGN;
use crate::store::scratch::{UNSYNCED, is_direct, write_all_at};

/// A destination that is ready to take the output.
pub(crate) enum Destination {
    File(Replacement),
    Stream(Stream),
    /// The files, and the bytes of those that are finished.
    Set(ShardSet, Mutex<BTreeMap<u64, u64>>),
}

/// New content for a regular file, not yet visible.
pub(crate) struct Replacement {
    /// As the caller named it.
    path: PathBuf,
    /// Symlinks resolved.
    target: PathBuf,
    old: Option<Stat>,
    file: File,
    /// The sibling's name, when the file system made us give one from the start.
    sibling: Option<PathBuf>,
    reserve: bool,
    unsynced: AtomicU64,
}

/// A number that other runs will not draw.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Destination {
    /// Makes ready for the output: finds out what the destination is, and whether it can be
    /// written, before any work is done.
    pub fn open(output: &Output, set: Option<Pattern>, tuning: &Tuning, run: &Run) -> Result<Self> {
        if let Some(pattern) = set {
            let set = ShardSet::open(pattern, tuning)?;
            return Ok(Self::Set(set, Mutex::default()));
        }
        let path = match output {
            Output::Open(file, path) => return Stream::of(file, path).map(Self::Stream),
            Output::Path(path) => path,
            Output::Reader(_) => return Err(Error::Internal("a reader is no destination".into())),
        };
        let target = resolve(path).at(path)?;
        let old = match rustix::fs::stat(&target) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error).at(path),
        };
        match old.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            None | Some(FileType::RegularFile) => {
                Replacement::new(path, target, old, tuning).map(Self::File)
            }
            Some(FileType::Directory) => Err(Errno::ISDIR).at(path),
            Some(_) => Stream::open(path, run).map(Self::Stream),
        }
    }

    /// Whether bytes must come in order and cannot be withheld.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// The directory that it is in; a stream is in none.
    pub fn dir(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(parent(&file.target)),
            Self::Set(set, _) => Some(set.dir()),
            Self::Stream(_) => None,
        }
    }

    /// The one file that it replaces.
    pub fn target(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(&file.target),
            _ => None,
        }
    }

    /// Bytes of file `number` of a set, which is finished.
    pub fn size(&self, number: u64) -> u64 {
        match self {
            Self::Set(_, sizes) => lock(sizes).get(&number).copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// Makes sure of space for `total` bytes.
    pub fn reserve(&self, total: u64) -> Result<()> {
        match self {
            Self::File(file) if file.reserve && total > 0 => {
                match retry_on_intr(|| {
                    rustix::fs::fallocate(&file.file, FallocateFlags::empty(), 0, total)
                }) {
                    Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
                    Err(error) => Err(error).at(&file.path),
                }
            }
            Self::Set(set, _) if space(set.dir())?.0 < total => Err(Errno::NOSPC).at(set.dir()),
            _ => Ok(()),
        }
    }

    /// Writes the first `len` bytes of `frame` at `offset` of file `number` of a set, or of the only
    /// one. Bytes of the frame behind `len` may be
    /// overwritten: a direct write ends at an aligned offset, and the file is cut later.
    pub fn write(
        &self,
        number: u64,
        frame: &mut [u8],
        len: usize,
        offset: u64,
        run: &Run,
    ) -> Result<()> {
        match self {
            Self::Set(set, _) if set.is_direct() => {
                let padded = len.next_multiple_of(ALIGN);
                frame[len..padded].fill(0);
                set.write_at(number, &frame[..padded], offset)
            }
            Self::Set(set, _) => set.write_at(number, &frame[..len], offset),
            Self::Stream(stream) => stream.write(&frame[..len], run),
            Self::File(file) if is_direct(&file.file) => {
                let padded = len.next_multiple_of(ALIGN);
                frame[len..padded].fill(0);
                write_all_at(&file.file, &frame[..padded], offset).at(&file.path)
            }
            Self::File(file) => {
                write_all_at(&file.file, &frame[..len], offset).at(&file.path)?;
                // Few dirty bytes at any time: the last flush, and so Ctrl-C, is quick.
                if file.unsynced.fetch_add(len as u64, Relaxed) > UNSYNCED {
                    file.unsynced.store(0, Relaxed);
                    retry_on_intr(|| rustix::fs::fdatasync(&file.file)).at(&file.path)?;
                }
                Ok(())
            }
        }
    }

    /// File `number` has all its bytes, which are `len`.
    pub fn finish(&self, number: u64, len: u64) -> Result<()> {
        match self {
            Self::File(file) => file.finish(len),
            Self::Set(set, sizes) => {
                lock(sizes).insert(number, len);
                set.finish(number, len)
            }
            Self::Stream(_) => Ok(()),
        }
    }

    /// Makes what was written the destination's content; a set is described by `manifest`.
    pub fn publish(self, manifest: &Manifest, run: &Run) -> Result<()> {
        match self {
            Self::File(file) => file.publish(run),
            Self::Set(set, _) => set.publish(manifest, run),
            Self::Stream(_) => Ok(()),
        }
    }
}

impl Replacement {
    fn new(path: &Path, target: PathBuf, old: Option<Stat>, tuning: &Tuning) -> Result<Self> {
        let dir = parent(&target);
        let name = target.file_name().ok_or(Errno::ISDIR).at(path)?;
        // What the caller could not write to in place is not replaced behind its permissions.
        if old.is_some() {
            rustix::fs::access(&target, rustix::fs::Access::WRITE_OK).at(path)?;
        }
        sweep(dir, &sibling_prefix(name));
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666);
        let open = |extra: OFlags| -> rustix::io::Result<(File, Option<PathBuf>)> {
            // Without /proc an unnamed file could never be given its name.
            if !tuning.no_tmpfile && Path::new("/proc/self/fd").exists() {
                match rustix::fs::open(dir, flags | extra | OFlags::TMPFILE, mode) {
                    Ok(file) => return Ok((file.into(), None)),
                    Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
                    Err(error) => return Err(error),
                }
            }
            loop {
                let sibling = dir.join(sibling_name(name));
                let extra = extra | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                match rustix::fs::open(&sibling, flags | extra, mode) {
                    Ok(file) => return Ok((file.into(), Some(sibling))),
                    Err(Errno::EXIST) => {}
                    Err(error) => {
                        let _ = rustix::fs::unlink(&sibling);
                        return Err(error);
                    }
                }
            }
        };
        loop {
            let opened = match tuning.no_direct {
                true => open(OFlags::empty()),
                false => match open(OFlags::DIRECT) {
                    Err(Errno::INVAL) => open(OFlags::empty()),
                    other => other,
                },
            };
            let (file, sibling) = opened.at(path)?;
            // The lock says that this run lives. Another run may have taken a sibling for a dead
            // one in the moment before: then it is gone, and a new one is made.
            let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
            let linked = rustix::fs::fstat(&file).at(path)?.st_nlink > 0;
            if sibling.is_some() && (locked == Err(Errno::WOULDBLOCK) || !linked) {
                continue;
            }
            return Ok(Self {
                path: path.to_owned(),
                target,
                old,
                file,
                sibling,
                reserve: !tuning.no_fallocate,
                unsynced: AtomicU64::new(0),
            });
        }
    }

    /// Gives the file the old one's owner and group as far as that is allowed, and returns its mode,
    /// without rights that would now be somebody else's.
    fn keep_owner(&self, old: &Stat) -> Mode {
        let mode = Mode::from_raw_mode(old.st_mode & 0o7777);
        let fchown = std::os::unix::fs::fchown::<&File>;
        if fchown(&self.file, Some(old.st_uid), Some(old.st_gid)).is_ok() {
            return mode;
        }
        let mode = mode.difference(Mode::SUID | Mode::SGID);
        match fchown(&self.file, None, Some(old.st_gid)) {
            Ok(()) => mode,
            Err(_) => mode.difference(Mode::RWXG),
        }
    }

    /// All `len` bytes are written: they, and who may read them, go to the disk.
    fn finish(&self, len: u64) -> Result<()> {
        let path = &self.path;
        retry_on_intr(|| rustix::fs::ftruncate(&self.file, len)).at(path)?;
        if let Some(old) = &self.old {
            let mode = self.keep_owner(old);
            retry_on_intr(|| rustix::fs::fchmod(&self.file, mode)).at(path)?;
        }
        retry_on_intr(|| rustix::fs::fsync(&self.file)).at(path)
    }

    fn publish(mut self, run: &Run) -> Result<()> {
        let path = self.path.clone();
        run.check()?;
        // Opened now: after the rename there is no way back.
        let parent = parent(&self.target).to_owned();
        let dir = File::open(&parent).at(&path)?;
        if self.sibling.is_none() {
            let name = self.target.file_name().unwrap_or_default();
            let proc = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            self.sibling = loop {
                let sibling = parent.join(sibling_name(name));
                match retry_on_intr(|| {
                    rustix::fs::linkat(CWD, &proc, CWD, &sibling, AtFlags::SYMLINK_FOLLOW)
                }) {
                    Ok(()) => break Some(sibling),
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error).at(&path),
                }
            };
        }
        if let Some(sibling) = &self.sibling {
            retry_on_intr(|| rustix::fs::rename(sibling, &self.target)).at(&path)?;
        }
        self.sibling = None;
        // The new bytes are in place; only the name's durability is left.
        match retry_on_intr(|| rustix::fs::fsync(&dir)) {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error).at(&path),
        }
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(sibling) = &self.sibling {
            let _ = rustix::fs::unlink(sibling);
        }
    }
}

/// Follows symlinks to the file that is to be written, which need not exist.
fn resolve(path: &Path) -> rustix::io::Result<PathBuf> {
    /// As many as Linux follows.
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST {
        match rustix::fs::readlink(&path, Vec::new()) {
            Ok(link) => {
                let link = PathBuf::from(OsString::from_vec(link.into_bytes()));
                path = parent(&path).join(link);
            }
            Err(Errno::INVAL | Errno::NOENT) => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::LOOP)
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// The part of a sibling's name before its random end; cut to what a file system allows.
fn sibling_prefix(name: &OsStr) -> Vec<u8> {
    const NAME_MAX: usize = 255;
    const REST: usize = ".".len() + ".corekit-".len() + 16;
    let name = name.as_bytes();
    [b".", &name[..name.len().min(NAME_MAX - REST)], b".corekit-"].concat()
}

fn sibling_name(name: &OsStr) -> OsString {
    let mut sibling = sibling_prefix(name);
    sibling.extend_from_slice(format!("{:016x}", random()).as_bytes());
    OsString::from_vec(sibling)
}

/// Removes what dead runs left: files named `prefix` and sixteen hexadecimal digits that nobody has
/// locked. What cannot be removed is left.
pub(crate) fn sweep(dir: &Path, prefix: &[u8]) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(end) = file_name.as_bytes().strip_prefix(prefix) else {
            continue;
        };
        if end.len() != 16 || !end.iter().all(u8::is_ascii_hexdigit) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(entry.path(), flags, Mode::empty())
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = rustix::fs::unlink(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corekit_base::control::Control;
    use std::os::unix::fs::symlink;

    fn replace(path: &Path, bytes: &[u8], tuning: &Tuning) -> Result<()> {
        let control = Control::new();
        let run = Run::new(&control);
        let destination = Destination::open(&Output::Path(path.to_owned()), None, tuning, &run)?;
        let mut frame = bytes.to_vec();
        frame.resize(bytes.len().next_multiple_of(ALIGN), 0xEE);
        let tuned = destination.write(0, &mut frame, bytes.len(), 0, &run);
        // A vector is not aligned; file systems that mind get the buffered way.
        if tuned.is_err() {
            drop(destination);
            return replace(
                path,
                bytes,
                &Tuning {
                    no_direct: true,
                    ..tuning.clone()
                },
            );
        }
        destination.finish(0, bytes.len() as u64)?;
        destination.publish(&Manifest::default(), &run)
    }

    #[test]
    fn symlinks_stay_and_their_targets_are_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        symlink("file", &link).expect("made");
        for no_tmpfile in [false, true] {
            let tuning = Tuning {
                no_tmpfile,
                ..Tuning::default()
            };
            replace(&link, b"new", &tuning).expect("replaced");
            assert_eq!(std::fs::read(&file).expect("there"), b"new");
            assert!(link.is_symlink());
            assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 2);
        }
    }

    #[test]
    fn an_abandoned_destination_is_as_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        std::fs::write(&path, b"old").expect("written");
        let control = Control::new();
        let run = Run::new(&control);
        for no_tmpfile in [false, true] {
            let tuning = Tuning {
                no_tmpfile,
                ..Tuning::default()
            };
            drop(
                Destination::open(&Output::Path(path.clone()), None, &tuning, &run).expect("made"),
            );
            assert_eq!(std::fs::read(&path).expect("there"), b"old");
            assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 1);
        }
    }

    #[test]
    fn siblings_of_the_dead_go_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let dead = dir.path().join(".file.corekit-0123456789abcdef");
        let other = dir.path().join(".file.corekit-notes");
        std::fs::write(&dead, b"half").expect("written");
        std::fs::write(&other, b"mine").expect("written");
        let control = Control::new();
        let run = Run::new(&control);
        let tuning = Tuning {
            no_tmpfile: true,
            ..Tuning::default()
        };
        let output = Output::Path(path);
        let living = Destination::open(&output, None, &tuning, &run).expect("made");
        assert!(!dead.exists() && other.exists());
        let second = Destination::open(&output, None, &tuning, &run).expect("made");
        let siblings = || std::fs::read_dir(dir.path()).expect("readable").count() - 1;
        assert_eq!(siblings(), 2, "both runs live");
        drop((living, second));
        assert_eq!(siblings(), 0);
    }

    #[test]
    fn long_names_leave_room_for_a_sibling() {
        let name = OsString::from("x".repeat(255));
        assert!(sibling_name(&name).len() <= 255);
    }
}
