//! Sparse Johnson-Lindenstrauss random projection.
//!
//! - [`law`]: the distributions of matrices.
//! - [`draw`]: from a seed to entries, a public formula.

pub mod draw;
mod error;
pub mod law;
mod run;

pub use error::{Error, Result};
pub use law::{Law, Strata, Threshold};
pub use run::Run;
