//! What every machine has: arrays of four numbers, which the compiler keeps in registers of 16
//! bytes. The reference for all other levels.

use corekit_base::real::Real;

use super::{Elementwise, Simd};

const LANES: usize = 4;

/// The plain level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<T>(std::marker::PhantomData<T>);

macro_rules! each {
    ($i:ident => $value:expr) => {{
        let mut out = [Real::ZERO; LANES];
        for $i in 0..LANES {
            out[$i] = $value;
        }
        out
    }};
}

macro_rules! plain {
    ($type:ty, $bits:ty, $int:ty, $mantissa:literal, $bias:literal) => {
        impl Elementwise for Plain<$type> {
            type T = $type;
            type V = [$type; LANES];
            const LANES: usize = LANES;

            #[inline(always)]
            unsafe fn splat(x: $type) -> Self::V {
                [x; LANES]
            }
            #[inline(always)]
            unsafe fn load(from: *const $type) -> Self::V {
                // SAFETY: the caller's pointer is good for a register.
                unsafe { from.cast::<Self::V>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn store(to: *mut $type, x: Self::V) {
                // SAFETY: as above.
                unsafe { to.cast::<Self::V>().write_unaligned(x) }
            }
            #[inline(always)]
            unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
                each!(i => a[i] + b[i])
            }
            #[inline(always)]
            unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
                each!(i => a[i] - b[i])
            }
            #[inline(always)]
            unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
                each!(i => a[i] * b[i])
            }
            #[inline(always)]
            unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                // Rounded twice: without the instruction, once would be a call for every number.
                each!(i => a[i] * b[i] + c[i])
            }
            #[inline(always)]
            unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
                each!(i => if a[i] > b[i] { a[i] } else { b[i] })
            }
            #[inline(always)]
            unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
                each!(i => if a[i] < b[i] { a[i] } else { b[i] })
            }
            #[inline(always)]
            unsafe fn round(x: Self::V) -> Self::V {
                // Beyond this there are no fractions.
                const SHIFT: $type = 1.5 * (1u64 << $mantissa) as $type;
                each!(i => (x[i] + SHIFT) - SHIFT)
            }
            #[inline(always)]
            unsafe fn scale(x: Self::V, n: Self::V) -> Self::V {
                each!(i => {
                    // In two steps, each of which is a number that has a reciprocal.
                    let n = n[i] as $int;
                    let half = n >> 1;
                    let power = |n: $int| <$type>::from_bits(((n + $bias) as $bits) << $mantissa);
                    x[i] * power(half) * power(n - half)
                })
            }
            #[inline(always)]
            unsafe fn where_positive(x: Self::V, a: Self::V, b: Self::V) -> Self::V {
                each!(i => if x[i] > 0.0 { a[i] } else { b[i] })
            }
        }

        impl Simd for Plain<$type> {
            #[inline(always)]
            unsafe fn sum(x: Self::V) -> $type {
                (x[0] + x[2]) + (x[1] + x[3])
            }
            #[inline(always)]
            unsafe fn transpose(from: *const $type, from_stride: usize, to: *mut $type, to_stride: usize) {
                for r in 0..LANES {
                    for c in 0..LANES {
                        // SAFETY: all are elements of the two squares.
                        unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) };
                    }
                }
            }
        }
    };
}

plain!(f32, u32, i32, 23, 127);
plain!(f64, u64, i64, 52, 1023);
