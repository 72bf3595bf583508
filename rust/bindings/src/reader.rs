//! `corekit.shuffle.ShuffledReader`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use corekit_base::control::POLL;
use corekit_shuffle::{Batch, Wait};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::errors::raise;
use crate::shuffle::Arguments;

/// A running shuffle and its records.
#[pyclass(module = "corekit._core", frozen)]
pub(crate) struct RecordReader {
    inner: Mutex<corekit_shuffle::RecordReader>,
}

type Arrays<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<i64>>);

#[pymethods]
impl RecordReader {
    #[new]
    fn new(job: Arguments) -> PyResult<Self> {
        let inner = corekit_shuffle::RecordReader::start(job.job()?).map_err(|e| raise(&e))?;
        Ok(Self {
            inner: Mutex::new(inner),
        })
    }

    /// The next `n` records, fewer at the end, none behind it: their bytes and their offsets.
    fn batch<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Option<Arrays<'py>>> {
        loop {
            let waited = py
                .detach(|| self.lock().batch(n, POLL))
                .map_err(|error| raise(&error))?;
            match waited {
                Wait::Ready(Batch { data, offsets }) => {
                    return Ok(Some((data.into_pyarray(py), offsets.into_pyarray(py))));
                }
                Wait::End => return Ok(None),
                Wait::Pending => py.check_signals()?,
            }
        }
    }

    /// Records of all inputs, once they are counted.
    fn records(&self, py: Python<'_>) -> Option<u64> {
        py.detach(|| self.lock().records())
    }

    /// Stops the shuffle and gives back its memory and its scratch.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.lock().close());
    }
}

impl RecordReader {
    fn lock(&self) -> MutexGuard<'_, corekit_shuffle::RecordReader> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The records of a batch, one `bytes` each.
#[pyfunction]
pub(crate) fn split_records<'py>(
    py: Python<'py>,
    data: PyReadonlyArray1<'py, u8>,
    offsets: PyReadonlyArray1<'py, i64>,
) -> PyResult<Bound<'py, PyList>> {
    let (data, offsets) = (data.as_slice()?, offsets.as_slice()?);
    let wrong = || pyo3::exceptions::PyIndexError::new_err("offsets do not fit the data");
    let record = |ends: &[i64]| {
        let start = usize::try_from(ends[0]).ok()?;
        let end = usize::try_from(ends[1]).ok()?;
        data.get(start..end)
    };
    let records: Vec<_> = offsets
        .windows(2)
        .map(|ends| Ok(PyBytes::new(py, record(ends).ok_or_else(wrong)?)))
        .collect::<PyResult<_>>()?;
    PyList::new(py, records)
}
