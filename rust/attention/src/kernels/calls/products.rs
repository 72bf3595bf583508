//! Products: scores, outputs, states.
#![allow(unsafe_code)]

use std::ptr;

use corekit_base::array::{BlockMut, Wanted};

use super::super::product::{Kind, Outputs, Scores, Shape, Update};
use super::super::{Computed, Kernels};
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

impl<T: Computed> Kernels<T> {
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
        assert!(rows <= q.rows() && depth <= q.columns() && q.has_room());
        assert!(rows <= out.rows() && columns <= out.columns() && out.has_room());
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
                assert!(rows <= tile.rows() && columns <= tile.columns() && tile.has_room());
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
            assert!(rows <= q.rows() && depth <= q.columns() && q.has_room());
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
            assert!(across <= scores.rows() && along <= scores.columns() && scores.has_room());
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
}
