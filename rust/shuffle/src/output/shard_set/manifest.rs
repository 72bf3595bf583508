//! What a set says of itself, and what is believed of a manifest that is already there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{At, Error, Result};

/// A larger manifest is none of ours.
const MOST_MANIFEST: u64 = 256 << 20;

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

/// The files that a manifest names, if there is one.
pub(super) fn read_names(
    dir: &OwnedFd,
    name: &OsStr,
    path: &Path,
) -> Result<Option<Vec<OsString>>> {
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
