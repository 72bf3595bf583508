//! Every query with every key that it sees, in tiles: what softmax attention and the pairwise form
//! of linear attention share.
//!
//! ```text
//! for each block of queries                    (a unit of work; its panels are kept)
//!     for each block of keys                   (loaded once for all of its panels)
//!         for each panel of queries
//!             W = weights of Q Kᵀ              (what the op makes of scores: `Weighing`)
//!             O = r O + W V
//!     O = d O
//! ```
//!
//! The n x n scores exist nowhere but in tiles of one panel and one block. What a query goes through
//! depends on nothing but its place in the sequence: blocks of keys begin at the same tokens for
//! all, and queries of a panel know nothing of each other. So how queries are cut into blocks is
//! free, and so is who computes them.

#[cfg(test)]
pub(crate) mod reference;

use std::ops::Range;

use corekit_base::aligned::Aligned;
use corekit_base::array::Matrix;
use corekit_base::run::Run;

use crate::error::Result;
use crate::heads::{Heads, HeadsMut};
use crate::kernels::online::{Seen, room_for_values};
use crate::kernels::{Computed, Kernels, Map};
use crate::linear::{Sequence, Sequences, Sizes, is_nothing};
use crate::tiles::{Panels, Tile, zeros};

/// The most queries of a block: each block of keys is loaded once for so many.
const QUERIES: usize = 256;

/// Bytes of a block's queries and outputs.
const QUERY_BYTES: usize = 256 << 10;

/// The most keys of a block.
const KEYS: usize = 128;

/// Bytes of a block's keys and values.
const KEY_BYTES: usize = 128 << 10;

/// The arrays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs<'a> {
    pub(crate) q: Heads<'a>,
    pub(crate) k: Heads<'a>,
    pub(crate) v: Heads<'a>,
    pub(crate) key_mask: Option<Heads<'a>>,
    pub(crate) causal: bool,
    pub(crate) sizes: &'a Sizes,
    pub(crate) sequences: Sequences<'a>,
}

/// A panel of queries and what they have gathered.
pub(crate) struct Panel<T> {
    /// Features down, queries across.
    pub(crate) queries: Panels<T>,
    /// Values down, queries across.
    out: Panels<T>,
    /// The number of the first query in its sequence.
    pub(crate) first: usize,
    count: usize,
    /// The largest score of each query so far.
    pub(crate) most: Aligned<T>,
    /// The sum of the weights of each query.
    pub(crate) sums: Aligned<T>,
}

/// A block of keys.
pub(crate) struct Block<T> {
    pub(crate) keys: Tile<T>,
    /// The number of the first token in its sequence.
    pub(crate) first: usize,
    values: Tile<T>,
    mask: Vec<T>,
}

/// What is made of scores.
pub(crate) trait Weighing<T: Computed>: Sync {
    /// What a worker keeps.
    type Kept: Send;

    /// What queries are multiplied by.
    fn scale(&self) -> T;

    /// Where the largest score of a query is before there is any.
    fn lowest(&self) -> T;

    /// Room for sequences of up to `longest` tokens.
    fn start(&self, longest: usize) -> Result<Self::Kept>;

    /// Begins with a unit: queries that see the first `tokens` tokens of a sequence.
    fn begin(&self, kept: &mut Self::Kept, sequence: &Sequence, head: usize, tokens: usize);

    /// Weights of a panel's queries for a block's keys, 0 where not seen, added to its sums; true if
    /// what was gathered is to be multiplied by `rescale` before.
    fn weigh(
        &self,
        kept: &mut Self::Kept,
        panel: &mut Panel<T>,
        block: &Block<T>,
        seen: &Seen<T>,
        weights: &mut Panels<T>,
        rescale: &mut [T],
    ) -> bool;

    /// What outputs of a query with that sum are multiplied by.
    fn factor(&self, sum: T) -> T;
}

/// What a worker keeps from unit to unit.
struct Worker<T, K> {
    panels: Vec<Panel<T>>,
    block: Block<T>,
    weights: Panels<T>,
    rescale: Aligned<T>,
    /// A panel's queries or outputs by rows.
    rows: Tile<T>,
    kept: K,
}

/// How many of `most` fit into `bytes`, a power of two from `least` on.
fn fitting(most: usize, least: usize, bytes_of_one: usize, bytes: usize) -> usize {
    let mut count = most;
    while count > least && count.saturating_mul(bytes_of_one) > bytes {
        count /= 2;
    }
    count
}

/// Keys of a block: a function of shapes and the type alone, for results depend on it.
fn keys_of_a_block<T>(sizes: &Sizes) -> usize {
    let bytes = (sizes.key_dim.saturating_add(sizes.value_dim)).saturating_mul(size_of::<T>());
    fitting(KEYS, 16, bytes, KEY_BYTES)
}

/// Computes outputs.
pub(crate) fn forward<T: Computed, W: Weighing<T>>(
    pairs: &Pairs,
    weighing: &W,
    out: &HeadsMut,
    run: &Run,
) -> Result<()> {
    let kernels = T::kernels(run.level);
    let (sizes, width) = (pairs.sizes, kernels.width());
    let heads = sizes.key_heads * sizes.group;
    if is_nothing([out.shape()]) {
        return Ok(());
    }
    let longest = pairs.sequences.longest();
    let bytes = (sizes.key_dim.saturating_add(sizes.value_dim)).saturating_mul(size_of::<T>());
    let mut rows = fitting(QUERIES, width, bytes, QUERY_BYTES);
    let cut = |rows: usize| {
        pairs
            .sequences
            .iter()
            .map(move |s| s.tokens.len().div_ceil(rows))
    };
    // Some units for each thread, lest one has to wait for another.
    while rows > width && cut(rows).sum::<usize>() * heads < 4 * run.threads {
        rows /= 2;
    }
    let mut blocks: Vec<(usize, usize)> = cut(rows)
        .enumerate()
        .flat_map(|(sequence, blocks)| (0..blocks).map(move |block| (sequence, block * rows)))
        .collect();
    // What sees most tokens first: the last unit to be done is then a short one.
    blocks.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
    let rows = rows.min(longest.next_multiple_of(width));
    let call = Call {
        pairs,
        weighing,
        kernels,
        rows,
        keys: keys_of_a_block::<T>(sizes),
        out,
    };
    run.share(
        blocks.len() * heads,
        || call.worker(longest),
        |worker, task| {
            let (sequence, first) = blocks[task / heads];
            let sequence = &pairs.sequences.get(sequence);
            let last = sequence.tokens.len().min(first + rows);
            call.unit(worker, sequence, task % heads, first..last, run)
        },
    )
}

/// What all units share.
struct Call<'a, T: Computed, W> {
    pairs: &'a Pairs<'a>,
    weighing: &'a W,
    kernels: &'static Kernels<T>,
    /// Queries of a block.
    rows: usize,
    /// Keys of a block.
    keys: usize,
    out: &'a HeadsMut<'a>,
}

impl<T: Computed, W: Weighing<T>> Call<'_, T, W> {
    fn worker(&self, longest: usize) -> Result<Worker<T, W::Kept>> {
        let (kernels, keys) = (self.kernels, self.keys.min(longest));
        let (width, sizes) = (kernels.width(), self.pairs.sizes);
        let panel = |_| {
            Ok(Panel {
                queries: kernels.panels(sizes.key_dim, width)?,
                out: kernels.panels(room_for_values(sizes.value_dim), width)?,
                first: 0,
                count: 0,
                most: zeros("a row", Some(width))?,
                sums: zeros("a row", Some(width))?,
            })
        };
        Ok(Worker {
            panels: (0..self.rows / width).map(panel).collect::<Result<_>>()?,
            block: Block {
                keys: Tile::new(keys, sizes.key_dim)?,
                first: 0,
                values: Tile::new(keys, sizes.value_dim)?,
                mask: vec![T::ONE; keys],
            },
            weights: kernels.panels(keys, width)?,
            rescale: zeros("a row", Some(width))?,
            rows: Tile::new(width, sizes.key_dim.max(sizes.value_dim))?,
            kept: self.weighing.start(longest)?,
        })
    }

    /// Outputs of the queries `rows` of a sequence.
    fn unit(
        &self,
        worker: &mut Worker<T, W::Kept>,
        sequence: &Sequence,
        head: usize,
        rows: Range<usize>,
        run: &Run,
    ) -> Result<()> {
        let (kernels, width, sizes) = (self.kernels, self.kernels.width(), self.pairs.sizes);
        let (batch, start) = (sequence.batch, sequence.tokens.start);
        let key_head = head / sizes.group;
        let panels = rows.len().div_ceil(width);
        let q = self.pairs.q.at(batch, head);
        for (panel, first) in worker.panels[..panels]
            .iter_mut()
            .zip(rows.clone().step_by(width))
        {
            panel.first = first;
            panel.count = width.min(rows.end - first);
            panel.most.fill(self.weighing.lowest());
            panel.sums.fill(T::ZERO);
            panel.out.clear();
            self.load_queries(&q, start + first, panel, &mut worker.rows);
        }
        let end = match self.pairs.causal {
            true => rows.end,
            false => sequence.tokens.len(),
        };
        self.weighing
            .begin(&mut worker.kept, sequence, key_head, end);
        for first in (0..end).step_by(self.keys) {
            run.control.check()?;
            let tokens = first..end.min(first + self.keys);
            if !self.load_keys(&mut worker.block, batch, key_head, start, tokens) {
                continue;
            }
            self.attend(worker, panels, end);
        }
        let out = self.out.at(batch, head);
        for panel in &worker.panels[..panels] {
            for (factor, sum) in worker.rescale.iter_mut().zip(&panel.sums[..]) {
                *factor = self.weighing.factor(*sum);
            }
            let columns = sizes.value_dim;
            kernels.finish(&panel.out, columns, &worker.rescale, &mut worker.rows);
            for row in 0..panel.count {
                let values = &worker.rows.row(row)[..columns];
                out.store_row(start + panel.first + row, 0, values);
            }
        }
        Ok(())
    }

    fn load_queries(&self, q: &Matrix, first: usize, panel: &mut Panel<T>, rows: &mut Tile<T>) {
        let (n, d) = (panel.count, self.pairs.sizes.key_dim);
        rows.load(q, first..first + n, 0..d);
        self.kernels
            .map(rows, (n, d), Map::Identity, self.weighing.scale());
        self.kernels.turn(rows, n, d, &mut panel.queries);
    }

    /// Loads a block of keys and values, zeros for those that are masked; false if all are.
    fn load_keys(
        &self,
        block: &mut Block<T>,
        batch: usize,
        head: usize,
        start: usize,
        tokens: Range<usize>,
    ) -> bool {
        let (pairs, n) = (self.pairs, tokens.len());
        block.first = tokens.start;
        let tokens = start + tokens.start..start + tokens.end;
        if let Some(mask) = pairs.key_mask {
            let mask = mask.at(batch, 0);
            mask.load_row(0, tokens.start, &mut block.mask[..n]);
            if block.mask[..n].iter().all(|m| *m == T::ZERO) {
                return false;
            }
        }
        let (k, v) = (pairs.k.at(batch, head), pairs.v.at(batch, head));
        block.keys.load(&k, tokens.clone(), 0..pairs.sizes.key_dim);
        block.values.load(&v, tokens, 0..pairs.sizes.value_dim);
        if pairs.key_mask.is_some() {
            for (token, _) in (0..n).zip(&block.mask).filter(|(_, m)| **m == T::ZERO) {
                block.keys.row_mut(token).fill(T::ZERO);
                block.values.row_mut(token).fill(T::ZERO);
            }
        }
        true
    }

    /// Adds the block that is loaded to all panels that see any of it; `end` is the token after the
    /// last that any sees.
    fn attend(&self, worker: &mut Worker<T, W::Kept>, panels: usize, end: usize) {
        let Worker {
            block,
            weights,
            rescale,
            kept,
            ..
        } = worker;
        let n = self.keys.min(end - block.first);
        for panel in &mut worker.panels[..panels] {
            let (tokens, before) = match self.pairs.causal {
                true => (
                    n.min((panel.first + panel.count).saturating_sub(block.first)),
                    panel.first as isize - block.first as isize,
                ),
                false => (n, n as isize),
            };
            if tokens == 0 {
                continue;
            }
            let mask = self.pairs.key_mask.map(|_| &block.mask[..n]);
            let seen = Seen {
                tokens,
                before,
                mask,
            };
            let is_scaled = self
                .weighing
                .weigh(kept, panel, block, &seen, weights, rescale);
            let rescale = is_scaled.then_some(&rescale[..]);
            let columns = self.pairs.sizes.value_dim;
            let out = &mut panel.out;
            self.kernels
                .gather(&block.values, columns, weights, &seen, rescale, out);
        }
    }
}
