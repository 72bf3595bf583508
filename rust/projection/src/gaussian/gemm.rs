//! The product of a tile of rows and a strip of the matrix, added to sums in registers.
//!
//! sums[rows][columns] += tile[rows][depth] x strip[depth][columns]. Every sum is one chain of fused
//! multiply-adds over rising depth, so its bits depend on nothing else: not on the instruction set,
//! nor on how rows, columns and depth are cut. A micro-kernel holds [`ROWS`] x [`width`] sums in
//! registers while it goes through a strip (AVX-512; AVX2 does it in parts). There are no kernels
//! for edges: what lies beyond them in tiles and strips is multiplied too, and nobody reads it.
#![allow(unsafe_code)]

use corekit_base::real::Real;
use corekit_base::simd::Level;

/// Rows of a micro-kernel: with two registers a row, 24 of AVX-512's 32 hold sums.
pub(super) const ROWS: usize = 12;

/// The most features (or outputs, for the adjoint) that are summed in one go.
pub(super) const DEPTH: usize = 256;

/// Elements from one row of a tile to the next: one line more than a row, lest all rows fall on
/// the same few sets of the cache.
pub(super) const TILE_STRIDE: usize = DEPTH + 16;

/// Bytes of a strip's row: two registers of AVX-512.
const STRIP_BYTES: usize = 128;

/// Columns of a strip.
pub(super) const fn width<T>() -> usize {
    STRIP_BYTES / size_of::<T>()
}

/// Adds the products of `rows` rows of `tile` and the columns of `panel` to `sums`.
///
/// - `tile`: whole groups of [`ROWS`] rows, [`TILE_STRIDE`] apart;
/// - `panel`: strips of `depth` rows of [`width`] columns, one strip after the other;
/// - `sums`: a strip of `rows` rows for each of the panel's, so that they are gone through from
///   one end to the other: rows as long as the panel would lie on as many pages.
pub(super) fn multiply<T: Real>(
    level: Level,
    tile: &[T],
    rows: usize,
    panel: &[T],
    depth: usize,
    sums: &mut [T],
) {
    let width = width::<T>();
    assert!(
        rows.is_multiple_of(ROWS)
            && 0 < depth
            && depth <= DEPTH
            && tile.len() >= rows * TILE_STRIDE
            && panel.len() * rows == sums.len() * depth
    );
    let kernel = kernel::<T>(level);
    let strips = panel.chunks_exact(depth * width);
    for (strip, sums) in strips.zip(sums.chunks_exact_mut(rows * width)) {
        let tiles = tile.chunks_exact(ROWS * TILE_STRIDE);
        for (tile, sums) in tiles.zip(sums.chunks_exact_mut(ROWS * width)) {
            match kernel {
                // SAFETY: the machine has the level; the slices are as long as the kernel needs.
                Some(kernel) => unsafe {
                    kernel(tile.as_ptr(), strip.as_ptr(), depth, sums.as_mut_ptr());
                },
                None => multiply_plainly(tile, strip, depth, sums),
            }
        }
    }
}

/// The reference for every kernel, and what machines without one use.
fn multiply_plainly<T: Real>(tile: &[T], strip: &[T], depth: usize, sums: &mut [T]) {
    let width = width::<T>();
    for (tile, sums) in tile.chunks(TILE_STRIDE).zip(sums.chunks_exact_mut(width)) {
        for (x, row) in tile[..depth].iter().zip(strip.chunks_exact(width)) {
            for (sum, a) in sums.iter_mut().zip(row) {
                *sum = x.mul_add(*a, *sum);
            }
        }
    }
}

/// Adds to the sums at the last pointer the products of a tile and a strip.
///
/// # Safety
/// The machine has the kernel's level; [`ROWS`] rows of [`TILE_STRIDE`] may be read at the first
/// pointer, as many rows of a strip's width as the number says, at most [`DEPTH`], at the second,
/// and [`ROWS`] of them may be read and written at the third.
type Kernel<T> = unsafe fn(*const T, *const T, usize, *mut T);

/// The kernel of that level for `T`, if there is one.
fn kernel<T: Real>(level: Level) -> Option<Kernel<T>> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::any::TypeId;
        let (single, double): (Kernel<f32>, Kernel<f64>) = match level {
            Level::Avx512 => (avx512_f32, avx512_f64),
            Level::Avx2 => (avx2_f32, avx2_f64),
            _ => return None,
        };
        // SAFETY: where the types are the same, so are those of the pointers.
        unsafe {
            if TypeId::of::<T>() == TypeId::of::<f32>() {
                return Some(std::mem::transmute::<Kernel<f32>, Kernel<T>>(single));
            }
            if TypeId::of::<T>() == TypeId::of::<f64>() {
                return Some(std::mem::transmute::<Kernel<f64>, Kernel<T>>(double));
            }
        }
    }
    let _ = level;
    None
}

/// A kernel: for every part of `$rows` rows and `$registers` registers of `$lanes` columns.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($name:ident, $features:literal, $type:ty, $rows:literal x $registers:literal of $lanes:literal,
     $load:ident, $store:ident, $all:ident, $mul_add:ident) => {
        #[target_feature(enable = $features)]
        unsafe fn $name(tile: *const $type, strip: *const $type, depth: usize, sums: *mut $type) {
            use std::arch::x86_64::*;
            const WIDTH: usize = width::<$type>();
            const PART: usize = $registers * $lanes;
            const { assert!(ROWS % $rows == 0 && WIDTH % PART == 0) };
            for first in (0..WIDTH).step_by(PART) {
                for top in (0..ROWS).step_by($rows) {
                    // SAFETY: the offsets stay below ROWS rows, `depth` and WIDTH columns.
                    unsafe {
                        let tile = tile.add(top * TILE_STRIDE);
                        let strip = strip.add(first);
                        let to = sums.add(top * WIDTH + first);
                        let mut sums: [[_; $registers]; $rows] = std::array::from_fn(|r| {
                            std::array::from_fn(|c| $load(to.add(r * WIDTH + c * $lanes)))
                        });
                        for f in 0..depth {
                            let a: [_; $registers] =
                                std::array::from_fn(|c| $load(strip.add(f * WIDTH + c * $lanes)));
                            for r in 0..$rows {
                                let x = $all(*tile.add(r * TILE_STRIDE + f));
                                for c in 0..$registers {
                                    sums[r][c] = $mul_add(x, a[c], sums[r][c]);
                                }
                            }
                        }
                        for r in 0..$rows {
                            for c in 0..$registers {
                                $store(to.add(r * WIDTH + c * $lanes), sums[r][c]);
                            }
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernel!(avx512_f32, "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma", f32, 12 x 2 of 16,
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps);
#[cfg(target_arch = "x86_64")]
kernel!(avx512_f64, "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma", f64, 12 x 2 of 8,
    _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd);
#[cfg(target_arch = "x86_64")]
kernel!(avx2_f32, "avx2,fma", f32, 6 x 2 of 8,
    _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps);
#[cfg(target_arch = "x86_64")]
kernel!(avx2_f64, "avx2,fma", f64, 6 x 2 of 4,
    _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd);

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers<T: Real>(count: usize, factor: f64) -> Vec<T> {
        (0..count)
            .map(|i| T::of((i as f64 * factor).sin()))
            .collect()
    }

    fn check<T: Real>() {
        for (rows, strips) in [(ROWS, 1), (2 * ROWS, 3)] {
            let tile = numbers::<T>(rows * TILE_STRIDE, 0.7);
            for depth in [1, 2, 3, 17, DEPTH] {
                let panel = numbers::<T>(strips * depth * width::<T>(), 1.3);
                let start = numbers::<T>(rows * strips * width::<T>(), 1.9);
                let mut expected = start.clone();
                multiply(Level::Scalar, &tile, rows, &panel, depth, &mut expected);
                let (r, s, c) = (rows - 1, strips - 1, width::<T>() - 1);
                let mut sum = start[(s * rows + r) * width::<T>() + c];
                for f in 0..depth {
                    let a = panel[(s * depth + f) * width::<T>() + c];
                    sum = tile[r * TILE_STRIDE + f].mul_add(a, sum);
                }
                assert_eq!(expected.last(), Some(&sum));
                for level in Level::all() {
                    let mut sums = start.clone();
                    multiply(level, &tile, rows, &panel, depth, &mut sums);
                    assert_eq!(sums, expected, "{level}, {rows} rows, depth {depth}");
                }
            }
        }
    }

    #[test]
    fn every_level_gives_the_bits_of_the_reference() {
        check::<f32>();
        check::<f64>();
    }
}
