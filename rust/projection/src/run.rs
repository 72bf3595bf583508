//! How a call runs: on how many threads, with which instructions, and who may stop it.

use corekit_base::control::Control;
use corekit_base::simd::Level;

/// What a call has from its caller, beside its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The most threads to use.
    pub threads: usize,
    /// The instruction set of the kernels; the bits do not depend on it.
    pub level: Level,
    /// Cancelling, and progress in rows.
    pub control: &'a Control,
}
