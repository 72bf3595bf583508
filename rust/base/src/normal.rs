//! From words to normal numbers, reproducibly to the bit on every machine.
//!
//! A word gives u = ((word >> 11) + 1/2) / 2⁵³, and u its normal quantile. Only sums, products,
//! quotients and roots of IEEE and operations on whole numbers are used, in a fixed order and
//! without fused multiply-adds, so that a few lines of NumPy give the same bits
//! (`gaussian_formula.py` in the tests), and so does every instruction set. The quantile is within
//! 5 units in the last place of the true one, within 1 on average.
//!
//! Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied
//! Statistics 37, 1988 (<https://doi.org/10.2307/2347330>), the routine PPND16: quotients of
//! polynomials, in q = 1/2 - p for p >= 0.075 and in √(-ln p) beyond, p being the chance of the
//! nearer tail. What differs here:
//! 1. the logarithm is our own, by the series of the inverse hyperbolic tangent;
//! 2. one word in seven lies in a tail. These are collected and done together, so that both parts
//!    are loops without a branch, which the compiler turns into vectors.
#![allow(unsafe_code)]

use crate::real::Real;
use crate::simd::Level;

/// A word is in a tail when q > 0.425, or p < 0.075: when 53 bits of it, counted from the nearer
/// end, are below this.
const TAIL_END: u64 = ((0.5 - 0.425) * (1u64 << 53) as f64) as u64;

/// A quotient of polynomials, coefficients of the highest power first.
struct Quotient {
    above: [f64; 8],
    below: [f64; 8],
}

#[allow(clippy::excessive_precision)] // as published
const MIDDLE: Quotient = Quotient {
    above: [
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080,
    ],
    below: [
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ],
};

/// For √(-ln p) up to 5.
#[allow(clippy::excessive_precision)] // as published
const TAIL: Quotient = Quotient {
    above: [
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258,
        3.64784832476320460504,
        5.76949722146069140550,
        4.63033784615654529590,
        1.42343711074968357734,
    ],
    below: [
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940,
        2.05319162663775882187,
        1.0,
    ],
};

/// For √(-ln p) above 5: one word in 4 x 10¹⁰.
#[allow(clippy::excessive_precision)] // as published
const FAR_TAIL: Quotient = Quotient {
    above: [
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580,
        5.46378491116411436990,
        6.65790464350110377720,
    ],
    below: [
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ],
};

/// 2/19, 2/17, .., 2/1: ln m = s (2 + 2/3 s² + ..) for s = (m - 1) / (m + 1), |s| < 0.172.
const SERIES: [f64; 10] = {
    let mut series = [0.0; 10];
    let mut i = 0;
    while i < 10 {
        series[i] = 2.0 / (19 - 2 * i) as f64;
        i += 1;
    }
    series
};

/// Numbers that go side by side: two registers of AVX-512, whose delays hide each other's.
const LANES: usize = 16;

type Lanes<T> = [T; LANES];

#[inline(always)]
fn map<A: Copy, B>(a: Lanes<A>, f: impl Fn(A) -> B) -> Lanes<B> {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip<A: Copy, B: Copy, C>(a: Lanes<A>, b: Lanes<B>, f: impl Fn(A, B) -> C) -> Lanes<C> {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn horner<const N: usize>(coefficients: &[f64; N], x: Lanes<f64>) -> Lanes<f64> {
    let mut value = [coefficients[0]; LANES];
    for &coefficient in &coefficients[1..] {
        value = zip(value, x, |value, x| value * x + coefficient);
    }
    value
}

impl Quotient {
    #[inline(always)]
    fn at(&self, x: Lanes<f64>) -> Lanes<f64> {
        let mut above = [self.above[0]; LANES];
        let mut below = [self.below[0]; LANES];
        for i in 1..8 {
            above = zip(above, x, |value, x| value * x + self.above[i]);
            below = zip(below, x, |value, x| value * x + self.below[i]);
        }
        zip(above, below, |above, below| above / below)
    }
}

/// The whole number `n` < 2⁵², exactly: there is no vector conversion of 64 bits below AVX-512.
#[inline(always)]
fn whole(n: u64) -> f64 {
    const TWO_52: f64 = (1u64 << 52) as f64;
    f64::from_bits(n | TWO_52.to_bits()) - TWO_52
}

/// The steps of 2⁻⁵³ from the nearer end, 0 or 1, to u.
#[inline(always)]
fn steps(word: u64) -> u64 {
    let upper = ((word as i64) >> 63) as u64;
    (word ^ upper) >> 11
}

/// p, the chance of the nearer tail: a whole number and a half over 2⁵³, below 1/2.
#[inline(always)]
fn chance(word: u64) -> f64 {
    (whole(steps(word)) + 0.5) * (1.0 / (1u64 << 53) as f64)
}

/// `magnitude`, negated for the lower half of the words.
#[inline(always)]
fn signed(word: u64, magnitude: f64) -> f64 {
    f64::from_bits(magnitude.to_bits() ^ (!word & 1 << 63))
}

/// -ln p of a normal 0 < p < 1: p = m / 2^e with m between √½ and √2.
#[inline(always)]
fn minus_log(p: Lanes<f64>) -> Lanes<f64> {
    const HALF: u64 = 1022;
    let half = map(p, |p| {
        f64::from_bits(p.to_bits() & ((1 << 52) - 1) | HALF << 52)
    });
    let low = map(half, |m| m < std::f64::consts::FRAC_1_SQRT_2);
    let m = zip(half, low, |m, low| if low { m + m } else { m });
    let e = zip(p, low, |p, low| {
        whole(HALF - (p.to_bits() >> 52) + u64::from(low))
    });
    let s = map(m, |m| (m - 1.0) / ((m - 1.0) + 2.0));
    let series = horner(&SERIES, map(s, |s| s * s));
    let log = zip(s, series, |s, series| s * series);
    zip(e, log, |e, log| e * std::f64::consts::LN_2 - log)
}

#[inline(always)]
fn middle(words: Lanes<u64>) -> Lanes<f64> {
    let q = map(words, |word| 0.5 - chance(word));
    let quotient = MIDDLE.at(map(q, |q| 0.180625 - q * q));
    zip(words, zip(q, quotient, |q, z| q * z), signed)
}

#[inline(always)]
fn tail(words: Lanes<u64>) -> Lanes<f64> {
    let r = map(minus_log(map(words, chance)), f64::sqrt);
    let mut z = TAIL.at(map(r, |r| r - 1.6));
    if r.iter().fold(false, |far, r| far | (*r > 5.0)) {
        let far = FAR_TAIL.at(map(r, |r| r - 5.0));
        z = std::array::from_fn(|i| if r[i] > 5.0 { far[i] } else { z[i] });
    }
    zip(words, z, signed)
}

/// Words that are done together; a place among them is a byte.
const CHUNK: usize = 256;

/// `out[i]` = the normal quantile of `words[i]`, times `scale`, rounded to `T`.
#[inline(always)]
fn each<T: Real>(words: &[u64], scale: f64, out: &mut [T]) {
    // What lies beyond the end of these is some word of before, done in vain.
    let mut chunk = [0; CHUNK];
    let mut done = [0.0; CHUNK];
    let mut tails = [0; CHUNK];
    let mut places = [0u8; CHUNK];
    for (words, out) in words.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
        chunk[..words.len()].copy_from_slice(words);
        let groups = words.len().div_ceil(LANES);
        let (lanes, z) = (chunk.as_chunks().0, done.as_chunks_mut().0);
        for (z, words) in z[..groups].iter_mut().zip(lanes) {
            *z = middle(*words);
        }
        let mut count = 0;
        for (place, word) in words.iter().enumerate() {
            tails[count] = *word;
            places[count] = place as u8;
            count += usize::from(steps(*word) < TAIL_END);
        }
        let groups = tails.as_chunks().0[..count.div_ceil(LANES)].iter();
        for (words, places) in groups.zip(places[..count].chunks(LANES)) {
            for (z, place) in tail(*words).iter().zip(places) {
                done[usize::from(*place)] = *z;
            }
        }
        for (out, z) in out.iter_mut().zip(&done) {
            *out = T::of(z * scale);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn each_avx512<T: Real>(words: &[u64], scale: f64, out: &mut [T]) {
    each(words, scale, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn each_avx2<T: Real>(words: &[u64], scale: f64, out: &mut [T]) {
    each(words, scale, out);
}

/// `out[i]` = the normal quantile of ((`words[i]` >> 11) + 1/2) / 2⁵³, times `scale`,
/// rounded to `T`.
pub fn normals<T: Real>(level: Level, words: &[u64], scale: f64, out: &mut [T]) {
    match level {
        // SAFETY: the machine has what a level stands for.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { each_avx512(words, scale, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { each_avx2(words, scale, out) },
        _ => each(words, scale, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words and the bits of their quantiles, made by `gaussian_formula.py` of the tests: both
    /// ends, both sides of the middle, and both sides of every cut.
    const GOLDEN: [(u64, u64); 15] = [
        (0x0000_0000_0000_0000, 0xC020_95B0_59D6_7C4C),
        (0xFFFF_FFFF_FFFF_FFFF, 0x4020_95B0_59D6_7C4C),
        (0x8000_0000_0000_0000, 0x3CA4_0D93_1FF6_2707),
        (0x7FFF_FFFF_FFFF_FFFF, 0xBCA4_0D93_1FF6_2707),
        (0x1333_3333_3333_3000, 0xBFF7_0852_26D3_E523),
        (0x1333_3333_3333_2FFF, 0xBFF7_0852_26D3_E526),
        (0xECCC_CCCC_CCCC_CFFF, 0x3FF7_0852_26D3_E523),
        (0xECCC_CCCC_CCCC_D000, 0x3FF7_0852_26D3_E526),
        (0x0000_0000_0F45_1800, 0xC01A_A1B1_BF7B_3B52),
        (0x0000_0000_0F45_17FF, 0xC01A_A1B2_0E5A_3F09),
        (0xFFFF_FFFF_F0BA_E800, 0x401A_A1B2_0E5A_3F09),
        (0x0123_4567_89AB_CDEF, 0xC004_EE2D_C0A9_DFFD),
        (0xFEDC_BA98_7654_3210, 0x4004_EE2D_C0A9_DFFD),
        (0x3000_0000_0000_0000, 0xBFEC_6381_2E37_D716),
        (0x4000_0000_0000_0000, 0xBFE5_956B_8752_8A48),
    ];

    #[test]
    fn every_level_gives_the_golden_bits() {
        for level in Level::all() {
            // At every place of a chunk and at its end, among words of the middle.
            for place in [0, 1, 15, 16, 254, 255, 256, 300] {
                for (word, expected) in GOLDEN {
                    for after in [0, 1, 20] {
                        let mut words = vec![1 << 62; place + 1 + after];
                        words[place] = word;
                        let mut out = vec![f64::NAN; words.len()];
                        normals(level, &words, 1.0, &mut out);
                        assert_eq!(out[place].to_bits(), expected, "{level}, {word:x}, {place}");
                        out.remove(place);
                        let other = GOLDEN[14].1;
                        assert!(out.iter().all(|z| z.to_bits() == other), "{level}, {place}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_level_gives_the_same_bits_for_random_words() {
        let mut words = vec![0; 100_000];
        crate::philox::Stream::new(5, 6, 7).fill(0, &mut words);
        // Deep tails too.
        for (i, word) in words.iter_mut().enumerate() {
            *word >>= if i % 3 == 0 { i % 50 } else { 0 };
        }
        let mut expected = vec![0f64; words.len()];
        normals(Level::Scalar, &words, 0.3, &mut expected);
        for level in Level::all() {
            let mut out = vec![0f64; words.len()];
            normals(level, &words, 0.3, &mut out);
            assert_eq!(out, expected, "{level}");
            let mut single = vec![0f32; words.len()];
            normals(level, &words, 0.3, &mut single);
            assert!(single.iter().zip(&expected).all(|(s, e)| *s == *e as f32));
        }
    }

    #[test]
    fn the_quantile_rises_and_is_odd() {
        let words: Vec<u64> = (0..1 << 16).map(|i: u64| i << 48 | 1 << 47).collect();
        let mut z = vec![0f64; words.len()];
        normals(Level::detect(), &words, 1.0, &mut z);
        assert!(z.windows(2).all(|z| z[0] < z[1]));
        assert!((z[z.len() - 1] - 4.3).abs() < 0.1);
        let opposite: Vec<u64> = words.iter().map(|word| !word).collect();
        let mut minus = vec![0f64; words.len()];
        normals(Level::detect(), &opposite, 1.0, &mut minus);
        assert!(z.iter().zip(&minus).all(|(z, minus)| *z == -minus));
    }
}
