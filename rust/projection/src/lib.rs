//! Sparse Johnson-Lindenstrauss random projection.
//!
//! - [`law`]: the distributions of matrices.
//! - [`draw`]: from a seed to entries, a public formula.
//! - [`bounds`]: the chance of a distance to be off, exactly.
//! - [`Operator`]: a law under a seed, and how it acts on matrices.

pub mod bounds;
mod dense;
pub mod draw;
mod error;
mod gaussian;
pub mod law;
mod operator;
mod sparse;
mod srht;
mod zeros;

pub use error::{Error, Result};
pub use law::{Law, Strata, Threshold};
pub use operator::Operator;
pub use sparse::{Compressed, Entries, Indices};
