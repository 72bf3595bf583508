//! AVX-512: registers of 64 bytes, 32 of them.

// Rows keep their numbers.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::{Elementwise, Simd};

/// Sixteen f32 or eight f64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512<T>(std::marker::PhantomData<T>);

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

macro_rules! avx512 {
    ($type:ty, $register:ty, $lanes:literal, $set1:ident, $load:ident, $store:ident, $add:ident,
     $sub:ident, $mul:ident, $fma:ident, $max:ident, $min:ident, $round:ident,
     $scale:ident, $compare:ident, $blend:ident, $zero:ident, $sum:ident, $transpose:path) => {
        // One reason for all blocks, which is said below.
        #[allow(clippy::undocumented_unsafe_blocks)]
        impl Elementwise for Avx512<$type> {
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
                unsafe { $blend($compare::<_CMP_GT_OQ>(x, $zero()), b, a) }
            }
        }

        #[allow(clippy::undocumented_unsafe_blocks)]
        impl Simd for Avx512<$type> {
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

avx512!(
    f32,
    __m512,
    16,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_fmadd_ps,
    _mm512_max_ps,
    _mm512_min_ps,
    _mm512_roundscale_ps,
    _mm512_scalef_ps,
    _mm512_cmp_ps_mask,
    _mm512_mask_blend_ps,
    _mm512_setzero_ps,
    _mm512_reduce_add_ps,
    transpose_f32
);
avx512!(
    f64,
    __m512d,
    8,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_add_pd,
    _mm512_sub_pd,
    _mm512_mul_pd,
    _mm512_fmadd_pd,
    _mm512_max_pd,
    _mm512_min_pd,
    _mm512_roundscale_pd,
    _mm512_scalef_pd,
    _mm512_cmp_pd_mask,
    _mm512_mask_blend_pd,
    _mm512_setzero_pd,
    _mm512_reduce_add_pd,
    transpose_f64
);

/// # Safety
/// As of [`Simd::transpose`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn transpose_f32(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller's pointers are good for sixteen rows of sixteen.
    unsafe {
        let mut r = [_mm512_setzero_ps(); 16];
        let mut t = [_mm512_setzero_ps(); 16];
        for i in 0..16 {
            r[i] = _mm512_loadu_ps(from.add(i * from_stride));
        }
        // Pairs of rows, then fours, within quarters of a register; then the quarters.
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..4 {
            let wide = |i: usize| _mm512_castps_pd(t[i]);
            r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(wide(4 * i), wide(4 * i + 2)));
            r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(wide(4 * i), wide(4 * i + 2)));
            r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(wide(4 * i + 1), wide(4 * i + 3)));
            r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(wide(4 * i + 1), wide(4 * i + 3)));
        }
        for i in 0..4 {
            t[i] = _mm512_shuffle_f32x4::<0x88>(r[i], r[i + 4]);
            t[i + 4] = _mm512_shuffle_f32x4::<0xdd>(r[i], r[i + 4]);
            t[i + 8] = _mm512_shuffle_f32x4::<0x88>(r[i + 8], r[i + 12]);
            t[i + 12] = _mm512_shuffle_f32x4::<0xdd>(r[i + 8], r[i + 12]);
        }
        for i in 0..8 {
            let at = |row: usize| to.add(row * to_stride);
            _mm512_storeu_ps(at(i), _mm512_shuffle_f32x4::<0x88>(t[i], t[i + 8]));
            _mm512_storeu_ps(at(i + 8), _mm512_shuffle_f32x4::<0xdd>(t[i], t[i + 8]));
        }
    }
}

/// # Safety
/// As of [`Simd::transpose`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn transpose_f64(from: *const f64, from_stride: usize, to: *mut f64, to_stride: usize) {
    // SAFETY: the caller's pointers are good for eight rows of eight.
    unsafe {
        let mut r = [_mm512_setzero_pd(); 8];
        let mut t = [_mm512_setzero_pd(); 8];
        for i in 0..8 {
            r[i] = _mm512_loadu_pd(from.add(i * from_stride));
        }
        for i in 0..4 {
            t[2 * i] = _mm512_unpacklo_pd(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_pd(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..2 {
            r[i] = _mm512_shuffle_f64x2::<0x88>(t[i], t[i + 2]);
            r[i + 2] = _mm512_shuffle_f64x2::<0xdd>(t[i], t[i + 2]);
            r[i + 4] = _mm512_shuffle_f64x2::<0x88>(t[i + 4], t[i + 6]);
            r[i + 6] = _mm512_shuffle_f64x2::<0xdd>(t[i + 4], t[i + 6]);
        }
        for i in 0..4 {
            let at = |row: usize| to.add(row * to_stride);
            _mm512_storeu_pd(at(i), _mm512_shuffle_f64x2::<0x88>(r[i], r[i + 4]));
            _mm512_storeu_pd(at(i + 4), _mm512_shuffle_f64x2::<0xdd>(r[i], r[i + 4]));
        }
    }
}
