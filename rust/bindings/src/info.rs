//! What this build is and what it found on this machine.

use corekit_base::simd::Level;
use corekit_base::threads;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The build and the machine: version, profile, target, SIMD levels, CPUs that may be used.
#[pyfunction]
pub(crate) fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item(
        "profile",
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
    )?;
    info.set_item(
        "target",
        format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    )?;
    info.set_item("simd_level", Level::detect().to_string())?;
    let levels = Level::all().into_iter().map(|level| level.to_string());
    info.set_item("simd_levels", levels.collect::<Vec<_>>())?;
    info.set_item("available_threads", threads::available())?;
    Ok(info)
}
