//! NumPy's arrays at the border.

use std::thread;

use corekit_base::threads;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::{internal, no_thread};

static LOADED: PyOnceLock<()> = PyOnceLock::new();

/// Loads NumPy's C interface; to be called before the first array is made.
///
/// Loading runs Python code, and where arrays are made its failure, which Ctrl-C is, cannot be an
/// exception any more. Only the main thread handles signals, so it is done on another one.
pub(crate) fn load_numpy(py: Python<'_>) -> PyResult<()> {
    let load = || {
        py.import("numpy")?;
        py.detach(|| {
            thread::scope(|scope| {
                let touch = || Python::attach(|py| drop(PyArray1::<u8>::zeros(py, 0, false)));
                threads::spawn(scope, "numpy", touch)
                    .map_err(|_| no_thread())?
                    .join()
                    .map_err(|panic| internal(&*panic))
            })
        })
    };
    LOADED.get_or_try_init(py, load).copied()
}
