//! Every query with every key, a block of keys at a time, without a matrix of all scores.
//!
//! The queries of one panel lie side by side, a number of a register each: Qᵀ [features, queries],
//! Oᵀ [values, queries]. Then
//!
//! ```text
//! scores   Aᵀ = K Qᵀ               [tokens, queries]
//! weights  Wᵀ = what the op makes of Aᵀ, and its sums over tokens
//! gather   Oᵀ = r Oᵀ + Vᵀ Wᵀ
//! ```
//!
//! Keys and values are read number by number as they were loaded: neither is turned or put into
//! panels, whatever the number of query blocks that read them; and largest scores, sums and factors
//! of queries are registers: nothing is summed across one. Only queries are turned, and outputs
//! turned back, once for each query.
//!
//! 1. **What a query does not see is not multiplied**, not even by 0: later tokens may be NaN. On
//!    the diagonal products go through a choice of queries ([`from_lane`]); a register that sees
//!    nothing of a token is left out.
//! 2. **The sums of a block are made apart** and added once, so that outputs are rounded once a
//!    block more, not once a token.
//! 3. **Exponentials are powers of two**: the logarithm's base goes into the queries' scale, and
//!    with exponents that are not positive 2ˣ takes no reduction by parts of ln 2 ([`power`]).
#![allow(unsafe_code)]
// Two indices of a register tile, as in the formulas.
#![allow(clippy::needless_range_loop)]

#[cfg(test)]
mod tests;

use std::{ptr, slice};

use corekit_base::real::Real;

use super::product::{add_products, none, store};
use super::{Computed, Kernels};
use crate::features::polynomial::Polynomial;
use crate::simd::{Number, Simd, exp};
use crate::tiles::{Panels, Tile};

/// What [`power`] needs to know of a type.
pub(crate) trait Power: Number {
    /// Below this the power is 0.
    const LEAST: Self;
    /// The polynomial of 2ʳ - 1 from the highest power of r down to the first.
    const SERIES: &'static [Self];
    /// The least finite number.
    const LOWEST: Self;
}

impl Power for f32 {
    const LEAST: Self = -150.0;
    /// The least relative error for |r| <= 1/2 with 2⁰ = 1: 1.6e-8, rounding of these included.
    const SERIES: &'static [Self] = &[
        1.535_337e-4,
        1.339_887_7e-3,
        9.618_437e-3,
        5.550_332_4e-2,
        2.402_264_8e-1,
        6.931_472e-1,
    ];
    const LOWEST: Self = Self::MIN;
}

impl Power for f64 {
    const LEAST: Self = -1076.0;
    /// (ln 2)ʲ / j!, whose rest is below 5e-18.
    const SERIES: &'static [Self] = &[
        1.369_148_885_390_412_8e-12,
        2.567_843_599_348_820_6e-11,
        4.445_538_271_870_811_6e-10,
        7.054_911_620_801_123e-9,
        1.017_808_600_923_97e-7,
        1.321_548_679_014_431e-6,
        1.525_273_380_405_984e-5,
        1.540_353_039_338_161e-4,
        1.333_355_814_642_844_3e-3,
        9.618_129_107_628_477e-3,
        5.550_410_866_482_158e-2,
        2.402_265_069_591_007e-1,
        std::f64::consts::LN_2,
    ];
    const LOWEST: Self = Self::MIN;
}

/// 2ˣ for x <= 0; exactly 1 at 0, and exactly 0 far below.
#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn power<S: Simd>(x: S::V) -> S::V
where
    S::T: Power,
{
    // SAFETY: the caller's promise: the machine has the instruction set.
    unsafe {
        // NaN goes through.
        let x = S::max(S::splat(S::T::LEAST), x);
        let n = S::round(x);
        let r = S::sub(x, n);
        let mut p = S::splat(S::T::SERIES[0]);
        for coefficient in &S::T::SERIES[1..] {
            p = S::mul_add(p, r, S::splat(*coefficient));
        }
        S::scale(S::mul_add(p, r, S::splat(S::T::ONE)), n)
    }
}

/// `seen` in the register's queries from number `lane` on, `unseen` in those before.
#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn from_lane<S: Simd>(lane: isize, seen: S::V, unseen: S::V) -> S::V {
    // SAFETY: the caller's promise; no register has more numbers than there are places.
    unsafe {
        let places = S::load(S::T::PLACES.as_ptr());
        let first = S::splat(S::T::of((1 - lane) as f64));
        S::where_positive(S::add(places, first), seen, unseen)
    }
}

/// Which queries of a panel see which tokens of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a, T> {
    /// Tokens that any query sees.
    pub(crate) tokens: usize,
    /// Query i sees the tokens up to number `before + i`.
    pub(crate) before: isize,
    /// 0 for tokens that are not there.
    pub(crate) mask: Option<&'a [T]>,
}

/// Aᵀ = K Qᵀ.
pub(crate) struct PanelScores<T> {
    keys: *const T,
    keys_stride: usize,
    depth: usize,
    queries: *const T,
    tokens: usize,
    before: isize,
    /// Null for none.
    mask: *const T,
    /// The largest score of each query so far, and with these; null where nobody asks.
    most: *const T,
    next: *mut T,
    out: *mut T,
}

/// Logarithms of decay, as pairs of numbers whose sum they are.
pub(crate) struct PairLogarithms<T> {
    queries: [*const T; 2],
    tokens: [*const T; 2],
}

/// Numbers as sums of two.
type PairsOf<'a, T> = [&'a [T]; 2];

/// Wᵀ in place of Aᵀ.
pub(crate) struct PanelWeights<T> {
    data: *mut T,
    tokens: usize,
    before: isize,
    mask: *const T,
    /// Of each query.
    sums: *mut T,
}

/// Oᵀ = r Oᵀ + Vᵀ Wᵀ.
pub(crate) struct Gather<T> {
    values: *const T,
    values_stride: usize,
    columns: usize,
    weights: *const T,
    tokens: usize,
    before: isize,
    /// One for each query; null for none.
    rescale: *const T,
    out: *mut T,
}

/// Rows of outputs from Oᵀ, each times a factor.
pub(crate) struct Finish<T> {
    panel: *const T,
    columns: usize,
    factors: *const T,
    to: *mut T,
    stride: usize,
}

#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn scores_tile<S: Simd, const R: usize, const N: usize>(
    x: &PanelScores<S::T>,
    row: usize,
    most: &mut [S::V; 2],
) {
    // SAFETY: as of `scores`.
    unsafe {
        let (first, nothing) = (2 - N, S::splat(S::T::of(f64::NEG_INFINITY)));
        let mut sums = none::<S, R, N>();
        let keys = x.keys.add(row * x.keys_stride);
        let queries = x.queries.add(first * S::LANES);
        add_products::<S, R, N, false>(&mut sums, keys, x.keys_stride, queries, x.depth);
        let to = x.out.add(row * 2 * S::LANES);
        let is_whole = row + R <= x.tokens && (row + R) as isize <= x.before + 1;
        if !is_whole || !x.mask.is_null() {
            for r in 0..R {
                let lane = (row + r) as isize - x.before;
                let is_masked = row + r >= x.tokens
                    || (!x.mask.is_null() && *x.mask.add(row + r) == S::T::ZERO);
                for n in 0..N {
                    let lane = lane - ((first + n) * S::LANES) as isize;
                    if is_masked {
                        sums[r][n] = nothing;
                    } else if lane > 0 {
                        sums[r][n] = from_lane::<S>(lane, sums[r][n], nothing);
                    }
                }
            }
        }
        for r in 0..R {
            if first > 0 {
                S::store(to.add(r * 2 * S::LANES), nothing);
            }
            for n in 0..N {
                // A NaN is not the largest; it is in the sum of the weights.
                most[first + n] = S::max(sums[r][n], most[first + n]);
            }
        }
        store::<S, R, N>(to.add(first * S::LANES), 2 * S::LANES, &sums);
    }
}

/// Computes scores; those that are not seen are -∞.
///
/// # Safety
/// The machine has the instruction set, and the pointers are good for tiles and panels of the sizes
/// given, with their room.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn scores<S: Simd, const R: usize>(x: &PanelScores<S::T>) {
    // SAFETY: inside of tiles and panels, or of their room.
    unsafe {
        let mut most = [S::splat(S::T::of(f64::NEG_INFINITY)); 2];
        if !x.most.is_null() {
            most = [S::load(x.most), S::load(x.most.add(S::LANES))];
        }
        for row in (0..x.tokens).step_by(R) {
            match row as isize - x.before < S::LANES as isize {
                true => scores_tile::<S, R, 2>(x, row, &mut most),
                false => scores_tile::<S, R, 1>(x, row, &mut most),
            }
        }
        if !x.next.is_null() {
            S::store(x.next, most[0]);
            S::store(x.next.add(S::LANES), most[1]);
        }
    }
}

/// Makes weights 2^(score - `next`) of scores; sums that were made with `most` are carried over to
/// `next` with these added, and the factor of what was gathered so far goes to `rescale`.
///
/// # Safety
/// As of [`scores`]; the vectors have a number for each query.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn soften<S: Simd>(
    x: &PanelWeights<S::T>,
    most: *const S::T,
    next: *const S::T,
    rescale: *mut S::T,
) where
    S::T: Power,
{
    // SAFETY: inside of the panel.
    unsafe {
        let at = |from: *const S::T, n: usize| S::load(from.add(n * S::LANES));
        let largest = [at(next, 0), at(next, 1)];
        let mut sums = [S::splat(S::T::ZERO); 2];
        for token in 0..x.tokens {
            for n in 0..2 {
                let place = x.data.add((2 * token + n) * S::LANES);
                let weight = power::<S>(S::sub(S::load(place), largest[n]));
                sums[n] = S::add(sums[n], weight);
                S::store(place, weight);
            }
        }
        for n in 0..2 {
            let factor = power::<S>(S::sub(at(most, n), largest[n]));
            S::store(rescale.add(n * S::LANES), factor);
            let sum = S::mul_add(at(x.sums, n), factor, sums[n]);
            S::store(x.sums.add(n * S::LANES), sum);
        }
    }
}

/// Makes weights p(score) e^(decay) of scores, 0 where not seen, and adds them to the sums.
///
/// # Safety
/// As of [`soften`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn forget<S: Simd>(
    x: &PanelWeights<S::T>,
    polynomial: &Polynomial<S::T>,
    logs: Option<&PairLogarithms<S::T>>,
) {
    // SAFETY: inside of the panel.
    unsafe {
        // Inlined, and so compiled for the instruction set.
        polynomial.values(slice::from_raw_parts_mut(x.data, x.tokens * 2 * S::LANES));
        let zero = S::splat(S::T::ZERO);
        let at = |from: *const S::T, n: usize| S::load(from.add(n * S::LANES));
        let mut sums = [zero; 2];
        for token in 0..x.tokens {
            let is_masked = !x.mask.is_null() && *x.mask.add(token) == S::T::ZERO;
            for n in 0..2 {
                let place = x.data.add((2 * token + n) * S::LANES);
                let mut weight = S::load(place);
                if let Some(logs) = logs {
                    let [high, low] = [0, 1].map(|part: usize| {
                        let of_token = S::splat(*logs.tokens[part].add(token));
                        S::sub(at(logs.queries[part], n), of_token)
                    });
                    weight = S::mul(weight, exp::<S>(S::add(high, low)));
                }
                let lane = token as isize - x.before - (n * S::LANES) as isize;
                if is_masked {
                    weight = zero;
                } else if lane > 0 {
                    weight = from_lane::<S>(lane, weight, zero);
                }
                sums[n] = S::add(sums[n], weight);
                S::store(place, weight);
            }
        }
        for n in 0..2 {
            let sum = S::add(at(x.sums, n), sums[n]);
            S::store(x.sums.add(n * S::LANES), sum);
        }
    }
}

#[inline(always)]
// SAFETY: the caller's promise, as of the kernel that it is part of.
unsafe fn gather_tile<S: Simd, const R: usize>(x: &Gather<S::T>, column: usize) {
    // SAFETY: as of `gather`.
    unsafe {
        let mut sums = none::<S, R, 2>();
        let values = x.values.add(column);
        let seen_by_all = (x.before + 1).clamp(0, x.tokens as isize) as usize;
        add_products::<S, R, 2, true>(&mut sums, values, x.values_stride, x.weights, seen_by_all);
        for token in seen_by_all..x.tokens {
            let values = values.add(token * x.values_stride);
            let weights = x.weights.add(token * 2 * S::LANES);
            for n in 0..2 {
                let lane = token as isize - x.before - (n * S::LANES) as isize;
                if lane >= S::LANES as isize {
                    continue;
                }
                let weight = S::load(weights.add(n * S::LANES));
                for r in 0..R {
                    let sum = S::mul_add(S::splat(*values.add(r)), weight, sums[r][n]);
                    sums[r][n] = match lane > 0 {
                        true => from_lane::<S>(lane, sum, sums[r][n]),
                        false => sum,
                    };
                }
            }
        }
        let to = x.out.add(column * 2 * S::LANES);
        for n in 0..2 {
            let factor = match x.rescale.is_null() {
                true => S::splat(S::T::ONE),
                false => S::load(x.rescale.add(n * S::LANES)),
            };
            for r in 0..R {
                let place = to.add((2 * r + n) * S::LANES);
                S::store(place, S::mul_add(S::load(place), factor, sums[r][n]));
            }
        }
    }
}

/// Adds values times weights.
///
/// # Safety
/// As of [`scores`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn gather<S: Simd, const R: usize>(x: &Gather<S::T>) {
    for column in (0..x.columns).step_by(R) {
        // SAFETY: columns of the tile and the panel, or of their room.
        unsafe { gather_tile::<S, R>(x, column) };
    }
}

/// Turns outputs back into rows.
///
/// # Safety
/// As of [`scores`]; tile and panel have room for whole registers of values.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn finish<S: Simd>(x: &Finish<S::T>) {
    // SAFETY: inside of tile and panel, or of their room; the square has as many numbers as two
    // registers of the widest kind have places.
    unsafe {
        let mut square = [S::T::ZERO; 16 * 16];
        for n in 0..2 {
            let factor = S::load(x.factors.add(n * S::LANES));
            for column in (0..x.columns).step_by(S::LANES) {
                for c in 0..S::LANES {
                    let from = x.panel.add((2 * (column + c) + n) * S::LANES);
                    let place = square.as_mut_ptr().add(c * S::LANES);
                    S::store(place, S::mul(S::load(from), factor));
                }
                let to = x.to.add(n * S::LANES * x.stride + column);
                S::transpose(square.as_ptr(), S::LANES, to, x.stride);
            }
        }
    }
}

/// Room for the values of a panel of outputs, in whole registers.
pub(crate) fn room_for_values(columns: usize) -> usize {
    columns.saturating_add(16)
}

impl<T: Computed> Kernels<T> {
    fn assert_panel(&self, panel: &Panels<T>, depth: usize) {
        assert!(
            panel.width() == self.width && panel.columns() == self.width && depth <= panel.depth(),
            "one panel with room is needed"
        );
    }

    fn assert_seen(&self, seen: &Seen<T>) {
        assert!(seen.mask.is_none_or(|mask| mask.len() >= seen.tokens));
    }

    fn for_each_query(&self, vectors: &[&[T]]) {
        assert!(vectors.iter().all(|v| v.len() >= self.width));
    }

    /// out = keys queriesᵀ, tokens down and queries across, -∞ where not seen; and where `most` is
    /// given, the largest score of each query: of those so far, and with these.
    pub(crate) fn panel_scores(
        &self,
        keys: &Tile<T>,
        depth: usize,
        queries: &Panels<T>,
        seen: &Seen<T>,
        most: Option<(&[T], &mut [T])>,
        out: &mut Panels<T>,
    ) {
        self.assert_panel(queries, depth);
        self.assert_panel(out, seen.tokens + crate::tiles::ROOM);
        self.assert_seen(seen);
        assert!(seen.tokens <= keys.rows() && depth <= keys.columns());
        let (most, next) = match most {
            Some((most, next)) => {
                self.for_each_query(&[most, next]);
                (most.as_ptr(), next.as_mut_ptr())
            }
            None => (ptr::null(), ptr::null_mut()),
        };
        let x = PanelScores {
            keys: keys.as_ptr(),
            keys_stride: keys.stride(),
            depth,
            queries: queries.as_ptr(),
            tokens: seen.tokens,
            before: seen.before,
            mask: seen.mask.map_or(ptr::null(), <[T]>::as_ptr),
            most,
            next,
            out: out.as_mut_ptr(),
        };
        // SAFETY: sizes as checked; tiles and panels have room for whole register tiles.
        unsafe { (self.panel_scores)(&x) }
    }

    fn panel_weights(
        &self,
        weights: &mut Panels<T>,
        seen: &Seen<T>,
        sums: &mut [T],
    ) -> PanelWeights<T> {
        self.assert_panel(weights, seen.tokens);
        self.assert_seen(seen);
        self.for_each_query(&[sums]);
        PanelWeights {
            data: weights.as_mut_ptr(),
            tokens: seen.tokens,
            before: seen.before,
            mask: seen.mask.map_or(ptr::null(), <[T]>::as_ptr),
            sums: sums.as_mut_ptr(),
        }
    }

    /// weights = 2^(scores - next), in place; sums = rescale sums + theirs, rescale =
    /// 2^(most - next).
    pub(crate) fn soften(
        &self,
        weights: &mut Panels<T>,
        seen: &Seen<T>,
        (most, next): (&[T], &[T]),
        sums: &mut [T],
        rescale: &mut [T],
    ) {
        self.for_each_query(&[most, next, rescale]);
        let x = self.panel_weights(weights, seen, sums);
        // SAFETY: as in `panel_scores`.
        unsafe { (self.soften)(&x, most.as_ptr(), next.as_ptr(), rescale.as_mut_ptr()) }
    }

    /// weights = p(scores) e^(queries - tokens), in place, 0 where not seen; sums = sums + theirs.
    /// Logarithms are pairs.
    pub(crate) fn forget(
        &self,
        weights: &mut Panels<T>,
        seen: &Seen<T>,
        polynomial: &Polynomial<T>,
        logs: Option<(PairsOf<T>, PairsOf<T>)>,
        sums: &mut [T],
    ) {
        let logs = logs.map(|(queries, tokens)| {
            self.for_each_query(&queries);
            assert!(tokens.iter().all(|t| t.len() >= seen.tokens));
            PairLogarithms {
                queries: queries.map(<[T]>::as_ptr),
                tokens: tokens.map(<[T]>::as_ptr),
            }
        });
        let x = self.panel_weights(weights, seen, sums);
        // SAFETY: as in `panel_scores`.
        unsafe { (self.forget)(&x, polynomial, logs.as_ref()) }
    }

    /// out = rescale out + valuesᵀ weights, values down and queries across.
    pub(crate) fn gather(
        &self,
        values: &Tile<T>,
        columns: usize,
        weights: &Panels<T>,
        seen: &Seen<T>,
        rescale: Option<&[T]>,
        out: &mut Panels<T>,
    ) {
        self.assert_panel(weights, seen.tokens);
        self.assert_panel(out, columns + crate::tiles::ROOM);
        assert!(seen.tokens <= values.rows() && columns <= values.columns());
        let x = Gather {
            values: values.as_ptr(),
            values_stride: values.stride(),
            columns,
            weights: weights.as_ptr(),
            tokens: seen.tokens,
            before: seen.before,
            rescale: rescale.map_or(ptr::null(), |rescale| {
                self.for_each_query(&[rescale]);
                rescale.as_ptr()
            }),
            out: out.as_mut_ptr(),
        };
        // SAFETY: as in `panel_scores`.
        unsafe { (self.gather)(&x) }
    }

    /// Row i of `out` = query i's column of the panel, times its factor.
    pub(crate) fn finish(
        &self,
        panel: &Panels<T>,
        columns: usize,
        factors: &[T],
        out: &mut Tile<T>,
    ) {
        self.assert_panel(panel, room_for_values(columns));
        self.for_each_query(&[factors]);
        assert!(self.width <= out.rows() && columns <= out.columns());
        let x = Finish {
            panel: panel.as_ptr(),
            columns,
            factors: factors.as_ptr(),
            to: out.as_mut_ptr(),
            stride: out.stride(),
        };
        // SAFETY: as in `panel_scores`.
        unsafe { (self.finish)(&x) }
    }
}
