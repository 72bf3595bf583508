//! The operator: a law under a seed, for a number of features.

use std::sync::OnceLock;

use corekit_base::array::{Dtype, Matrix, MatrixMut};
use corekit_base::memory::try_vec;
use corekit_base::run::Run;

use crate::dense;
use crate::dense::blocks::{self, BlockDraw, Blocks, Table};
use crate::dense::lists::{self, ListDraw, Lists, chunk_features};
use crate::dense::tables::Kept;
use crate::error::{Error, Result};
use crate::gaussian;
use crate::law::{Law, SparseLaw};
use crate::memory::zeros;
use crate::sparse::{
    self, Columns, Compressed, Draw, Entries, Paired, Slab, Slabs, Source, SparseRows,
};
use crate::srht::{Hadamard, Srht};

/// Entries of columns that are drawn between two looks at the caller's wishes.
const COLUMN_ENTRIES: usize = 1 << 20;

/// The types that all laws have kernels for.
trait Kernels: Blocks + Hadamard + Paired {}

impl<T: Blocks + Hadamard + Paired> Kernels for T {}

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
    /// Of float32 and of float64, whose chunks differ.
    blocks: [Kept<Table>; 2],
    lists: Kept<Lists>,
    adjoint: Kept<Lists>,
    srht: OnceLock<Srht>,
    columns: OnceLock<Option<Columns>>,
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
            blocks: [Kept::new(), Kept::new()],
            lists: Kept::new(),
            adjoint: Kept::new(),
            srht: OnceLock::new(),
            columns: OnceLock::new(),
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

    pub(crate) fn law(&self) -> &Law {
        &self.law
    }

    /// Whether dense calls find tables that were drawn before.
    pub(crate) fn keeps_tables(&self) -> bool {
        let of_lists = self.lists.get().or(self.adjoint.get()).is_some();
        of_lists || self.blocks.iter().any(|kept| kept.get().is_some())
    }

    /// Whether sparse calls find columns that were drawn before.
    pub(crate) fn has_columns(&self) -> bool {
        matches!(self.columns.get(), Some(Some(_)))
    }

    /// Whether what the SRHT law draws for all features was drawn before.
    pub(crate) fn has_drawn(&self) -> bool {
        self.srht.get().is_some()
    }

    /// The most bytes that a call on dense rows, with sums of float64 or float32, takes beyond its
    /// output: once, and for each thread.
    ///
    /// 16 MiB a thread are enough for all laws but [`Law::Srht`], of which every thread holds a row,
    /// padded to a power of two.
    pub fn room(&self, float64: bool) -> [u64; 2] {
        const THREAD: u64 = 16 << 20;
        match self.law {
            Law::Srht => {
                let size = if float64 { 8 } else { 4 };
                let [once, each] = Srht::room(self.n_features, self.n_components, size);
                [once, each.max(THREAD)]
            }
            _ => [0, THREAD],
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

    fn list_draw<'a>(&self, law: SparseLaw<'a>, by_feature: bool) -> ListDraw<'a> {
        let parts = lists::parts(law);
        ListDraw {
            seed: self.seed,
            law,
            parts,
            n_features: self.n_features,
            by_feature,
            chunk: chunk_features(&parts),
        }
    }

    /// Y = X Aᵀ: `x` of n x d to `y` of n x k.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the shapes do not fit, [`Error::OutOfMemory`],
    /// [`Error::Cancelled`].
    pub fn project(&self, x: &Matrix<'_>, y: &MatrixMut<'_>, run: &Run<'_>) -> Result<()> {
        self.fits(
            [x.rows(), x.columns()],
            self.n_features,
            y,
            self.n_components,
        )?;
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
        let (seed, k) = (self.seed, self.n_components);
        match (self.law.sparse(k), &self.law) {
            (Some(_), Law::Stack(strata)) if strata.width >= 8 && !x.is_by_columns() => {
                let draw = BlockDraw {
                    seed,
                    strata,
                    parts: blocks::parts::<T>(strata),
                    n_features: self.n_features,
                    chunk: T::CHUNK,
                };
                let kept = &self.blocks[usize::from(is_wide(T::DTYPE))];
                dense::project_blocks::<T>(&draw, kept, x, y, run)
            }
            (Some(law), _) => {
                let draw = self.list_draw(law, false);
                dense::project_lists::<T>(&draw, &self.lists, x, y, run)
            }
            (None, Law::Srht) => self.srht(run)?.project::<T>(x, y, run),
            (None, _) => gaussian::project::<T>(seed, k, x, y, run),
        }
    }

    /// Y = X Aᵀ for a sparse `x`: n x d, by rows or, where `by_columns`, by columns.
    ///
    /// # Errors
    /// As [`Operator::project`].
    pub fn project_sparse(
        &self,
        x: &Compressed<'_>,
        by_columns: bool,
        y: &MatrixMut<'_>,
        run: &Run<'_>,
    ) -> Result<()> {
        let (rows, columns) = match by_columns {
            false => (x.major(), x.minor()),
            true => (x.minor(), x.major()),
        };
        self.fits([rows, columns], self.n_features, y, self.n_components)?;
        match is_wide(x.values().dtype()) {
            false => self.project_sparse_as::<f32>(x, by_columns, y, run),
            true => self.project_sparse_as::<f64>(x, by_columns, y, run),
        }
    }

    fn project_sparse_as<T: Kernels>(
        &self,
        x: &Compressed<'_>,
        by_columns: bool,
        y: &MatrixMut<'_>,
        run: &Run<'_>,
    ) -> Result<()> {
        let (seed, k) = (self.seed, self.n_components);
        let law = match (self.law.sparse(k), &self.law) {
            (Some(law), _) => law,
            (None, Law::Srht) => {
                let drawn = self.srht(run)?;
                return each_slab(x, by_columns, y, run, |rows, y| {
                    drawn.project_sparse::<T>(rows, y, run)
                });
            }
            (None, _) => {
                return each_slab(x, by_columns, y, run, |rows, y| {
                    gaussian::project_sparse::<T>(seed, k, rows, y, run)
                });
            }
        };
        let parts = sparse::parts(law);
        for number in 0..parts.count() {
            let part = parts.get(number);
            let draw = Draw { law, part, seed };
            // A table has all outputs of a feature.
            let table = match self.columns.get() {
                _ if parts.count() > 1 => None,
                Some(table) => table.as_ref(),
                None if !Columns::pay(&law, self.n_features, x.nnz()) => None,
                None => {
                    let built = Columns::build(&draw, self.n_features, run)?;
                    self.columns.get_or_init(|| built).as_ref()
                }
            };
            let source = Source { draw, table };
            let y = y.transposed().row_range(part.outputs()).transposed();
            match by_columns {
                false => sparse::project_csr::<T>(&source, x, &y, run)?,
                true => sparse::project_csc::<T>(&source, x, &y, run)?,
            }
        }
        Ok(())
    }

    /// The columns of A for `features`, each below d: O(s) time each, O(k) for the dense laws.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Cancelled`].
    ///
    /// # Panics
    /// When a feature is not below d.
    pub fn columns(&self, features: &[u64], run: &Run<'_>) -> Result<Entries> {
        let d = self.n_features as u64;
        assert!(features.iter().all(|feature| *feature < d));
        let k = self.n_components;
        if let Some(law) = self.law.sparse(k) {
            return sparse::entries(law, self.seed, features, run);
        }
        const WHAT: &str = "columns of the matrix";
        let count = features.len();
        let all = count.saturating_mul(k);
        let mut found = Entries {
            starts: try_vec(WHAT, count.saturating_add(1))?,
            outputs: try_vec(WHAT, all)?,
            values: zeros(WHAT, all)?,
        };
        found.starts.push(0);
        let drawn = match &self.law {
            Law::Srht => Some(self.srht(run)?),
            _ => None,
        };
        // Some at a time, and then a look at the caller's wishes.
        let together = (COLUMN_ENTRIES / k).max(1);
        let values = found.values.chunks_mut(together * k);
        for (features, values) in features.chunks(together).zip(values) {
            run.control.check()?;
            match drawn {
                Some(drawn) => drawn.columns(features, values),
                None => gaussian::columns(self.seed, k, features, values, run)?,
            }
            for _ in features {
                found.outputs.extend(0..k as u64);
                found.starts.push(found.outputs.len() as u64);
            }
        }
        Ok(found)
    }

    /// X = Y A: `y` of n x k to `x` of n x d.
    ///
    /// # Errors
    /// As [`Operator::project`].
    pub fn adjoint(&self, y: &Matrix<'_>, x: &MatrixMut<'_>, run: &Run<'_>) -> Result<()> {
        self.fits(
            [y.rows(), y.columns()],
            self.n_components,
            x,
            self.n_features,
        )?;
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
        let (d, k) = (self.n_features, self.n_components);
        match (self.law.sparse(k), &self.law) {
            (Some(law), _) => {
                let draw = self.list_draw(law, true);
                dense::adjoint::<T>(&draw, &self.adjoint, y, x, run)
            }
            (None, Law::Srht) => self.srht(run)?.adjoint::<T>(y, x, run),
            (None, _) => gaussian::adjoint::<T>(self.seed, d, k, y, x, run),
        }
    }

    fn fits(
        &self,
        [rows, columns]: [usize; 2],
        from_columns: usize,
        to: &MatrixMut<'_>,
        to_columns: usize,
    ) -> Result<()> {
        if [columns, to.rows(), to.columns()] == [from_columns, rows, to_columns] {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "a matrix of n x {from_columns} to one of n x {to_columns} is needed, got {} x {} to \
             {} x {}",
            rows,
            columns,
            to.rows(),
            to.columns()
        )))
    }
}

/// Calls `project` for the rows of `x`, all at once or, where it is by columns, slab after slab.
fn each_slab<T: Paired>(
    x: &Compressed<'_>,
    by_columns: bool,
    y: &MatrixMut<'_>,
    run: &Run<'_>,
    project: impl Fn(&dyn SparseRows<T>, &MatrixMut<'_>) -> Result<()>,
) -> Result<()> {
    if !by_columns {
        return project(x, y);
    }
    let slabs = Slabs::new::<T>(x, run)?;
    let mut slab = Slab::default();
    for number in 0..slabs.len() {
        slabs.fill(number, &mut slab, run)?;
        project(&slab, &y.row_range(slab.row_range()))?;
    }
    Ok(())
}

/// Whether sums are taken in float64.
fn is_wide(dtype: Dtype) -> bool {
    !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
}
