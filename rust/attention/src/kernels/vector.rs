//! Decay by a number for each feature.
#![allow(unsafe_code)]
// Indices stay what they are in the formulas, and arrays of registers are unrolled.
#![allow(clippy::needless_range_loop)]

use corekit_base::real::Real;

use crate::simd::{Simd, exp, first};

/// Sums of logarithms down the rows of a tile, as pairs of tiles; strides are the same.
pub(crate) struct Cumulate<T> {
    pub(super) from: *const T,
    pub(super) high: *mut T,
    pub(super) low: *mut T,
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// high + low = the sum of the rows up to this one, with what is rounded off.
///
/// # Safety
/// The machine has the instruction set, and the pointers are good for tiles of the sizes given.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn cumulate<S: Simd>(x: &Cumulate<S::T>) {
    for column in (0..x.columns).step_by(S::LANES) {
        // SAFETY: inside of the tiles, or of their room.
        unsafe {
            let mut high = S::splat(S::T::ZERO);
            let mut low = high;
            for row in 0..x.rows {
                let at = row * x.stride + column;
                let next = S::load(x.from.add(at));
                // Knuth's two-sum.
                let sum = S::add(high, next);
                let part = S::sub(sum, high);
                let lost = S::add(S::sub(high, S::sub(sum, part)), S::sub(next, part));
                high = sum;
                low = S::add(low, lost);
                S::store(x.high.add(at), high);
                S::store(x.low.add(at), low);
            }
        }
    }
}

/// Rows weighed by how much is kept between them and a reference.
pub(crate) struct Weigh<T> {
    pub(super) from: *const T,
    pub(super) from_stride: usize,
    /// Sums of logarithms, for each row.
    pub(super) high: *const T,
    pub(super) low: *const T,
    pub(super) log_stride: usize,
    /// Those of the reference; null for zeros.
    pub(super) reference: [*const T; 2],
    /// 1 for rows after the reference, -1 for rows before it.
    pub(super) sign: T,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) to: *mut T,
    pub(super) to_stride: usize,
}

/// to = from e^{sign (G - G')}.
///
/// # Safety
/// As of [`cumulate`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn weigh<S: Simd>(x: &Weigh<S::T>) {
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        let sign = S::splat(x.sign);
        for column in (0..x.columns).step_by(S::LANES) {
            let reference = |part: usize| match x.reference[part].is_null() {
                true => S::splat(S::T::ZERO),
                false => S::load(x.reference[part].add(column)),
            };
            let (high, low) = (reference(0), reference(1));
            for row in 0..x.rows {
                let at = row * x.log_stride + column;
                let coarse = S::sub(S::load(x.high.add(at)), high);
                let fine = S::sub(S::load(x.low.add(at)), low);
                let factor = exp::<S>(S::mul(sign, S::add(coarse, fine)));
                let value = S::load(x.from.add(row * x.from_stride + column));
                S::store(x.to.add(row * x.to_stride + column), S::mul(value, factor));
            }
        }
    }
}

/// A square of scores on the diagonal.
pub(crate) struct Diagonal<T> {
    pub(super) q: *const T,
    pub(super) q_stride: usize,
    pub(super) k: *const T,
    pub(super) k_stride: usize,
    /// What each feature keeps at each token, not its logarithm.
    pub(super) keep: *const T,
    pub(super) keep_stride: usize,
    pub(super) tokens: usize,
    pub(super) columns: usize,
    pub(super) out: *mut T,
    pub(super) out_stride: usize,
}

/// out[t][s] = Σ q_t k_s (what is kept after s up to t), on and below the diagonal.
///
/// The products of what is kept are made one factor after the other, which no decay can overflow
/// and a hard reset makes exactly zero.
///
/// # Safety
/// As of [`cumulate`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn diagonal<S: Simd>(x: &Diagonal<S::T>) {
    /// Registers of features that are in flight.
    const N: usize = 4;
    /// The most tokens.
    const MOST: usize = 16;
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        for s in 0..x.tokens {
            let k = x.k.add(s * x.k_stride);
            let mut sums = [S::splat(S::T::ZERO); MOST];
            for start in (0..x.columns).step_by(N * S::LANES) {
                let mut weighed = [S::splat(S::T::ZERO); N];
                for n in 0..N {
                    let column = start + n * S::LANES;
                    if column < x.columns {
                        weighed[n] = first::<S>(S::load(k.add(column)), x.columns - column);
                    }
                }
                for t in s..x.tokens {
                    let q = x.q.add(t * x.q_stride);
                    let keep = x.keep.add(t * x.keep_stride);
                    for n in 0..N {
                        let column = start + n * S::LANES;
                        if column < x.columns {
                            if t > s {
                                weighed[n] = S::mul(weighed[n], S::load(keep.add(column)));
                            }
                            sums[t] = S::mul_add(S::load(q.add(column)), weighed[n], sums[t]);
                        }
                    }
                }
            }
            for t in s..x.tokens {
                *x.out.add(t * x.out_stride + s) = S::sum(sums[t]);
            }
        }
    }
}
