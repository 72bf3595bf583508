//! What is in the directory before the set comes: the set that was, what the dead have left, and what
//! is in the way.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::manifest::read_names;
use super::staging::{JOURNAL, RETIRED, each_name, open_staging, staging_prefix};
use crate::error::{At, Result};
use crate::output::pattern::Pattern;

/// What is in the directory before the set comes.
#[derive(Default)]
pub(super) struct Survey {
    /// Names that are there and belong to this set: of the manifest in place, or, when there is
    /// none, of what other runs had begun to publish.
    pub(super) named: BTreeSet<OsString>,
    /// Whether a manifest is in place.
    pub(super) manifest: bool,
    /// Staging directories of the dead that hold nothing worth knowing.
    pub(super) empty: Vec<OsString>,
    /// Those that name files.
    pub(super) dead: Vec<OsString>,
}

impl Survey {
    /// Looks at what is in the directory, and refuses what is in the way.
    pub(super) fn of(dir: &Path, dir_fd: &OwnedFd, pattern: &Pattern) -> Result<Self> {
        let mut found = Self::default();
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
            // Another pattern with the same manifest: its files would stay, and nothing would name them.
            let stays = |name: &&OsString| {
                let plain = Path::new(name).file_name() == Some(name);
                let there = rustix::fs::statat(dir_fd, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW);
                plain && !pattern.matches(name) && there.is_ok()
            };
            if let Some(name) = names.iter().find(stays) {
                return Err(Errno::EXIST).at(&dir.join(name));
            }
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
                if !pattern.claims(&name) {
                    continue;
                }
                // Another run may have published between the looks at its manifest and at its journal.
                if !found.manifest && read_names(dir_fd, &manifest, &dir.join(&manifest))?.is_some()
                {
                    return Self::of(dir, dir_fd, pattern);
                }
                return Err(Errno::EXIST).at(&path);
            }
            found.named.insert(name);
        }
        Ok(found)
    }
}
