//! What every job of corekit needs and none owns.
//!
//! - [`philox`]: the one random-number generator, a public formula.
//! - [`normal`]: from its words to normal numbers, to the bit.
//! - [`control`]: cancelling and progress, the only way a caller talks to running work.
//! - [`threads`]: the one door to threads, and [`pool`]: those that are kept for short regions.
//! - [`memory`]: buffers that the system may refuse, and [`sync`]: locks, and what a panic leaves.
//! - [`simd`]: which instruction set the kernels use, found once.
//! - [`run`]: how a call of kernels runs, with all of these.
//! - [`real`]: the types that kernels compute in, [`mod@array`]: matrices of any type and strides, and
//!   [`aligned`]: buffers for tiles of them.
//!
//! The jobs (shuffle, projection, attention) lean on this crate and never on each other.

pub mod aligned;
pub mod array;
pub mod control;
pub mod memory;
pub mod normal;
pub mod philox;
pub mod pool;
pub mod real;
pub mod run;
pub mod simd;
pub mod sync;
pub mod threads;
