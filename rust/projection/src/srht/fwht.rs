//! The fast Walsh-Hadamard transform: v ← Hv with H[i, f] = (-1)^popcount(i & f), in place.
//!
//! The algorithm is [`reference`]: log2 N stages with strides h = 1, 2, 4, .., each of which turns
//! the values (a, b) that lie h apart into (a + b, a - b). A value after a stage depends on two
//! values before it and on nothing else. So whatever the order in which butterflies are done, the
//! bits are those of the reference, as long as every butterfly comes after the two that feed it.
//! What the fast form does with that freedom:
//!
//! 1. The stages within registers, and those among the registers that are at hand, are one pass
//!    over the values: 256 of them at a time with AVX-512, 64 with AVX2.
//! 2. Later stages are done two, three or four at a time (radix 4, 8, 16): a pass for each few.
//! 3. A block of 16 KiB goes through all of its stages while it is in the first cache. Eight blocks
//!    that are done go through their next three stages at once, then eight of these, and so on: a
//!    value meets as many stages as can be in the nearest cache that holds it. Radix 16 is for the
//!    first cache only: strides of a power of two share its sets, which have eight ways or more.
//! 4. What is known to be zero stays zero: +0 ± +0 = +0.
//!
//! One row at a time where rows lie together: 16 rows side by side need no exchange of lanes, but a
//! transposition, which takes as many, and 16 times the cache. Where columns lie together it is the
//! single row that would need the transposition, so rows go side by side. Measured on one core of a
//! 2023 server (Zen 4) with AVX-512, float32, one row: 0.19 µs for N = 2^10, 0.87 for 2^12, 4.1 for
//! 2^14, 380 for 2^20.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64;

use corekit_base::control::Control;
use corekit_base::real::Real;
use corekit_base::simd::Level;

use super::SIDE;
use super::lanes::Lanes;
use crate::error::Result;

/// Bytes of a block that goes through all of its stages in the first cache.
const BLOCK_BYTES: usize = 1 << 14;

/// Butterflies of a pass between two looks at the cancel flag: some 100 µs of work.
const STRETCH: usize = 1 << 13;

/// The transform as it is defined. The length is a power of two.
pub(super) fn reference<T: Real>(values: &mut [T]) {
    let mut stride = 1;
    while stride < values.len() {
        for pair in values.chunks_exact_mut(2 * stride) {
            let (lower, upper) = pair.split_at_mut(stride);
            for (a, b) in lower.iter_mut().zip(upper) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        stride *= 2;
    }
}

/// A type that is transformed.
pub(crate) trait Hadamard: Real {
    /// Transforms `rows` rows of N values, N a power of two: value i of row r is
    /// `values[i * rows + r]`. There is 1 row, or a multiple of [`SIDE`] that is a power of two;
    /// their values from `live` on are +0.
    ///
    /// # Errors
    /// When the caller cancels; the values are then of no use.
    fn transform(
        level: Level,
        values: &mut [Self],
        rows: usize,
        live: usize,
        control: &Control,
    ) -> Result<()>;

    /// Multiplies by `scale`, and by -1 where the bit of `signs` is 1: the values i of the rows,
    /// which lie as for `transform`, have bit i % 64 of word i / 64. A result of zero is +0, so
    /// that it does not tell whether the value was absent.
    fn sign(level: Level, signs: &[u64], scale: Self, values: &mut [Self], rows: usize);
}

/// The butterflies among `R` registers, in ascending strides.
///
/// # Safety
/// The instruction set of `L`.
#[inline(always)]
unsafe fn across<T, L: Lanes<T>, const R: usize>(held: &mut [L; R]) {
    let mut stride = 1;
    while stride < R {
        let mut r = 0;
        while r < R {
            if r & stride == 0 {
                // SAFETY: as the caller says.
                [held[r], held[r | stride]] = unsafe { held[r].butterfly(held[r | stride]) };
            }
            r += 1;
        }
        stride *= 2;
    }
}

/// All stages with strides below `R` registers, for every `R` registers of `values`.
///
/// # Safety
/// The instruction set of `L`.
#[inline(always)]
unsafe fn first<T, L: Lanes<T>, const R: usize>(values: &mut [T]) {
    for part in values.chunks_exact_mut(R * L::COUNT) {
        let part = part.as_mut_ptr();
        // SAFETY: `R` registers lie in the part.
        unsafe {
            let mut held = [L::load(part); R];
            for (r, held) in held.iter_mut().enumerate() {
                *held = L::load(part.add(r * L::COUNT)).within();
            }
            across(&mut held);
            for (r, held) in held.into_iter().enumerate() {
                held.store(part.add(r * L::COUNT));
            }
        }
    }
}

/// The stages with strides from `stride` to below `R * stride`, for every `R * stride` values.
///
/// # Safety
/// The instruction set of `L`. `stride` is a multiple of `L::COUNT`.
#[inline(always)]
unsafe fn pass<T, L: Lanes<T>, const R: usize>(
    values: &mut [T],
    stride: usize,
    control: &Control,
) -> Result<()> {
    for part in values.chunks_exact_mut(R * stride) {
        let part = part.as_mut_ptr();
        for stretch in (0..stride).step_by(STRETCH) {
            control.check()?;
            for i in (stretch..stride.min(stretch + STRETCH)).step_by(L::COUNT) {
                // SAFETY: a register at i fits below `stride`, and `R * stride` is the part.
                unsafe {
                    let from = part.add(i);
                    let mut held = [L::load(from); R];
                    for (r, held) in held.iter_mut().enumerate() {
                        *held = L::load(from.add(r * stride));
                    }
                    across(&mut held);
                    for (r, held) in held.into_iter().enumerate() {
                        held.store(from.add(r * stride));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The stages from `stride` on, in as few passes of radix `R` and below as there can be, the
/// stages shared out evenly.
///
/// # Safety
/// As for `pass`; `R` is 8 or 16.
#[inline(always)]
unsafe fn rest<T, L: Lanes<T>, const R: usize>(
    values: &mut [T],
    mut stride: usize,
    control: &Control,
) -> Result<()> {
    let most = R.ilog2();
    while stride < values.len() {
        let stages = (values.len() / stride).ilog2();
        let stages = stages.div_ceil(stages.div_ceil(most));
        // SAFETY: as the caller says.
        unsafe {
            match stages {
                1 => pass::<T, L, 2>(values, stride, control)?,
                2 => pass::<T, L, 4>(values, stride, control)?,
                3 => pass::<T, L, 8>(values, stride, control)?,
                _ => pass::<T, L, R>(values, stride, control)?,
            }
        }
        stride <<= stages;
    }
    Ok(())
}

/// The whole transform, with `R` registers at hand; `live` counts the values of all rows.
///
/// # Safety
/// The instruction set of `L`, which has no more than `SIDE` lanes.
#[inline(always)]
unsafe fn transform<T: Real, L: Lanes<T>, const R: usize>(
    values: &mut [T],
    rows: usize,
    live: usize,
    control: &Control,
) -> Result<()> {
    if values.len() < L::COUNT {
        reference(values);
        return Ok(());
    }
    let block = values.len().min(BLOCK_BYTES / size_of::<T>());
    for start in (0..values.len()).step_by(block) {
        let end = start + block;
        if start < live {
            let values = &mut values[start..end];
            // SAFETY: as the caller says. All lengths are powers of two.
            unsafe {
                if rows > 1 {
                    rest::<T, L, R>(values, rows, control)?;
                } else if block < R * L::COUNT {
                    first::<T, L, 1>(values);
                    rest::<T, L, R>(values, L::COUNT, control)?;
                } else {
                    let live = (live - start).min(block).next_multiple_of(R * L::COUNT);
                    first::<T, L, R>(&mut values[..live]);
                    rest::<T, L, R>(values, R * L::COUNT, control)?;
                }
            }
        }
        let mut size = block;
        while size < values.len() && end.is_multiple_of(8 * size) {
            if end - 8 * size < live {
                // SAFETY: as the caller says.
                unsafe { pass::<T, L, 8>(&mut values[end - 8 * size..end], size, control)? };
            }
            size *= 8;
        }
    }
    let eights = (values.len() / block).ilog2() / 3;
    // SAFETY: as the caller says.
    unsafe { rest::<T, L, 8>(values, block << (3 * eights), control) }
}

/// What [`Hadamard::sign`] does.
#[inline(always)]
fn sign<T: Real>(signs: &[u64], scale: T, values: &mut [T], rows: usize) {
    /// Lanes by bit: a comparison that every instruction set has, where few can shift by lanes.
    const BITS: [u32; 32] = {
        let mut bits = [0; 32];
        let mut lane = 0;
        while lane < 32 {
            bits[lane] = 1 << lane;
            lane += 1;
        }
        bits
    };
    let scales = [scale, -scale];
    let bit = |i: usize| (signs[i / 64] >> (i % 64) & 1) as usize;
    if rows > 1 {
        for (i, values) in values.chunks_exact_mut(rows).enumerate() {
            let scale = scales[bit(i)];
            for value in values.as_chunks_mut::<SIDE>().0.as_flattened_mut() {
                *value = *value * scale + T::ZERO;
            }
        }
        return;
    }
    let (whole, tail) = values.as_chunks_mut::<32>();
    for (half, values) in whole.iter_mut().enumerate() {
        let word = (signs[half / 2] >> (half % 2 * 32)) as u32;
        for (value, bit) in values.iter_mut().zip(BITS) {
            let scale = if word & bit != 0 {
                scales[1]
            } else {
                scales[0]
            };
            *value = *value * scale + T::ZERO;
        }
    }
    for (i, value) in (whole.len() * 32..).zip(tail) {
        *value = *value * scales[bit(i)] + T::ZERO;
    }
}

/// One function for each level, and the choice among them.
macro_rules! hadamard {
    ($type:ty, $plain:ty, $ymm:ident, $zmm:ident) => {
        impl Hadamard for $type {
            fn transform(
                level: Level,
                values: &mut [Self],
                rows: usize,
                live: usize,
                control: &Control,
            ) -> Result<()> {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma")]
                fn avx2(
                    values: &mut [$type],
                    rows: usize,
                    live: usize,
                    control: &Control,
                ) -> Result<()> {
                    // SAFETY: the level has these registers.
                    unsafe { transform::<_, x86_64::$ymm, 8>(values, rows, live, control) }
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
                fn avx512(
                    values: &mut [$type],
                    rows: usize,
                    live: usize,
                    control: &Control,
                ) -> Result<()> {
                    // SAFETY: the level has these registers.
                    unsafe { transform::<_, x86_64::$zmm, 16>(values, rows, live, control) }
                }
                assert!(values.len().is_power_of_two());
                assert!(rows == 1 || (rows.is_multiple_of(SIDE) && rows.is_power_of_two()));
                assert!(rows <= values.len());
                let live = (live * rows).min(values.len());
                assert!(level <= Level::detect(), "a level that the machine has");
                match level {
                    // SAFETY: the machine has the level.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => unsafe { avx2(values, rows, live, control) },
                    // SAFETY: the machine has the level.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => unsafe { avx512(values, rows, live, control) },
                    // SAFETY: arrays need no instruction set.
                    _ => unsafe { transform::<_, $plain, 8>(values, rows, live, control) },
                }
            }

            fn sign(level: Level, signs: &[u64], scale: Self, values: &mut [Self], rows: usize) {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma")]
                fn avx2(signs: &[u64], scale: $type, values: &mut [$type], rows: usize) {
                    sign(signs, scale, values, rows);
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
                fn avx512(signs: &[u64], scale: $type, values: &mut [$type], rows: usize) {
                    sign(signs, scale, values, rows);
                }
                assert!(level <= Level::detect(), "a level that the machine has");
                match level {
                    // SAFETY: the machine has the level.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => unsafe { avx2(signs, scale, values, rows) },
                    // SAFETY: the machine has the level.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => unsafe { avx512(signs, scale, values, rows) },
                    _ => sign(signs, scale, values, rows),
                }
            }
        }
    };
}

hadamard!(f32, [f32; 4], __m256, __m512);
hadamard!(f64, [f64; 2], __m256d, __m512d);
