//! NumPy's arrays at the border.

use std::ops::Range;
use std::thread;

use corekit_base::array::{Dtype, Matrix, MatrixMut};
use corekit_base::threads;
use numpy::npyffi::{NPY_ARRAY_CARRAY, NPY_ARRAY_CARRAY_RO, NPY_TYPES};
use numpy::{PyArray1, PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::PyTypeInfo;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};

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

/// Whether the bytes that an array reaches over, from its first to its last, meet those of others.
#[pyfunction]
#[pyo3(signature = (array, *others))]
pub(crate) fn may_overlap(
    array: &Bound<'_, PyUntypedArray>,
    others: &Bound<'_, PyTuple>,
) -> PyResult<bool> {
    let reached = reach(array);
    for other in others.iter_borrowed() {
        let other = other.cast::<PyUntypedArray>()?;
        let other = reach(&other);
        if reached.start < other.end && other.start < reached.end {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The addresses between an array's first byte and its last; none if it has no elements.
fn reach(array: &Bound<'_, PyUntypedArray>) -> Range<usize> {
    let (mut before, mut after) = (0, 0);
    for (&size, &stride) in array.shape().iter().zip(array.strides()) {
        if size == 0 {
            return 0..0;
        }
        let far = stride * (size - 1) as isize;
        before += far.min(0);
        after += far.max(0);
    }
    let start = data(array).addr();
    let end = start.wrapping_add_signed(after) + array.dtype().itemsize();
    start.wrapping_add_signed(before)..end
}

/// Where the first element is.
fn data(array: &Bound<'_, PyUntypedArray>) -> *mut u8 {
    #[allow(unsafe_code)]
    // SAFETY: it is an array object, which has a data pointer.
    unsafe {
        (*array.as_array_ptr()).fields.data.cast()
    }
}

/// The type of elements of float32 or float64, in the machine's byte order.
fn float(descr: &Bound<'_, PyArrayDescr>) -> Option<Dtype> {
    let dtype = match descr.num() {
        n if n == NPY_TYPES::NPY_FLOAT as i32 => Dtype::F32,
        n if n == NPY_TYPES::NPY_DOUBLE as i32 => Dtype::F64,
        _ => return None,
    };
    (descr.byteorder() != b'>').then_some(dtype)
}

/// A dense array of float32 or float64 that has elements.
pub(crate) struct Plain {
    pub(crate) data: *mut u8,
    pub(crate) bytes: usize,
    pub(crate) dtype: Dtype,
    pub(crate) shape: [usize; 4],
    pub(crate) ndim: usize,
}

impl Plain {
    /// The array, if it is plain.
    pub(crate) fn read(given: &Bound<'_, PyAny>) -> Option<Self> {
        Self::of(given, NPY_ARRAY_CARRAY_RO)
    }

    /// The array, if it is plain and may be written.
    pub(crate) fn written(given: &Bound<'_, PyAny>) -> Option<Self> {
        Self::of(given, NPY_ARRAY_CARRAY)
    }

    fn of(given: &Bound<'_, PyAny>, flags: i32) -> Option<Self> {
        if !given.get_type().is(PyUntypedArray::type_object(given.py())) {
            return None;
        }
        let array = given.cast::<PyUntypedArray>().ok()?;
        let dtype = float(&array.dtype())?;
        let ndim = array.ndim();
        if ndim > 4 || array.is_empty() {
            return None;
        }
        #[allow(unsafe_code)]
        // SAFETY: it is an array object, whose fields may be read.
        let has = unsafe { (*array.as_array_ptr()).fields.flags };
        if has & flags != flags {
            return None;
        }
        let mut shape = [1; 4];
        shape[..ndim].copy_from_slice(array.shape());
        let count: usize = array.shape().iter().product();
        Some(Self {
            data: data(array),
            bytes: count * dtype.size(),
            dtype,
            shape,
            ndim,
        })
    }

    /// Whether they have a byte in common.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let (a, b) = (self.data.addr(), other.data.addr());
        a < b + other.bytes && b < a + self.bytes
    }
}

/// Whether all are plain, of four axes, one shape and one type, and those to be written meet no
/// other: then there is nothing that a check of arrays could refuse.
#[pyfunction]
pub(crate) fn are_plain(read: &Bound<'_, PyTuple>, written: &Bound<'_, PyTuple>) -> bool {
    let read = read.iter_borrowed().map(|given| Plain::read(&given));
    let written = written.iter_borrowed().map(|given| Plain::written(&given));
    let n_read = read.len();
    let Some(all) = read.chain(written).collect::<Option<Vec<_>>>() else {
        return false;
    };
    all.iter().enumerate().all(|(i, array)| {
        let others = if i < n_read { &[][..] } else { &all[..i] };
        array.ndim == 4
            && (array.shape, array.dtype) == (all[0].shape, all[0].dtype)
            && !others.iter().any(|other| array.meets(other))
    })
}

/// An array, and the type of its elements where NumPy has no name for it.
pub(crate) struct Array<'py> {
    array: Bound<'py, PyUntypedArray>,
    dtype: Dtype,
}

impl<'py> FromPyObject<'_, 'py> for Array<'py> {
    type Error = PyErr;

    /// From an array of float32 or float64, or a tuple that begins with an array and the name of its
    /// dtype.
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = value.cast::<PyUntypedArray>()
            && let Some(dtype) = float(&array.dtype())
        {
            let array = array.to_owned();
            return Ok(Self { array, dtype });
        }
        let tuple = value.cast::<PyTuple>()?;
        let array = tuple.get_item(0)?.cast_into::<PyUntypedArray>()?;
        let name = tuple.get_item(1)?.cast_into::<PyString>()?;
        let dtype = match name.to_str()? {
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
            other => return Err(invalid_argument(format!("dtype has no {other:?}"))),
        };
        if array.dtype().itemsize() != dtype.size() {
            return Err(invalid_argument(format!("an array of {name} is needed")));
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
            return Err(invalid_argument(format!(
                "an array of {N} dimensions is needed, got {}",
                shape.len()
            )));
        };
        Ok((data(&self.array), shape, strides))
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
