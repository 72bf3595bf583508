//! Small matrices in cache, which kernels work on.
//!
//! Both forms have room beyond what they hold: kernels go through whole register tiles, and what
//! lies beyond the edge is computed too and read by nobody. The room is zeros at first, and numbers
//! of earlier chunks later.

use std::ops::Range;

use corekit_base::aligned::Aligned;
pub(crate) use corekit_base::aligned::zeros;
use corekit_base::array::Matrix;
use corekit_base::real::Real;

use crate::error::Result;

/// The most rows of a register tile.
pub(crate) const ROOM: usize = 8;

/// Numbers of the widest panel (f32 of AVX-512).
const WIDEST: usize = 32;

/// Rows one after the other.
#[derive(Debug)]
pub(crate) struct Tile<T> {
    data: Aligned<T>,
    stride: usize,
    rows: usize,
    columns: usize,
    has_room: bool,
}

impl<T: Real> Tile<T> {
    /// Room for `rows` x `columns`.
    pub(crate) fn new(rows: usize, columns: usize) -> Result<Self> {
        Self::with_room(rows, columns, true)
    }

    /// Room for `rows` x `columns`, and none beyond the last row: for kernels that go row by row.
    /// Zeros take time, where there is but a row or two.
    pub(crate) fn of_rows(rows: usize, columns: usize) -> Result<Self> {
        Self::with_room(rows, columns, false)
    }

    fn with_room(rows: usize, columns: usize, has_room: bool) -> Result<Self> {
        // A line more than whole panels, lest all rows fall on the same few sets of the cache.
        let stride = columns
            .checked_next_multiple_of(WIDEST)
            .and_then(|c| c.checked_add(64 / size_of::<T>()));
        let room = if has_room { WIDEST } else { 0 };
        let len = stride.and_then(|s| s.checked_mul(rows.checked_add(room)?));
        Ok(Self {
            data: zeros("a tile", len)?,
            stride: stride.unwrap_or(0),
            rows,
            columns,
            has_room,
        })
    }

    /// Whether there is room beyond the last row.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room
    }

    /// Numbers from one row to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Rows that it has room for.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns that it has room for.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.data.as_mut_ptr()
    }

    /// All columns of a row.
    pub(crate) fn row(&self, row: usize) -> &[T] {
        &self.data[row * self.stride..][..self.columns]
    }

    /// All columns of a row.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        &mut self.data[row * self.stride..][..self.columns]
    }

    /// Loads rows and columns of a matrix to the first ones.
    pub(crate) fn load(&mut self, from: &Matrix, rows: Range<usize>, columns: Range<usize>) {
        assert!(rows.len() <= self.rows && columns.len() <= self.columns);
        from.load_tile(rows, columns, &mut self.data, self.stride);
    }
}

/// Columns in panels: those of a panel lie together for every row, as a kernel reads them.
#[derive(Debug)]
pub(crate) struct Panels<T> {
    data: Aligned<T>,
    depth: usize,
    columns: usize,
    width: usize,
}

impl<T: Real> Panels<T> {
    /// Room for `depth` rows of `columns` columns, in panels of `width`.
    pub(crate) fn new(depth: usize, columns: usize, width: usize) -> Result<Self> {
        let columns = columns.checked_next_multiple_of(width);
        let depth = depth.checked_add(ROOM);
        let len = columns.and_then(|c| c.checked_mul(depth?));
        Ok(Self {
            data: zeros("panels", len)?,
            depth: depth.unwrap_or(0),
            columns: columns.unwrap_or(0),
            width,
        })
    }

    /// Rows that a panel has room for.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Columns that it has room for.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Columns of a panel.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Numbers of a panel.
    pub(crate) fn panel_len(&self) -> usize {
        self.depth * self.width
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.data.as_mut_ptr()
    }

    /// Sets everything to zero.
    pub(crate) fn clear(&mut self) {
        self.data.fill(T::ZERO);
    }

    /// Part of a row, within one panel.
    pub(crate) fn piece_mut(&mut self, row: usize, first: usize) -> &mut [T] {
        assert!(row < self.depth && first.is_multiple_of(self.width));
        let start = first * self.depth + row * self.width;
        &mut self.data[start..start + self.width]
    }

    /// Multiplies everything by a factor.
    pub(crate) fn scale(&mut self, factor: T) {
        for x in self.data.iter_mut() {
            *x = *x * factor;
        }
    }

    /// Sets a row to zero.
    pub(crate) fn clear_row(&mut self, row: usize) {
        for first in (0..self.columns).step_by(self.width) {
            self.piece_mut(row, first).fill(T::ZERO);
        }
    }

    /// Copies a row in, from its first column on.
    pub(crate) fn set_row(&mut self, row: usize, values: &[T]) {
        let width = self.width;
        for (part, first) in values.chunks(width).zip((0..).step_by(width)) {
            self.piece_mut(row, first)[..part.len()].copy_from_slice(part);
        }
    }

    /// Copies a row out.
    pub(crate) fn get_row(&mut self, row: usize, values: &mut [T]) {
        let width = self.width;
        for (part, first) in values.chunks_mut(width).zip((0..).step_by(width)) {
            part.copy_from_slice(&self.piece_mut(row, first)[..part.len()]);
        }
    }
}
