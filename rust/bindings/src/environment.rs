//! What the environment says of how calls run: on how many threads, and with which instructions.
//!
//! Who reads it holds the interpreter, as Python does when it changes it.

use std::env;
use std::sync::Mutex;

use corekit_base::simd::Level;
use corekit_base::sync::lock;
use corekit_base::threads;
use pyo3::prelude::*;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::errors::invalid_argument;

/// The most threads that a call may ask for.
///
/// Far above any use, far below what exhausts a process: a typing error such as 20000 becomes a
/// message and not a machine that stands still.
pub(crate) const MOST_THREADS: usize = 1024;

/// The threads of a call that asks for none: COREKIT_NUM_THREADS, else the CPUs that this process
/// may use.
#[pyfunction]
pub(crate) fn default_threads() -> PyResult<usize> {
    Ok(named_threads()?.unwrap_or_else(usable))
}

/// The threads of a call: those that it asks for, else the default. Where one is enough, nobody
/// looks which CPUs are usable: that takes a third of the shortest call.
pub(crate) fn threads(given: Option<usize>, is_one_enough: bool) -> PyResult<usize> {
    let named = match given {
        None => named_threads()?,
        given => given,
    };
    Ok(match is_one_enough {
        true => 1,
        false => named.unwrap_or_else(usable),
    })
}

/// COREKIT_NUM_THREADS, if it is there.
fn named_threads() -> PyResult<Option<usize>> {
    const NAME: &str = "COREKIT_NUM_THREADS";
    let Some(text) = variable(NAME) else {
        return Ok(None);
    };
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid_argument(format!(
            "{NAME} must be a number of threads, got '{text}'"
        )));
    }
    match text.parse() {
        Ok(count) if (1..=MOST_THREADS).contains(&count) => Ok(Some(count)),
        _ => Err(invalid_argument(format!(
            "{NAME} must be at least 1 and below {}, got {text}",
            MOST_THREADS + 1
        ))),
    }
}

/// The level that a run would use, by its name.
#[pyfunction]
pub(crate) fn simd_level() -> PyResult<String> {
    Ok(level()?.to_string())
}

/// The instruction set of the kernels: COREKIT_SIMD, else the highest that this machine has.
pub(crate) fn level() -> PyResult<Level> {
    const NAME: &str = "COREKIT_SIMD";
    match variable(NAME) {
        None => Ok(Level::detect()),
        Some(name) => Level::named(&name).ok_or_else(|| {
            let levels: Vec<_> = Level::all().iter().map(Level::to_string).collect();
            invalid_argument(format!(
                "{NAME} must be a level that this machine has ({}), got '{name}'",
                levels.join(", ")
            ))
        }),
    }
}

/// A variable, unless it is empty.
fn variable(name: &str) -> Option<String> {
    let value = env::var_os(name)?;
    let text = value.to_string_lossy();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The CPUs that this process may use, asked for again when its affinity is another: the rest of the
/// answer is in files, which take longer to read than many a call.
fn usable() -> usize {
    static KNOWN: Mutex<Option<(CpuSet, usize)>> = Mutex::new(None);
    let count = || threads::available().min(MOST_THREADS);
    let Ok(affinity) = sched_getaffinity(None) else {
        return count();
    };
    let mut known = lock(&KNOWN);
    match *known {
        Some((of, count)) if of == affinity => count,
        _ => known.insert((affinity, count())).1,
    }
}
