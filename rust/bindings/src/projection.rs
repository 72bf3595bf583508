//! `corekit.projection`.

use corekit_base::control::{Control, Progress};
use corekit_base::run::Run;
use corekit_base::simd::Level;
use corekit_projection::{
    Call, Compressed, Error, Indices, Law, Operator, Result, Strata, Threshold,
};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::{Array, load_numpy};
use crate::enter::{enter, enter_briefly};
use crate::errors::raise_projection as raise;

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
            .map_err(|error| raise(&error))?;
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
            _ => return Err(refuse("indptr and indices must be of one type".into())),
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
            return Err(refuse(format!(
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
    corekit_projection::bounds::chi_square_log_tails(n_components, eps)
        .map_err(|error| raise(&error))
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
    level: Option<String>,
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
    /// Whether starting a thread would show, and Ctrl-C can wait for the end.
    fn is_brief(self) -> bool {
        self.elements <= 1 << 19 && self.nanoseconds <= 20e6
    }

    /// Whether waking other threads would show.
    fn is_least(self) -> bool {
        self.elements <= 1 << 16 && self.nanoseconds <= 1e6
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
        let level = match &self.level {
            None => Level::detect(),
            Some(name) => Level::named(name).ok_or_else(|| {
                raise(&Error::InvalidArgument(format!(
                    "COREKIT_SIMD must be a level that this machine has, got {name:?}"
                )))
            })?,
        };
        let control = Control::new();
        let run = Run {
            threads: if work.is_least() { 1 } else { self.threads },
            level,
            control: &control,
        };
        let Some(progress) = &self.progress else {
            if work.is_brief() {
                return enter_briefly(py, || call(&run).map_err(|error| raise(&error)));
            }
            return enter(
                py,
                &control,
                |_| Ok(()),
                || call(&run).map_err(|error| raise(&error)),
            );
        };
        let total = rows as u64 * row_bytes as u64;
        let tell = |py: Python<'_>| {
            let Progress { done, .. } = control.progress();
            let done = done * row_bytes as u64;
            progress.call1(py, (done, total, "project")).map(drop)
        };
        enter(py, &control, tell, || {
            call(&run).map_err(|error| raise(&error))
        })
    }
}

fn refuse(what: String) -> PyErr {
    raise(&Error::InvalidArgument(what))
}
