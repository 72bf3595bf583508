//! What can go wrong, by what the caller can do about it.

use corekit_base::control::Cancelled;
use corekit_base::memory::Refused;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument cannot be used; the message says which, what it takes and what it got.
    #[error("{0}")]
    InvalidArgument(String),
    /// The system refused memory or a thread.
    #[error("{what} needs {bytes} bytes, which the system refused")]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// How much was asked for.
        bytes: u64,
    },
    /// The caller cancelled the work.
    #[error("cancelled")]
    Cancelled,
}

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
