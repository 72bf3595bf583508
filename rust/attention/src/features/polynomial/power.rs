//! (1 + u/n)ᵏ, right for any n.
//!
//! Squaring again and again doubles the relative error at every step, so that in the end it is k
//! units in the last place, of which the rounding of 1 + u/n is the first. Numbers are therefore
//! float64, and where that is not enough a number is a sum of two of them (Dekker, "A
//! floating-point technique for extending the available precision", Numer. Math. 18 (1971),
//! <https://doi.org/10.1007/BF01397083>), products by his splitting since not every machine fuses.
//! A way by exp and log would need a logarithm that is exact beyond the last place.
//!
//! What is left is the rounding of u/n, which counts for |u| units, as a rounding of u does.

use corekit_base::real::Real;

/// Powers up to this do without second parts, in the types of up to 4 bytes and of 8: their error
/// is below 2⁻³² and 2⁻⁴⁷. Second parts cost ten times as much.
const PLAIN: [u32; 2] = [1 << 20, 32];

/// (1 + u/n)ᵏ in place of every u.
#[inline(always)]
pub(super) fn one_plus<T: Real, const N: usize>(n: u32, k: u32, u: &mut [T; N]) {
    let n = f64::from(n);
    let mut powers = [1.0; N];
    if k <= PLAIN[usize::from(size_of::<T>() > 4)] {
        if k > 0 {
            for (base, u) in powers.iter_mut().zip(&*u) {
                *base = 1.0 + u.wide() / n;
            }
            raise(k, &mut powers);
        }
    } else {
        let mut low = [0.0; N];
        for ((base, low), u) in powers.iter_mut().zip(&mut low).zip(&*u) {
            (*base, *low) = two_sum(1.0, u.wide() / n);
        }
        raise_sums(k, &mut powers, low);
    }
    for (u, power) in u.iter_mut().zip(&powers) {
        *u = T::of(*power);
    }
}

/// The bits of k below the highest one, from above.
#[inline(always)]
fn bits_below(k: u32) -> impl Iterator<Item = bool> {
    (0..k.checked_ilog2().unwrap_or(0))
        .rev()
        .map(move |bit| k >> bit & 1 == 1)
}

/// The power k > 0 of every number.
#[inline(always)]
fn raise<const N: usize>(k: u32, numbers: &mut [f64; N]) {
    let bases = *numbers;
    for is_odd in bits_below(k) {
        for power in numbers.iter_mut() {
            *power *= *power;
        }
        if is_odd {
            for (power, base) in numbers.iter_mut().zip(&bases) {
                *power *= base;
            }
        }
    }
}

/// The same for numbers with second parts.
#[inline(always)]
fn raise_sums<const N: usize>(k: u32, numbers: &mut [f64; N], mut low: [f64; N]) {
    let (bases, bases_low) = (*numbers, low);
    for is_odd in bits_below(k) {
        for (power, low) in numbers.iter_mut().zip(&mut low) {
            (*power, *low) = product((*power, *low), (*power, *low));
        }
        if is_odd {
            let bases = bases.iter().zip(&bases_low);
            for ((power, low), base) in numbers.iter_mut().zip(&mut low).zip(bases) {
                (*power, *low) = product((*power, *low), (*base.0, *base.1));
            }
        }
    }
}

/// a + b, and what was rounded off; nothing where that is not finite.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, finite((a - (sum - part)) + (b - part)))
}

/// The product of two sums of two, as a sum of two.
#[inline(always)]
fn product(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let high = a.0 * b.0;
    let (a1, a2) = halves(a.0);
    let (b1, b2) = halves(b.0);
    let rounded = ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2;
    let low = finite(rounded + (a.0 * b.1 + a.1 * b.0));
    let sum = high + low;
    (sum, finite(low - (sum - high)))
}

/// Two numbers of 26 bits whose sum is `x`.
#[inline(always)]
fn halves(x: f64) -> (f64, f64) {
    let shifted = x * 134_217_729.0; // 2²⁷ + 1
    let high = shifted - (shifted - x);
    (high, x - high)
}

/// What comes of numbers near the end of the range does not spoil them.
#[inline(always)]
fn finite(x: f64) -> f64 {
    if x.is_finite() { x } else { 0.0 }
}
