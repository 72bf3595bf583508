//! What only gradients need.
#![allow(unsafe_code)]

use std::ptr;

use super::super::gradient::{ByScores, DiagonalBack};
use super::super::rows::{Map, Rows};
use super::super::{Computed, Kernels};
use crate::tiles::Tile;

impl<T: Computed> Kernels<T> {
    /// Makes gradients by features gradients by what was mapped.
    pub(crate) fn map_back(
        &self,
        gradient: &mut Tile<T>,
        features: &Tile<T>,
        (rows, columns): (usize, usize),
        map: Map,
    ) {
        let features = self.rows_read(features, rows, columns);
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.map_back)(&self.rows(gradient, rows, columns), &features, map) }
    }

    /// Finishes gradients by scores: (x scale + shift) table on and below the diagonal. Sums of
    /// scores times gradients go to `sums`: rows, and columns with room, which are added to.
    pub(crate) fn by_scores(
        &self,
        x: &mut Tile<T>,
        (scale, shift): (&[T], &[T]),
        table: Option<&Tile<T>>,
        sums: Option<(&Tile<T>, &mut [T], &mut [T])>,
    ) {
        let n = scale.len();
        assert!(shift.len() == n);
        let (factors, factor_stride) = table.map_or((ptr::null(), 0), |table| {
            let rows = self.rows_read(table, n, n);
            (rows.data.cast_const(), rows.stride)
        });
        let mut g = ByScores {
            x: self.rows(x, n, n),
            scale: scale.as_ptr(),
            shift: shift.as_ptr(),
            factors,
            factor_stride,
            scores: ptr::null(),
            score_stride: 0,
            of_rows: ptr::null_mut(),
            of_columns: ptr::null_mut(),
        };
        if let Some((scores, of_rows, of_columns)) = sums {
            assert!(of_rows.len() >= n && of_columns.len() >= n.next_multiple_of(self.width));
            let scores = self.rows_read(scores, n, n);
            (g.scores, g.score_stride) = (scores.data, scores.stride);
            (g.of_rows, g.of_columns) = (of_rows.as_mut_ptr(), of_columns.as_mut_ptr());
        }
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.by_scores)(&g) }
    }

    /// Adds to gradients by queries and by keys what scores in the square of `count` tokens from
    /// `first` on give, `keep` being what each feature keeps at each token.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn diagonal_back(
        &self,
        [q, k, keep]: [&Tile<T>; 3],
        by_scores: &Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        [by_q, by_k]: [&mut Tile<T>; 2],
    ) {
        let rows = first + count;
        let from = |rows: &Rows<T>| rows.data.wrapping_add(first * rows.stride);
        let parts = [q, k, keep].map(|tile| self.rows_read(tile, rows, columns));
        let by = [by_q, by_k].map(|tile| self.rows(tile, rows, columns));
        let scores = self.rows_read(by_scores, rows, rows);
        let x = DiagonalBack {
            parts: [from(&parts[0]), from(&parts[1]), from(&parts[2])],
            strides: [parts[0].stride, parts[1].stride, parts[2].stride],
            tokens: count,
            columns,
            by_scores: from(&scores).wrapping_add(first),
            by_stride: scores.stride,
            by: [from(&by[0]), from(&by[1])],
            by_strides: [by[0].stride, by[1].stride],
        };
        // SAFETY: as in `Kernels::map`.
        unsafe { (self.diagonal_back)(&x) }
    }
}
