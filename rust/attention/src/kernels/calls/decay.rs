//! Logarithms of decay, and what they weigh.
#![allow(unsafe_code)]

use std::ptr;

use super::super::rows::{Logarithms, Rows};
use super::super::vector::{Cumulate, Diagonal, Weigh};
use super::super::{Computed, Kernels};
use crate::tiles::Tile;

impl<T: Computed> Kernels<T> {
    /// table[t][s] = e^(rows[t] - columns[s]) on and below the diagonal; logarithms are pairs.
    pub(crate) fn decay_table(&self, rows: [&[T]; 2], columns: [&[T]; 2], table: &mut Tile<T>) {
        let n = rows[0].len();
        let room = n.next_multiple_of(self.width);
        assert!(rows[1].len() == n && columns.iter().all(|c| c.len() >= room));
        let logs = Logarithms {
            rows: rows.map(<[T]>::as_ptr),
            columns: columns.map(<[T]>::as_ptr),
        };
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.decay_table)(&self.rows(table, n, n), &logs) }
    }

    /// high + low = sums down the rows of `from`.
    pub(crate) fn cumulate(
        &self,
        from: &Tile<T>,
        (rows, columns): (usize, usize),
        high: &mut Tile<T>,
        low: &mut Tile<T>,
    ) {
        let stride = from.stride();
        assert!(high.stride() == stride && low.stride() == stride);
        let x = Cumulate {
            from: self.rows_read(from, rows, columns).data,
            high: self.rows(high, rows, columns).data,
            low: self.rows(low, rows, columns).data,
            stride,
            rows,
            columns,
        };
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.cumulate)(&x) }
    }

    /// Rows `first..first + count` of `from` times e^{sign (G - G')}, to the first rows of `to`; G
    /// are the rows of `logs` (high and low parts) of the same numbers, G' is the reference.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn weigh(
        &self,
        from: &Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        logs: [&Tile<T>; 2],
        reference: Option<[&[T]; 2]>,
        sign: T,
        to: &mut Tile<T>,
    ) {
        let source = self.rows_read(from, first + count, columns);
        let target = self.rows(to, count, columns);
        let from = (
            source.data.wrapping_add(first * source.stride).cast_const(),
            source.stride,
        );
        self.weigh_rows(
            from,
            (first, count),
            columns,
            logs,
            reference,
            sign,
            &target,
        );
    }

    /// The first `count` rows of `tile` times e^{sign (G - G')}, in place; G are the rows of `logs`
    /// from `first` on, G' is the reference.
    pub(crate) fn weigh_in_place(
        &self,
        tile: &mut Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        logs: [&Tile<T>; 2],
        reference: Option<[&[T]; 2]>,
        sign: T,
    ) {
        let target = self.rows(tile, count, columns);
        let from = (target.data.cast_const(), target.stride);
        self.weigh_rows(
            from,
            (first, count),
            columns,
            logs,
            reference,
            sign,
            &target,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn weigh_rows(
        &self,
        (from, from_stride): (*const T, usize),
        (first, count): (usize, usize),
        columns: usize,
        logs: [&Tile<T>; 2],
        reference: Option<[&[T]; 2]>,
        sign: T,
        target: &Rows<T>,
    ) {
        let [high, low] = logs.map(|tile| self.rows_read(tile, first + count, columns));
        assert!(high.stride == low.stride);
        let reference = reference.map_or([ptr::null(); 2], |parts| {
            // Rows of tiles, which have room.
            parts.map(|part| {
                assert!(part.len() >= columns);
                part.as_ptr()
            })
        });
        let x = Weigh {
            from,
            from_stride,
            high: high.data.wrapping_add(first * high.stride),
            low: low.data.wrapping_add(first * low.stride),
            log_stride: high.stride,
            reference,
            sign,
            rows: count,
            columns,
            to: target.data,
            to_stride: target.stride,
        };
        // SAFETY: as in `Kernels::map`; references are rows of tiles.
        unsafe { (self.weigh)(&x) }
    }

    /// Scores of the square of `count` tokens from `first` on, with what is kept at each token.
    pub(crate) fn diagonal(
        &self,
        q: &Tile<T>,
        k: &Tile<T>,
        keep: &Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        out: &mut Tile<T>,
    ) {
        let rows = first + count;
        let [q, k, keep] = [q, k, keep].map(|tile| self.rows_read(tile, rows, columns));
        assert!(count <= 16);
        let out = self.rows(out, rows, rows);
        let from = |rows: &Rows<T>| rows.data.wrapping_add(first * rows.stride);
        let x = Diagonal {
            q: from(&q),
            q_stride: q.stride,
            k: from(&k),
            k_stride: k.stride,
            keep: from(&keep),
            keep_stride: keep.stride,
            tokens: count,
            columns,
            out: from(&out).wrapping_add(first),
            out_stride: out.stride,
        };
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.diagonal)(&x) }
    }
}
