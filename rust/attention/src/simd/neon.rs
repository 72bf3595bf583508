//! Advanced SIMD of AArch64: registers of 16 bytes, 32 of them.

use std::arch::aarch64::*;

use super::{Elementwise, Simd};

/// Four f32 or two f64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon<T>(std::marker::PhantomData<T>);

macro_rules! neon {
    ($type:ty, $register:ty, $lanes:literal, $dup:ident, $load:ident, $store:ident, $add:ident,
     $sub:ident, $mul:ident, $fma:ident, $greater:ident, $less:ident, $round:ident,
     $to_int:ident, $shift:ident, $sub_int:ident, $add_int:ident, $dup_int:ident, $left:ident,
     $cast:ident, $select:ident, $sum:ident, $bias:literal, $mantissa:literal, $transpose:path) => {
        // One reason for all blocks, which is said below.
        #[allow(clippy::undocumented_unsafe_blocks)]
        impl Elementwise for Neon<$type> {
            type T = $type;
            type V = $register;
            const LANES: usize = $lanes;

            // SAFETY: all blocks: the caller's promise, that the machine has the instructions and
            // pointers are good, is what intrinsics need.
            #[inline(always)]
            unsafe fn splat(x: $type) -> $register {
                unsafe { $dup(x) }
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
                unsafe { $fma(c, a, b) }
            }
            #[inline(always)]
            unsafe fn max(a: $register, b: $register) -> $register {
                unsafe { $select($greater(a, b), a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: $register, b: $register) -> $register {
                unsafe { $select($less(a, b), a, b) }
            }
            #[inline(always)]
            unsafe fn round(x: $register) -> $register {
                unsafe { $round(x) }
            }
            #[inline(always)]
            unsafe fn scale(x: $register, n: $register) -> $register {
                // In two steps, each of which is a power of two that is a normal number.
                unsafe {
                    let n = $to_int(n);
                    let half = $shift::<1>(n);
                    let power = |n| $cast($left::<$mantissa>($add_int(n, $dup_int($bias))));
                    $mul($mul(x, power(half)), power($sub_int(n, half)))
                }
            }
            #[inline(always)]
            unsafe fn where_positive(x: $register, a: $register, b: $register) -> $register {
                unsafe { $select($greater(x, $dup(0.0)), a, b) }
            }
        }

        #[allow(clippy::undocumented_unsafe_blocks)]
        impl Simd for Neon<$type> {
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

neon!(
    f32,
    float32x4_t,
    4,
    vdupq_n_f32,
    vld1q_f32,
    vst1q_f32,
    vaddq_f32,
    vsubq_f32,
    vmulq_f32,
    vfmaq_f32,
    vcgtq_f32,
    vcltq_f32,
    vrndnq_f32,
    vcvtq_s32_f32,
    vshrq_n_s32,
    vsubq_s32,
    vaddq_s32,
    vdupq_n_s32,
    vshlq_n_s32,
    vreinterpretq_f32_s32,
    vbslq_f32,
    vaddvq_f32,
    127,
    23,
    transpose_f32
);
neon!(
    f64,
    float64x2_t,
    2,
    vdupq_n_f64,
    vld1q_f64,
    vst1q_f64,
    vaddq_f64,
    vsubq_f64,
    vmulq_f64,
    vfmaq_f64,
    vcgtq_f64,
    vcltq_f64,
    vrndnq_f64,
    vcvtq_s64_f64,
    vshrq_n_s64,
    vsubq_s64,
    vaddq_s64,
    vdupq_n_s64,
    vshlq_n_s64,
    vreinterpretq_f64_s64,
    vbslq_f64,
    vaddvq_f64,
    1023,
    52,
    transpose_f64
);

/// # Safety
/// As of [`Simd::transpose`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn transpose_f32(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller's pointers are good for four rows of four.
    unsafe {
        let row = |i: usize| vld1q_f32(from.add(i * from_stride));
        let wide = |x| vreinterpretq_f64_f32(x);
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let (ab, cd) = (wide(vtrn1q_f32(a, b)), wide(vtrn1q_f32(c, d)));
        let (up, down) = (wide(vtrn2q_f32(a, b)), wide(vtrn2q_f32(c, d)));
        let put = |row: usize, x| vst1q_f32(to.add(row * to_stride), vreinterpretq_f32_f64(x));
        put(0, vtrn1q_f64(ab, cd));
        put(1, vtrn1q_f64(up, down));
        put(2, vtrn2q_f64(ab, cd));
        put(3, vtrn2q_f64(up, down));
    }
}

/// # Safety
/// As of [`Simd::transpose`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn transpose_f64(from: *const f64, from_stride: usize, to: *mut f64, to_stride: usize) {
    // SAFETY: the caller's pointers are good for two rows of two.
    unsafe {
        let (a, b) = (vld1q_f64(from), vld1q_f64(from.add(from_stride)));
        vst1q_f64(to, vtrn1q_f64(a, b));
        vst1q_f64(to.add(to_stride), vtrn2q_f64(a, b));
    }
}
