//! Buffers, unless the system refuses them.

use corekit_base::aligned::Aligned;
use corekit_base::real::Real;

use crate::error::{Error, Result};

/// A buffer of `len` zeros, unless the system refuses it.
pub(crate) fn zeros<T: Real>(what: &'static str, len: usize) -> Result<Aligned<T>> {
    Aligned::zeros(len).map_err(|_| Error::OutOfMemory {
        what,
        bytes: (len as u64).saturating_mul(size_of::<T>() as u64),
    })
}
