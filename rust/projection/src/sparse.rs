//! Sparse matrices by the sparse laws, without making them dense.
//!
//! A row of X has few non-zeros, and each of them touches few outputs: `sums[output] += ±value` for
//! every entry of its feature's column of A, features in ascending order, and in the end one
//! multiplication by the weight of each output. These are the additions of the dense kernels, less
//! those of zeros, in the same order: results are equal to the bit, but for the sign of zeros.
//!
//! What costs time is to find a feature's entries, in a table far larger than the nearest caches
//! ([`columns`]); they are asked for well before they are needed. Where there is no table, the
//! columns are drawn as they come ([`drawn`]), and the last of them kept ([`cache`]). Where there
//! are very many outputs, rows are gone through once for each part of them.
//!
//! - [`compressed`]: CSR and CSC as they come from outside, checked.
//! - [`rows`]: rows in the order in which they are summed, whatever order they are stored in.
//! - [`slabs`]: CSC turned into CSR, some rows at a time.
//! - [`entries`]: columns of A themselves.

use corekit_base::array::MatrixMut;
use corekit_base::real::Real;
use corekit_base::run::Run;

use crate::error::{Error, Result};
use crate::law::{Part, Parts, SparseLaw};

mod cache;
pub(crate) mod columns;
pub(crate) mod compressed;
pub(crate) mod drawn;
pub(crate) mod entries;
mod kernel;
pub(crate) mod rows;
pub(crate) mod slabs;
#[cfg(test)]
mod tests;

pub(crate) use columns::Columns;
pub use compressed::{Compressed, Indices};
pub use entries::Entries;
pub(crate) use entries::entries;
pub(crate) use rows::SparseRows;
pub(crate) use slabs::{Paired, Slab, Slabs};

/// The most outputs of a part: their sums, of float64, take 2 MiB.
const MOST_OUTPUTS: usize = 1 << 18;

/// The most entries of a column in a part: a block of 16 such columns takes 512 KiB.
const MOST_ENTRIES: usize = 1 << 13;

/// How outputs are divided.
pub(crate) fn parts(law: SparseLaw<'_>) -> Parts<'_> {
    law.parts(MOST_OUTPUTS, MOST_ENTRIES)
}

/// A law with few entries in a column, and what a draw from it needs beside the feature's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw<'a> {
    /// The law.
    pub law: SparseLaw<'a>,
    /// The outputs that are drawn; they are counted from the first of them.
    pub part: Part,
    /// The seed.
    pub seed: u128,
}

impl Draw<'_> {
    /// The entries of a column: their number, or what is expected of it.
    fn column_nnz(&self) -> f64 {
        let share = self.part.len as f64 / self.law.n_components() as f64;
        match self.law {
            SparseLaw::Stack(_) => self.part.strata().len() as f64,
            SparseLaw::Iid { .. } => share * self.law.column_nnz(),
        }
    }
}

/// Where the columns of A come from. The bits of a result do not depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    /// How they are drawn.
    pub draw: Draw<'a>,
    /// All of them, drawn before.
    pub table: Option<&'a Columns>,
}

/// Y = X Aᵀ for `x` in CSR: rows are `x`'s major axis, and `y` has the outputs that are drawn.
///
/// Time: O(nnz) table look-ups and O(nnz s + n k) additions; memory: some tens of KB a thread, and
/// room for the longest row if there are rows that are not in order.
///
/// # Errors
/// [`Error::InvalidArgument`] when `y` has not x's rows or A's outputs, [`Error::OutOfMemory`],
/// [`Error::Cancelled`].
pub(crate) fn project_csr<T: Real>(
    source: &Source<'_>,
    x: &Compressed<'_>,
    y: &MatrixMut<'_>,
    run: &Run<'_>,
) -> Result<()> {
    fits(source, x.major(), y)?;
    kernel::project(source, kernel::Csr::<T>::new(source, x, y, run)?)
}

/// Y = X Aᵀ for `x` in CSC: features are `x`'s major axis, and rows its minor one.
///
/// Rows are turned into CSR, some megabytes for each thread at a time ([`Slabs`]).
///
/// # Errors
/// As [`project_csr`].
pub(crate) fn project_csc<T: Paired>(
    source: &Source<'_>,
    x: &Compressed<'_>,
    y: &MatrixMut<'_>,
    run: &Run<'_>,
) -> Result<()> {
    fits(source, x.minor(), y)?;
    kernel::project(
        source,
        kernel::Csc(kernel::Csr::<T>::new(source, x, y, run)?),
    )
}

fn fits(source: &Source<'_>, rows: usize, y: &MatrixMut<'_>) -> Result<()> {
    let needed = [rows, source.draw.part.len];
    if [y.rows(), y.columns()] == needed {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "the result must be of {} x {}, got {} x {}",
        needed[0],
        needed[1],
        y.rows(),
        y.columns()
    )))
}
