//! What can go wrong.

use corekit_base::control::Cancelled;
use corekit_base::memory::Refused;

/// Why linear attention failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument that cannot be; nothing was computed.
    #[error("{0}")]
    InvalidArgument(String),
    /// The system, or a stated limit, refuses memory.
    #[error("cannot allocate {bytes} bytes for {what}")]
    OutOfMemory {
        /// What it was for.
        what: &'static str,
        /// How much of it.
        bytes: u64,
    },
    /// The caller cancelled.
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

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
