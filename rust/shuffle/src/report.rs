//! What a run did.

use std::path::PathBuf;

use crate::digest::Tally;
use crate::plan::Plan;

/// The phases of a run, in the numbers that progress uses.
pub const PHASES: [&str; 3] = ["scatter", "gather", "publish"];
pub(crate) const SCATTER: u8 = 0;
pub(crate) const GATHER: u8 = 1;
pub(crate) const PUBLISH: u8 = 2;

/// Seconds that each phase took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seconds {
    /// Reading, splitting, scattering.
    pub scatter: f64,
    /// Sorting, gathering, writing.
    pub gather: f64,
    /// Flushing and renaming.
    pub publish: f64,
}

/// One file of a set.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Where it is.
    pub path: PathBuf,
    /// Records.
    pub records: u64,
    /// Bytes before compression, delimiters and headers counted.
    pub bytes: u64,
    /// Bytes on disk.
    pub size: u64,
    /// The records' digest.
    pub digest: u128,
    /// Which shard it is.
    pub index: Option<u64>,
    /// Which split it belongs to.
    pub split: Option<String>,
    /// Which epoch it belongs to.
    pub epoch: Option<u32>,
}

/// What a run did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Records read.
    pub read: Tally,
    /// Records written: the same, unless a sample was asked for.
    pub written: Tally,
    /// Bytes of output before compression, delimiters and headers counted.
    pub output_bytes: u64,
    /// Bytes of output as it is stored.
    pub output_size: u64,
    /// The output's files, when they are a set.
    pub files: Vec<FileReport>,
    /// Bytes of input.
    pub input_bytes: u64,
    /// The version of the order's formula.
    pub algorithm: u32,
    /// The plan that was followed.
    pub plan: Plan,
    /// Time by phase.
    pub seconds: Seconds,
    /// Most memory that the run held, in bytes: the pool's touched pages and what is beside it.
    pub peak_memory: u64,
    /// Bytes written to scratch.
    pub scratch_bytes: u64,
    /// Passes over the inputs.
    pub passes: u32,
}
