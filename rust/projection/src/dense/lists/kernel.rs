//! Adding the lines that a list names to its sums, which stay in registers meanwhile.

use corekit_base::real::Real;

use super::{LANES, Lists, MINUS};

/// The one source of all levels: what differs is which registers the compiler may use, and whether
/// there is an instruction for `FUSED`. A product with ±1 is exact, so that both round alike.
#[inline(always)]
pub(super) fn add_lines<T: Real, const FUSED: bool>(
    lists: &Lists,
    tile: &[[T; LANES]],
    sums: &mut [[T; LANES]],
) {
    let signs = [T::ONE, -T::ONE];
    let mut start = 0;
    for (&end, sums) in lists.ends.iter().zip(sums) {
        let mut held = *sums;
        for &term in &lists.terms[start..end as usize] {
            let sign = signs[usize::from(term & MINUS != 0)];
            let line = &tile[(term & !MINUS) as usize];
            for (sum, value) in held.iter_mut().zip(line) {
                *sum = if FUSED {
                    value.mul_add(sign, *sum)
                } else {
                    *value * sign + *sum
                };
            }
        }
        *sums = held;
        start = end as usize;
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    #![allow(unsafe_code)]

    use corekit_base::simd::Level;

    use super::{LANES, Lists, Real, add_lines};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn avx512<T: Real>(lists: &Lists, tile: &[[T; LANES]], sums: &mut [[T; LANES]]) {
        add_lines::<T, true>(lists, tile, sums);
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2<T: Real>(lists: &Lists, tile: &[[T; LANES]], sums: &mut [[T; LANES]]) {
        add_lines::<T, true>(lists, tile, sums);
    }

    pub(in super::super) fn accumulate<T: Real>(
        level: Level,
        lists: &Lists,
        tile: &[[T; LANES]],
        sums: &mut [[T; LANES]],
    ) {
        assert!(level <= Level::detect(), "a level that the machine has");
        // SAFETY: the machine has the level.
        unsafe {
            if level == Level::Avx512 {
                avx512(lists, tile, sums);
            } else {
                avx2(lists, tile, sums);
            }
        }
    }
}
