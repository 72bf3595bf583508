//! Johnson-Lindenstrauss random projection: Y = X Aᵀ, with a random matrix A that is not stored.
//!
//! Three things are kept apart. A [`Law`] is a distribution of matrices; an [`Operator`] is a law
//! under a seed, for a number of features and of components: it is the matrix, drawn wherever it is
//! needed; and the kernels are how it acts, for each law and each kind of input.
//!
//! # Where to look
//!
//! - [`law`]: which laws there are, and with which weights.
//! - [`draw`]: from a seed to the entries of the sparse laws, a public formula.
//! - [`operator`]: the caller's door; it checks shapes and chooses the kernel.
//! - [`dense`]: dense rows by the sparse laws; [`sparse`]: CSR and CSC by them.
//! - [`gaussian`]: the Gaussian law, drawn in panels ahead of their use.
//! - [`srht`]: the subsampled randomised Hadamard transform.
//! - [`cost`]: about how long a call takes.
//! - [`bounds`]: how likely a length is off by more than eps.
//!
//! Rows are the unit of work, and every output is a sum in an order that is fixed: bits depend on
//! neither threads nor instruction set, nor on how rows are cut.
//!
//! To read it all, begin with [`law`] and [`operator`], then the kernel of one law.

pub mod bounds;
mod cost;
mod dense;
pub mod draw;
mod error;
mod gaussian;
pub mod law;
mod memory;
mod operator;
mod sort;
mod sparse;
mod srht;

pub use cost::Call;
pub use error::{Error, Result};
pub use law::{Law, Strata, Threshold};
pub use operator::Operator;
pub use sparse::{Compressed, Entries, Indices};
