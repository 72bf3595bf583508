//! The kernels as safe calls. What a kernel relies on is checked here: that tiles and panels have
//! room for the sizes that it is called with.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr;

use corekit_base::array::{Block, BlockMut, Matrix, MatrixMut, Wanted};
use half::bf16;

use super::gradient::{ByScores, DiagonalBack, Flip};
use super::pack::Pack;
use super::product::{Kind, Outputs, Scores, Shape, Update};
use super::rows::{From, Logarithms, Map, Rows};
use super::step::Step;
use super::vector::{Cumulate, Diagonal, Weigh};
use super::{Computed, Kernels};
use crate::tiles::{Panels, Tile};

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

/// Where outputs go.
pub(crate) enum Out<'a, T> {
    /// A tile.
    Tile(&'a mut Tile<T>),
    /// Memory of the caller, by whole registers.
    Block(&'a BlockMut<'a, T>),
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

impl<T> Rows<T> {
    /// Those of a block, if they do not lie backwards.
    fn of_block(block: &BlockMut<T>) -> Option<Self> {
        Some(Self {
            data: block.data,
            stride: usize::try_from(block.stride).ok()?,
            rows: block.rows,
            columns: block.columns,
        })
    }
}

impl<T: Computed> Kernels<T> {
    /// Columns of a panel.
    pub(crate) fn width(&self) -> usize {
        self.width
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
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn scores(
        &self,
        q: &Tile<T>,
        k: &Panels<T>,
        depth: usize,
        (rows, columns): (usize, usize),
        shape: Shape,
        out: &mut Tile<T>,
        wanted: Option<&mut Wanted>,
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
            wanted: wanted.map_or(ptr::null_mut(), ptr::from_mut),
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
        out: Out<T>,
        wanted: Option<&mut Wanted>,
    ) {
        let (out, out_stride, stored) = match out {
            Out::Tile(tile) => {
                assert!(rows <= tile.rows() && columns <= tile.columns());
                (tile.as_mut_ptr(), tile.stride() as isize, usize::MAX)
            }
            Out::Block(block) => {
                assert!(rows == block.rows && columns == block.columns);
                assert!(!adds && self.is_whole(columns));
                (block.data, block.stride, rows)
            }
        };
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
            out,
            out_stride,
            stored,
            wanted: wanted.map_or(ptr::null_mut(), ptr::from_mut),
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
                Kind::LowerTransposed | Kind::FullTransposed => (*tokens, rows),
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
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn update(
        &self,
        k: &Tile<T>,
        v: &Panels<T>,
        tokens: usize,
        keep: Keep<T>,
        (features, columns): (usize, usize),
        s: &mut Panels<T>,
        wanted: Option<&mut Wanted>,
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
            wanted: wanted.map_or(ptr::null_mut(), ptr::from_mut),
        };
        // SAFETY: as in `scores`.
        unsafe { (self.update)(&x) }
    }

    fn pack(&self, tile: &Tile<T>, rows: usize, columns: usize, to: &mut Panels<T>) -> Pack<T> {
        assert!(rows <= tile.rows() && columns <= tile.columns());
        Pack {
            from: tile.as_ptr(),
            stride: tile.stride() as isize,
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
        let rows = self.rows(tile, rows, columns);
        let from = From {
            data: rows.data,
            stride: rows.stride as isize,
        };
        // SAFETY: sizes as checked; tiles have room for whole registers.
        unsafe { (self.map)(&rows, &from, map, scale) }
    }

    /// Whether rows of so many columns are whole registers.
    pub(crate) fn is_whole(&self, columns: usize) -> bool {
        columns.is_multiple_of(self.width / 2)
    }

    /// Maps a block of whole registers into a tile.
    pub(crate) fn map_block(&self, from: &Block<T>, tile: &mut Tile<T>, map: Map, scale: T) {
        assert!(self.is_whole(from.columns));
        let rows = self.rows(tile, from.rows, from.columns);
        let from = From {
            data: from.data,
            stride: from.stride,
        };
        // SAFETY: as in `map`; the block has whole registers.
        unsafe { (self.map)(&rows, &from, map, scale) }
    }

    /// Loads rows and columns of a matrix to the first ones of a tile.
    pub(crate) fn load(
        &self,
        from: &Matrix,
        rows: Range<usize>,
        columns: Range<usize>,
        tile: &mut Tile<T>,
    ) {
        if let Some(block) = from.block::<T>(rows.clone(), columns.clone())
            && self.is_whole(columns.len())
        {
            self.map_block(&block, tile, Map::Identity, T::ONE);
        } else if let Some(block) = from.block::<bf16>(rows.clone(), columns.clone()) {
            let to = self.rows(tile, rows.len(), columns.len());
            let from = From {
                data: block.data,
                stride: block.stride,
            };
            // SAFETY: sizes as checked, and those of the block.
            unsafe { (self.widen)(&to, &from) }
        } else {
            tile.load(from, rows, columns);
        }
    }

    /// Stores the first rows and columns of a tile as those of a matrix.
    pub(crate) fn store(
        &self,
        tile: &Tile<T>,
        rows: Range<usize>,
        columns: Range<usize>,
        to: &MatrixMut,
    ) {
        let source = self.rows_read(tile, rows.len(), columns.len());
        let from = From {
            data: source.data.cast_const(),
            stride: source.stride as isize,
        };
        if let Some(block) = to.block::<T>(rows.clone(), columns.clone())
            && let Some(to) = Rows::of_block(&block)
            && self.is_whole(columns.len())
        {
            // SAFETY: as in `map_block`.
            unsafe { (self.map)(&to, &from, Map::Identity, T::ONE) }
        } else if let Some(block) = to.block::<bf16>(rows.clone(), columns.clone())
            && let Some(to) = Rows::of_block(&block)
        {
            // SAFETY: as in `load`.
            unsafe { (self.narrow)(&to, &from) }
        } else {
            for (row, t) in rows.enumerate() {
                to.store_row(t, columns.start, &tile.row(row)[..columns.len()]);
            }
        }
    }

    /// Packs rows of a block of whole registers as rows of panels.
    pub(crate) fn spread_block(&self, from: &Block<T>, to: &mut Panels<T>) {
        self.assert_fits(to, from.rows, from.columns);
        assert!(self.is_whole(from.columns));
        let pack = Pack {
            from: from.data,
            stride: from.stride,
            rows: from.rows,
            columns: from.columns,
            to: to.as_mut_ptr(),
            panel_len: to.panel_len(),
        };
        // SAFETY: as in `spread`; the block has whole registers.
        unsafe { (self.spread)(&pack) }
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

    /// to = e^from, for tiles.
    pub(crate) fn exp_tile(
        &self,
        from: &Tile<T>,
        (rows, columns): (usize, usize),
        to: &mut Tile<T>,
    ) {
        let source = self.rows_read(from, rows, columns);
        let from = From {
            data: source.data,
            stride: source.stride as isize,
        };
        let rows = self.rows(to, rows, columns);
        // SAFETY: as in `map`.
        unsafe { (self.map)(&rows, &from, Map::Exp, T::ONE) }
    }

    /// high + low = sums down the rows of `from`.
    pub(crate) fn cumulate(
        &self,
        from: &Tile<T>,
        (rows, columns): (usize, usize),
        high: &mut Tile<T>,
        low: &mut Tile<T>,
    ) {
        let stride = from.stride();
        assert!(high.stride() == stride && low.stride() == stride);
        let x = Cumulate {
            from: self.rows_read(from, rows, columns).data,
            high: self.rows(high, rows, columns).data,
            low: self.rows(low, rows, columns).data,
            stride,
            rows,
            columns,
        };
        // SAFETY: as in `map`.
        unsafe { (self.cumulate)(&x) }
    }

    /// Rows `first..first + count` of `from` times e^{sign (G - G')}, to the first rows of `to`; G
    /// are the rows of `logs` (high and low parts) of the same numbers, G' is the reference.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn weigh(
        &self,
        from: &Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        logs: [&Tile<T>; 2],
        reference: Option<[&[T]; 2]>,
        sign: T,
        to: &mut Tile<T>,
    ) {
        let source = self.rows_read(from, first + count, columns);
        let target = self.rows(to, count, columns);
        let from = (
            source.data.wrapping_add(first * source.stride).cast_const(),
            source.stride,
        );
        self.weigh_rows(
            from,
            (first, count),
            columns,
            logs,
            reference,
            sign,
            &target,
        );
    }

    /// The first `count` rows of `tile` times e^{sign (G - G')}, in place; G are the rows of `logs`
    /// from `first` on, G' is the reference.
    pub(crate) fn weigh_in_place(
        &self,
        tile: &mut Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        logs: [&Tile<T>; 2],
        reference: Option<[&[T]; 2]>,
        sign: T,
    ) {
        let target = self.rows(tile, count, columns);
        let from = (target.data.cast_const(), target.stride);
        self.weigh_rows(
            from,
            (first, count),
            columns,
            logs,
            reference,
            sign,
            &target,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn weigh_rows(
        &self,
        (from, from_stride): (*const T, usize),
        (first, count): (usize, usize),
        columns: usize,
        logs: [&Tile<T>; 2],
        reference: Option<[&[T]; 2]>,
        sign: T,
        target: &Rows<T>,
    ) {
        let [high, low] = logs.map(|tile| self.rows_read(tile, first + count, columns));
        assert!(high.stride == low.stride);
        let reference = reference.map_or([ptr::null(); 2], |parts| {
            // Rows of tiles, which have room.
            parts.map(|part| {
                assert!(part.len() >= columns);
                part.as_ptr()
            })
        });
        let x = Weigh {
            from,
            from_stride,
            high: high.data.wrapping_add(first * high.stride),
            low: low.data.wrapping_add(first * low.stride),
            log_stride: high.stride,
            reference,
            sign,
            rows: count,
            columns,
            to: target.data,
            to_stride: target.stride,
        };
        // SAFETY: as in `map`; references are rows of tiles.
        unsafe { (self.weigh)(&x) }
    }

    /// Scores of the square of `count` tokens from `first` on, with what is kept at each token.
    pub(crate) fn diagonal(
        &self,
        q: &Tile<T>,
        k: &Tile<T>,
        keep: &Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        out: &mut Tile<T>,
    ) {
        let rows = first + count;
        let [q, k, keep] = [q, k, keep].map(|tile| self.rows_read(tile, rows, columns));
        assert!(count <= 16);
        let out = self.rows(out, rows, rows);
        let from = |rows: &Rows<T>| rows.data.wrapping_add(first * rows.stride);
        let x = Diagonal {
            q: from(&q),
            q_stride: q.stride,
            k: from(&k),
            k_stride: k.stride,
            keep: from(&keep),
            keep_stride: keep.stride,
            tokens: count,
            columns,
            out: from(&out).wrapping_add(first),
            out_stride: out.stride,
        };
        // SAFETY: as in `map`.
        unsafe { (self.diagonal)(&x) }
    }

    /// Makes gradients by features gradients by what was mapped.
    pub(crate) fn map_back(
        &self,
        gradient: &mut Tile<T>,
        features: &Tile<T>,
        (rows, columns): (usize, usize),
        map: Map,
    ) {
        let features = self.rows_read(features, rows, columns);
        // SAFETY: as in `map`.
        unsafe { (self.map_back)(&self.rows(gradient, rows, columns), &features, map) }
    }

    /// out[r] = the sum of a[r][c] b[r][c] over c <= r.
    pub(crate) fn lower_dots(&self, a: &Tile<T>, b: &Tile<T>, out: &mut [T]) {
        let n = out.len();
        let (a, b) = (self.rows_read(a, n, n), self.rows_read(b, n, n));
        // SAFETY: as in `map`.
        unsafe { (self.lower_dots)(&a, &b, out.as_mut_ptr()) }
    }

    /// Finishes gradients by scores: (x scale + shift) table on and below the diagonal. Sums of
    /// scores times gradients go to `sums`: rows, and columns with room, which are added to.
    pub(crate) fn by_scores(
        &self,
        x: &mut Tile<T>,
        (scale, shift): (&[T], &[T]),
        table: Option<&Tile<T>>,
        sums: Option<(&Tile<T>, &mut [T], &mut [T])>,
    ) {
        let n = scale.len();
        assert!(shift.len() == n);
        let (factors, factor_stride) = table.map_or((ptr::null(), 0), |table| {
            let rows = self.rows_read(table, n, n);
            (rows.data.cast_const(), rows.stride)
        });
        let mut g = ByScores {
            x: self.rows(x, n, n),
            scale: scale.as_ptr(),
            shift: shift.as_ptr(),
            factors,
            factor_stride,
            scores: ptr::null(),
            score_stride: 0,
            of_rows: ptr::null_mut(),
            of_columns: ptr::null_mut(),
        };
        if let Some((scores, of_rows, of_columns)) = sums {
            assert!(of_rows.len() >= n && of_columns.len() >= n.next_multiple_of(self.width));
            let scores = self.rows_read(scores, n, n);
            (g.scores, g.score_stride) = (scores.data, scores.stride);
            (g.of_rows, g.of_columns) = (of_rows.as_mut_ptr(), of_columns.as_mut_ptr());
        }
        // SAFETY: as in `map`.
        unsafe { (self.by_scores)(&g) }
    }

    /// to = the transpose of `from`, which has `rows` x `columns`.
    pub(crate) fn flip(
        &self,
        from: &Panels<T>,
        (rows, columns): (usize, usize),
        to: &mut Panels<T>,
    ) {
        self.assert_fits(from, rows, columns);
        self.assert_fits(to, columns, rows);
        let x = Flip {
            from: from.as_ptr(),
            from_panel_len: from.panel_len(),
            rows,
            columns,
            to: to.as_mut_ptr(),
            to_panel_len: to.panel_len(),
        };
        // SAFETY: sizes as checked.
        unsafe { (self.flip)(&x) }
    }

    /// Adds to gradients by queries and by keys what scores in the square of `count` tokens from
    /// `first` on give, `keep` being what each feature keeps at each token.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn diagonal_back(
        &self,
        [q, k, keep]: [&Tile<T>; 3],
        by_scores: &Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        [by_q, by_k]: [&mut Tile<T>; 2],
    ) {
        let rows = first + count;
        let from = |rows: &Rows<T>| rows.data.wrapping_add(first * rows.stride);
        let parts = [q, k, keep].map(|tile| self.rows_read(tile, rows, columns));
        let by = [by_q, by_k].map(|tile| self.rows(tile, rows, columns));
        let scores = self.rows_read(by_scores, rows, rows);
        let x = DiagonalBack {
            parts: [from(&parts[0]), from(&parts[1]), from(&parts[2])],
            strides: [parts[0].stride, parts[1].stride, parts[2].stride],
            tokens: count,
            columns,
            by_scores: from(&scores).wrapping_add(first),
            by_stride: scores.stride,
            by: [from(&by[0]), from(&by[1])],
            by_strides: [by[0].stride, by[1].stride],
        };
        // SAFETY: as in `map`.
        unsafe { (self.diagonal_back)(&x) }
    }

    /// Adds the first `count` rows of `from` to the rows of `to` from `first` on.
    pub(crate) fn add_rows(
        &self,
        from: &Tile<T>,
        (first, count): (usize, usize),
        columns: usize,
        to: &mut Tile<T>,
    ) {
        let from = self.rows_read(from, count, columns);
        let mut to = self.rows(to, first + count, columns);
        to.data = to.data.wrapping_add(first * to.stride);
        // SAFETY: as in `map`.
        unsafe { (self.add_rows)(&from, &to) }
    }

    /// Adds a row with room, times a factor for each, to rows.
    pub(crate) fn add_outer(&self, to: &mut Tile<T>, columns: usize, row: &[T], factors: &[T]) {
        assert!(row.len() >= columns.next_multiple_of(self.width));
        let to = self.rows(to, factors.len(), columns);
        // SAFETY: as in `map`.
        unsafe { (self.add_outer)(&to, row.as_ptr(), factors.as_ptr()) }
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
