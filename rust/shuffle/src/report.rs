//! What a run did.

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

/// What a run did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Records read.
    pub read: Tally,
    /// Records written: the same, unless a sample was asked for.
    pub written: Tally,
    /// Bytes of output, delimiters counted.
    pub output_bytes: u64,
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
