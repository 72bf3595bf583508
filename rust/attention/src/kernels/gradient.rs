//! What gradients need beside products.
#![allow(unsafe_code)]
// Indices stay what they are in the formulas, and arrays of registers are unrolled.
#![allow(clippy::needless_range_loop)]

use corekit_base::real::Real;

use super::rows::{Map, Rows};
use crate::simd::{Simd, first};

/// Through a map: `x`, the gradient by features, becomes that by what was mapped, for the features
/// that came out (which say all about what went in that the derivative needs).
///
/// # Safety
/// The machine has the instruction set, and the pointers are good for tiles of the sizes given.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn map_back<S: Simd>(x: &Rows<S::T>, features: &Rows<S::T>, map: Map) {
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        let zero = S::splat(S::T::ZERO);
        let one = S::splat(S::T::ONE);
        for r in 0..x.rows {
            let row = x.data.add(r * x.stride);
            let features = features.data.add(r * features.stride);
            // Multiplies every gradient by the derivative that `$body` makes of the feature.
            macro_rules! each {
                ($feature:ident => $body:expr) => {
                    for column in (0..x.columns).step_by(S::LANES) {
                        let $feature = S::load(features.add(column));
                        let at = row.add(column);
                        S::store(at, S::mul(S::load(at), $body));
                    }
                };
            }
            match map {
                Map::Identity => {}
                // 1 above 0, where the feature is above 1, and the exponential, itself, below.
                Map::Elu1 => each!(y => S::where_positive(S::sub(y, one), one, y)),
                Map::Relu => each!(y => S::where_positive(y, one, zero)),
                Map::SquaredRelu => {
                    for column in 0..x.columns {
                        let slope = (*features.add(column)).wide().sqrt() * 2.0;
                        *row.add(column) = *row.add(column) * S::T::of(slope);
                    }
                }
                Map::Exp => each!(y => y),
                Map::Softmax => {
                    let mut sum = zero;
                    for column in (0..x.columns).step_by(S::LANES) {
                        let product =
                            S::mul(S::load(row.add(column)), S::load(features.add(column)));
                        sum = S::add(sum, first::<S>(product, x.columns - column));
                    }
                    let mean = S::splat(S::sum(sum));
                    for column in (0..x.columns).step_by(S::LANES) {
                        let at = row.add(column);
                        let off = S::sub(S::load(at), mean);
                        S::store(at, S::mul(S::load(features.add(column)), off));
                    }
                }
            }
        }
    }
}

/// out[r] = Σ a[r][c] b[r][c] over c <= r.
///
/// # Safety
/// As of [`map_back`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn lower_dots<S: Simd>(a: &Rows<S::T>, b: &Rows<S::T>, out: *mut S::T) {
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        for r in 0..a.rows {
            let (x, y) = (a.data.add(r * a.stride), b.data.add(r * b.stride));
            let mut sum = S::splat(S::T::ZERO);
            for column in (0..=r).step_by(S::LANES) {
                let product = S::mul(S::load(x.add(column)), S::load(y.add(column)));
                sum = S::add(sum, first::<S>(product, r + 1 - column));
            }
            *out.add(r) = S::sum(sum);
        }
    }
}

/// Gradients by scores, from products of gradients by values.
pub(crate) struct ByScores<T> {
    /// What they become, in place: (x r + d) F on and below the diagonal, zeros above.
    pub(super) x: Rows<T>,
    /// r, one number for each row.
    pub(super) scale: *const T,
    /// d, one number for each row.
    pub(super) shift: *const T,
    /// F; null for ones.
    pub(super) factors: *const T,
    pub(super) factor_stride: usize,
    /// Scores, factors included; null where the sums are not wanted.
    pub(super) scores: *const T,
    pub(super) score_stride: usize,
    /// Where sums of scores times gradients (without factors) go, those on the diagonal left out:
    /// of each row, and, added to what is there, of each column (with room).
    pub(super) of_rows: *mut T,
    pub(super) of_columns: *mut T,
}

/// Finishes gradients by scores.
///
/// # Safety
/// As of [`map_back`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn by_scores<S: Simd>(g: &ByScores<S::T>) {
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        for r in 0..g.x.rows {
            let row = g.x.data.add(r * g.x.stride);
            let (scale, shift) = (S::splat(*g.scale.add(r)), S::splat(*g.shift.add(r)));
            let mut sum = S::splat(S::T::ZERO);
            for column in (0..=r).step_by(S::LANES) {
                let at = row.add(column);
                let mut value = S::mul_add(S::load(at), scale, shift);
                if !g.scores.is_null() {
                    let score = S::load(g.scores.add(r * g.score_stride + column));
                    let product = first::<S>(S::mul(score, value), r - column);
                    sum = S::add(sum, product);
                    let below = g.of_columns.add(column);
                    S::store(below, S::add(S::load(below), product));
                }
                if !g.factors.is_null() {
                    value = S::mul(value, S::load(g.factors.add(r * g.factor_stride + column)));
                }
                S::store(at, first::<S>(value, r + 1 - column));
            }
            if !g.scores.is_null() {
                *g.of_rows.add(r) = S::sum(sum);
            }
        }
    }
}

/// Panels and the panels of the transposed matrix.
pub(crate) struct Flip<T> {
    pub(super) from: *const T,
    pub(super) from_panel_len: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) to: *mut T,
    pub(super) to_panel_len: usize,
}

/// Transposes panels.
///
/// # Safety
/// As of [`map_back`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn flip<S: Simd>(x: &Flip<S::T>) {
    let width = 2 * S::LANES;
    // SAFETY: inside of the panels; what is not a whole square is done number by number, for a
    // panel has little room down its depth.
    unsafe {
        for row in (0..x.rows).step_by(S::LANES) {
            for column in (0..x.columns).step_by(S::LANES) {
                let from = x.from.add(column / width * x.from_panel_len + row * width);
                let from = from.add(column % width);
                let to = x.to.add(row / width * x.to_panel_len + column * width);
                let to = to.add(row % width);
                let (rows, columns) = (x.rows - row, x.columns - column);
                if rows >= S::LANES && columns >= S::LANES {
                    S::transpose(from, width, to, width);
                } else {
                    for r in 0..rows.min(S::LANES) {
                        for c in 0..columns.min(S::LANES) {
                            *to.add(c * width + r) = *from.add(r * width + c);
                        }
                    }
                }
            }
        }
    }
}

/// A square on the diagonal of scores with decay by feature.
pub(crate) struct DiagonalBack<T> {
    /// Queries, keys, and what each feature keeps at each token.
    pub(super) parts: [*const T; 3],
    pub(super) strides: [usize; 3],
    pub(super) tokens: usize,
    pub(super) columns: usize,
    /// Gradients by scores.
    pub(super) by_scores: *const T,
    pub(super) by_stride: usize,
    /// Gradients by queries and by keys, which are added to.
    pub(super) by: [*mut T; 2],
    pub(super) by_strides: [usize; 2],
}

/// With p_ts what is kept after s up to t: dq_t += Σ_s a_ts p_ts k_s, dk_s += Σ_t a_ts p_ts q_t, for
/// s < t.
///
/// # Safety
/// As of [`map_back`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn diagonal_back<S: Simd>(x: &DiagonalBack<S::T>) {
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        for column in (0..x.columns).step_by(S::LANES) {
            let row = |part: usize, t: usize| x.parts[part].add(t * x.strides[part] + column);
            let by = |part: usize, t: usize| x.by[part].add(t * x.by_strides[part] + column);
            for s in 0..x.tokens {
                let k = S::load(row(1, s));
                let mut kept = S::splat(S::T::ONE);
                let mut sum = S::load(by(1, s));
                for t in s + 1..x.tokens {
                    kept = S::mul(kept, S::load(row(2, t)));
                    let weight = S::splat(*x.by_scores.add(t * x.by_stride + s));
                    let weight = S::mul(weight, kept);
                    let to = by(0, t);
                    S::store(to, S::mul_add(weight, k, S::load(to)));
                    sum = S::mul_add(weight, S::load(row(0, t)), sum);
                }
                S::store(by(1, s), sum);
            }
        }
    }
}

/// Adds rows to rows.
///
/// # Safety
/// As of [`map_back`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn add_rows<S: Simd>(x: &Rows<S::T>, to: &Rows<S::T>) {
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        for r in 0..x.rows {
            for column in (0..x.columns).step_by(S::LANES) {
                let at = to.data.add(r * to.stride + column);
                let value = S::load(x.data.add(r * x.stride + column));
                S::store(at, S::add(S::load(at), value));
            }
        }
    }
}

/// Adds one row, times a factor for each, to rows.
///
/// # Safety
/// As of [`map_back`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn add_outer<S: Simd>(x: &Rows<S::T>, row: *const S::T, factors: *const S::T) {
    // SAFETY: inside of the tile, or of its room.
    unsafe {
        for r in 0..x.rows {
            let factor = S::splat(*factors.add(r));
            for column in (0..x.columns).step_by(S::LANES) {
                let at = x.data.add(r * x.stride + column);
                S::store(
                    at,
                    S::mul_add(S::load(row.add(column)), factor, S::load(at)),
                );
            }
        }
    }
}
