//! Forgetting by a number for each feature.
//!
//! The score of (t, s) is Σ_i q_ti k_si e^{G_ti - G_si}, which is no product of a query by a key
//! unless e^{-G} is formed, and that overflows. A chunk is cut into blocks of [`BLOCK`] tokens
//! (Yang et al. 2024, section 4.3): between a block's queries and the keys before it, both are taken
//! relative to the block's first token, q e^{G_t - G_b} and k e^{G_b - G_s}, where no exponent is
//! positive; within a block, what is kept is multiplied up token by token.

use corekit_base::array::Matrix;

use super::NOTHING;
use crate::error::Result;
use crate::kernels::{Computed, Factors, Keep, Kernels, Kind, Out, Shape, Weighted};
use crate::tiles::{Panels, ROOM, Tile};

/// Tokens of a block.
const BLOCK: usize = 16;

/// The decay of one chunk.
pub(crate) struct VectorDecay<T> {
    logs: Tile<T>,
    /// e^g.
    pub(crate) keep: Tile<T>,
    pub(crate) high: Tile<T>,
    pub(crate) low: Tile<T>,
    /// Keys before a block, and their panels.
    keys: Tile<T>,
    turned: Panels<T>,
    /// Weighed rows as rows of panels, for gradients.
    spread: Panels<T>,
    /// Queries of a block, and their scores with the keys before it.
    queries: Tile<T>,
    block: Tile<T>,
    /// Rows weighed for the state.
    pub(crate) weighed: Tile<T>,
    factor: Vec<T>,
    rest: Vec<T>,
}

impl<T: Computed> VectorDecay<T> {
    /// Room for `tokens` tokens of `features` features.
    pub(crate) fn new(kernels: &Kernels<T>, tokens: usize, features: usize) -> Result<Self> {
        let tile = || Tile::new(tokens, features);
        Ok(Self {
            logs: tile()?,
            keep: tile()?,
            high: tile()?,
            low: tile()?,
            keys: tile()?,
            turned: kernels.panels(features, tokens)?,
            spread: kernels.panels(tokens.max(BLOCK), features)?,
            queries: Tile::new(BLOCK, features)?,
            block: Tile::new(BLOCK, tokens)?,
            weighed: tile()?,
            factor: vec![T::ONE; features + ROOM],
            rest: vec![T::ZERO; features + ROOM],
        })
    }

    /// Loads the decay of `n` tokens from `start` on; masked tokens do not decay, whatever is
    /// written for them.
    pub(crate) fn prepare(
        &mut self,
        kernels: &Kernels<T>,
        decay: &Matrix,
        start: usize,
        n: usize,
        mask: Option<&[T]>,
    ) {
        let m = decay.columns();
        self.logs.load(decay, start..start + n, 0..m);
        let nothing = T::of(NOTHING);
        for row in 0..n {
            let is_there = mask.is_none_or(|mask| mask[row] != T::ZERO);
            for g in self.logs.row_mut(row) {
                if !is_there {
                    *g = T::ZERO;
                } else if *g < nothing {
                    *g = nothing;
                }
            }
        }
        kernels.cumulate(&self.logs, (n, m), &mut self.high, &mut self.low);
        kernels.exp_tile(&self.logs, (n, m), &mut self.keep);
        let end = n - 1;
        for i in 0..m {
            let exponent = self.high.row(end)[i].wide() + self.low.row(end)[i].wide();
            let exact = exponent.exp();
            self.factor[i] = T::of(exact);
            self.rest[i] = T::of(exact - self.factor[i].wide());
        }
    }

    /// The scores of all pairs on and below the diagonal.
    pub(crate) fn scores(
        &mut self,
        kernels: &Kernels<T>,
        queries: &Tile<T>,
        keys: &Tile<T>,
        (n, m): (usize, usize),
        out: &mut Tile<T>,
    ) {
        for start in (0..n).step_by(BLOCK) {
            let count = BLOCK.min(n - start);
            if start > 0 {
                let reference = Some([self.high.row(start), self.low.row(start)]);
                let logs = [&self.high, &self.low];
                let (before, after) = ((0, start), (start, count));
                kernels.weigh(keys, before, m, logs, reference, -T::ONE, &mut self.keys);
                kernels.weigh(
                    queries,
                    after,
                    m,
                    logs,
                    reference,
                    T::ONE,
                    &mut self.queries,
                );
                kernels.turn(&self.keys, start, m, &mut self.turned);
                let (size, block) = ((count, start), &mut self.block);
                kernels.scores(
                    &self.queries,
                    &self.turned,
                    m,
                    size,
                    Shape::Full,
                    block,
                    None,
                );
                for row in 0..count {
                    out.row_mut(start + row)[..start].copy_from_slice(&block.row(row)[..start]);
                }
            }
            kernels.diagonal(queries, keys, &self.keep, (start, count), m, out);
        }
    }

    /// Queries as they read the state from before the chunk.
    pub(crate) fn weigh_queries(
        &mut self,
        kernels: &Kernels<T>,
        queries: &Tile<T>,
        (n, m): (usize, usize),
    ) {
        let logs = [&self.high, &self.low];
        kernels.weigh(queries, (0, n), m, logs, None, T::ONE, &mut self.weighed);
    }

    /// Keys as they enter the state after the chunk.
    pub(crate) fn weigh_keys(
        &mut self,
        kernels: &Kernels<T>,
        keys: &Tile<T>,
        (n, m): (usize, usize),
    ) {
        let logs = [&self.high, &self.low];
        let end = Some([self.high.row(n - 1), self.low.row(n - 1)]);
        kernels.weigh(keys, (0, n), m, logs, end, -T::ONE, &mut self.weighed);
    }

    /// Gradients by queries, from those by what they are weighed to, in place.
    pub(crate) fn weigh_in_place(
        &self,
        kernels: &Kernels<T>,
        gradient: &mut Tile<T>,
        (n, m): (usize, usize),
    ) {
        let logs = [&self.high, &self.low];
        kernels.weigh_in_place(gradient, (0, n), m, logs, None, T::ONE);
    }

    /// Gradients by keys, from those by what they are weighed to for the state, in place.
    pub(crate) fn weigh_to_end(
        &self,
        kernels: &Kernels<T>,
        gradient: &mut Tile<T>,
        (n, m): (usize, usize),
    ) {
        let logs = [&self.high, &self.low];
        let end = Some([self.high.row(n - 1), self.low.row(n - 1)]);
        kernels.weigh_in_place(gradient, (0, n), m, logs, end, -T::ONE);
    }

    /// Adds to gradients by queries and by keys what scores of pairs of different tokens, by which
    /// `by_scores` are gradients, give.
    pub(crate) fn back(
        &mut self,
        kernels: &Kernels<T>,
        [queries, keys]: [&Tile<T>; 2],
        by_scores: &Tile<T>,
        (n, m): (usize, usize),
        [by_queries, by_keys]: [&mut Tile<T>; 2],
    ) {
        for start in (0..n).step_by(BLOCK) {
            let count = BLOCK.min(n - start);
            if start > 0 {
                let reference = Some([self.high.row(start), self.low.row(start)]);
                let logs = [&self.high, &self.low];
                let (before, after) = ((0, start), (start, count));
                for row in 0..count {
                    let scores = &by_scores.row(start + row)[..start];
                    self.block.row_mut(row)[..start].copy_from_slice(scores);
                }
                // Queries: e^{G_t - G_b} times what weighed keys give.
                kernels.weigh(keys, before, m, logs, reference, -T::ONE, &mut self.keys);
                kernels.spread(&self.keys, start, m, &mut self.spread);
                let mut weighted = Weighted {
                    scores: &self.block,
                    values: &self.spread,
                    tokens: start,
                    kind: Kind::Full,
                };
                let out = Out::Tile(&mut self.queries);
                kernels.outputs(
                    None,
                    false,
                    Some(&weighted),
                    Factors::NONE,
                    (count, m),
                    out,
                    None,
                );
                kernels.weigh_in_place(&mut self.queries, after, m, logs, reference, T::ONE);
                kernels.add_rows(&self.queries, after, m, by_queries);
                // Keys: e^{G_b - G_s} times what weighed queries give.
                kernels.weigh(
                    queries,
                    after,
                    m,
                    logs,
                    reference,
                    T::ONE,
                    &mut self.queries,
                );
                kernels.spread(&self.queries, count, m, &mut self.spread);
                weighted = Weighted {
                    scores: &self.block,
                    values: &self.spread,
                    tokens: count,
                    kind: Kind::FullTransposed,
                };
                let out = Out::Tile(&mut self.keys);
                kernels.outputs(
                    None,
                    false,
                    Some(&weighted),
                    Factors::NONE,
                    (start, m),
                    out,
                    None,
                );
                kernels.weigh_in_place(&mut self.keys, before, m, logs, reference, -T::ONE);
                kernels.add_rows(&self.keys, before, m, by_keys);
            }
            let parts = [queries, keys, &self.keep];
            let by = [&mut *by_queries, &mut *by_keys];
            kernels.diagonal_back(parts, by_scores, (start, count), m, by);
        }
    }

    /// Multiplies a vector by what is kept of each feature.
    pub(crate) fn keep_of(&self, z: &mut [T]) {
        for ((z, factor), rest) in z.iter_mut().zip(&self.factor).zip(&self.rest) {
            *z = *z * *factor + *z * *rest;
        }
    }

    /// What the state keeps of each feature, and what that lacks.
    pub(crate) fn kept(&self) -> Keep<'_, T> {
        Keep::Each(&self.factor, &self.rest)
    }
}
