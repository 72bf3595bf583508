//! The Gaussian law: every entry normal with variance 1/k, and none of them stored.
//!
//! Entry (output i, feature j) is the normal quantile of word i of stream j, over √k ([`corekit_base::normal`]),
//! rounded to the type of the sums. A matrix of that size is as large as the data, so it is drawn
//! panel by panel ([`entries`], [`ahead`]) while rows are multiplied by the panel before
//! ([`product`], [`gemm`]).
//!
//! Every sum is one chain of fused multiply-adds, over rising features (outputs, for the adjoint).
//! A fused multiply-add rounds once, on every machine, so the bits depend neither on threads nor
//! on the instruction set, nor on how the work is cut, and sparse rows give what dense rows give.

mod ahead;
mod entries;
mod gemm;
mod product;
mod sparse;
#[cfg(test)]
mod tests;

use corekit_base::array::{Matrix, MatrixMut};
use corekit_base::real::Real;
use corekit_base::run::Run;

use crate::error::Result;
use entries::{Entries, Scratch};
use product::{Side, product};

pub(crate) use sparse::project_sparse;

/// Outputs of columns that are drawn between two looks at the caller's wishes.
const COLUMN_OUTPUTS: usize = 1 << 20;

/// y = x Aᵀ for the k x d matrix A under `seed`: n x d to n x k.
pub(crate) fn project<T: Real>(
    seed: u128,
    k: usize,
    x: &Matrix,
    y: &MatrixMut,
    run: &Run,
) -> Result<()> {
    assert!(x.rows() == y.rows() && y.columns() == k);
    let entries = Entries::new(seed, k, run.level);
    product::<T>(&entries, Side::Project, x, y, run)
}

/// x = y A for the k x d matrix A under `seed`: n x k to n x d.
pub(crate) fn adjoint<T: Real>(
    seed: u128,
    n_features: usize,
    k: usize,
    y: &Matrix,
    x: &MatrixMut,
    run: &Run,
) -> Result<()> {
    assert!(x.rows() == y.rows() && y.columns() == k && x.columns() == n_features);
    let entries = Entries::new(seed, k, run.level);
    product::<T>(&entries, Side::Adjoint, y, x, run)
}

/// The columns of `features`: entry (i, `features[f]`) to `out[f * k + i]`.
pub(crate) fn columns(
    seed: u128,
    k: usize,
    features: &[u64],
    out: &mut [f64],
    run: &Run,
) -> Result<()> {
    let entries = Entries::new(seed, k, run.level);
    let mut scratch = Scratch::new()?;
    let step = k.min(COLUMN_OUTPUTS);
    for start in (0..k).step_by(step) {
        run.control.check()?;
        let outputs = start..k.min(start + step);
        let features = features.iter().copied();
        entries.columns(features, outputs, &mut scratch, &mut out[start..], k);
    }
    Ok(())
}
