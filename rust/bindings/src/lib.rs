//! `corekit._core`: what Python sees of the core. Private; the public functions are in Python.
//!
//! A file for each Python module, and five that all of them share: [`enter`], the one way to run
//! long work, [`environment`], which says how, [`errors`], from the core's errors to Python's,
//! [`arrays`] and [`info`].

mod arrays;
mod attention;
mod enter;
mod environment;
mod errors;
mod info;
mod projection;
mod reader;
mod shuffle;

use pyo3::prelude::*;

/// The compiled core of corekit.
#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::attention::{
        PyFeatureMap, linear_attention, linear_attention_step, linear_attention_step_fast,
        linear_attention_vjp, softmax_attention,
    };
    #[pymodule_export]
    const LEAST_EPS: f64 = crate::attention::LEAST_EPS;
    #[pymodule_export]
    const MOST_THREADS: usize = crate::environment::MOST_THREADS;

    #[pymodule_export]
    use crate::arrays::{are_plain, may_overlap};
    #[pymodule_export]
    use crate::environment::{default_threads, simd_level};
    #[pymodule_export]
    use crate::info::build_info;
    #[pymodule_export]
    use crate::projection::{Projection, chi_square_log_tails};
    #[pymodule_export]
    use crate::reader::{RecordIterator, RecordReader, split_records};
    #[pymodule_export]
    use crate::shuffle::{permutation, shuffle_plan, shuffle_run};
}
