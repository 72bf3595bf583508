//! A chunk of tokens at a time.
//!
//! With S the state before a chunk of C tokens, and Q, K, V its rows after the map,
//!
//! ```text
//! A = tril(Q Kᵀ) ∘ F          scores, with the decay between the two tokens
//! O = (f ∘ Q S + A V) / d     d = f ∘ Q z + the sums of A's rows, when normalised
//! S = γ S + (w ∘ K)ᵀ V        z likewise
//! ```
//!
//! are matrix products that stay in cache, and S is in panels from the first token to the last
//! (Hua et al. 2022, "Transformer quality in linear time"; Yang et al. 2024, "Gated linear attention
//! transformers with hardware-efficient training"). Without causality all chunks go into the state
//! first, and then all queries read it. One unit of work is a sequence, a key head with
//! all its query heads, and a part of the values' columns.

use std::ops::Range;

use corekit_base::aligned::Aligned;

use super::decay::Decay;
use super::{LinearAttention, Sequence, Sizes, State, default_chunk, part, parts, reciprocal};
use crate::error::Result;
use crate::features::{Features, Side};
use crate::heads::HeadsMut;
use crate::kernels::{Computed, Factors, Keep, Kernels, Kind, Shape, Weighted};
use crate::run::Run;
use crate::tiles::{Panels, ROOM, Tile, zeros};

/// What a worker keeps from unit to unit.
struct Worker<T> {
    queries: Side<T>,
    keys: Side<T>,
    /// Kᵀ (or what scores are made of) in panels.
    turned: Panels<T>,
    values: Tile<T>,
    spread: Panels<T>,
    scores: Tile<T>,
    out: Tile<T>,
    s: Panels<T>,
    z: Aligned<T>,
    decay: Decay<T>,
    /// Whether `decay` holds factors of the chunk that is loaded.
    is_decaying: bool,
    mask: Vec<T>,
    sums: Vec<T>,
    whole: Vec<T>,
}

impl<T: Computed> Worker<T> {
    fn new(kernels: &Kernels<T>, map: &Features<T>, chunk: usize, values: usize) -> Result<Self> {
        let scored = if map.is_polynomial() {
            map.key_dim
        } else {
            map.count
        };
        let room = chunk + ROOM;
        Ok(Self {
            queries: Side::new(map, chunk)?,
            keys: Side::new(map, chunk)?,
            turned: kernels.panels(scored, chunk)?,
            values: Tile::new(chunk, values)?,
            spread: kernels.panels(chunk, values)?,
            scores: Tile::new(chunk, chunk)?,
            out: Tile::new(chunk, values)?,
            s: kernels.panels(map.count, values)?,
            z: zeros("a state", map.count.checked_add(64))?,
            decay: Decay::new(chunk)?,
            is_decaying: false,
            mask: vec![T::ONE; room],
            sums: vec![T::ZERO; room],
            whole: vec![T::ZERO; room],
        })
    }
}

/// A sequence's chunks, the last of which may be shorter.
fn chunks(tokens: &Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = tokens.end;
    tokens
        .clone()
        .step_by(size)
        .map(move |start| start..end.min(start + size))
}

/// What all units share.
struct Call<'a, T: Computed> {
    arguments: &'a LinearAttention<'a>,
    sizes: &'a Sizes,
    map: &'a Features<T>,
    kernels: &'static Kernels<T>,
    chunk: usize,
    out: &'a HeadsMut<'a>,
    last: Option<&'a State<HeadsMut<'a>>>,
}

/// Outputs, and the last state.
pub(crate) fn forward<T: Computed>(
    arguments: &LinearAttention,
    sizes: &Sizes,
    out: &HeadsMut,
    last: Option<&State<HeadsMut>>,
    run: &Run,
) -> Result<()> {
    let kernels = T::kernels(run.level);
    let map = Features::<T>::new(
        &arguments.map,
        sizes.key_dim,
        arguments.scale,
        arguments.normalize,
        run.level,
    )?;
    let sequences = arguments.sequences();
    let longest = sequences.iter().map(|s| s.tokens.len()).max().unwrap_or(0);
    let chunk = arguments
        .chunk_size
        .unwrap_or_else(|| default_chunk(map.count, sizes.value_dim))
        .min(longest)
        .max(1);
    let units = sequences.len() * sizes.key_heads;
    let parts = parts(units, run.threads, sizes.value_dim, kernels.width());
    let call = Call {
        arguments,
        sizes,
        map: &map,
        kernels,
        chunk,
        out,
        last,
    };
    let widest = (0..parts)
        .map(|p| part(p, parts, sizes.value_dim, kernels.width()).len())
        .max()
        .unwrap_or(0);
    run.share(
        units * parts,
        || Worker::new(kernels, &map, chunk, widest),
        |worker, task| {
            let (unit, p) = (task / parts, task % parts);
            let columns = part(p, parts, sizes.value_dim, kernels.width());
            let sequence = &sequences[unit / sizes.key_heads];
            let head = unit % sizes.key_heads;
            call.unit(worker, sequence, head, columns, p == 0, run)
        },
    )
}

impl<T: Computed> Call<'_, T> {
    fn unit(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        head: usize,
        columns: Range<usize>,
        is_first: bool,
        run: &Run,
    ) -> Result<()> {
        let mut log = self.load_state(worker, sequence, head, &columns);
        let batch = sequence.batch;
        let queries = head * self.sizes.group..(head + 1) * self.sizes.group;
        let is_causal = self.arguments.causal;
        for tokens in chunks(&sequence.tokens, self.chunk) {
            run.control.check()?;
            let n = tokens.len();
            log = self.load_keys(worker, batch, head, tokens.clone(), &columns, log);
            if is_causal {
                let (scored, depth) = worker.keys.scored(self.map);
                self.kernels.turn(scored, n, depth, &mut worker.turned);
                for query in queries.clone() {
                    self.give(worker, batch, query, tokens.clone(), &columns, log, true);
                }
            }
            self.absorb(worker, n, columns.len());
        }
        if !is_causal {
            for tokens in chunks(&sequence.tokens, self.chunk) {
                run.control.check()?;
                for query in queries.clone() {
                    self.give(worker, batch, query, tokens.clone(), &columns, log, false);
                }
            }
        }
        self.store_state(worker, sequence, head, &columns, is_first, log);
        Ok(())
    }

    /// Loads the state, zeros if there is none, and returns its logarithm.
    fn load_state(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        head: usize,
        columns: &Range<usize>,
    ) -> T {
        worker.s.clear();
        worker.z.fill(T::ZERO);
        let mut log = [T::of(f64::NEG_INFINITY)];
        if let Some(State { s, z, log_scale }) = &self.arguments.initial {
            let s = s.at(sequence.number, head);
            for feature in 0..self.map.count {
                let row = &mut worker.out.row_mut(0)[..columns.len()];
                s.load_row(feature, columns.start, row);
                worker.s.set_row(feature, row);
            }
            if let Some(z) = z {
                let z = z.at(sequence.number, head);
                z.load_row(0, 0, &mut worker.z[..self.map.count]);
            }
            if let Some(log_scale) = log_scale {
                log_scale.at(sequence.number, head).load_row(0, 0, &mut log);
            }
        }
        log[0]
    }

    fn store_state(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        head: usize,
        columns: &Range<usize>,
        is_first: bool,
        log: T,
    ) {
        let Some(State { s, z, log_scale }) = self.last else {
            return;
        };
        let s = s.at(sequence.number, head);
        for feature in 0..self.map.count {
            let row = &mut worker.out.row_mut(0)[..columns.len()];
            worker.s.get_row(feature, row);
            s.store_row(feature, columns.start, row);
        }
        if !is_first {
            return;
        }
        if let Some(z) = z {
            let z = z.at(sequence.number, head);
            z.store_row(0, 0, &worker.z[..self.map.count]);
        }
        if let Some(log_scale) = log_scale {
            log_scale.at(sequence.number, head).store_row(0, 0, &[log]);
        }
    }

    /// Loads a chunk's keys and values and prepares their factors; returns the state's new
    /// logarithm.
    fn load_keys(
        &self,
        worker: &mut Worker<T>,
        batch: usize,
        head: usize,
        tokens: Range<usize>,
        columns: &Range<usize>,
        log: T,
    ) -> T {
        let (arguments, kernels, map) = (self.arguments, self.kernels, self.map);
        let n = tokens.len();
        let mask = arguments.key_mask.map(|mask| {
            let mask = mask.at(batch, 0);
            mask.load_row(0, tokens.start, &mut worker.mask[..n]);
            &worker.mask[..n]
        });
        let keys = arguments.k.at(batch, head);
        worker
            .keys
            .load(kernels, map, &keys, tokens.clone(), T::ONE);
        let values = arguments.v.at(batch, head);
        worker.values.load(&values, tokens.clone(), columns.clone());
        if let Some(mask) = mask {
            worker.keys.clear_masked(mask);
            for (token, _) in mask.iter().enumerate().filter(|(_, m)| **m == T::ZERO) {
                worker.values.row_mut(token).fill(T::ZERO);
            }
        }
        kernels.spread(&worker.values, n, columns.len(), &mut worker.spread);
        let decay = arguments.decay.map(|decay| decay.at(batch, head));
        // Scores that are polynomials are not zero where features are.
        worker.is_decaying =
            decay.is_some() || map.is_stabilised() || (map.is_polynomial() && mask.is_some());
        if !worker.is_decaying {
            return log;
        }
        let logs = map.is_stabilised().then_some(&worker.keys.logs[..n]);
        let decay = decay.as_ref();
        let start = tokens.start;
        worker
            .decay
            .prepare(kernels, decay, start, n, mask, logs, log)
    }

    /// Adds the chunk that is loaded to the state.
    fn absorb(&self, worker: &mut Worker<T>, n: usize, width: usize) {
        let (kernels, m) = (self.kernels, self.map.count);
        let mut keep = Keep::All;
        if worker.is_decaying {
            let decay = &worker.decay;
            kernels.scale_rows(&mut worker.keys.features, m, decay.to_state(n));
            keep = Keep::One(&decay.keep);
            let [factor, rest] = decay.keep;
            if self.arguments.normalize {
                for z in &mut worker.z[..m] {
                    *z = *z * factor + *z * rest;
                }
            }
        }
        let keys = &worker.keys.features;
        if self.arguments.normalize {
            kernels.column_sums(keys, n, m, &mut worker.z);
        }
        kernels.update(keys, &worker.spread, n, keep, (m, width), &mut worker.s);
    }

    /// Computes outputs of a query head: what the state gives, and where `is_causal` the chunk that
    /// is loaded. `log` is the state's logarithm where that is all.
    #[allow(clippy::too_many_arguments)]
    fn give(
        &self,
        worker: &mut Worker<T>,
        batch: usize,
        query: usize,
        tokens: Range<usize>,
        columns: &Range<usize>,
        log: T,
        is_causal: bool,
    ) {
        let (arguments, kernels, map) = (self.arguments, self.kernels, self.map);
        let (n, width, m) = (tokens.len(), columns.len(), map.count);
        let queries = arguments.q.at(batch, query);
        worker
            .queries
            .load(kernels, map, &queries, tokens.clone(), map.outer);
        let mut of_state = None;
        if is_causal {
            let (scored, depth) = worker.queries.scored(map);
            let scores = &mut worker.scores;
            kernels.scores(scored, &worker.turned, depth, (n, n), Shape::Lower, scores);
            map.finish(scores, (n, n), Shape::Lower);
            let table = worker.is_decaying.then_some(&worker.decay.table);
            kernels.finish_scores(scores, table, &mut worker.sums[..n]);
            of_state = worker.is_decaying.then_some(&worker.decay.of_state[..]);
        } else {
            worker.sums[..n].fill(T::ZERO);
        }
        // The logarithm by which the row of outputs was divided.
        let row_log = |t: usize| {
            let of_keys = if is_causal { worker.decay.logs[t] } else { log };
            (worker.queries.logs[t] + of_keys).wide()
        };
        let whole = &mut worker.whole[..n];
        if arguments.normalize {
            kernels.dots(&worker.queries.features, m, &worker.z, whole);
            for (t, factor) in whole.iter_mut().enumerate() {
                let of_state = of_state.map_or(T::ONE, |factors| factors[t]);
                let least = match map.is_stabilised() {
                    true => arguments.eps * (-row_log(t)).exp(),
                    false => arguments.eps,
                };
                *factor = reciprocal(*factor * of_state + worker.sums[t], T::of(least));
            }
        } else if map.is_stabilised() {
            for (t, factor) in whole.iter_mut().enumerate() {
                *factor = T::of(row_log(t).exp());
            }
        }
        let has_factor = arguments.normalize || map.is_stabilised();
        let weighted = is_causal.then_some(Weighted {
            scores: &worker.scores,
            values: &worker.spread,
            tokens: n,
            kind: Kind::Lower,
        });
        kernels.outputs(
            Some((&worker.queries.features, &worker.s, m)),
            false,
            weighted.as_ref(),
            Factors {
                state: of_state,
                whole: has_factor.then_some(&worker.whole[..]),
            },
            (n, width),
            &mut worker.out,
        );
        let out = self.out.at(batch, query);
        for (row, t) in tokens.enumerate() {
            out.store_row(t, columns.start, &worker.out.row(row)[..width]);
        }
    }
}
