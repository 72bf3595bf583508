//! One token: a state is read and written once, and the output summed meanwhile.
//!
//! What bounds it is moving the state: 8 bytes for each of its numbers (f32), against six
//! operations. Columns go in blocks whose sums stay in registers while all features pass.
#![allow(unsafe_code)]
// Indices stay what they are in the formulas, and arrays of registers are unrolled.
#![allow(clippy::needless_range_loop)]

use corekit_base::real::Real;

use crate::simd::Simd;

/// S = a S + k vᵀ, o = Sᵀ q.
pub(crate) struct Step<T> {
    /// Features by values, row after row, no room.
    pub(crate) s: *mut T,
    pub(crate) stride: usize,
    pub(crate) features: usize,
    pub(crate) values: usize,
    /// What each feature keeps, or one for all, as the step says; null for everything.
    pub(crate) decay: *const T,
    pub(crate) decay_step: usize,
    pub(crate) k: *const T,
    pub(crate) v: *const T,
    /// One or more queries, each of `features`.
    pub(crate) q: *const T,
    pub(crate) q_stride: usize,
    pub(crate) queries: usize,
    pub(crate) out: *mut T,
    pub(crate) out_stride: usize,
}

/// `N` registers of columns: the update, and the first query's output.
#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn pass<S: Simd, const N: usize, const DECAYS: bool>(x: &Step<S::T>, column: usize) {
    // SAFETY: as of `step`.
    unsafe {
        let mut sums = [S::splat(S::T::ZERO); N];
        let mut v = sums;
        for n in 0..N {
            v[n] = S::load(x.v.add(column + n * S::LANES));
        }
        for f in 0..x.features {
            let row = x.s.add(f * x.stride + column);
            let (k, q) = (S::splat(*x.k.add(f)), S::splat(*x.q.add(f)));
            for n in 0..N {
                let at = row.add(n * S::LANES);
                let mut old = S::load(at);
                if DECAYS {
                    old = S::mul(old, S::splat(*x.decay.add(f * x.decay_step)));
                }
                let new = S::mul_add(k, v[n], old);
                S::store(at, new);
                sums[n] = S::mul_add(q, new, sums[n]);
            }
        }
        for n in 0..N {
            S::store(x.out.add(column + n * S::LANES), sums[n]);
        }
    }
}

/// `N` registers of columns: another query's output.
#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn read<S: Simd, const N: usize>(x: &Step<S::T>, query: usize, column: usize) {
    // SAFETY: as of `step`.
    unsafe {
        let mut sums = [S::splat(S::T::ZERO); N];
        let q = x.q.add(query * x.q_stride);
        for f in 0..x.features {
            let row = x.s.add(f * x.stride + column);
            let q = S::splat(*q.add(f));
            for n in 0..N {
                sums[n] = S::mul_add(q, S::load(row.add(n * S::LANES)), sums[n]);
            }
        }
        for n in 0..N {
            S::store(
                x.out.add(query * x.out_stride + column + n * S::LANES),
                sums[n],
            );
        }
    }
}

#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn block<S: Simd, const N: usize>(x: &Step<S::T>, column: usize) {
    // SAFETY: as of `step`.
    unsafe {
        match x.decay.is_null() {
            true => pass::<S, N, false>(x, column),
            false => pass::<S, N, true>(x, column),
        }
        for query in 1..x.queries {
            read::<S, N>(x, query, column);
        }
    }
}

/// One token for one state.
///
/// # Safety
/// The machine has the instruction set, and the pointers are good for what the sizes say; there is
/// at least one query.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn step<S: Simd, const N: usize>(x: &Step<S::T>) {
    // SAFETY: whole registers inside of the columns, then single numbers.
    unsafe {
        let mut column = 0;
        while column + N * S::LANES <= x.values {
            block::<S, N>(x, column);
            column += N * S::LANES;
        }
        // One register alone would wait for its own sum, feature after feature.
        while column + 4 * S::LANES <= x.values {
            block::<S, 4>(x, column);
            column += 4 * S::LANES;
        }
        while column + S::LANES <= x.values {
            block::<S, 1>(x, column);
            column += S::LANES;
        }
        for column in column..x.values {
            let v = *x.v.add(column);
            for f in 0..x.features {
                let at = x.s.add(f * x.stride + column);
                let old = if x.decay.is_null() {
                    *at
                } else {
                    *at * *x.decay.add(f * x.decay_step)
                };
                *at = old + *x.k.add(f) * v;
            }
            for query in 0..x.queries {
                let mut sum = S::T::ZERO;
                for f in 0..x.features {
                    sum += *x.q.add(query * x.q_stride + f) * *x.s.add(f * x.stride + column);
                }
                *x.out.add(query * x.out_stride + column) = sum;
            }
        }
    }
}
