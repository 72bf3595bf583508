//! The table of kernels for a type and an instruction set, as safe calls.
//!
//! The kernels themselves are written once over [`Simd`] ([`product`], [`pack`], [`rows`],
//! [`step`]); the table holds one compiled form of each for every instruction set. What a kernel
//! relies on is checked here: that tiles and panels have room for the sizes that it is called with.
#![allow(unsafe_code)]

pub(crate) mod pack;
pub(crate) mod product;
pub(crate) mod rows;
pub(crate) mod step;
#[cfg(test)]
mod tests;

use std::ptr;

use corekit_base::simd::Level;

#[cfg(target_arch = "x86_64")]
use crate::simd::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx512::Avx512;
#[cfg(target_arch = "aarch64")]
use crate::simd::neon::Neon;
use crate::simd::plain::Plain;
use crate::simd::{Number, Simd};
use crate::tiles::{Panels, Tile};
use pack::Pack;
use product::{Outputs, Scores, Update};
use rows::{Logarithms, Rows};
use step::Step;

pub(crate) use product::{Kind, Shape};
pub(crate) use rows::Map;

/// A type that kernels compute in.
pub(crate) trait Computed: Number {
    /// The kernels of a level, which the machine has.
    fn kernels(level: Level) -> &'static Kernels<Self>;
}

/// The kernels of one instruction set.
pub(crate) struct Kernels<T> {
    width: usize,
    step_width: usize,
    scores: unsafe fn(&Scores<T>),
    outputs: unsafe fn(&Outputs<T>),
    update: unsafe fn(&Update<T>),
    spread: unsafe fn(&Pack<T>),
    turn: unsafe fn(&Pack<T>),
    map: unsafe fn(&Rows<T>, Map, T),
    exp_below_most: unsafe fn(&Rows<T>, *mut T),
    scale_rows: unsafe fn(&Rows<T>, *const T),
    dots: unsafe fn(&Rows<T>, *const T, *mut T),
    row_dots: unsafe fn(&Rows<T>, &Rows<T>, *mut T),
    column_sums: unsafe fn(&Rows<T>, *mut T),
    finish_scores: unsafe fn(&Rows<T>, *const T, usize, *mut T),
    decay_table: unsafe fn(&Rows<T>, &Logarithms<T>),
    exps: unsafe fn(*const T, *mut T, usize),
    step: unsafe fn(&Step<T>),
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
        compiled!($features map(x: &Rows<$type>, map: Map, scale: $type) = rows::map::<$simd>);
        compiled!($features exp_below_most(x: &Rows<$type>, most: *mut $type)
            = rows::exp_below_most::<$simd>);
        compiled!($features scale_rows(x: &Rows<$type>, factors: *const $type)
            = rows::scale_rows::<$simd>);
        compiled!($features dots(x: &Rows<$type>, vector: *const $type, out: *mut $type)
            = rows::dots::<$simd>);
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
        static TABLE: Kernels<$type> = Kernels {
            width: 2 * <$simd as Simd>::LANES,
            step_width: $step * <$simd as Simd>::LANES,
            scores,
            outputs,
            update,
            spread,
            turn,
            map,
            exp_below_most,
            scale_rows,
            dots,
            row_dots,
            column_sums,
            finish_scores,
            decay_table,
            exps,
            step,
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

/// Rows of scores and the panels that they are multiplied by.
pub(crate) struct Weighted<'a, T> {
    pub(crate) scores: &'a Tile<T>,
    pub(crate) values: &'a Panels<T>,
    pub(crate) tokens: usize,
    pub(crate) kind: Kind,
}

/// Factors of rows.
#[derive(Clone, Copy)]
pub(crate) struct Factors<'a, T> {
    /// Of what the state gives.
    pub(crate) state: Option<&'a [T]>,
    /// Of the whole.
    pub(crate) whole: Option<&'a [T]>,
}

impl<T> Factors<'_, T> {
    /// No factors.
    pub(crate) const NONE: Self = Self {
        state: None,
        whole: None,
    };
}

/// What a state keeps of itself: factors and, more exactly, what these lack.
#[derive(Clone, Copy)]
pub(crate) enum Keep<'a, T> {
    /// Everything.
    All,
    /// One factor.
    One(&'a [T; 2]),
    /// One for each feature, with room.
    Each(&'a [T], &'a [T]),
}

/// The pointer to a vector that has a number for each of `len` rows and of the room beyond.
fn factors<T>(factors: Option<&[T]>, len: usize) -> *const T {
    factors.map_or(ptr::null(), |factors| {
        assert!(factors.len() >= len + crate::tiles::ROOM);
        factors.as_ptr()
    })
}

impl<T: Computed> Kernels<T> {
    /// Columns of a panel.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Columns at whose multiples a step may be cut without a change of bits.
    pub(crate) fn step_width(&self) -> usize {
        self.step_width
    }

    /// Room for `depth` rows of `columns` columns.
    pub(crate) fn panels(&self, depth: usize, columns: usize) -> crate::error::Result<Panels<T>> {
        Panels::new(depth, columns, self.width)
    }

    fn assert_fits(&self, panels: &Panels<T>, depth: usize, columns: usize) {
        assert!(
            panels.width() == self.width && depth <= panels.depth() && columns <= panels.columns(),
            "a product beyond its panels"
        );
    }

    /// out = q kᵀ for the first `rows` of `q` and the first `columns` of `k`, which is turned.
    pub(crate) fn scores(
        &self,
        q: &Tile<T>,
        k: &Panels<T>,
        depth: usize,
        (rows, columns): (usize, usize),
        shape: Shape,
        out: &mut Tile<T>,
    ) {
        self.assert_fits(k, depth, columns);
        assert!(rows <= q.rows() && depth <= q.columns());
        assert!(rows <= out.rows() && columns <= out.columns());
        let x = Scores {
            q: q.as_ptr(),
            q_stride: q.stride(),
            k: k.as_ptr(),
            panel_len: k.panel_len(),
            depth,
            rows,
            columns,
            shape,
            out: out.as_mut_ptr(),
            out_stride: out.stride(),
        };
        // SAFETY: sizes as checked; tiles and panels have room for whole register tiles.
        unsafe { (self.scores)(&x) }
    }

    /// out = (state-factor (q s) + weighted) whole-factor, with what is in `out` in place of the
    /// first product when `state` is `None`, or added to it when `adds`.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn outputs(
        &self,
        state: Option<(&Tile<T>, &Panels<T>, usize)>,
        adds: bool,
        weighted: Option<&Weighted<T>>,
        by: Factors<T>,
        (rows, columns): (usize, usize),
        out: &mut Tile<T>,
    ) {
        assert!(rows <= out.rows() && columns <= out.columns());
        let mut x = Outputs {
            q: ptr::null(),
            q_stride: 0,
            s: ptr::null(),
            s_panel_len: 0,
            depth: 0,
            adds,
            row_scale: factors(by.state, rows),
            a: ptr::null(),
            a_stride: 0,
            v: ptr::null(),
            v_panel_len: 0,
            tokens: 0,
            kind: Kind::Full,
            row_mul: factors(by.whole, rows),
            rows,
            columns,
            out: out.as_mut_ptr(),
            out_stride: out.stride(),
        };
        if let Some((q, s, depth)) = state {
            self.assert_fits(s, depth, columns);
            assert!(rows <= q.rows() && depth <= q.columns());
            (x.q, x.q_stride) = (q.as_ptr(), q.stride());
            (x.s, x.s_panel_len, x.depth) = (s.as_ptr(), s.panel_len(), depth);
        }
        if let Some(Weighted {
            scores,
            values,
            tokens,
            kind,
        }) = weighted
        {
            self.assert_fits(values, *tokens, columns);
            let (across, along) = match kind {
                Kind::LowerTransposed => (*tokens, rows),
                Kind::Lower | Kind::Full => (rows, *tokens),
            };
            assert!(across <= scores.rows() && along <= scores.columns());
            (x.a, x.a_stride) = (scores.as_ptr(), scores.stride());
            (x.v, x.v_panel_len) = (values.as_ptr(), values.panel_len());
            (x.tokens, x.kind) = (*tokens, *kind);
        }
        // SAFETY: as in `scores`.
        unsafe { (self.outputs)(&x) }
    }

    /// s = keep s + kᵀ v, over `tokens` rows of both.
    pub(crate) fn update(
        &self,
        k: &Tile<T>,
        v: &Panels<T>,
        tokens: usize,
        keep: Keep<T>,
        (features, columns): (usize, usize),
        s: &mut Panels<T>,
    ) {
        self.assert_fits(v, tokens, columns);
        self.assert_fits(s, features, columns);
        assert!(tokens <= k.rows() && features <= k.columns());
        let (decay, decay_rest, decay_step) = match keep {
            Keep::All => (ptr::null(), ptr::null(), 0),
            Keep::One([decay, rest]) => (ptr::from_ref(decay), ptr::from_ref(rest), 0),
            Keep::Each(decay, rest) => (
                factors(Some(decay), features),
                factors(Some(rest), features),
                1,
            ),
        };
        let x = Update {
            k: k.as_ptr(),
            k_stride: k.stride(),
            v: v.as_ptr(),
            v_panel_len: v.panel_len(),
            tokens,
            decay,
            decay_rest,
            decay_step,
            features,
            columns,
            s: s.as_mut_ptr(),
            s_panel_len: s.panel_len(),
        };
        // SAFETY: as in `scores`.
        unsafe { (self.update)(&x) }
    }

    fn pack(&self, tile: &Tile<T>, rows: usize, columns: usize, to: &mut Panels<T>) -> Pack<T> {
        assert!(rows <= tile.rows() && columns <= tile.columns());
        Pack {
            from: tile.as_ptr(),
            stride: tile.stride(),
            rows,
            columns,
            to: to.as_mut_ptr(),
            panel_len: to.panel_len(),
        }
    }

    /// Packs rows of a tile as rows of panels.
    pub(crate) fn spread(&self, tile: &Tile<T>, rows: usize, columns: usize, to: &mut Panels<T>) {
        self.assert_fits(to, rows, columns);
        // SAFETY: sizes as checked; tile and panels have room for whole registers.
        unsafe { (self.spread)(&self.pack(tile, rows, columns, to)) }
    }

    /// Packs columns of a tile as rows of panels.
    pub(crate) fn turn(&self, tile: &Tile<T>, rows: usize, columns: usize, to: &mut Panels<T>) {
        self.assert_fits(to, columns, rows);
        // SAFETY: as in `spread`; a panel holds whole registers of a tile's rows.
        unsafe { (self.turn)(&self.pack(tile, rows, columns, to)) }
    }

    fn rows(&self, tile: &mut Tile<T>, rows: usize, columns: usize) -> Rows<T> {
        assert!(rows <= tile.rows() && columns <= tile.columns());
        Rows {
            data: tile.as_mut_ptr(),
            stride: tile.stride(),
            rows,
            columns,
        }
    }

    fn rows_read(&self, tile: &Tile<T>, rows: usize, columns: usize) -> Rows<T> {
        assert!(rows <= tile.rows() && columns <= tile.columns());
        Rows {
            // It is only read through.
            data: tile.as_ptr().cast_mut(),
            stride: tile.stride(),
            rows,
            columns,
        }
    }

    /// Maps rows in place and multiplies them by `scale`.
    pub(crate) fn map(
        &self,
        tile: &mut Tile<T>,
        (rows, columns): (usize, usize),
        map: Map,
        scale: T,
    ) {
        // SAFETY: sizes as checked; tiles have room for whole registers.
        unsafe { (self.map)(&self.rows(tile, rows, columns), map, scale) }
    }

    /// Divides e^x by its largest in each row, whose logarithm goes to `most`.
    pub(crate) fn exp_below_most(&self, tile: &mut Tile<T>, columns: usize, most: &mut [T]) {
        let rows = self.rows(tile, most.len(), columns);
        // SAFETY: as in `map`.
        unsafe { (self.exp_below_most)(&rows, most.as_mut_ptr()) }
    }

    /// Multiplies each row by its factor.
    pub(crate) fn scale_rows(&self, tile: &mut Tile<T>, columns: usize, by: &[T]) {
        // SAFETY: as in `map`.
        unsafe { (self.scale_rows)(&self.rows(tile, by.len(), columns), by.as_ptr()) }
    }

    /// out[r] = the dot product of row r and a vector with room.
    pub(crate) fn dots(&self, tile: &Tile<T>, columns: usize, vector: &[T], out: &mut [T]) {
        assert!(vector.len() >= columns.next_multiple_of(self.width));
        let rows = self.rows_read(tile, out.len(), columns);
        // SAFETY: as in `map`.
        unsafe { (self.dots)(&rows, vector.as_ptr(), out.as_mut_ptr()) }
    }

    /// out[r] = the dot product of row r of both.
    pub(crate) fn row_dots(&self, a: &Tile<T>, b: &Tile<T>, columns: usize, out: &mut [T]) {
        let (a, b) = (
            self.rows_read(a, out.len(), columns),
            self.rows_read(b, out.len(), columns),
        );
        // SAFETY: as in `map`.
        unsafe { (self.row_dots)(&a, &b, out.as_mut_ptr()) }
    }

    /// Adds rows to a vector with room.
    pub(crate) fn column_sums(&self, tile: &Tile<T>, rows: usize, columns: usize, sums: &mut [T]) {
        assert!(sums.len() >= columns.next_multiple_of(self.width));
        let rows = self.rows_read(tile, rows, columns);
        // SAFETY: as in `map`.
        unsafe { (self.column_sums)(&rows, sums.as_mut_ptr()) }
    }

    /// Makes scores zeros above the diagonal, multiplies the others by a table, and sums each row.
    pub(crate) fn finish_scores(
        &self,
        scores: &mut Tile<T>,
        table: Option<&Tile<T>>,
        sums: &mut [T],
    ) {
        let n = sums.len();
        let (factors, stride) = table.map_or((ptr::null(), 0), |table| {
            assert!(n <= table.rows() && n <= table.columns());
            (table.as_ptr(), table.stride())
        });
        // SAFETY: as in `map`.
        unsafe {
            (self.finish_scores)(&self.rows(scores, n, n), factors, stride, sums.as_mut_ptr());
        }
    }

    /// table[t][s] = e^(rows[t] - columns[s]) on and below the diagonal; logarithms are pairs.
    pub(crate) fn decay_table(&self, rows: [&[T]; 2], columns: [&[T]; 2], table: &mut Tile<T>) {
        let n = rows[0].len();
        let room = n.next_multiple_of(self.width);
        assert!(rows[1].len() == n && columns.iter().all(|c| c.len() >= room));
        let logs = Logarithms {
            rows: rows.map(<[T]>::as_ptr),
            columns: columns.map(<[T]>::as_ptr),
        };
        // SAFETY: as in `map`.
        unsafe { (self.decay_table)(&self.rows(table, n, n), &logs) }
    }

    /// to = e^from, for vectors with room.
    pub(crate) fn exps(&self, from: &[T], to: &mut [T], len: usize) {
        let room = len.next_multiple_of(self.width);
        assert!(from.len() >= room && to.len() >= room);
        // SAFETY: as in `map`.
        unsafe { (self.exps)(from.as_ptr(), to.as_mut_ptr(), len) }
    }

    /// One token for one state: see [`step`].
    ///
    /// # Safety
    /// As of the kernel.
    // SAFETY: that is all it needs.
    pub(crate) unsafe fn step(&self, x: &Step<T>) {
        // SAFETY: the caller's promise.
        unsafe { (self.step)(x) }
    }
}
