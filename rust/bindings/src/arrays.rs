//! NumPy's arrays at the border.

use std::thread;

use corekit_base::array::{Dtype, Matrix, MatrixMut};
use corekit_base::threads;
use numpy::{PyArray1, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::{internal, invalid_argument, no_thread};

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

/// An array, and the type of its elements where NumPy has no name for it.
pub(crate) struct Array<'py> {
    array: Bound<'py, PyUntypedArray>,
    dtype: Dtype,
}

impl<'py> FromPyObject<'_, 'py> for Array<'py> {
    type Error = PyErr;

    /// From `(array, name of its dtype)`.
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (array, name): (Bound<'py, PyUntypedArray>, String) = value.extract()?;
        let dtype = match &name[..] {
            "float16" => Dtype::F16,
            "bfloat16" => Dtype::Bf16,
            "float32" => Dtype::F32,
            "float64" => Dtype::F64,
            "bool" => Dtype::Bool,
            "int8" => Dtype::I8,
            "int16" => Dtype::I16,
            "int32" => Dtype::I32,
            "int64" => Dtype::I64,
            "uint8" => Dtype::U8,
            "uint16" => Dtype::U16,
            "uint32" => Dtype::U32,
            "uint64" => Dtype::U64,
            other => return Err(refuse(format!("dtype has no {other:?}"))),
        };
        if array.dtype().itemsize() != dtype.size() {
            return Err(refuse(format!("an array of {name} is needed")));
        }
        Ok(Self { array, dtype })
    }
}

impl<'py> Array<'py> {
    pub(crate) fn py(&self) -> Python<'py> {
        self.array.py()
    }

    /// Numbers along the first axis.
    pub(crate) fn rows(&self) -> usize {
        self.array.shape().first().copied().unwrap_or(1)
    }

    pub(crate) fn elements(&self) -> usize {
        let product = |n: usize, m: &usize| n.saturating_mul(*m);
        self.array.shape().iter().fold(1, product)
    }

    /// Bytes of a matrix's row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.array
            .shape()
            .last()
            .map_or(0, |n| n * self.dtype.size())
    }

    pub(crate) fn ndim(&self) -> usize {
        self.array.ndim()
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Where its elements lie, for an array of `N` dimensions.
    pub(crate) fn parts<const N: usize>(&self) -> PyResult<(*mut u8, [usize; N], [isize; N])> {
        let (shape, strides) = (self.array.shape(), self.array.strides());
        let (Ok(shape), Ok(strides)) = (shape.try_into(), strides.try_into()) else {
            return Err(refuse(format!(
                "an array of {N} dimensions is needed, got {}",
                shape.len()
            )));
        };
        #[allow(unsafe_code)]
        // SAFETY: it is an array object, which has a data pointer.
        let data = unsafe { (*self.array.as_array_ptr()).fields.data.cast() };
        Ok((data, shape, strides))
    }

    /// # Safety
    /// The array's memory is not written while the matrix is used.
    #[allow(unsafe_code)]
    // SAFETY: that is all it needs.
    pub(crate) unsafe fn matrix(&self) -> PyResult<Matrix<'py>> {
        let (data, shape, strides) = self.parts()?;
        // SAFETY: NumPy's arrays own or keep alive all of their elements; the rest as above.
        Ok(unsafe { Matrix::new(data, self.dtype, shape, strides) })
    }

    /// # Safety
    /// The array is writable, no element is there twice, and nobody else uses its memory while the
    /// matrix is used.
    #[allow(unsafe_code)]
    // SAFETY: that is all it needs.
    pub(crate) unsafe fn matrix_mut(&self) -> PyResult<MatrixMut<'py>> {
        let (data, shape, strides) = self.parts()?;
        // SAFETY: as in `matrix`.
        Ok(unsafe { MatrixMut::new(data, self.dtype, shape, strides) })
    }
}

fn refuse(what: String) -> PyErr {
    invalid_argument(&what)
}
