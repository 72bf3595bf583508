//! Registers of numbers, as kernels see them: one trait, a file for each instruction set.
//!
//! A kernel is written once, generic over [`Simd`], and compiled once for every implementation
//! inside of a function that has the instruction set's features. Every method is inlined into it.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod plain;
pub(crate) mod several;

use corekit_base::real::Real;

/// A register of numbers of one type, or several of them, and what is done to each number by itself.
///
/// # Safety
/// All methods: the machine has the instruction set, and pointers are good for [`Self::LANES`] numbers
/// (no alignment is needed).
pub(crate) trait Elementwise: Copy + 'static {
    /// A number.
    type T: Number;
    /// A register.
    type V: Copy;
    /// Numbers of a register.
    const LANES: usize;

    unsafe fn splat(x: Self::T) -> Self::V;
    unsafe fn load(from: *const Self::T) -> Self::V;
    unsafe fn store(to: *mut Self::T, x: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a b + c; rounded once where the machine can.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` if either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` if either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole number, for numbers far below 2²².
    unsafe fn round(x: Self::V) -> Self::V;
    /// x 2ⁿ for whole n from -1076 to 1024 (f32: -150 to 128), with overflow and underflow.
    unsafe fn scale(x: Self::V, n: Self::V) -> Self::V;
    /// `a` where x > 0, `b` elsewhere (also where x is NaN).
    unsafe fn where_positive(x: Self::V, a: Self::V, b: Self::V) -> Self::V;
}

/// A register of numbers of one type.
///
/// # Safety
/// As of [`Elementwise`].
pub(crate) trait Simd: Elementwise {
    /// The sum of the numbers.
    unsafe fn sum(x: Self::V) -> Self::T;
    /// Transposes a square of `LANES` x `LANES` numbers; strides are in numbers.
    unsafe fn transpose(
        from: *const Self::T,
        from_stride: usize,
        to: *mut Self::T,
        to_stride: usize,
    );
}

/// What the kernels' exponential needs to know of a type.
pub(crate) trait Number: Real {
    /// Below this the exponential is 0, above the other infinite.
    const EXP_RANGE: (Self, Self);
    /// ln 2 in two parts, of which the first times a whole number is exact.
    const LN2: (Self, Self);
    /// The polynomial p, highest power first, by which 1 + r + r² p(r) has the least largest relative
    /// error as eʳ for |r| <= ln 2 / 2: 0.05 units in the last place.
    const EXP_POLYNOMIAL: &'static [Self];
    /// 0, 1, 2, ...: the places of a register's numbers.
    const PLACES: [Self; 16];
}

/// The first `count` numbers, and zeros in place of the others.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
// SAFETY: that is all it needs.
pub(crate) unsafe fn first<S: Simd>(x: S::V, count: usize) -> S::V {
    // SAFETY: the caller's promise; no register has more numbers than there are places.
    unsafe {
        let left = S::sub(
            S::splat(S::T::of(count.min(S::LANES) as f64)),
            S::load(S::T::PLACES.as_ptr()),
        );
        S::where_positive(left, x, S::splat(S::T::ZERO))
    }
}

impl Number for f32 {
    const PLACES: [f32; 16] = [
        0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
    ];
    const EXP_RANGE: (f32, f32) = (-104.0, 89.0);
    const LN2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
    const EXP_POLYNOMIAL: &'static [f32] = &[
        0.001_381_454,
        0.008_368_745,
        0.041_668_39,
        0.166_665_21,
        0.499_999_94,
    ];
}

impl Number for f64 {
    const PLACES: [f64; 16] = [
        0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
    ];
    const EXP_RANGE: (f64, f64) = (-746.0, 710.0);
    #[allow(clippy::excessive_precision)]
    const LN2: (f64, f64) = (6.93147180369123816490e-01, 1.90821492927058770002e-10);
    #[allow(clippy::excessive_precision)]
    const EXP_POLYNOMIAL: &'static [f64] = &[
        2.5000150106462437e-08,
        2.7630311797747505e-07,
        2.75575864144715e-06,
        2.4801492932635436e-05,
        0.00019841269506166786,
        0.0013888888943777802,
        0.008333333333494826,
        0.041666666666529656,
        0.1666666666666641,
        0.5000000000000011,
    ];
}

/// The exponential, within 1.5 units in the last place; exactly 0 and infinity beyond the range.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
// SAFETY: that is all it needs.
pub(crate) unsafe fn exp<S: Elementwise>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { exp_not_above::<S>(S::min(S::splat(S::T::EXP_RANGE.1), x)) }
}

/// The exponential of numbers that are NaN or no larger than the range's end, such as those up to 0;
/// of a larger one it is some number.
///
/// eˣ = 2ⁿ eʳ with |r| <= ln 2 / 2, and eʳ by a polynomial.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
// SAFETY: that is all it needs.
pub(crate) unsafe fn exp_not_above<S: Elementwise>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let x = S::max(S::splat(S::T::EXP_RANGE.0), x);
        let n = S::round(S::mul(x, S::splat(S::T::of(std::f64::consts::LOG2_E))));
        let (first, second) = S::T::LN2;
        let r = S::mul_add(n, S::splat(-first), x);
        let r = S::mul_add(n, S::splat(-second), r);
        let (highest, others) = (S::T::EXP_POLYNOMIAL[0], &S::T::EXP_POLYNOMIAL[1..]);
        let mut p = S::splat(highest);
        for coefficient in others {
            p = S::mul_add(p, r, S::splat(*coefficient));
        }
        // 1 + (r + r² p): the small part is added last, so that 1 is rounded once.
        let p = S::mul_add(p, S::mul(r, r), r);
        S::scale(S::add(p, S::splat(S::T::ONE)), n)
    }
}
