//! Matrices as they come from outside: any element type, any strides.
//!
//! A kernel never walks such a matrix. It loads a tile of it, converted to the type it computes in,
//! into a small buffer of its own, and stores rows of results: everything that knows about strides,
//! element types ([`elements`]) and raw memory is in this module.
#![allow(unsafe_code)]

mod ahead;
mod elements;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::slice;

use half::{bf16, f16};

use crate::real::Real;
use ahead::{LINE, prefetch};
use elements::with_type;

pub use ahead::{Ahead, Wanted};
pub use elements::{Dtype, Element};

/// How a matrix lies in memory: what its elements are, how many there are, and how far apart.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    dtype: Dtype,
    shape: [usize; 2],
    /// Bytes from one row to the next, and from one column to the next.
    strides: [isize; 2],
}

impl Layout {
    /// Row after row.
    fn by_rows<E: Element>(rows: usize, columns: usize) -> Self {
        let size = size_of::<E>();
        Self {
            dtype: E::DTYPE,
            shape: [rows, columns],
            strides: [(columns * size) as isize, size as isize],
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// How many columns it has.
    pub fn columns(&self) -> usize {
        self.shape[1]
    }

    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether the elements of a column are nearer to each other than those of a row.
    pub fn is_by_columns(&self) -> bool {
        self.shape[0] > 1
            && self.shape[1] > 1
            && self.strides[0].unsigned_abs() < self.strides[1].unsigned_abs()
    }

    /// The same elements with rows and columns exchanged.
    fn turned(self) -> Self {
        Self {
            shape: [self.shape[1], self.shape[0]],
            strides: [self.strides[1], self.strides[0]],
            ..self
        }
    }

    /// Elements from one row to the next, where they are `E` and lie side by side in a row.
    fn stride_of<E: Element>(&self) -> Option<isize> {
        let size = size_of::<E>() as isize;
        let is_side_by_side = self.shape[1] <= 1 || self.strides[1] == size;
        let is_so = self.dtype == E::DTYPE && is_side_by_side && self.strides[0] % size == 0;
        is_so.then_some(self.strides[0] / size)
    }

    /// Bytes from the first element to another.
    #[inline(always)]
    fn offset(&self, row: usize, column: usize) -> isize {
        (row as isize * self.strides[0]).wrapping_add(column as isize * self.strides[1])
    }

    fn assert_inside(&self, rows: &Range<usize>, columns: &Range<usize>) {
        assert!(
            rows.start <= rows.end
                && rows.end <= self.shape[0]
                && columns.start <= columns.end
                && columns.end <= self.shape[1],
            "a tile outside of its matrix"
        );
    }
}

/// A matrix that is read: a view with any strides, of any element type.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: *const u8,
    layout: Layout,
    memory: PhantomData<&'a [u8]>,
}

// SAFETY: it is a shared view of memory that nobody writes while it lives (`Matrix::new`).
unsafe impl Send for Matrix<'_> {}
// SAFETY: as above.
unsafe impl Sync for Matrix<'_> {}

impl Deref for Matrix<'_> {
    type Target = Layout;
    fn deref(&self) -> &Layout {
        &self.layout
    }
}

impl<'a> Matrix<'a> {
    /// A view of memory that belongs to somebody else.
    ///
    /// # Safety
    /// For `'a`, every element `data + row * strides[0] + column * strides[1]` of the shape is
    /// memory that may be read, and no thread writes it through Rust. No alignment is needed.
    // SAFETY: nothing is read here; who calls this promises what reading needs.
    pub unsafe fn new(
        data: *const u8,
        dtype: Dtype,
        shape: [usize; 2],
        strides: [isize; 2],
    ) -> Self {
        let layout = Layout {
            dtype,
            shape,
            strides,
        };
        Self {
            data,
            layout,
            memory: PhantomData,
        }
    }

    /// A view of a slice, row after row.
    ///
    /// # Panics
    /// When the slice does not have `rows * columns` elements.
    pub fn of<E: Element>(slice: &'a [E], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(slice.len()), rows.checked_mul(columns));
        Self {
            data: slice.as_ptr().cast(),
            layout: Layout::by_rows::<E>(rows, columns),
            memory: PhantomData,
        }
    }

    /// The same elements with rows and columns exchanged.
    #[must_use]
    pub fn transposed(&self) -> Self {
        Self {
            layout: self.layout.turned(),
            ..*self
        }
    }

    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> *const u8 {
        self.data.wrapping_offset(self.offset(row, column))
    }

    /// The cache lines of a tile, to be asked for one after the other before it is read.
    pub fn ahead(&self, rows: Range<usize>, columns: Range<usize>) -> Ahead {
        self.assert_inside(&rows, &columns);
        let bytes = columns.len() * self.dtype.size();
        let is_useful = self.strides[1] == self.dtype.size() as isize && bytes > SHORT;
        if !is_useful || rows.is_empty() {
            return Ahead::none();
        }
        let from = self.at(rows.start, columns.start);
        // Where rows begin within a line, the rest of each row's last one is not worth a turn.
        let lines = bytes.div_ceil(LINE);
        Ahead {
            next: from,
            step: LINE,
            left: lines,
            rows: rows.len(),
            lines,
            to_next_row: self.strides[0].wrapping_sub((lines * LINE) as isize),
        }
    }

    /// A tile where it lies, if its elements are of this type and side by side in every row.
    pub fn in_place<T: Element>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Option<Rows<'a, T>> {
        self.assert_inside(&rows, &columns);
        let size = size_of::<T>() as isize;
        let fits = self.dtype == T::DTYPE
            && (self.strides[1] == size || columns.len() < 2)
            && self.strides[0] % size == 0;
        fits.then(|| Rows {
            first: self.at(rows.start, columns.start).cast(),
            stride: self.strides[0] / size,
            shape: [rows.len(), columns.len()],
            memory: PhantomData,
        })
    }

    /// Adds the cache lines of a tile that will be loaded to those that are asked for.
    pub fn want(&self, rows: Range<usize>, columns: Range<usize>, wanted: &mut Wanted) {
        self.assert_inside(&rows, &columns);
        let bytes = columns.len() * self.dtype.size();
        if self.strides[1] != self.dtype.size() as isize || bytes == 0 || rows.is_empty() {
            return;
        }
        let row = self.at(rows.start, columns.start);
        // How far rows reach into their first line differs between them where they are not whole
        // lines apart.
        let begins = match self.strides[0].unsigned_abs().is_multiple_of(LINE) {
            true => row.addr() % LINE,
            false => LINE - 1,
        };
        let lines = (begins + bytes).div_ceil(LINE);
        wanted.add(row, self.strides[0], rows.len(), lines);
    }

    /// A tile as it lies in memory, where its elements are `E` and those of a row lie side by side.
    pub fn block<E: Element>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Option<Block<'a, E>> {
        self.assert_inside(&rows, &columns);
        let data = self.at(rows.start, columns.start).cast::<E>();
        let stride = self.layout.stride_of::<E>()?;
        data.is_aligned().then_some(Block {
            data,
            stride,
            rows: rows.len(),
            columns: columns.len(),
            memory: PhantomData,
        })
    }

    /// Loads elements of row `row`, from column `first` on, into `out`.
    pub fn load_row<T: Real>(&self, row: usize, first: usize, out: &mut [T]) {
        self.assert_inside(&(row..row + 1), &(first..first + out.len()));
        // SAFETY: the row's elements are inside the matrix, whose memory may be read.
        with_type!(self.dtype, E => unsafe {
            load_strided::<E, T>(self.at(row, first), self.strides[1], out);
        });
    }

    /// Loads a tile: element (r, c) of it to `out[r * stride + c]`.
    pub fn load_tile<T: Real>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        out: &mut [T],
        stride: usize,
    ) {
        self.assert_inside(&rows, &columns);
        if self.is_by_columns() && rows.len() > 1 {
            self.load_across(rows, columns, out, stride);
            return;
        }
        with_type!(self.dtype, E => {
            let bytes = columns.len() * size_of::<E>();
            for (row, out) in rows.zip(out.chunks_mut(stride)) {
                let out = &mut out[..columns.len()];
                if bytes <= SHORT {
                    // Short pieces that lie far apart are nothing that the processor foresees.
                    prefetch(self.at(row + AHEAD_BYTES / bytes.max(1), columns.start), bytes);
                }
                // SAFETY: the tile is inside the matrix, whose memory may be read.
                unsafe { load_strided::<E, T>(self.at(row, columns.start), self.strides[1], out) };
            }
        });
    }

    /// Loads a tile by columns: element (r, c) of it to `out[c * stride + r]`.
    pub fn load_transposed<T: Real>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        out: &mut [T],
        stride: usize,
    ) {
        self.assert_inside(&rows, &columns);
        self.transposed().load_tile(columns, rows, out, stride);
    }

    /// Loads a tile whose columns are what lies together: squares of it are turned in cache.
    fn load_across<T: Real>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        out: &mut [T],
        stride: usize,
    ) {
        const SIDE: usize = 16;
        let across = self.transposed();
        let mut square = [[T::ZERO; SIDE]; SIDE];
        for top in rows.clone().step_by(SIDE) {
            let height = SIDE.min(rows.end - top);
            for left in columns.clone().step_by(SIDE) {
                let width = SIDE.min(columns.end - left);
                for (c, column) in square[..width].iter_mut().enumerate() {
                    across.load_row(left + c, top, &mut column[..height]);
                }
                for r in 0..height {
                    let start = (top - rows.start + r) * stride + (left - columns.start);
                    for (out, column) in out[start..start + width].iter_mut().zip(&square) {
                        *out = column[r];
                    }
                }
            }
        }
    }
}

/// A tile of a matrix that kernels read where it lies ([`Matrix::block`]).
#[derive(Clone, Copy, Debug)]
pub struct Block<'a, E> {
    /// Its first element.
    pub data: *const E,
    /// Elements from one row to the next.
    pub stride: isize,
    /// How many rows it has.
    pub rows: usize,
    /// How many columns it has.
    pub columns: usize,
    memory: PhantomData<&'a [E]>,
}

/// A tile of a matrix that kernels write where it lies ([`MatrixMut::block`]).
#[derive(Debug)]
pub struct BlockMut<'a, E> {
    /// Its first element.
    pub data: *mut E,
    /// Elements from one row to the next.
    pub stride: isize,
    /// How many rows it has.
    pub rows: usize,
    /// How many columns it has.
    pub columns: usize,
    memory: PhantomData<&'a mut [E]>,
}

/// Bytes of a piece of a row up to which the next ones are asked for ahead of time.
const SHORT: usize = 512;

/// How far ahead, counted in bytes of pieces: as many as are under way at a time.
///
/// Measured on 64 columns of float32 at a time (Zen 5, one thread): 22.7 ms, against 27.7 for 4 KB
/// and 23.5 for 20.
const AHEAD_BYTES: usize = 10 << 10;

/// Rows whose elements lie side by side, for a kernel that reads them where they are.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    first: *const T,
    /// Elements from one row to the next.
    stride: isize,
    shape: [usize; 2],
    memory: PhantomData<&'a [T]>,
}

impl<'a, T: Copy> Rows<'a, T> {
    /// Rows of a slice, each `stride` after the one before.
    ///
    /// # Panics
    /// When the slice is too short for them.
    pub fn of(slice: &'a [T], stride: usize, rows: usize, columns: usize) -> Self {
        let end = rows
            .checked_sub(1)
            .map_or(0, |last| last * stride + columns);
        assert!(end <= slice.len(), "rows of this stride are inside");
        Self {
            first: slice.as_ptr(),
            stride: stride as isize,
            shape: [rows, columns],
            memory: PhantomData,
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// How many elements a row has.
    pub fn columns(&self) -> usize {
        self.shape[1]
    }

    /// Whether every row begins where a cache line does.
    pub fn are_aligned(&self) -> bool {
        let bytes = self.stride.unsigned_abs() * size_of::<T>();
        self.first.addr().is_multiple_of(LINE) && bytes.is_multiple_of(LINE)
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> isize {
        self.stride
    }

    /// Where a row begins, which need not be aligned; all its elements may be read.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline]
    pub fn row(&self, row: usize) -> *const T {
        assert!(row < self.rows(), "a row that there is");
        self.first.wrapping_offset(row as isize * self.stride)
    }

    /// One element.
    ///
    /// # Panics
    /// When there is no such element.
    #[inline]
    pub fn get(&self, row: usize, column: usize) -> T {
        assert!(column < self.columns(), "a column that there is");
        // SAFETY: the element is inside, and so may be read (`Rows::of`, `Matrix::in_place`).
        unsafe { self.row(row).wrapping_add(column).read_unaligned() }
    }
}

/// Loads the elements at `from`, `from + step`, ...
///
/// # Safety
/// They are memory that may be read.
#[inline(always)]
// SAFETY: that is all it needs; no alignment.
unsafe fn load_strided<E: Element, T: Real>(from: *const u8, step: isize, out: &mut [T]) {
    let from = from.cast::<E>();
    if step == size_of::<E>() as isize && from.is_aligned() {
        // SAFETY: contiguous, aligned, and readable as the caller says.
        let from = unsafe { slice::from_raw_parts(from, out.len()) };
        if from.len() > 64 || E::DTYPE == Dtype::F16 {
            E::load_all(from, out);
            return;
        }
        // So few are quicker in place than by a call, which a plain loop would become.
        let ((some, rest), (out, others)) = (from.as_chunks::<16>(), out.as_chunks_mut::<16>());
        for (out, some) in out.iter_mut().zip(some) {
            *out = some.map(E::load);
        }
        for (out, from) in others.iter_mut().zip(rest) {
            *out = from.load();
        }
    } else {
        for (i, out) in out.iter_mut().enumerate() {
            // SAFETY: the element is readable as the caller says; it need not be aligned.
            *out = unsafe { from.byte_offset(i as isize * step).read_unaligned() }.load();
        }
    }
}

/// A matrix that is written, by threads that take different rows of it.
#[derive(Clone, Copy, Debug)]
pub struct MatrixMut<'a> {
    data: *mut u8,
    layout: Layout,
    memory: PhantomData<&'a mut [u8]>,
}

// SAFETY: it hands out no reference, and its writers take different rows (`MatrixMut::new`).
unsafe impl Send for MatrixMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for MatrixMut<'_> {}

impl Deref for MatrixMut<'_> {
    type Target = Layout;
    fn deref(&self) -> &Layout {
        &self.layout
    }
}

impl<'a> MatrixMut<'a> {
    /// A view of memory that belongs to somebody else.
    ///
    /// # Safety
    /// For `'a`, every element of the shape is memory that may be written, no two elements share
    /// any, nobody reads or writes it but through this view, and no two threads store to the same
    /// element at the same time.
    // SAFETY: nothing is written here; who calls this promises what writing needs.
    pub unsafe fn new(data: *mut u8, dtype: Dtype, shape: [usize; 2], strides: [isize; 2]) -> Self {
        let layout = Layout {
            dtype,
            shape,
            strides,
        };
        Self {
            data,
            layout,
            memory: PhantomData,
        }
    }

    /// A view of a slice, row after row; threads must take different rows of it.
    ///
    /// # Panics
    /// When the slice does not have `rows * columns` elements.
    pub fn of<E: Element>(slice: &'a mut [E], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(slice.len()), rows.checked_mul(columns));
        Self {
            data: slice.as_mut_ptr().cast(),
            layout: Layout::by_rows::<E>(rows, columns),
            memory: PhantomData,
        }
    }

    /// The same elements with rows and columns exchanged.
    #[must_use]
    pub fn transposed(&self) -> Self {
        Self {
            layout: self.layout.turned(),
            ..*self
        }
    }

    /// The rows `rows` alone.
    #[must_use]
    pub fn row_range(&self, rows: Range<usize>) -> Self {
        self.assert_inside(&rows, &(0..self.columns()));
        Self {
            // An empty matrix may have any pointer, which must not be moved.
            data: if rows.is_empty() {
                self.data
            } else {
                self.at(rows.start, 0)
            },
            layout: Layout {
                shape: [rows.len(), self.columns()],
                ..self.layout
            },
            ..*self
        }
    }

    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> *mut u8 {
        self.data.wrapping_offset(self.offset(row, column))
    }

    /// A tile as it lies in memory, where its elements are `E` and those of a row lie side by side.
    ///
    /// Threads that write at the same time must take different elements.
    pub fn block<E: Element>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Option<BlockMut<'a, E>> {
        self.assert_inside(&rows, &columns);
        let data = self.at(rows.start, columns.start).cast::<E>();
        let stride = self.layout.stride_of::<E>()?;
        data.is_aligned().then_some(BlockMut {
            data,
            stride,
            rows: rows.len(),
            columns: columns.len(),
            memory: PhantomData,
        })
    }

    /// Stores `values` in row `row`, from column `first` on.
    ///
    /// Threads that store at the same time must take different elements.
    pub fn store_row<T: Real>(&self, row: usize, first: usize, values: &[T]) {
        self.assert_inside(&(row..row + 1), &(first..first + values.len()));
        // SAFETY: the elements are inside the matrix, whose memory may be written.
        with_type!(self.dtype, E => unsafe {
            store_strided::<E, T>(self.at(row, first), self.strides[1], values);
        });
    }

    /// Stores `values`, each times its scale, in row `row`.
    ///
    /// Threads that store at the same time must take different elements.
    pub fn store_scaled<T: Real>(&self, row: usize, values: &[T], scales: &[T]) {
        self.assert_inside(&(row..row + 1), &(0..scales.len()));
        let values = &values[..scales.len()];
        with_type!(self.dtype, E => {
            let mut to = self.at(row, 0).cast::<E>();
            if self.strides[1] == size_of::<E>() as isize {
                for (value, scale) in values.iter().zip(scales) {
                    // SAFETY: the element is inside the matrix, whose memory may be written.
                    unsafe { to.write_unaligned(E::store(*value * *scale)) };
                    to = to.wrapping_add(1);
                }
            } else {
                for (value, scale) in values.iter().zip(scales) {
                    // SAFETY: as above.
                    unsafe { to.write_unaligned(E::store(*value * *scale)) };
                    to = to.wrapping_byte_offset(self.strides[1]);
                }
            }
        });
    }

    /// Stores a tile that is held by columns: element (r, c) of it is `values[c * stride + r]`.
    ///
    /// Threads that store at the same time must take different elements.
    pub fn store_transposed<T: Real>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        values: &[T],
        stride: usize,
    ) {
        const SIDE: usize = 16;
        if self.is_by_columns() {
            let across = self.transposed();
            for (c, column) in columns.enumerate() {
                let values = &values[c * stride..][..rows.len()];
                across.store_row(column, rows.start, values);
            }
            return;
        }
        let mut line = [T::ZERO; SIDE];
        for left in columns.clone().step_by(SIDE) {
            let width = SIDE.min(columns.end - left);
            let values = &values[(left - columns.start) * stride..];
            for (r, row) in rows.clone().enumerate() {
                for (c, value) in line[..width].iter_mut().enumerate() {
                    *value = values[c * stride + r];
                }
                self.store_row(row, left, &line[..width]);
            }
        }
    }
}

/// Stores to the elements at `to`, `to + step`, ...
///
/// # Safety
/// They are memory that may be written, and that no other thread uses now.
#[inline(always)]
// SAFETY: that is all it needs; no alignment.
unsafe fn store_strided<E: Element, T: Real>(to: *mut u8, step: isize, values: &[T]) {
    let to = to.cast::<E>();
    if step == size_of::<E>() as isize {
        // The same with a step that the compiler knows, and so by whole registers.
        for (i, value) in values.iter().enumerate() {
            // SAFETY: as below.
            unsafe { to.add(i).write_unaligned(E::store(*value)) };
        }
        return;
    }
    for (i, value) in values.iter().enumerate() {
        // SAFETY: the element is writable as the caller says; it need not be aligned.
        unsafe {
            to.byte_offset(i as isize * step)
                .write_unaligned(E::store(*value))
        };
    }
}
