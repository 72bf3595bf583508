//! The table of kernels for a type and an instruction set.
//!
//! The kernels themselves are written once over [`Simd`]: [`product`], [`pack`], [`rows`],
//! [`vector`], [`gradient`], [`online`], [`step`]. The table holds one compiled form of each for
//! every instruction set, and [`calls`] calls them safely.
#![allow(unsafe_code)]

pub(crate) mod calls;
pub(crate) mod gradient;
pub(crate) mod online;
pub(crate) mod pack;
pub(crate) mod product;
pub(crate) mod rows;
pub(crate) mod step;
#[cfg(test)]
mod tests;
pub(crate) mod vector;

use corekit_base::array::Element;
use corekit_base::simd::Level;
use half::bf16;

use crate::features::polynomial::Polynomial;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx512::Avx512;
#[cfg(target_arch = "aarch64")]
use crate::simd::neon::Neon;
use crate::simd::plain::Plain;
use crate::simd::{Elementwise, Number};
use gradient::{ByScores, DiagonalBack, Flip};
use online::{Finish, Gather, PairLogarithms, PanelScores, PanelWeights};
use pack::Pack;
use product::{Outputs, Scores, Update};
use rows::{From, Logarithms, Rows};
use step::Step;
use vector::{Cumulate, Diagonal, Weigh};

pub(crate) use calls::{Factors, Keep, Out, Weighted};
pub(crate) use product::{Kind, Shape};
pub(crate) use rows::Map;

/// A type that kernels compute in.
pub(crate) trait Computed: Number + Element {
    /// The kernels of a level, which the machine has.
    fn kernels(level: Level) -> &'static Kernels<Self>;
}

/// The kernels of one instruction set.
pub(crate) struct Kernels<T> {
    width: usize,
    scores: unsafe fn(&Scores<T>),
    outputs: unsafe fn(&Outputs<T>),
    update: unsafe fn(&Update<T>),
    spread: unsafe fn(&Pack<T>),
    turn: unsafe fn(&Pack<T>),
    map: unsafe fn(&Rows<T>, &From<T>, Map, T),
    widen: unsafe fn(&Rows<T>, &From<bf16>),
    narrow: unsafe fn(&Rows<bf16>, &From<T>),
    exp_below_most: unsafe fn(&Rows<T>, *mut T),
    scale_rows: unsafe fn(&Rows<T>, *const T),
    dots: unsafe fn(&Rows<T>, *const T, *mut T),
    prefix_dots: unsafe fn(&Rows<T>, &Rows<T>, *const T, *mut T),
    row_dots: unsafe fn(&Rows<T>, &Rows<T>, *mut T),
    column_sums: unsafe fn(&Rows<T>, *mut T),
    finish_scores: unsafe fn(&Rows<T>, *const T, usize, *mut T),
    decay_table: unsafe fn(&Rows<T>, &Logarithms<T>),
    exps: unsafe fn(*const T, *mut T, usize),
    step: unsafe fn(&Step<T>),
    cumulate: unsafe fn(&Cumulate<T>),
    map_back: unsafe fn(&Rows<T>, &Rows<T>, Map),
    lower_dots: unsafe fn(&Rows<T>, &Rows<T>, *mut T),
    by_scores: unsafe fn(&ByScores<T>),
    flip: unsafe fn(&Flip<T>),
    diagonal_back: unsafe fn(&DiagonalBack<T>),
    add_rows: unsafe fn(&Rows<T>, &Rows<T>),
    add_outer: unsafe fn(&Rows<T>, *const T, *const T),
    weigh: unsafe fn(&Weigh<T>),
    diagonal: unsafe fn(&Diagonal<T>),
    panel_scores: unsafe fn(&PanelScores<T>),
    soften: unsafe fn(&PanelWeights<T>, *const T, *const T, *mut T),
    forget: unsafe fn(&PanelWeights<T>, &Polynomial<T>, Option<&PairLogarithms<T>>),
    gather: unsafe fn(&Gather<T>),
    finish: unsafe fn(&Finish<T>),
}

/// A kernel compiled with the features of an instruction set.
macro_rules! compiled {
    ([$($feature:literal)?] $name:ident($($argument:ident: $type:ty),*) = $body:expr) => {
        $(#[target_feature(enable = $feature)])?
        // SAFETY: the caller's promises are those of the body.
        unsafe fn $name($($argument: $type),*) {
            // SAFETY: as above; the machine has what the level stands for.
            unsafe { $body($($argument),*) }
        }
    };
}

/// The kernels of `$simd`, with register tiles of `$rows` rows and steps of `$step` registers.
macro_rules! table {
    ($type:ty, $simd:ty, $rows:literal, $step:literal, $features:tt) => {{
        const { assert!($rows <= crate::tiles::ROOM) };
        compiled!($features scores(x: &Scores<$type>) = product::scores::<$simd, $rows>);
        compiled!($features outputs(x: &Outputs<$type>) = product::outputs::<$simd, $rows>);
        compiled!($features update(x: &Update<$type>) = product::update::<$simd, $rows>);
        compiled!($features spread(x: &Pack<$type>) = pack::spread::<$simd>);
        compiled!($features turn(x: &Pack<$type>) = pack::turn::<$simd>);
        compiled!($features map(x: &Rows<$type>, from: &From<$type>, map: Map, scale: $type)
            = rows::map::<$simd>);
        compiled!($features widen(x: &Rows<$type>, from: &From<bf16>)
            = rows::convert::<$type, bf16, $type>);
        compiled!($features narrow(x: &Rows<bf16>, from: &From<$type>)
            = rows::convert::<$type, $type, bf16>);
        compiled!($features exp_below_most(x: &Rows<$type>, most: *mut $type)
            = rows::exp_below_most::<$simd>);
        compiled!($features scale_rows(x: &Rows<$type>, factors: *const $type)
            = rows::scale_rows::<$simd>);
        compiled!($features dots(x: &Rows<$type>, vector: *const $type, out: *mut $type)
            = rows::dots::<$simd>);
        compiled!($features prefix_dots(
            x: &Rows<$type>,
            keys: &Rows<$type>,
            vector: *const $type,
            out: *mut $type
        ) = rows::prefix_dots::<$simd>);
        compiled!($features row_dots(x: &Rows<$type>, other: &Rows<$type>, out: *mut $type)
            = rows::row_dots::<$simd>);
        compiled!($features column_sums(x: &Rows<$type>, sums: *mut $type)
            = rows::column_sums::<$simd>);
        compiled!($features finish_scores(
            x: &Rows<$type>, factors: *const $type, stride: usize, sums: *mut $type
        ) = rows::finish_scores::<$simd>);
        compiled!($features decay_table(x: &Rows<$type>, logs: &Logarithms<$type>)
            = rows::decay_table::<$simd>);
        compiled!($features exps(from: *const $type, to: *mut $type, len: usize)
            = rows::exps::<$simd>);
        compiled!($features step(x: &Step<$type>) = step::step::<$simd, $step>);
        compiled!($features map_back(x: &Rows<$type>, features: &Rows<$type>, map: Map)
            = gradient::map_back::<$simd>);
        compiled!($features lower_dots(a: &Rows<$type>, b: &Rows<$type>, out: *mut $type)
            = gradient::lower_dots::<$simd>);
        compiled!($features by_scores(x: &ByScores<$type>) = gradient::by_scores::<$simd>);
        compiled!($features flip(x: &Flip<$type>) = gradient::flip::<$simd>);
        compiled!($features diagonal_back(x: &DiagonalBack<$type>)
            = gradient::diagonal_back::<$simd>);
        compiled!($features add_rows(x: &Rows<$type>, to: &Rows<$type>)
            = gradient::add_rows::<$simd>);
        compiled!($features add_outer(
            x: &Rows<$type>, row: *const $type, factors: *const $type
        ) = gradient::add_outer::<$simd>);
        compiled!($features cumulate(x: &Cumulate<$type>) = vector::cumulate::<$simd>);
        compiled!($features weigh(x: &Weigh<$type>) = vector::weigh::<$simd>);
        compiled!($features diagonal(x: &Diagonal<$type>) = vector::diagonal::<$simd>);
        compiled!($features panel_scores(x: &PanelScores<$type>)
            = online::scores::<$simd, $rows>);
        compiled!($features soften(
            x: &PanelWeights<$type>, most: *const $type, next: *const $type, rescale: *mut $type
        ) = online::soften::<$simd>);
        compiled!($features forget(
            x: &PanelWeights<$type>,
            polynomial: &Polynomial<$type>,
            logs: Option<&PairLogarithms<$type>>
        ) = online::forget::<$simd>);
        compiled!($features gather(x: &Gather<$type>) = online::gather::<$simd, $rows>);
        compiled!($features finish(x: &Finish<$type>) = online::finish::<$simd>);
        static TABLE: Kernels<$type> = Kernels {
            width: 2 * <$simd as Elementwise>::LANES,
            scores,
            outputs,
            update,
            spread,
            turn,
            map,
            widen,
            narrow,
            exp_below_most,
            scale_rows,
            dots,
            prefix_dots,
            row_dots,
            column_sums,
            finish_scores,
            decay_table,
            exps,
            step,
            cumulate,
            map_back,
            lower_dots,
            by_scores,
            flip,
            diagonal_back,
            add_rows,
            add_outer,
            weigh,
            diagonal,
            panel_scores,
            soften,
            forget,
            gather,
            finish,
        };
        &TABLE
    }};
}

macro_rules! computed {
    ($type:ty) => {
        impl Computed for $type {
            fn kernels(level: Level) -> &'static Kernels<Self> {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => table!(
                        $type,
                        Avx512<$type>,
                        8,
                        8,
                        ["avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"]
                    ),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => table!($type, Avx2<$type>, 6, 4, ["avx2,fma"]),
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => table!($type, Neon<$type>, 8, 8, ["neon"]),
                    _ => table!($type, Plain<$type>, 4, 4, []),
                }
            }
        }
    };
}

computed!(f32);
computed!(f64);
