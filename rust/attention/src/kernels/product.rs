//! Products of small matrices, summed in registers.
//!
//! A register tile is `R` rows by one panel (two registers). Every sum is one chain over rising
//! depth, so its bits depend neither on where the tile lies nor on how columns are shared out to
//! threads. Three kernels are made of it:
//!
//! - [`scores`]: A = Q Kᵀ, on and below the diagonal or everywhere;
//! - [`outputs`]: O = (r (Q S) + A V) m, what the state gives and what the chunk gives in one tile;
//! - [`update`]: S = γ S + Kᵀ V, the chunk's sum made apart and added once, so that a state is
//!   rounded once a chunk and not once a token.
//!
//! A later token must never reach an earlier one, not even as 0 x NaN: above the diagonal nothing is
//! multiplied.
#![allow(unsafe_code)]
// Indices stay what they are in the formulas, and arrays of registers are unrolled.
#![allow(clippy::needless_range_loop)]

use corekit_base::array::Wanted;
use corekit_base::real::Real;

use crate::simd::Simd;

/// Which pairs of a chunk's tokens have a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Those of a row and no later column.
    Lower,
    /// All.
    Full,
}

/// A = Q Kᵀ.
pub(crate) struct Scores<T> {
    pub(super) q: *const T,
    pub(super) q_stride: usize,
    /// Kᵀ in panels: features down, tokens across.
    pub(super) k: *const T,
    pub(super) panel_len: usize,
    pub(super) depth: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) shape: Shape,
    pub(super) out: *mut T,
    pub(super) out_stride: usize,
    /// Lines to ask for meanwhile; null for none.
    pub(super) wanted: *mut Wanted,
}

/// How a chunk's scores are multiplied by rows of panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Row r takes the tokens 0..=r.
    Lower,
    /// Row r of the transposed scores takes the tokens r...
    LowerTransposed,
    /// Every row takes all.
    Full,
    /// Every row of the transposed scores takes all.
    FullTransposed,
}

/// O = (r (Q S) + A V) m.
pub(crate) struct Outputs<T> {
    /// Rows by depth; no product where depth is 0.
    pub(super) q: *const T,
    pub(super) q_stride: usize,
    pub(super) s: *const T,
    pub(super) s_panel_len: usize,
    pub(super) depth: usize,
    /// Whether what is in `out` is what Q S would be added to.
    pub(super) adds: bool,
    /// A factor for each row of what came so far; null for none.
    pub(super) row_scale: *const T,
    pub(super) a: *const T,
    pub(super) a_stride: usize,
    pub(super) v: *const T,
    pub(super) v_panel_len: usize,
    /// Tokens of A and V; no product where it is 0.
    pub(super) tokens: usize,
    pub(super) kind: Kind,
    /// A factor for each row of the result; null for none.
    pub(super) row_mul: *const T,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) out: *mut T,
    pub(super) out_stride: isize,
    /// Rows that `out` has; the room of a tile counts as such.
    pub(super) stored: usize,
    /// Lines to ask for meanwhile; null for none.
    pub(super) wanted: *mut Wanted,
}

/// S = γ S + Kᵀ V.
pub(crate) struct Update<T> {
    /// Tokens by features.
    pub(super) k: *const T,
    pub(super) k_stride: usize,
    pub(super) v: *const T,
    pub(super) v_panel_len: usize,
    pub(super) tokens: usize,
    /// γ and what it lacks: one for all, or one for each feature, as the step says; null for none.
    pub(super) decay: *const T,
    pub(super) decay_rest: *const T,
    pub(super) decay_step: usize,
    pub(super) features: usize,
    pub(super) columns: usize,
    pub(super) s: *mut T,
    pub(super) s_panel_len: usize,
    /// Lines to ask for meanwhile; null for none.
    pub(super) wanted: *mut Wanted,
}

/// Adds products of `R` rows and a panel: `sums[r] += a[r][k] b[k]` for rising k. The rows of `a`
/// lie along k, or, where `ACROSS`, side by side.
#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
pub(super) unsafe fn add_products<S: Simd, const R: usize, const N: usize, const ACROSS: bool>(
    sums: &mut [[S::V; N]; R],
    a: *const S::T,
    a_stride: usize,
    b: *const S::T,
    depth: usize,
) {
    // SAFETY: the caller's pointers are good for R rows, a panel and the depth.
    unsafe {
        for k in 0..depth {
            let mut panel = [S::splat(S::T::ZERO); N];
            for n in 0..N {
                panel[n] = S::load(b.add(k * 2 * S::LANES + n * S::LANES));
            }
            for r in 0..R {
                let at = if ACROSS {
                    k * a_stride + r
                } else {
                    r * a_stride + k
                };
                let x = S::splat(*a.add(at));
                for n in 0..N {
                    sums[r][n] = S::mul_add(x, panel[n], sums[r][n]);
                }
            }
        }
    }
}

/// [`add_products`], with lines that are wanted later asked for now and then.
#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn add_asking<S: Simd, const R: usize, const N: usize, const ACROSS: bool>(
    sums: &mut [[S::V; N]; R],
    a: *const S::T,
    a_stride: usize,
    b: *const S::T,
    depth: usize,
    wanted: *mut Wanted,
) {
    /// Products of a row between two looks.
    const STEP: usize = 16;
    // SAFETY: as in `add_products`; the list is null or may be written.
    unsafe {
        let Some(wanted) = wanted.as_mut() else {
            add_products::<S, R, N, ACROSS>(sums, a, a_stride, b, depth);
            return;
        };
        for k in (0..depth).step_by(STEP) {
            wanted.look();
            let a = a.add(if ACROSS { k * a_stride } else { k });
            let b = b.add(k * 2 * S::LANES);
            add_products::<S, R, N, ACROSS>(sums, a, a_stride, b, STEP.min(depth - k));
        }
    }
}

/// The square on the diagonal: row r takes k <= r, or, where `ACROSS`, k >= r.
#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn add_diagonal<S: Simd, const R: usize, const N: usize, const ACROSS: bool>(
    sums: &mut [[S::V; N]; R],
    a: *const S::T,
    a_stride: usize,
    b: *const S::T,
    depth: usize,
) {
    // SAFETY: as in `add_products`.
    unsafe {
        for k in 0..R {
            if k >= depth {
                break;
            }
            let mut panel = [S::splat(S::T::ZERO); N];
            for n in 0..N {
                panel[n] = S::load(b.add(k * 2 * S::LANES + n * S::LANES));
            }
            for r in 0..R {
                if if ACROSS { r > k } else { r < k } {
                    continue;
                }
                let at = if ACROSS {
                    k * a_stride + r
                } else {
                    r * a_stride + k
                };
                let x = S::splat(*a.add(at));
                for n in 0..N {
                    sums[r][n] = S::mul_add(x, panel[n], sums[r][n]);
                }
            }
        }
    }
}

#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
pub(super) unsafe fn none<S: Simd, const R: usize, const N: usize>() -> [[S::V; N]; R] {
    // SAFETY: the caller's promise.
    unsafe { [[S::splat(S::T::ZERO); N]; R] }
}

#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
pub(super) unsafe fn store<S: Simd, const R: usize, const N: usize>(
    to: *mut S::T,
    stride: usize,
    sums: &[[S::V; N]; R],
) {
    for r in 0..R {
        for n in 0..N {
            // SAFETY: the caller's pointer is good for R rows of N registers.
            unsafe { S::store(to.add(r * stride + n * S::LANES), sums[r][n]) };
        }
    }
}

#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn scores_tile<S: Simd, const R: usize, const N: usize>(
    x: &Scores<S::T>,
    row: usize,
    column: usize,
) {
    // SAFETY: as of `scores`.
    unsafe {
        let mut sums = none::<S, R, N>();
        let q = x.q.add(row * x.q_stride);
        let k = x.k.add(column / (2 * S::LANES) * x.panel_len);
        add_asking::<S, R, N, false>(&mut sums, q, x.q_stride, k, x.depth, x.wanted);
        let to = x.out.add(row * x.out_stride + column);
        store::<S, R, N>(to, x.out_stride, &sums);
    }
}

/// Computes scores; above the diagonal of a [`Shape::Lower`] they are whatever they are.
///
/// # Safety
/// The machine has the instruction set, and the pointers are good for tiles and panels of the sizes
/// given, with their room.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn scores<S: Simd, const R: usize>(x: &Scores<S::T>) {
    for row in (0..x.rows).step_by(R) {
        let end = match x.shape {
            Shape::Lower => x.columns.min(row + R),
            Shape::Full => x.columns,
        };
        for column in (0..end).step_by(2 * S::LANES) {
            // SAFETY: rows and columns of the tiles, or of their room.
            unsafe {
                match column + S::LANES < end {
                    true => scores_tile::<S, R, 2>(x, row, column),
                    false => scores_tile::<S, R, 1>(x, row, column),
                }
            }
        }
    }
}

#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn outputs_tile<S: Simd, const R: usize, const N: usize>(
    x: &Outputs<S::T>,
    row: usize,
    column: usize,
) {
    // SAFETY: as of `outputs`.
    unsafe {
        let panel = column / (2 * S::LANES);
        let to = x.out.offset(row as isize * x.out_stride + column as isize);
        let mut sums = none::<S, R, N>();
        if x.adds {
            for r in 0..R {
                for n in 0..N {
                    let from = to.offset(r as isize * x.out_stride);
                    sums[r][n] = S::load(from.add(n * S::LANES));
                }
            }
        }
        let q = x.q.wrapping_add(row * x.q_stride);
        let s = x.s.wrapping_add(panel * x.s_panel_len);
        add_asking::<S, R, N, false>(&mut sums, q, x.q_stride, s, x.depth, x.wanted);
        if !x.row_scale.is_null() {
            for r in 0..R {
                let scale = S::splat(*x.row_scale.add(row + r));
                for n in 0..N {
                    sums[r][n] = S::mul(sums[r][n], scale);
                }
            }
        }
        let v = x.v.wrapping_add(panel * x.v_panel_len);
        let at = |token: usize| v.wrapping_add(token * 2 * S::LANES);
        match x.kind {
            Kind::Full => {
                let a = x.a.wrapping_add(row * x.a_stride);
                add_products::<S, R, N, false>(&mut sums, a, x.a_stride, v, x.tokens);
            }
            Kind::FullTransposed => {
                let a = x.a.wrapping_add(row);
                add_products::<S, R, N, true>(&mut sums, a, x.a_stride, v, x.tokens);
            }
            Kind::Lower => {
                let a = x.a.wrapping_add(row * x.a_stride);
                let before = row.min(x.tokens);
                add_products::<S, R, N, false>(&mut sums, a, x.a_stride, v, before);
                let (a, left) = (a.wrapping_add(before), x.tokens - before);
                add_diagonal::<S, R, N, false>(&mut sums, a, x.a_stride, at(before), left);
            }
            Kind::LowerTransposed => {
                let before = row.min(x.tokens);
                let a = x.a.wrapping_add(before * x.a_stride + row);
                let left = x.tokens - before;
                add_diagonal::<S, R, N, true>(&mut sums, a, x.a_stride, at(before), left);
                let a = a.wrapping_add(R * x.a_stride);
                let left = left.saturating_sub(R);
                add_products::<S, R, N, true>(&mut sums, a, x.a_stride, at(before + R), left);
            }
        }
        if !x.row_mul.is_null() {
            for r in 0..R {
                let factor = S::splat(*x.row_mul.add(row + r));
                for n in 0..N {
                    sums[r][n] = S::mul(sums[r][n], factor);
                }
            }
        }
        for r in 0..R {
            if row + r < x.stored {
                let to = to.offset(r as isize * x.out_stride);
                for n in 0..N {
                    S::store(to.add(n * S::LANES), sums[r][n]);
                }
            }
        }
    }
}

/// Computes outputs.
///
/// # Safety
/// As of [`scores`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn outputs<S: Simd, const R: usize>(x: &Outputs<S::T>) {
    for column in (0..x.columns).step_by(2 * S::LANES) {
        for row in (0..x.rows).step_by(R) {
            // SAFETY: rows and columns of the tiles, or of their room.
            unsafe {
                match column + S::LANES < x.columns {
                    true => outputs_tile::<S, R, 2>(x, row, column),
                    false => outputs_tile::<S, R, 1>(x, row, column),
                }
            }
        }
    }
}

#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn update_tile<S: Simd, const R: usize, const N: usize>(
    x: &Update<S::T>,
    feature: usize,
    column: usize,
) {
    // SAFETY: as of `update`.
    unsafe {
        let panel = column / (2 * S::LANES);
        let mut sums = none::<S, R, N>();
        let v = x.v.add(panel * x.v_panel_len);
        let k = x.k.add(feature);
        add_asking::<S, R, N, true>(&mut sums, k, x.k_stride, v, x.tokens, x.wanted);
        let to = x.s.add(panel * x.s_panel_len + feature * 2 * S::LANES);
        let place = |r: usize, n: usize| to.add(r * 2 * S::LANES + n * S::LANES);
        if x.decay.is_null() {
            for r in 0..R {
                for n in 0..N {
                    let place = place(r, n);
                    S::store(place, S::add(S::load(place), sums[r][n]));
                }
            }
            return;
        }
        for r in 0..R {
            let at = x.decay_step * (feature + r);
            let decay = S::splat(*x.decay.add(at));
            let rest = S::splat(*x.decay_rest.add(at));
            for n in 0..N {
                let place = place(r, n);
                let old = S::load(place);
                let sum = S::mul_add(rest, old, sums[r][n]);
                S::store(place, S::mul_add(decay, old, sum));
            }
        }
    }
}

/// Updates a state.
///
/// # Safety
/// As of [`scores`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn update<S: Simd, const R: usize>(x: &Update<S::T>) {
    for column in (0..x.columns).step_by(2 * S::LANES) {
        for feature in (0..x.features).step_by(R) {
            // SAFETY: features and columns of the tiles, or of their room.
            unsafe {
                match column + S::LANES < x.columns {
                    true => update_tile::<S, R, 2>(x, feature, column),
                    false => update_tile::<S, R, 1>(x, feature, column),
                }
            }
        }
    }
}
