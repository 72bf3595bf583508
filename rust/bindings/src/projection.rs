//! `corekit.projection`.

use corekit_base::control::Progress;
use corekit_base::run::Run;
use corekit_projection::{
    Call, Compressed, Error, Indices, Law, Operator, Result, Strata, Threshold,
};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::{Array, load_numpy};
use crate::enter::{Length, Tell, run};
use crate::errors::{Raise, invalid_argument};

/// A random matrix: `corekit.projection.SparseProjection` without its manners.
#[pyclass(module = "corekit._core", frozen)]
pub(crate) struct Projection {
    operator: Operator,
}

#[pymethods]
impl Projection {
    /// `law` is "stack" (with `column_nnz` and `width`), "iid" (with `density`), "gaussian" or
    /// "srht".
    #[new]
    #[pyo3(signature = (n_features, n_components, *, law, seed, column_nnz, width, density))]
    fn new(
        n_features: usize,
        n_components: usize,
        law: &str,
        seed: u128,
        column_nnz: usize,
        width: Option<usize>,
        density: f64,
    ) -> PyResult<Self> {
        let law = || -> Result<Law> {
            Ok(match law {
                "stack" => {
                    let widest = Strata::widest(n_components, column_nnz);
                    let width = width.unwrap_or(widest);
                    Law::Stack(Strata::new(n_components, column_nnz, width)?)
                }
                "iid" => Law::Iid(Threshold::new(density)?),
                "gaussian" => Law::Gaussian,
                "srht" => Law::Srht,
                other => return Err(Error::InvalidArgument(format!("law has no {other:?}"))),
            })
        };
        let operator = law()
            .and_then(|law| Operator::new(law, n_features, n_components, seed))
            .map_err(Raise::raise)?;
        Ok(Self { operator })
    }

    /// y = x Aᵀ.
    fn project(&self, x: Array<'_>, y: Array<'_>, how: How) -> PyResult<()> {
        let py = x.py();
        let work = self.work(x.elements(), Call::Dense { rows: x.rows() });
        let (row_bytes, rows) = (x.row_bytes(), x.rows());
        #[allow(unsafe_code)]
        // SAFETY: the caller of this private module gives an `out` that is writable, shares no
        // memory with `x`, and has no element twice; both are kept alive by their handles.
        let (x, y) = unsafe { (x.matrix()?, y.matrix_mut()?) };
        how.run(py, work, row_bytes, rows, |run| {
            self.operator.project(&x, &y, run)
        })
    }

    /// y = x Aᵀ, for `x` in compressed rows or columns.
    #[allow(clippy::too_many_arguments)]
    fn project_sparse(
        &self,
        indptr: IndexArray<'_>,
        indices: IndexArray<'_>,
        values: Array<'_>,
        shape: (usize, usize),
        by_columns: bool,
        y: Array<'_>,
        how: How,
    ) -> PyResult<()> {
        let py = values.py();
        let (rows, columns) = shape;
        let (nnz, row_bytes) = (values.elements(), y.row_bytes());
        let structure = match (&indptr, &indices) {
            (IndexArray::I32(indptr), IndexArray::I32(indices)) => Indices::I32 {
                indptr: indptr.as_slice()?,
                indices: indices.as_slice()?,
            },
            (IndexArray::I64(indptr), IndexArray::I64(indices)) => Indices::I64 {
                indptr: indptr.as_slice()?,
                indices: indices.as_slice()?,
            },
            _ => return Err(invalid_argument("indptr and indices must be of one type")),
        };
        let (major, minor) = match by_columns {
            false => (rows, columns),
            true => (columns, rows),
        };
        let work = self.work(nnz + y.elements(), Call::Sparse { rows, nnz });
        #[allow(unsafe_code)]
        // SAFETY: as in `project`.
        let (values, y) = unsafe { (values.matrix()?, y.matrix_mut()?) };
        how.run(py, work, row_bytes, rows, |run| {
            let x = Compressed::new(major, minor, structure, values, run)?;
            self.operator.project_sparse(&x, by_columns, &y, run)
        })
    }

    /// Columns of A: where each starts, outputs, values.
    fn columns<'py>(
        &self,
        py: Python<'py>,
        features: PyReadonlyArray1<'py, u64>,
        how: How,
    ) -> PyResult<Columns<'py>> {
        load_numpy(py)?;
        let features = features.as_slice()?;
        if let Some(feature) = features
            .iter()
            .find(|f| **f >= self.operator.n_features() as u64)
        {
            return Err(invalid_argument(format!(
                "a feature must be below n_features, got {feature}"
            )));
        }
        let count = features.len();
        let work = self.work(count, Call::Columns { features: count });
        let entries = how.run(py, work, 0, 0, |run| self.operator.columns(features, run))?;
        let (starts, outputs) = (entries.starts, entries.outputs);
        Ok((
            starts.into_pyarray(py),
            outputs.into_pyarray(py),
            entries.values.into_pyarray(py),
        ))
    }

    /// x = y A.
    fn adjoint(&self, y: Array<'_>, x: Array<'_>, how: How) -> PyResult<()> {
        let py = y.py();
        let work = self.work(x.elements(), Call::Dense { rows: x.rows() });
        let (row_bytes, rows) = (x.row_bytes(), x.rows());
        #[allow(unsafe_code)]
        // SAFETY: as in `project`.
        let (y, x) = unsafe { (y.matrix()?, x.matrix_mut()?) };
        how.run(py, work, row_bytes, rows, |run| {
            self.operator.adjoint(&y, &x, run)
        })
    }

    /// The most bytes that a call on dense rows, with sums of float64 or float32, takes beyond its
    /// output: once, and for each thread.
    fn room(&self, float64: bool) -> [u64; 2] {
        self.operator.room(float64)
    }
}

impl Projection {
    fn work(&self, elements: usize, call: Call) -> Work {
        Work {
            elements,
            nanoseconds: self.operator.nanoseconds(call),
        }
    }
}

/// The logarithms of P(χ²ₖ <= k(1 - eps)) and P(χ²ₖ >= k(1 + eps)).
#[pyfunction]
pub(crate) fn chi_square_log_tails(n_components: u64, eps: f64) -> PyResult<(f64, f64)> {
    corekit_projection::bounds::chi_square_log_tails(n_components, eps).map_err(Raise::raise)
}

/// Where each column starts, the outputs of its entries, and their values.
type Columns<'py> = (
    Bound<'py, PyArray1<u64>>,
    Bound<'py, PyArray1<u64>>,
    Bound<'py, PyArray1<f64>>,
);

/// Pointers or indices of a sparse matrix.
#[derive(FromPyObject)]
pub(crate) enum IndexArray<'py> {
    I32(PyReadonlyArray1<'py, i32>),
    I64(PyReadonlyArray1<'py, i64>),
}

/// How a call runs: `corekit._core.How`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct How {
    threads: usize,
    progress: Option<Py<PyAny>>,
}

/// How much a call has to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Elements of the matrix that it reads or writes.
    elements: usize,
    /// About how long it takes on one thread.
    nanoseconds: f64,
}

impl Work {
    fn length(self) -> Length {
        let Self {
            elements,
            nanoseconds,
        } = self;
        Length::of(elements, 1 << 16, 1 << 19).max(Length::of(nanoseconds, 1e6, 20e6))
    }
}

impl How {
    pub(crate) fn run<T: Send>(
        &self,
        py: Python<'_>,
        work: Work,
        row_bytes: usize,
        rows: usize,
        call: impl FnOnce(&Run<'_>) -> Result<T> + Send,
    ) -> PyResult<T> {
        let total = rows as u64 * row_bytes as u64;
        let tell = |py: Python<'_>, Progress { done, .. }: Progress| match &self.progress {
            Some(progress) => {
                let done = done * row_bytes as u64;
                progress.call1(py, (done, total, "project")).map(drop)
            }
            None => Ok(()),
        };
        let tell = self.progress.is_some().then_some(&tell as Tell<'_>);
        run(py, Some(self.threads), work.length(), tell, call)
    }
}
