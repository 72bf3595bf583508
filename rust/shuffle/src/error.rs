//! Everything that can go wrong, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use corekit_base::control::Cancelled;
use corekit_base::memory::Refused;
use corekit_base::threads::STACK_BYTES;

/// Why a shuffle, or its plan, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is outside what it may be.
    #[error("{0}")]
    InvalidArgument(String),
    /// The memory limit is too small for this job.
    #[error("{0}")]
    MemoryLimit(String),
    /// The system refused memory that is within the limit.
    #[error("cannot allocate {bytes} bytes for {what}")]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// How much was asked for.
        bytes: u64,
    },
    /// The system refused something about a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file, as the caller named it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// An input is not what it was when the run began.
    #[error("{}: {how}", path.display())]
    InputChanged {
        /// The input, as the caller named it.
        path: PathBuf,
        /// What was seen.
        how: String,
    },
    /// An input is not what its format demands.
    #[error("{}: {how}", path.display())]
    Format {
        /// The input, as the caller named it.
        path: PathBuf,
        /// What is wrong, and where.
        how: String,
    },
    /// An input needs a larger window than the memory limit has room for.
    #[error("{}: needs a window of {window} bytes", path.display())]
    Window {
        /// The input, as the caller named it.
        path: PathBuf,
        /// Bytes of the window.
        window: u64,
    },
    /// Records read and records written are not the same.
    #[error("{0}")]
    Integrity(String),
    /// A bug of this crate.
    #[error("a bug in corekit: {0}")]
    Internal(String),
    /// The caller asked the run to stop.
    #[error("cancelled")]
    Cancelled,
}

/// The result of everything fallible here.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Cancelled> for Error {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<Refused> for Error {
    fn from(Refused { what, bytes }: Refused) -> Self {
        Self::OutOfMemory { what, bytes }
    }
}

/// Names the file that an I/O error is about.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io {
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// The system has no more threads to give.
pub(crate) fn no_thread(_: io::Error) -> Error {
    Error::OutOfMemory {
        what: "a thread",
        bytes: STACK_BYTES as u64,
    }
}
