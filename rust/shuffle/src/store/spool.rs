//! Where long records of sequences wait: they cannot be read again from where they lay.

mod files;
mod memory;

use std::path::PathBuf;

/// Most records that come piece by piece at the same time.
pub(crate) const LANES: usize = 32;

pub(crate) use self::files::Files;
pub(crate) use self::memory::{Memory, does_not_fit};
use crate::error::Result;
use crate::run::Run;
use crate::store::Store;

/// Records by their places, in scratch or in the pool.
pub(crate) enum Spool<'a> {
    Files(Box<Files<'a>>),
    Memory(Memory<'a>),
}

impl<'a> Spool<'a> {
    /// A spool in `dir`, or in the pool when there is none.
    pub fn new(dir: Option<PathBuf>, store: &'a Store, limit: u64, run: &'a Run<'a>) -> Self {
        match dir {
            Some(dir) => Self::Files(Box::new(Files::new(dir, run))),
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

    /// Stores a record of `bucket` that is here whole; returns its place.
    pub fn append(&self, bucket: usize, record: &[u8]) -> Result<u64> {
        match self {
            Self::Files(files) => files.append(record),
            Self::Memory(memory) => memory.append(bucket, record),
        }
    }

    /// Begins a record of `bucket` that comes piece by piece, and is the only such one in `lane`;
    /// returns its place.
    pub fn begin_serial(&self, lane: usize, bucket: usize, piece: &[u8]) -> Result<u64> {
        match self {
            Self::Files(files) => files.begin_serial(lane, piece),
            Self::Memory(memory) => memory.append(bucket, piece),
        }
    }

    /// Adds the next piece of a record begun piece by piece, which is at `place`.
    pub fn append_serial(&self, place: u64, piece: &[u8]) -> Result<()> {
        match self {
            Self::Files(files) => files.append_serial(place, piece),
            Self::Memory(memory) => memory.append_to(place, piece),
        }
    }

    /// Gives back the memory of all records: the inputs are about to be read again.
    pub fn clear(&self) {
        if let Self::Memory(memory) = self {
            memory.clear();
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
