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
use corekit_base::array::Wanted;
use corekit_base::run::Run;

use super::decay::Decay;
use super::vector_decay::VectorDecay;
use super::{LinearAttention, Sequence, Sizes, State, part, parts, reciprocal};
use crate::error::Result;
use crate::features::{Features, Side};
use crate::heads::HeadsMut;
use crate::kernels::{Computed, Factors, Keep, Kernels, Kind, Out, Shape, Weighted};
use crate::tiles::{Panels, ROOM, Tile, zeros};

/// What a worker keeps from unit to unit.
pub(super) struct Worker<T> {
    pub(super) queries: Side<T>,
    pub(super) keys: Side<T>,
    /// Kᵀ (or what scores are made of) in panels.
    pub(super) turned: Panels<T>,
    pub(super) values: Tile<T>,
    pub(super) spread: Panels<T>,
    pub(super) scores: Tile<T>,
    pub(super) out: Tile<T>,
    pub(super) s: Panels<T>,
    pub(super) z: Aligned<T>,
    pub(super) decay: Decay<T>,
    /// Whether `decay` holds factors of the chunk that is loaded.
    pub(super) is_decaying: bool,
    /// Where decay is a number for each feature.
    pub(super) vector: Option<VectorDecay<T>>,
    pub(super) mask: Vec<T>,
    pub(super) sums: Vec<T>,
    pub(super) whole: Vec<T>,
    /// Whether an output is divided by the least that it may be.
    pub(super) is_least: Vec<bool>,
    /// Products of what goes into the map, before they become scores, if they are wanted.
    pub(super) products: Option<Tile<T>>,
    /// Lines of what comes next, to be asked for meanwhile.
    pub(super) wanted: Wanted,
}

impl<T: Computed> Worker<T> {
    pub(super) fn new(
        kernels: &Kernels<T>,
        map: &Features<T>,
        chunk: usize,
        values: usize,
        has_vector_decay: bool,
    ) -> Result<Self> {
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
            vector: match has_vector_decay {
                true => Some(VectorDecay::new(kernels, chunk, map.count)?),
                false => None,
            },
            mask: vec![T::ONE; room],
            sums: vec![T::ZERO; room],
            whole: vec![T::ZERO; room],
            is_least: vec![false; room],
            products: None,
            wanted: Wanted::default(),
        })
    }
}

/// A sequence's chunks, the last of which may be shorter.
pub(super) fn chunks(tokens: &Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = tokens.end;
    tokens
        .clone()
        .step_by(size)
        .map(move |start| start..end.min(start + size))
}

/// What all units share.
pub(super) struct Call<'a, T: Computed> {
    pub(super) arguments: &'a LinearAttention<'a>,
    pub(super) sizes: &'a Sizes,
    pub(super) map: &'a Features<T>,
    pub(super) kernels: &'static Kernels<T>,
    /// The most tokens of a chunk.
    pub(super) chunk: usize,
}

/// Where outputs and the last state go.
struct Destination<'a> {
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
        arguments.cache,
        sizes.key_dim,
        (arguments.scale, arguments.normalize),
        run,
    )?;
    let sequences = arguments.sequences();
    let chunk = arguments.chunk(
        sequences.longest(),
        map.count.saturating_mul(sizes.value_dim),
    );
    let units = sequences.len() * sizes.key_heads;
    let parts = parts(units, run.threads, sizes.value_dim, kernels.width());
    let call = Call {
        arguments,
        sizes,
        map: &map,
        kernels,
        chunk,
    };
    let to = Destination { out, last };
    let widest = (0..parts)
        .map(|p| part(p, parts, sizes.value_dim, kernels.width()).len())
        .max()
        .unwrap_or(0);
    run.share(
        units * parts,
        || Worker::new(kernels, &map, chunk, widest, arguments.has_vector_decay()),
        |worker, task| {
            let (unit, p) = (task / parts, task % parts);
            let columns = part(p, parts, sizes.value_dim, kernels.width());
            let sequence = &sequences.get(unit / sizes.key_heads);
            let head = unit % sizes.key_heads;
            call.unit(worker, sequence, head, columns, p == 0, &to, run)
        },
    )
}

impl<T: Computed> Call<'_, T> {
    #[allow(clippy::too_many_arguments)]
    fn unit(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        head: usize,
        columns: Range<usize>,
        is_first: bool,
        to: &Destination,
        run: &Run,
    ) -> Result<()> {
        let mut log = self.load_state(worker, sequence, head, &columns);
        let batch = sequence.batch;
        let queries = self.queries(head);
        let is_causal = self.arguments.causal;
        let chunk = self.chunk_of(sequence);
        for tokens in chunks(&sequence.tokens, chunk) {
            run.control.check()?;
            let n = tokens.len();
            log = self.load_keys(worker, batch, head, tokens.clone(), log);
            self.load_values(worker, batch, head, tokens.clone(), &columns);
            self.want_next(worker, to, sequence, head, &tokens, &columns);
            if is_causal {
                let (scored, depth) = worker.keys.scored(self.map);
                self.kernels.turn(scored, n, depth, &mut worker.turned);
                for query in queries.clone() {
                    self.give(
                        worker,
                        to.out,
                        (batch, query),
                        tokens.clone(),
                        &columns,
                        None,
                    );
                }
            }
            self.absorb(worker, n, columns.len());
        }
        if !is_causal {
            for tokens in chunks(&sequence.tokens, chunk) {
                run.control.check()?;
                for query in queries.clone() {
                    self.give(
                        worker,
                        to.out,
                        (batch, query),
                        tokens.clone(),
                        &columns,
                        Some(log),
                    );
                }
            }
        }
        if let Some(last) = to.last {
            self.store_state(worker, last, sequence, head, &columns, is_first, log);
        }
        Ok(())
    }

    /// Makes a list of the lines that the next chunk reads and this one writes.
    fn want_next(
        &self,
        worker: &mut Worker<T>,
        to: &Destination,
        sequence: &Sequence,
        head: usize,
        tokens: &Range<usize>,
        columns: &Range<usize>,
    ) {
        let next = tokens.end
            ..sequence
                .tokens
                .end
                .min(tokens.end + self.chunk_of(sequence));
        worker.wanted.clear();
        if self.arguments.causal {
            for query in self.queries(head) {
                let out = to.out.read_at(sequence.batch, query);
                out.want(tokens.clone(), columns.clone(), &mut worker.wanted);
            }
        }
        self.want(worker, sequence.batch, head, next, columns.clone());
    }

    /// Adds the lines of a chunk's arguments to the list.
    pub(super) fn want(
        &self,
        worker: &mut Worker<T>,
        batch: usize,
        head: usize,
        tokens: Range<usize>,
        columns: Range<usize>,
    ) {
        let (arguments, wanted) = (self.arguments, &mut worker.wanted);
        let features = 0..self.sizes.key_dim;
        let (keys, values) = (arguments.k.at(batch, head), arguments.v.at(batch, head));
        keys.want(tokens.clone(), features.clone(), wanted);
        values.want(tokens.clone(), columns, wanted);
        if arguments.causal {
            for query in self.queries(head) {
                let queries = arguments.q.at(batch, query);
                queries.want(tokens.clone(), features.clone(), wanted);
            }
        }
    }

    /// Tokens of a sequence's chunks: a function of that sequence alone.
    pub(super) fn chunk_of(&self, sequence: &Sequence) -> usize {
        let state = self.map.count.saturating_mul(self.sizes.value_dim);
        self.arguments.chunk(sequence.tokens.len(), state)
    }

    /// The query heads of a key head.
    pub(super) fn queries(&self, head: usize) -> Range<usize> {
        head * self.sizes.group..(head + 1) * self.sizes.group
    }

    /// Loads the state, zeros if there is none, and returns its logarithm.
    pub(super) fn load_state(
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

    /// Stores the state of a head, or of some columns of its values; z and the logarithm with the
    /// first ones.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn store_state(
        &self,
        worker: &mut Worker<T>,
        state: &State<HeadsMut>,
        sequence: &Sequence,
        head: usize,
        columns: &Range<usize>,
        is_first: bool,
        log: T,
    ) {
        let State { s, z, log_scale } = state;
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

    /// Loads a chunk's keys and prepares their factors; returns the state's new logarithm.
    pub(super) fn load_keys(
        &self,
        worker: &mut Worker<T>,
        batch: usize,
        head: usize,
        tokens: Range<usize>,
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
        if let Some(mask) = mask {
            worker.keys.clear_masked(mask);
        }
        let decay = arguments.decay.map(|decay| decay.at(batch, head));
        if let (Some(vector), Some(decay)) = (&mut worker.vector, &decay) {
            vector.prepare(kernels, decay, tokens.start, n, mask);
            worker.is_decaying = false;
            return log;
        }
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

    /// Loads the values of a chunk whose keys are loaded.
    pub(super) fn load_values(
        &self,
        worker: &mut Worker<T>,
        batch: usize,
        head: usize,
        tokens: Range<usize>,
        columns: &Range<usize>,
    ) {
        let (kernels, n) = (self.kernels, tokens.len());
        let values = self.arguments.v.at(batch, head);
        match values.block(tokens.clone(), columns.clone()) {
            Some(block) if kernels.is_whole(columns.len()) => {
                kernels.spread_block(&block, &mut worker.spread);
            }
            _ => {
                kernels.load(&values, tokens, columns.clone(), &mut worker.values);
                kernels.spread(&worker.values, n, columns.len(), &mut worker.spread);
            }
        }
        if self.arguments.key_mask.is_some() {
            let mask = worker.mask[..n].iter().enumerate();
            for (token, _) in mask.filter(|(_, m)| **m == T::ZERO) {
                worker.spread.clear_row(token);
            }
        }
    }

    /// Adds the chunk that is loaded to the state.
    pub(super) fn absorb(&self, worker: &mut Worker<T>, n: usize, width: usize) {
        let (kernels, m) = (self.kernels, self.map.count);
        if let Some(vector) = &mut worker.vector {
            vector.weigh_keys(kernels, &worker.keys.features, (n, m));
            if self.arguments.normalize {
                vector.keep_of(&mut worker.z[..m]);
                kernels.column_sums(&vector.weighed, n, m, &mut worker.z);
            }
            let (keys, keep) = (&vector.weighed, vector.kept());
            kernels.update(
                keys,
                &worker.spread,
                n,
                keep,
                (m, width),
                &mut worker.s,
                Some(&mut worker.wanted),
            );
            return;
        }
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
        kernels.update(
            keys,
            &worker.spread,
            n,
            keep,
            (m, width),
            &mut worker.s,
            Some(&mut worker.wanted),
        );
    }

    /// Whether a chunk's scores are just products of features, so that their sums are products with
    /// sums of keys, and nobody looks above the diagonal.
    fn is_plain(&self, worker: &Worker<T>) -> bool {
        worker.vector.is_none() && !worker.is_decaying && !self.map.is_polynomial()
    }

    /// Loads queries and multiplies their features by `outer`; where `is_causal`, makes their scores
    /// with the chunk of keys that is loaded.
    pub(super) fn ask(
        &self,
        worker: &mut Worker<T>,
        (batch, query): (usize, usize),
        tokens: Range<usize>,
        outer: T,
        is_causal: bool,
    ) {
        let (kernels, map) = (self.kernels, self.map);
        let (n, m) = (tokens.len(), map.count);
        let queries = self.arguments.q.at(batch, query);
        worker.queries.load(kernels, map, &queries, tokens, outer);
        if !is_causal {
            worker.sums[..n].fill(T::ZERO);
            return;
        }
        let is_plain = self.is_plain(worker);
        let scores = &mut worker.scores;
        if let Some(vector) = &mut worker.vector {
            let (queries, keys) = (&worker.queries.features, &worker.keys.features);
            vector.scores(kernels, queries, keys, (n, m), scores);
            vector.weigh_queries(kernels, queries, (n, m));
        } else {
            let (scored, depth) = worker.queries.scored(map);
            let wanted = Some(&mut worker.wanted);
            kernels.scores(
                scored,
                &worker.turned,
                depth,
                (n, n),
                Shape::Lower,
                scores,
                wanted,
            );
            if let Some(products) = &mut worker.products {
                for row in 0..n {
                    products.row_mut(row)[..=row].copy_from_slice(&scores.row(row)[..=row]);
                }
            }
            map.finish(scores, (n, n), Shape::Lower);
        }
        if is_plain {
            return;
        }
        let table = worker.is_decaying.then_some(&worker.decay.table);
        kernels.finish_scores(scores, table, &mut worker.sums[..n]);
    }

    /// What outputs of the queries that are loaded are multiplied by, to `worker.whole`, and which
    /// of them are divided by the least that they may be. `log` is the state's logarithm where
    /// that is all they see.
    pub(super) fn divide(&self, worker: &mut Worker<T>, n: usize, log: Option<T>) {
        let (arguments, map) = (self.arguments, self.map);
        let is_prefix = log.is_none() && self.is_plain(worker);
        let whole = &mut worker.whole[..n];
        if arguments.normalize && is_prefix {
            let (queries, keys) = (&worker.queries.features, &worker.keys.features);
            self.kernels
                .prefix_dots(queries, keys, map.count, &worker.z, whole);
            worker.sums[..n].fill(T::ZERO);
        } else if arguments.normalize {
            let reading = match &worker.vector {
                Some(vector) => &vector.weighed,
                None => &worker.queries.features,
            };
            self.kernels.dots(reading, map.count, &worker.z, whole);
        }
        let is_decaying = log.is_none() && worker.is_decaying;
        for (t, factor) in whole.iter_mut().enumerate() {
            // The logarithm by which the row of outputs was divided.
            let row_log = match map.is_stabilised() {
                true => (worker.queries.logs[t] + log.unwrap_or(worker.decay.logs[t])).wide(),
                false => 0.0,
            };
            if !arguments.normalize {
                *factor = T::of(row_log.exp());
                continue;
            }
            let of_state = if is_decaying {
                worker.decay.of_state[t]
            } else {
                T::ONE
            };
            let least = match map.is_stabilised() {
                true => T::of(arguments.eps * (-row_log).exp()),
                false => T::of(arguments.eps),
            };
            let d = *factor * of_state + worker.sums[t];
            worker.is_least[t] = d < least && -d < least;
            *factor = reciprocal(d, least);
        }
    }

    /// Computes outputs of a query head: what the state gives, and where there is no `log`, the chunk
    /// that is loaded. `log` is the state's logarithm where that is all.
    fn give(
        &self,
        worker: &mut Worker<T>,
        out: &HeadsMut,
        (batch, query): (usize, usize),
        tokens: Range<usize>,
        columns: &Range<usize>,
        log: Option<T>,
    ) {
        let (kernels, map) = (self.kernels, self.map);
        let (n, width) = (tokens.len(), columns.len());
        let is_causal = log.is_none();
        self.ask(worker, (batch, query), tokens.clone(), map.outer, is_causal);
        let has_factor = self.arguments.normalize || map.is_stabilised();
        if has_factor {
            self.divide(worker, n, log);
        }
        let reading = match &worker.vector {
            Some(vector) => &vector.weighed,
            None => &worker.queries.features,
        };
        let weighted = is_causal.then_some(Weighted {
            scores: &worker.scores,
            values: &worker.spread,
            tokens: n,
            kind: Kind::Lower,
        });
        let is_decaying = is_causal && worker.is_decaying;
        let out = out.at(batch, query);
        let block = match kernels.is_whole(width) {
            true => out.block(tokens.clone(), columns.clone()),
            false => None,
        };
        kernels.outputs(
            Some((reading, &worker.s, map.count)),
            false,
            weighted.as_ref(),
            Factors {
                state: is_decaying.then_some(&worker.decay.of_state[..]),
                whole: has_factor.then_some(&worker.whole[..]),
            },
            (n, width),
            match &block {
                Some(block) => Out::Block(block),
                None => Out::Tile(&mut worker.out),
            },
            Some(&mut worker.wanted),
        );
        if block.is_none() {
            kernels.store(&worker.out, tokens, columns.clone(), &out);
        }
    }
}
