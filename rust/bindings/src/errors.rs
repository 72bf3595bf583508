//! From the core's errors to Python's.
//!
//! The classes are Python's, for they have two bases each; they are imported once.

use std::any::Any;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use corekit_base::sync::panic_text;
use corekit_base::threads;
use corekit_shuffle::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyModule};
use rustix::io::Errno;

/// An error of the core that Python has an exception for.
pub(crate) trait Raise {
    /// The exception.
    fn raise(self) -> PyErr;
}

impl Raise for Error {
    fn raise(self) -> PyErr {
        Python::attach(|py| exception(py, &self).unwrap_or_else(|failed| failed))
    }
}

/// Errors of work on arrays, which touches no file.
macro_rules! raise_of_arrays {
    ($error:ty) => {
        impl Raise for $error {
            fn raise(self) -> PyErr {
                let class = match self {
                    Self::InvalidArgument(_) => "InvalidArgumentError",
                    Self::OutOfMemory { .. } => "OutOfMemoryError",
                    _ => "InternalError",
                };
                of_class(class, &self.to_string())
            }
        }
    };
}

raise_of_arrays!(corekit_projection::Error);
raise_of_arrays!(corekit_attention::Error);

/// The exception for an argument that cannot be.
pub(crate) fn invalid_argument(what: impl AsRef<str>) -> PyErr {
    of_class("InvalidArgumentError", what.as_ref())
}

/// `corekit.errors`.
fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module =
        MODULE.get_or_try_init(py, || Ok::<_, PyErr>(py.import("corekit.errors")?.unbind()))?;
    Ok(module.bind(py))
}

fn of_class(class: &str, text: &str) -> PyErr {
    Python::attach(|py| {
        module(py)
            .and_then(|module| module.getattr(class)?.call1((text,)))
            .map_or_else(|failed| failed, PyErr::from_value)
    })
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let class = match error {
        Error::InvalidArgument(_) => "InvalidArgumentError",
        Error::MemoryLimit(_) => "MemoryLimitError",
        Error::OutOfMemory { .. } => "OutOfMemoryError",
        Error::Integrity(_) => "IntegrityError",
        Error::Io { path, source } => {
            let errno = source.raw_os_error().unwrap_or(0);
            let args = (errno, strerror(source), file_name(py, path));
            return Ok(PyErr::from_value(
                module(py)?.getattr("file_error")?.call1(args)?,
            ));
        }
        // "Stale file handle": what one has is not what is there any more.
        Error::InputChanged { path, how } => {
            return input_error(py, "InputChangedError", Errno::STALE, how, path);
        }
        // "Bad message": not what the format demands.
        Error::Format { path, how } => {
            return input_error(py, "InputFormatError", Errno::BADMSG, how, path);
        }
        _ => "InternalError",
    };
    let class = module(py)?.getattr(class)?;
    Ok(PyErr::from_value(class.call1((error.to_string(),))?))
}

fn input_error(
    py: Python<'_>,
    class: &str,
    errno: Errno,
    how: &str,
    path: &Path,
) -> PyResult<PyErr> {
    let name = py
        .import("os")?
        .getattr("fsdecode")?
        .call1((file_name(py, path),))?;
    let args = (errno.raw_os_error(), how, name);
    Ok(PyErr::from_value(module(py)?.getattr(class)?.call1(args)?))
}

fn file_name<'py>(py: Python<'py>, path: &Path) -> Bound<'py, PyBytes> {
    PyBytes::new(py, path.as_os_str().as_bytes())
}

/// The system's words, without the number that Rust adds.
fn strerror(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// The exception for a thread that the system refused.
pub(crate) fn no_thread() -> PyErr {
    let error = Error::OutOfMemory {
        what: "a thread",
        bytes: threads::STACK_BYTES as u64,
    };
    error.raise()
}

/// The exception for a panic.
pub(crate) fn internal(panic: &(dyn Any + Send)) -> PyErr {
    of_class("InternalError", panic_text(panic))
}
