//! Where long records of a stream wait: they cannot be read again from where they lay.

mod files;
mod memory;

use std::path::PathBuf;

pub(crate) use self::files::Files;
pub(crate) use self::memory::{Memory, does_not_fit};
use crate::error::Result;
use crate::run::Run;
use crate::store::Store;

/// Records by their places, in scratch or in the pool.
pub(crate) enum Spool<'a> {
    Files(Files<'a>),
    Memory(Memory<'a>),
}

impl<'a> Spool<'a> {
    /// A spool in `dir`, or in the pool when there is none.
    pub fn new(dir: Option<PathBuf>, store: &'a Store, limit: u64, run: &'a Run<'a>) -> Self {
        match dir {
            Some(dir) => Self::Files(Files::new(dir, run)),
            None => Self::Memory(Memory::new(store, limit)),
        }
    }

    /// Bytes of scratch that the spool holds.
    pub fn scratch_bytes(&self) -> u64 {
        match self {
            Self::Files(files) => files.bytes(),
            Self::Memory(_) => 0,
        }
    }

    /// Stores a record that is here whole; returns its place.
    pub fn append(&self, record: &[u8]) -> Result<u64> {
        match self {
            Self::Files(files) => files.append(record),
            Self::Memory(memory) => memory.append(record),
        }
    }

    /// Begins a record that comes piece by piece; returns its place.
    pub fn begin_serial(&self, piece: &[u8]) -> Result<u64> {
        match self {
            Self::Files(files) => files.begin_serial(piece),
            Self::Memory(memory) => memory.append(piece),
        }
    }

    /// Adds the next piece of the record begun last, which is at `place`.
    pub fn append_serial(&self, place: u64, piece: &[u8]) -> Result<()> {
        match self {
            Self::Files(files) => files.append_serial(piece),
            Self::Memory(memory) => memory.append_to(place, piece),
        }
    }

    /// Reads exactly `buf` at `offset` of the record at `place`.
    pub fn read_exact_at(&self, place: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self {
            Self::Files(files) => files.read_exact_at(place, offset, buf),
            Self::Memory(memory) => memory.read_exact_at(place, offset, buf),
        }
    }
}
