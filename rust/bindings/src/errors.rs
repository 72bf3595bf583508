//! From the core's errors to Python's.
//!
//! The classes are Python's, for they have two bases each; they are imported once.

use std::any::Any;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use corekit_base::threads;
use corekit_shuffle::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyModule};

/// `corekit.errors`.
fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module =
        MODULE.get_or_try_init(py, || Ok::<_, PyErr>(py.import("corekit.errors")?.unbind()))?;
    Ok(module.bind(py))
}

/// The exception for a failed shuffle.
pub(crate) fn raise(error: &Error) -> PyErr {
    Python::attach(|py| exception(py, error).unwrap_or_else(|failed| failed))
}

/// The exception for a failed projection.
pub(crate) fn raise_projection(error: &corekit_projection::Error) -> PyErr {
    use corekit_projection::Error;
    let class = match error {
        Error::InvalidArgument(_) => "InvalidArgumentError",
        Error::OutOfMemory { .. } => "OutOfMemoryError",
        _ => "InternalError",
    };
    of_class(class, &error.to_string())
}

/// The exception for attention that failed.
pub(crate) fn raise_attention(error: &corekit_attention::Error) -> PyErr {
    use corekit_attention::Error;
    let class = match error {
        Error::InvalidArgument(_) => "InvalidArgumentError",
        Error::OutOfMemory { .. } => "OutOfMemoryError",
        _ => "InternalError",
    };
    of_class(class, &error.to_string())
}

/// The exception for an argument that cannot be.
pub(crate) fn invalid_argument(what: &str) -> PyErr {
    of_class("InvalidArgumentError", what)
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
        Error::InputChanged { path, how } => {
            /// "Stale file handle": what one has is not what is there any more.
            const ESTALE: i32 = 116;
            return input_error(py, "InputChangedError", ESTALE, how, path);
        }
        Error::Format { path, how } => {
            /// "Bad message": not what the format demands.
            const EBADMSG: i32 = 74;
            return input_error(py, "InputFormatError", EBADMSG, how, path);
        }
        _ => "InternalError",
    };
    let class = module(py)?.getattr(class)?;
    Ok(PyErr::from_value(class.call1((error.to_string(),))?))
}

fn input_error(py: Python<'_>, class: &str, errno: i32, how: &str, path: &Path) -> PyResult<PyErr> {
    let name = py
        .import("os")?
        .getattr("fsdecode")?
        .call1((file_name(py, path),))?;
    let error = module(py)?.getattr(class)?.call1((errno, how, name))?;
    Ok(PyErr::from_value(error))
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
    raise(&Error::OutOfMemory {
        what: "a thread",
        bytes: threads::STACK_BYTES as u64,
    })
}

/// The exception for a panic.
pub(crate) fn internal(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    of_class("InternalError", &text)
}
