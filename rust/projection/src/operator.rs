//! The operator: a law under a seed, for a number of features.

use std::sync::OnceLock;

use corekit_base::array::{Dtype, Matrix, MatrixMut};

use crate::dense;
use crate::dense::blocks::{BlockDraw, Blocks, Table};
use crate::dense::lists::{Entries, ListDraw, Lists, chunk_features};
use crate::dense::tables::Kept;
use crate::error::{Error, Result};
use crate::law::Law;
use crate::run::Run;
use crate::srht::{Hadamard, Srht};

/// The types that all laws have kernels for.
trait Kernels: Blocks + Hadamard {}

impl<T: Blocks + Hadamard> Kernels for T {}

/// A random matrix A of n_components x n_features, drawn wherever it is needed.
///
/// It is its parameters. What it keeps beside them are small tables of where features go, so that
/// calls on few rows need not draw them again.
#[derive(Debug)]
pub struct Operator {
    law: Law,
    n_features: usize,
    n_components: usize,
    seed: u128,
    blocks: Kept<Table>,
    lists: Kept<Lists>,
    adjoint: Kept<Lists>,
    srht: OnceLock<Srht>,
}

impl Operator {
    /// The matrix of `law` under `seed`.
    ///
    /// # Errors
    /// When a size is zero, or does not fit the law.
    pub fn new(law: Law, n_features: usize, n_components: usize, seed: u128) -> Result<Self> {
        let refuse = |what: String| Err(Error::InvalidArgument(what));
        if n_features == 0 || n_components == 0 {
            return refuse(format!(
                "n_features and n_components must be at least 1, got {n_features} and \
                 {n_components}"
            ));
        }
        if n_components > i32::MAX as usize {
            return refuse(format!(
                "n_components must be below 2**31, got {n_components}"
            ));
        }
        Ok(Self {
            law,
            n_features,
            n_components,
            seed,
            blocks: Kept::new(),
            lists: Kept::new(),
            adjoint: Kept::new(),
            srht: OnceLock::new(),
        })
    }

    /// d.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// k.
    pub fn n_components(&self) -> usize {
        self.n_components
    }

    /// The weight of every output, for the laws whose entries are ±that.
    fn scales<T: Blocks>(&self) -> Vec<T> {
        match &self.law {
            Law::Stack(strata) => strata.scales().into_iter().map(T::of).collect(),
            Law::Iid(threshold) => {
                let scale = 1.0 / (threshold.density() * self.n_components as f64).sqrt();
                vec![T::of(scale); self.n_components]
            }
            Law::Gaussian | Law::Srht => Vec::new(),
        }
    }

    /// What the SRHT law draws once for all features.
    fn srht(&self, run: &Run<'_>) -> Result<&Srht> {
        if let Some(drawn) = self.srht.get() {
            return Ok(drawn);
        }
        let drawn = Srht::draw(self.seed, self.n_features, self.n_components, run.control)?;
        Ok(self.srht.get_or_init(|| drawn))
    }

    fn list_draw<'a>(&'a self, entries: Entries<'a>, by_feature: bool) -> ListDraw<'a> {
        ListDraw {
            seed: self.seed,
            entries,
            n_features: self.n_features,
            n_components: self.n_components,
            by_feature,
            chunk: chunk_features(self.n_components),
        }
    }

    /// Y = X Aᵀ: `x` of n x d to `y` of n x k.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the shapes do not fit, [`Error::OutOfMemory`],
    /// [`Error::Cancelled`].
    pub fn project(&self, x: &Matrix<'_>, y: &MatrixMut<'_>, run: &Run<'_>) -> Result<()> {
        self.fits(x, self.n_features, y, self.n_components)?;
        match is_wide(x.dtype()) {
            false => self.project_as::<f32>(x, y, run),
            true => self.project_as::<f64>(x, y, run),
        }
    }

    fn project_as<T: Kernels>(
        &self,
        x: &Matrix<'_>,
        y: &MatrixMut<'_>,
        run: &Run<'_>,
    ) -> Result<()> {
        let scales = self.scales::<T>();
        let entries = match &self.law {
            Law::Stack(strata) if strata.width >= 8 && !x.is_by_columns() => {
                let draw = BlockDraw {
                    seed: self.seed,
                    strata,
                    n_features: self.n_features,
                };
                return dense::project_blocks(&draw, &self.blocks, &scales, x, y, run);
            }
            Law::Stack(strata) => Entries::Stack(strata),
            Law::Iid(threshold) => Entries::Iid(*threshold),
            Law::Gaussian => todo!(),
            Law::Srht => return self.srht(run)?.project::<T>(x, y, run),
        };
        let draw = self.list_draw(entries, false);
        dense::project_lists(&draw, &self.lists, &scales, x, y, run)
    }

    /// X = Y A: `y` of n x k to `x` of n x d.
    ///
    /// # Errors
    /// As [`Operator::project`].
    pub fn adjoint(&self, y: &Matrix<'_>, x: &MatrixMut<'_>, run: &Run<'_>) -> Result<()> {
        self.fits(y, self.n_components, x, self.n_features)?;
        match is_wide(y.dtype()) {
            false => self.adjoint_as::<f32>(y, x, run),
            true => self.adjoint_as::<f64>(y, x, run),
        }
    }

    fn adjoint_as<T: Kernels>(
        &self,
        y: &Matrix<'_>,
        x: &MatrixMut<'_>,
        run: &Run<'_>,
    ) -> Result<()> {
        let entries = match &self.law {
            Law::Stack(strata) => Entries::Stack(strata),
            Law::Iid(threshold) => Entries::Iid(*threshold),
            Law::Gaussian => todo!(),
            Law::Srht => return self.srht(run)?.adjoint::<T>(y, x, run),
        };
        let draw = self.list_draw(entries, true);
        dense::adjoint(&draw, &self.adjoint, &self.scales::<T>(), y, x, run)
    }

    fn fits(
        &self,
        from: &Matrix<'_>,
        from_columns: usize,
        to: &MatrixMut<'_>,
        to_columns: usize,
    ) -> Result<()> {
        let given = [from.columns(), to.rows(), to.columns()];
        let needed = [from_columns, from.rows(), to_columns];
        if given == needed {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "a matrix of n x {from_columns} to one of n x {to_columns} is needed, got {} x {} to \
             {} x {}",
            from.rows(),
            from.columns(),
            to.rows(),
            to.columns()
        )))
    }
}

/// Whether sums are taken in float64.
fn is_wide(dtype: Dtype) -> bool {
    !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
}
