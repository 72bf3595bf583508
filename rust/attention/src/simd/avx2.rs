//! AVX2 and FMA: registers of 32 bytes, 16 of them.

// Rows keep their numbers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::{Elementwise, Simd};

/// Eight f32 or four f64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2<T>(std::marker::PhantomData<T>);

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

macro_rules! avx2 {
    ($type:ty, $register:ty, $lanes:literal, $set1:ident, $load:ident, $store:ident, $add:ident,
     $sub:ident, $mul:ident, $fma:ident, $max:ident, $min:ident, $round:ident,
     $scale:ident, $compare:ident, $blend:ident, $zero:ident, $sum:ident, $transpose:path) => {
        // One reason for all blocks, which is said below.
        #[allow(clippy::undocumented_unsafe_blocks)]
        impl Elementwise for Avx2<$type> {
            type T = $type;
            type V = $register;
            const LANES: usize = $lanes;

            // SAFETY: all blocks: the caller's promise, that the machine has the instructions and
            // pointers are good, is what intrinsics need.
            #[inline(always)]
            unsafe fn splat(x: $type) -> $register {
                unsafe { $set1(x) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $type) -> $register {
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut $type, x: $register) {
                unsafe { $store(to, x) }
            }
            #[inline(always)]
            unsafe fn add(a: $register, b: $register) -> $register {
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn sub(a: $register, b: $register) -> $register {
                unsafe { $sub(a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: $register, b: $register) -> $register {
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            unsafe fn mul_add(a: $register, b: $register, c: $register) -> $register {
                unsafe { $fma(a, b, c) }
            }
            #[inline(always)]
            unsafe fn max(a: $register, b: $register) -> $register {
                unsafe { $max(a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: $register, b: $register) -> $register {
                unsafe { $min(a, b) }
            }
            #[inline(always)]
            unsafe fn round(x: $register) -> $register {
                unsafe { $round::<NEAREST>(x) }
            }
            #[inline(always)]
            unsafe fn scale(x: $register, n: $register) -> $register {
                unsafe { $scale(x, n) }
            }
            #[inline(always)]
            unsafe fn where_positive(x: $register, a: $register, b: $register) -> $register {
                unsafe { $blend(b, a, $compare::<_CMP_GT_OQ>(x, $zero())) }
            }
        }

        #[allow(clippy::undocumented_unsafe_blocks)]
        impl Simd for Avx2<$type> {
            // SAFETY: as above.
            #[inline(always)]
            unsafe fn sum(x: $register) -> $type {
                unsafe { $sum(x) }
            }
            #[inline(always)]
            unsafe fn transpose(
                from: *const $type,
                from_stride: usize,
                to: *mut $type,
                to_stride: usize,
            ) {
                unsafe { $transpose(from, from_stride, to, to_stride) }
            }
        }
    };
}

avx2!(
    f32,
    __m256,
    8,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_fmadd_ps,
    _mm256_max_ps,
    _mm256_min_ps,
    _mm256_round_ps,
    scale_f32,
    _mm256_cmp_ps,
    _mm256_blendv_ps,
    _mm256_setzero_ps,
    sum_f32,
    transpose_f32
);
avx2!(
    f64,
    __m256d,
    4,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_add_pd,
    _mm256_sub_pd,
    _mm256_mul_pd,
    _mm256_fmadd_pd,
    _mm256_max_pd,
    _mm256_min_pd,
    _mm256_round_pd,
    scale_f64,
    _mm256_cmp_pd,
    _mm256_blendv_pd,
    _mm256_setzero_pd,
    sum_f64,
    transpose_f64
);

/// In two steps, each of which is a power of two that is a normal number.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn scale_f32(x: __m256, n: __m256) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let n = _mm256_cvtps_epi32(n);
        let half = _mm256_srai_epi32::<1>(n);
        let power = |n| {
            let biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        };
        _mm256_mul_ps(
            _mm256_mul_ps(x, power(half)),
            power(_mm256_sub_epi32(n, half)),
        )
    }
}

/// As [`scale_f32`].
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn scale_f64(x: __m256d, n: __m256d) -> __m256d {
    // SAFETY: the caller's promise.
    unsafe {
        let n = _mm256_cvtpd_epi32(n);
        let half = _mm_srai_epi32::<1>(n);
        let power = |n| {
            let biased = _mm256_cvtepi32_epi64(_mm_add_epi32(n, _mm_set1_epi32(1023)));
            _mm256_castsi256_pd(_mm256_slli_epi64::<52>(biased))
        };
        _mm256_mul_pd(_mm256_mul_pd(x, power(half)), power(_mm_sub_epi32(n, half)))
    }
}

/// # Safety
/// The machine has AVX2.
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn sum_f32(x: __m256) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// # Safety
/// The machine has AVX2.
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn sum_f64(x: __m256d) -> f64 {
    // SAFETY: the caller's promise.
    unsafe {
        let two = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
        _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
    }
}

/// # Safety
/// As of [`Simd::transpose`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn transpose_f32(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller's pointers are good for eight rows of eight.
    unsafe {
        let mut r = [_mm256_setzero_ps(); 8];
        let mut t = [_mm256_setzero_ps(); 8];
        for i in 0..8 {
            r[i] = _mm256_loadu_ps(from.add(i * from_stride));
        }
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..2 {
            r[4 * i] = _mm256_shuffle_ps::<0x44>(t[4 * i], t[4 * i + 2]);
            r[4 * i + 1] = _mm256_shuffle_ps::<0xee>(t[4 * i], t[4 * i + 2]);
            r[4 * i + 2] = _mm256_shuffle_ps::<0x44>(t[4 * i + 1], t[4 * i + 3]);
            r[4 * i + 3] = _mm256_shuffle_ps::<0xee>(t[4 * i + 1], t[4 * i + 3]);
        }
        for i in 0..4 {
            let at = |row: usize| to.add(row * to_stride);
            _mm256_storeu_ps(at(i), _mm256_permute2f128_ps::<0x20>(r[i], r[i + 4]));
            _mm256_storeu_ps(at(i + 4), _mm256_permute2f128_ps::<0x31>(r[i], r[i + 4]));
        }
    }
}

/// # Safety
/// As of [`Simd::transpose`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn transpose_f64(from: *const f64, from_stride: usize, to: *mut f64, to_stride: usize) {
    // SAFETY: the caller's pointers are good for four rows of four.
    unsafe {
        let row = |i: usize| _mm256_loadu_pd(from.add(i * from_stride));
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let (ab, cd) = (_mm256_unpacklo_pd(a, b), _mm256_unpacklo_pd(c, d));
        let (up, down) = (_mm256_unpackhi_pd(a, b), _mm256_unpackhi_pd(c, d));
        let at = |row: usize| to.add(row * to_stride);
        _mm256_storeu_pd(at(0), _mm256_permute2f128_pd::<0x20>(ab, cd));
        _mm256_storeu_pd(at(1), _mm256_permute2f128_pd::<0x20>(up, down));
        _mm256_storeu_pd(at(2), _mm256_permute2f128_pd::<0x31>(ab, cd));
        _mm256_storeu_pd(at(3), _mm256_permute2f128_pd::<0x31>(up, down));
    }
}
