//! Arithmetic on rows of tiles.
#![allow(unsafe_code)]

use std::ptr;

use super::super::rows::{From, Map};
use super::super::{Computed, Kernels};
use crate::tiles::Tile;

impl<T: Computed> Kernels<T> {
    /// Divides e^x by its largest in each row, whose logarithm goes to `most`.
    pub(crate) fn exp_below_most(&self, tile: &mut Tile<T>, columns: usize, most: &mut [T]) {
        let rows = self.rows(tile, most.len(), columns);
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.exp_below_most)(&rows, most.as_mut_ptr()) }
    }

    /// to = e^from, for tiles.
    pub(crate) fn exp_tile(
        &self,
        from: &Tile<T>,
        (rows, columns): (usize, usize),
        to: &mut Tile<T>,
    ) {
        let source = self.rows_read(from, rows, columns);
        let from = From {
            data: source.data,
            stride: source.stride as isize,
        };
        let rows = self.rows(to, rows, columns);
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.map)(&rows, &from, Map::Exp, T::ONE) }
    }

    /// to = e^from, for vectors with room.
    pub(crate) fn exps(&self, from: &[T], to: &mut [T], len: usize) {
        let room = len.next_multiple_of(self.width);
        assert!(from.len() >= room && to.len() >= room);
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.exps)(from.as_ptr(), to.as_mut_ptr(), len) }
    }

    /// Multiplies each row by its factor.
    pub(crate) fn scale_rows(&self, tile: &mut Tile<T>, columns: usize, by: &[T]) {
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.scale_rows)(&self.rows(tile, by.len(), columns), by.as_ptr()) }
    }

    /// out[r] = the dot product of row r and a vector with room.
    pub(crate) fn dots(&self, tile: &Tile<T>, columns: usize, vector: &[T], out: &mut [T]) {
        assert!(vector.len() >= columns.next_multiple_of(self.width));
        let rows = self.rows_read(tile, out.len(), columns);
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.dots)(&rows, vector.as_ptr(), out.as_mut_ptr()) }
    }

    /// out[r] = the dot product of row r of `tile` and the sum of a vector with room and the rows of
    /// `keys` up to r; zeros where there are no columns.
    pub(crate) fn prefix_dots(
        &self,
        tile: &Tile<T>,
        keys: &Tile<T>,
        columns: usize,
        vector: &[T],
        out: &mut [T],
    ) {
        assert!(vector.len() >= columns.next_multiple_of(self.width));
        if columns == 0 {
            out.fill(T::ZERO);
        }
        let (rows, keys) = (
            self.rows_read(tile, out.len(), columns),
            self.rows_read(keys, out.len(), columns),
        );
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.prefix_dots)(&rows, &keys, vector.as_ptr(), out.as_mut_ptr()) }
    }

    /// out[r] = the dot product of row r of both.
    pub(crate) fn row_dots(&self, a: &Tile<T>, b: &Tile<T>, columns: usize, out: &mut [T]) {
        let (a, b) = (
            self.rows_read(a, out.len(), columns),
            self.rows_read(b, out.len(), columns),
        );
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.row_dots)(&a, &b, out.as_mut_ptr()) }
    }

    /// out[r] = the sum of a[r][c] b[r][c] over c <= r.
    pub(crate) fn lower_dots(&self, a: &Tile<T>, b: &Tile<T>, out: &mut [T]) {
        let n = out.len();
        let (a, b) = (self.rows_read(a, n, n), self.rows_read(b, n, n));
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.lower_dots)(&a, &b, out.as_mut_ptr()) }
    }

    /// Adds rows to a vector with room.
    pub(crate) fn column_sums(&self, tile: &Tile<T>, rows: usize, columns: usize, sums: &mut [T]) {
        assert!(sums.len() >= columns.next_multiple_of(self.width));
        let rows = self.rows_read(tile, rows, columns);
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.column_sums)(&rows, sums.as_mut_ptr()) }
    }

    /// Makes scores zeros above the diagonal, multiplies the others by a table, and sums each row.
    pub(crate) fn finish_scores(
        &self,
        scores: &mut Tile<T>,
        table: Option<&Tile<T>>,
        sums: &mut [T],
    ) {
        let n = sums.len();
        let (factors, stride) = table.map_or((ptr::null(), 0), |table| {
            assert!(n <= table.rows() && n <= table.columns());
            (table.as_ptr(), table.stride())
        });
        // SAFETY: as in `Kernels::map`.
        unsafe {
            (self.finish_scores)(&self.rows(scores, n, n), factors, stride, sums.as_mut_ptr());
        }
    }

    /// Adds the first `count` rows of `from` to the rows of `to` from `first` on.
    pub(crate) fn add_rows(
        &self,
        from: &Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        to: &mut Tile<T>,
    ) {
        let from = self.rows_read(from, count, columns);
        let mut to = self.rows(to, first + count, columns);
        to.data = to.data.wrapping_add(first * to.stride);
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.add_rows)(&from, &to) }
    }

    /// Adds a row with room, times a factor for each, to rows.
    pub(crate) fn add_outer(&self, to: &mut Tile<T>, columns: usize, row: &[T], factors: &[T]) {
        assert!(row.len() >= columns.next_multiple_of(self.width));
        let to = self.rows(to, factors.len(), columns);
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.add_outer)(&to, row.as_ptr(), factors.as_ptr()) }
    }
}
