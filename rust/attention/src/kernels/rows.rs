//! What is done to the rows of tiles: feature maps that look at one number or one row, decay,
//! masks, sums.
//!
//! Loops go over whole registers into the room of a tile; where a sum must not see the room, its
//! numbers are replaced by zeros.
#![allow(unsafe_code)]
// Arrays of registers are unrolled.
#![allow(clippy::needless_range_loop)]

use std::slice;

use corekit_base::array::Element;
use corekit_base::real::Real;

use crate::simd::several::Several;
use crate::simd::{Elementwise, Simd, exp, exp_not_above, first};

/// A map of numbers or rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Map {
    /// x.
    Identity,
    /// elu(x) + 1.
    Elu1,
    /// max(x, 0).
    Relu,
    /// max(x, 0)².
    SquaredRelu,
    /// eˣ.
    Exp,
    /// eˣ over its sum in the row.
    Softmax,
}

/// Rows of a tile.
pub(crate) struct Rows<T> {
    pub(super) data: *mut T,
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Calls `$body` for the pointer to every register of a row.
macro_rules! each_register {
    ($S:ident, $row:expr, $columns:expr, $at:ident => $body:expr) => {
        for column in (0..$columns).step_by($S::LANES) {
            let $at = $row.wrapping_add(column);
            $body
        }
    };
}

/// What rows are mapped from: themselves, or others that may lie anywhere.
pub(crate) struct From<T> {
    pub(super) data: *const T,
    pub(super) stride: isize,
}

/// A map of numbers, each by itself.
trait Pointwise {
    /// # Safety
    /// The machine has the instruction set.
    unsafe fn of<E: Elementwise>(x: E::V) -> E::V;
}

struct Identity;

impl Pointwise for Identity {
    #[inline(always)]
    unsafe fn of<E: Elementwise>(x: E::V) -> E::V {
        x
    }
}

/// Makes a type of the name that is a map of numbers.
macro_rules! pointwise {
    ($name:ident, $E:ident, $x:ident => $value:expr) => {
        struct $name;

        impl Pointwise for $name {
            #[inline(always)]
            unsafe fn of<$E: Elementwise>($x: $E::V) -> $E::V {
                // SAFETY: the caller's promise.
                unsafe { $value }
            }
        }
    };
}

pointwise!(Elu1, E, x => {
    let below = exp_not_above::<E>(E::min(E::splat(E::T::ZERO), x));
    E::where_positive(x, E::add(x, E::splat(E::T::ONE)), below)
});
pointwise!(Relu, E, x => E::max(E::splat(E::T::ZERO), x));
pointwise!(SquaredRelu, E, x => {
    let x = E::max(E::splat(E::T::ZERO), x);
    E::mul(x, x)
});
pointwise!(Exp, E, x => exp::<E>(x));

/// Maps rows, then multiplies by `scale`.
///
/// # Safety
/// The machine has the instruction set, and the pointers are good for the rows with their room
/// (those of `from` for whole registers of columns).
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn map<S: Simd>(x: &Rows<S::T>, from: &From<S::T>, map: Map, scale: S::T) {
    // SAFETY: the caller's promise.
    unsafe {
        match map {
            Map::Identity => map_numbers::<S, Identity>(x, from, scale),
            Map::Elu1 => map_numbers::<S, Elu1>(x, from, scale),
            Map::Relu => map_numbers::<S, Relu>(x, from, scale),
            Map::SquaredRelu => map_numbers::<S, SquaredRelu>(x, from, scale),
            Map::Exp => map_numbers::<S, Exp>(x, from, scale),
            Map::Softmax => softmax::<S>(x, from, scale),
        }
    }
}

/// # Safety
/// As of [`map`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn map_numbers<S: Simd, M: Pointwise>(x: &Rows<S::T>, from: &From<S::T>, scale: S::T) {
    /// Maps a register of `E`.
    ///
    /// # Safety
    /// As of [`map`].
    #[inline(always)]
    // SAFETY: that is all it needs.
    unsafe fn mapped<E: Elementwise, M: Pointwise>(from: *const E::T, scale: E::T) -> E::V {
        // SAFETY: the caller's promise.
        unsafe { E::mul(M::of::<E>(E::load(from)), E::splat(scale)) }
    }
    let many = Several::<S, 4>::LANES;
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        for r in 0..x.rows {
            let row = x.data.add(r * x.stride);
            let from = from.data.offset(r as isize * from.stride);
            let mut column = 0;
            while column + many <= x.columns {
                let value = mapped::<Several<S, 4>, M>(from.add(column), scale);
                Several::<S, 4>::store(row.add(column), value);
                column += many;
            }
            while column + S::LANES <= x.columns {
                S::store(row.add(column), mapped::<S, M>(from.add(column), scale));
                column += S::LANES;
            }
            if column < x.columns {
                // Maps of what is in the room would grow from call to call.
                let value = mapped::<S, M>(from.add(column), scale);
                S::store(row.add(column), first::<S>(value, x.columns - column));
            }
        }
    }
}

/// # Safety
/// As of [`map`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn softmax<S: Simd>(x: &Rows<S::T>, from: &From<S::T>, scale: S::T) {
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        for r in 0..x.rows {
            let row = x.data.add(r * x.stride);
            let from = from.data.offset(r as isize * from.stride);
            // A NaN that is missed here is in the sum.
            let most = S::splat(largest::<S>(from, x.columns));
            let mut sum = S::splat(S::T::ZERO);
            for column in (0..x.columns).step_by(S::LANES) {
                let value = exp_not_above::<S>(S::sub(S::load(from.add(column)), most));
                let value = first::<S>(value, x.columns - column);
                S::store(row.add(column), value);
                sum = S::add(sum, value);
            }
            let factor = S::splat(scale / S::sum(sum));
            each_register!(S, row, x.columns, at =>
                S::store(at, S::mul(S::load(at), factor)));
        }
    }
}

/// Copies rows of one type of elements to rows of another, by way of `T`: a loop that the compiler
/// turns into vectors of the level.
///
/// # Safety
/// As of [`map`]; no more than the rows' own columns are touched.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn convert<T: Real, A: Element, B: Element>(x: &Rows<B>, from: &From<A>) {
    for r in 0..x.rows {
        // SAFETY: the row's columns on both sides.
        unsafe {
            let to = slice::from_raw_parts_mut(x.data.add(r * x.stride), x.columns);
            let from = from.data.offset(r as isize * from.stride);
            for (to, from) in to.iter_mut().zip(slice::from_raw_parts(from, x.columns)) {
                *to = B::store(from.load::<T>());
            }
        }
    }
}

/// e^(x - the row's largest number), which goes to `most`.
///
/// # Safety
/// As of [`map`]; `most` takes one number for each row.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn exp_below_most<S: Simd>(x: &Rows<S::T>, most: *mut S::T) {
    // SAFETY: inside of the tile, or of its room.
    unsafe {
        for r in 0..x.rows {
            let row = x.data.add(r * x.stride);
            let largest = largest::<S>(row, x.columns);
            *most.add(r) = largest;
            let largest = S::splat(largest);
            for column in (0..x.columns).step_by(S::LANES) {
                let at = row.add(column);
                let value = exp_not_above::<S>(S::sub(S::load(at), largest));
                S::store(at, first::<S>(value, x.columns - column));
            }
        }
    }
}

/// The largest of a row's numbers; NaN if one is.
///
/// # Safety
/// As of [`map`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn largest<S: Simd>(row: *const S::T, len: usize) -> S::T {
    // SAFETY: inside of the row.
    unsafe {
        let nothing = S::T::of(f64::NEG_INFINITY);
        let mut most = S::splat(nothing);
        let whole = len - len % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            // NaN is what `max` gives back of the second; a later number may cover it again, so
            // that NaN only shows for sure where all of a row is NaN, as a product's row is.
            most = S::max(most, S::load(row.add(c)));
        }
        let mut parts = [nothing; 16];
        S::store(parts.as_mut_ptr(), most);
        let mut most = nothing;
        for value in parts[..S::LANES].iter().copied() {
            most = larger(value, most);
        }
        for c in whole..len {
            most = larger(*row.add(c), most);
        }
        most
    }
}

/// The larger of two; NaN if one is.
#[inline(always)]
fn larger<T: Real>(a: T, b: T) -> T {
    if a > b || a.wide().is_nan() { a } else { b }
}

/// Multiplies each row by its factor.
///
/// # Safety
/// As of [`map`]; the factors are one for each row.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn scale_rows<S: Simd>(x: &Rows<S::T>, factors: *const S::T) {
    // SAFETY: inside of the tile, or of its room.
    unsafe {
        for r in 0..x.rows {
            let row = x.data.add(r * x.stride);
            let factor = S::splat(*factors.add(r));
            each_register!(S, row, x.columns, at =>
                S::store(at, S::mul(S::load(at), factor)));
        }
    }
}

/// Dot products of the rows with one vector, which has room as a row of a tile has.
///
/// # Safety
/// As of [`map`]; `out` takes one number for each row.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn dots<S: Simd>(x: &Rows<S::T>, vector: *const S::T, out: *mut S::T) {
    // SAFETY: inside of the tile, or of its room.
    unsafe {
        for r in 0..x.rows {
            let row = x.data.add(r * x.stride);
            *out.add(r) = dot::<S>(row, vector, x.columns);
        }
    }
}

/// # Safety
/// As of [`map`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn dot<S: Simd>(a: *const S::T, b: *const S::T, len: usize) -> S::T {
    // SAFETY: inside of two rows, or of their room.
    unsafe {
        let mut sum = S::splat(S::T::ZERO);
        let whole = len - len % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            sum = S::mul_add(S::load(a.add(c)), S::load(b.add(c)), sum);
        }
        if whole < len {
            let product = S::mul(S::load(a.add(whole)), S::load(b.add(whole)));
            sum = S::add(sum, first::<S>(product, len - whole));
        }
        S::sum(sum)
    }
}

/// out[r] = the dot product of row r and the vector plus all rows of `keys` up to r.
///
/// # Safety
/// As of [`dots`]; `keys` has as many rows and columns.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn prefix_dots<S: Simd>(
    x: &Rows<S::T>,
    keys: &Rows<S::T>,
    vector: *const S::T,
    out: *mut S::T,
) {
    const N: usize = 4;
    // SAFETY: inside of the tiles and the vector, or of their room.
    unsafe {
        let mut column = 0;
        while column < x.columns {
            if column + N * S::LANES <= x.columns {
                prefix_dots_of::<S, N>(x, keys, vector, column, out);
                column += N * S::LANES;
            } else {
                prefix_dots_of::<S, 1>(x, keys, vector, column, out);
                column += S::LANES;
            }
        }
    }
}

/// [`prefix_dots`] of `N` registers of columns, added to those of the columns before.
///
/// # Safety
/// As of [`prefix_dots`].
#[inline(always)]
// SAFETY: that is all it needs.
unsafe fn prefix_dots_of<S: Simd, const N: usize>(
    x: &Rows<S::T>,
    keys: &Rows<S::T>,
    vector: *const S::T,
    column: usize,
    out: *mut S::T,
) {
    // SAFETY: as of `prefix_dots`.
    unsafe {
        let zero = S::splat(S::T::ZERO);
        let (mut sums, mut start) = ([zero; N], [zero; N]);
        for n in 0..N {
            start[n] = S::load(vector.add(column + n * S::LANES));
        }
        for r in 0..x.rows {
            let row = x.data.add(r * x.stride + column);
            let key = keys.data.add(r * keys.stride + column);
            let mut dot = zero;
            for n in 0..N {
                sums[n] = S::add(sums[n], S::load(key.add(n * S::LANES)));
                let seen = S::add(start[n], sums[n]);
                dot = S::mul_add(S::load(row.add(n * S::LANES)), seen, dot);
            }
            if column + N * S::LANES > x.columns {
                dot = first::<S>(dot, x.columns - column);
            }
            let sum = S::sum(dot);
            *out.add(r) = if column == 0 { sum } else { *out.add(r) + sum };
        }
    }
}

/// Dot products of row by row of two tiles.
///
/// # Safety
/// As of [`dots`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn row_dots<S: Simd>(x: &Rows<S::T>, other: &Rows<S::T>, out: *mut S::T) {
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        for r in 0..x.rows {
            let (a, b) = (x.data.add(r * x.stride), other.data.add(r * other.stride));
            *out.add(r) = dot::<S>(a, b, x.columns);
        }
    }
}

/// Adds the rows to `sums`.
///
/// # Safety
/// As of [`map`]; the vectors have room as rows have.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn column_sums<S: Simd>(x: &Rows<S::T>, sums: *mut S::T) {
    // SAFETY: inside of the tile, or of its room.
    unsafe {
        each_register!(S, sums, x.columns, at => {
            let column = at.offset_from(sums) as usize;
            let mut sum = S::splat(S::T::ZERO);
            for r in 0..x.rows {
                sum = S::add(sum, S::load(x.data.add(r * x.stride + column)));
            }
            S::store(at, S::add(S::load(at), sum));
        });
    }
}

/// Cuts scores off above the diagonal (zeros, whatever was there), multiplies the others by
/// `factors` (a tile, or null), and sums each row.
///
/// # Safety
/// As of [`map`]; `sums` takes one number for each row.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn finish_scores<S: Simd>(
    x: &Rows<S::T>,
    factors: *const S::T,
    factor_stride: usize,
    sums: *mut S::T,
) {
    // SAFETY: inside of the tiles, or of their room.
    unsafe {
        for r in 0..x.rows {
            let row = x.data.add(r * x.stride);
            let mut sum = S::splat(S::T::ZERO);
            for column in (0..=r).step_by(S::LANES) {
                let at = row.add(column);
                let mut value = S::load(at);
                if !factors.is_null() {
                    value = S::mul(value, S::load(factors.add(r * factor_stride + column)));
                }
                if column + S::LANES > r + 1 {
                    value = first::<S>(value, r + 1 - column);
                }
                S::store(at, value);
                sum = S::add(sum, value);
            }
            *sums.add(r) = S::sum(sum);
        }
    }
}

/// Logarithms of what a token keeps of what came before it, as pairs of numbers whose sum they are.
pub(crate) struct Logarithms<T> {
    /// Of the rows.
    pub(super) rows: [*const T; 2],
    /// Of the columns, with room.
    pub(super) columns: [*const T; 2],
}

/// The table of e^(row - column), on and below the diagonal.
///
/// # Safety
/// As of [`map`].
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn decay_table<S: Simd>(x: &Rows<S::T>, logs: &Logarithms<S::T>) {
    // SAFETY: inside of the tile, or of its room.
    unsafe {
        for r in 0..x.rows {
            let row = x.data.add(r * x.stride);
            let (high, rest) = (
                S::splat(*logs.rows[0].add(r)),
                S::splat(*logs.rows[1].add(r)),
            );
            for column in (0..=r).step_by(S::LANES) {
                let coarse = S::sub(high, S::load(logs.columns[0].add(column)));
                let fine = S::sub(rest, S::load(logs.columns[1].add(column)));
                S::store(row.add(column), exp::<S>(S::add(coarse, fine)));
            }
        }
    }
}

/// Exponentials of numbers.
///
/// # Safety
/// As of [`map`]; both have room as rows have.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn exps<S: Simd>(from: *const S::T, to: *mut S::T, len: usize) {
    // SAFETY: inside of the vectors, or of their room.
    unsafe {
        for at in (0..len).step_by(S::LANES) {
            S::store(to.add(at), exp::<S>(S::load(from.add(at))));
        }
    }
}
