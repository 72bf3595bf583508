//! `corekit.shuffle.ShuffledReader`.
//!
//! Handing out a record and counting it is one step here, between two looks at signals, so that an
//! interrupt never loses what was fetched.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use corekit_base::control::POLL;
use corekit_base::sync::lock;
use corekit_shuffle::{Batch, Wait};
use numpy::{IntoPyArray, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::arrays::load_numpy;
use crate::errors::Raise;
use crate::shuffle::Arguments;

/// A running shuffle and its records.
#[pyclass(module = "corekit._core", frozen)]
pub(crate) struct RecordReader {
    inner: Mutex<corekit_shuffle::RecordReader>,
    /// Records that were handed out.
    position: AtomicU64,
    /// It was closed or failed: another one must go on.
    is_over: AtomicBool,
    process: u32,
}

#[pymethods]
impl RecordReader {
    #[new]
    fn new(job: Arguments) -> PyResult<Self> {
        let position = job.start();
        let inner = corekit_shuffle::RecordReader::start(job.job()?).map_err(Raise::raise)?;
        Ok(Self {
            inner: Mutex::new(inner),
            position: AtomicU64::new(position),
            is_over: AtomicBool::new(false),
            process: std::process::id(),
        })
    }

    /// Whether it can go on, in this process.
    fn is_usable(&self) -> bool {
        !self.is_over.load(Relaxed) && self.is_at_home()
    }

    /// Records of its share that were handed out.
    fn position(&self) -> u64 {
        self.position.load(Relaxed)
    }

    /// Records of all inputs, once they are counted.
    fn records(&self, py: Python<'_>) -> Option<u64> {
        match self.is_at_home() {
            true => py.detach(|| self.lock().records()),
            false => None,
        }
    }

    /// Stops the shuffle and gives back its memory and its scratch.
    fn close(&self, py: Python<'_>) {
        self.is_over.store(true, Relaxed);
        // A forked child has the parent's lock as it was, and nothing to stop.
        if self.is_at_home() {
            py.detach(|| self.lock().close());
        }
    }
}

impl RecordReader {
    fn lock(&self) -> MutexGuard<'_, corekit_shuffle::RecordReader> {
        lock(&self.inner)
    }

    fn is_at_home(&self) -> bool {
        self.process == std::process::id()
    }

    /// What came of a wait; a failure is the end of this reader.
    fn settled<T>(&self, waited: corekit_shuffle::Result<T>) -> PyResult<T> {
        waited.map_err(|error| {
            self.is_over.store(true, Relaxed);
            error.raise()
        })
    }

    /// The next `n` records as an object that `make` makes.
    fn batch<'py>(
        &self,
        py: Python<'py>,
        n: usize,
        make: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        load_numpy(py)?;
        let Batch { data, offsets } = loop {
            let waited = py.detach(|| self.lock().batch(n, POLL));
            match self.settled(waited)? {
                Wait::Ready(batch) => break batch,
                Wait::End => return Ok(None),
                Wait::Pending => py.check_signals()?,
            }
        };
        let records = offsets.len() as u64 - 1;
        let arrays = (data.into_pyarray(py), offsets.into_pyarray(py));
        match make.call1((&arrays.0, &arrays.1)) {
            Ok(made) => {
                self.position.fetch_add(records, Relaxed);
                Ok(Some(made))
            }
            Err(error) => {
                // An interrupt, most likely: the batch was not handed out.
                let batch = Batch {
                    data: arrays.0.to_vec()?,
                    offsets: arrays.1.to_vec()?,
                };
                py.detach(|| self.lock().put_back(batch));
                Err(error)
            }
        }
    }

    /// The next record.
    fn record<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        loop {
            if let Ok(mut inner) = self.inner.try_lock()
                && let Some(record) = inner.record()
            {
                let record = PyBytes::new(py, record);
                self.position.fetch_add(1, Relaxed);
                return Ok(Some(record));
            }
            let waited = py.detach(|| self.lock().wait_for_record(POLL));
            match self.settled(waited)? {
                Wait::Ready(()) => {}
                Wait::End => return Ok(None),
                Wait::Pending => py.check_signals()?,
            }
        }
    }
}

/// An iterator over the records of a `ShuffledReader`, from its position on.
#[pyclass(module = "corekit._core", frozen)]
pub(crate) struct RecordIterator {
    /// Gives the reader that runs in this process, started if need be.
    running: Py<PyAny>,
    /// Records of a batch, and what makes an object of it; `None` for one record at a time.
    batches: Option<(usize, Py<PyAny>)>,
    present: Mutex<Option<Py<RecordReader>>>,
}

#[pymethods]
impl RecordIterator {
    #[new]
    #[pyo3(signature = (running, batches = None))]
    fn new(running: Py<PyAny>, batches: Option<(usize, Py<PyAny>)>) -> Self {
        Self {
            running,
            batches,
            present: Mutex::new(None),
        }
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let reader = self.reader(py)?;
        let reader = reader.get();
        Ok(match &self.batches {
            Some((n, make)) => reader.batch(py, *n, make.bind(py))?,
            None => reader.record(py)?.map(Bound::into_any),
        })
    }
}

impl RecordIterator {
    fn reader<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, RecordReader>> {
        let present = || lock(&self.present);
        if let Some(reader) = &*present()
            && reader.get().is_usable()
        {
            return Ok(reader.bind(py).clone());
        }
        let reader = self.running.bind(py).call0()?.cast_into::<RecordReader>()?;
        *present() = Some(reader.clone().unbind());
        Ok(reader)
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
