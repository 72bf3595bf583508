//! The second sweep, from the last chunk to the first: gradients by keys and values, and by the state.

use std::ops::Range;

use super::super::Sequence;
use super::super::chunk::Call;
use super::decay::add_products;
use super::kept::Kept;
use super::worker::Worker;
use super::{Backward, clear, clear_masked};
use corekit_base::run::Run;

use crate::error::Result;
use crate::kernels::{Computed, Factors, Kind, Out, Weighted};

impl<T: Computed> Backward<'_, T> {
    /// Goes through the chunks of a piece from the last to the first. `all` are the sequence's.
    pub(super) fn second(
        &self,
        worker: &mut Worker<T>,
        all: &[&Kept<T>],
        own: usize,
        sequence: &Sequence,
        head: usize,
        run: &Run,
    ) -> Result<()> {
        let call = &self.call;
        let columns = 0..call.sizes.value_dim;
        let batch = sequence.batch;
        let is_causal = call.arguments.causal;
        let kept = all[own];
        self.load_gradient(worker, sequence, head);
        worker.forward.wanted.clear();
        if is_causal {
            for later in all[own + 1..].iter().rev() {
                for (number, tokens) in later.chunks().rev() {
                    run.control.check()?;
                    let (forward, before) = (&mut worker.forward, later.log_before(number));
                    call.load_keys(forward, batch, head, tokens.clone(), before);
                    let of_state = self.kept_of_state(worker);
                    for (number, query) in call.queries(head).enumerate() {
                        self.load_gradient_of(worker, sequence, query, &tokens);
                        let (n, forward) = (tokens.len(), &mut worker.forward);
                        if let Some(vector) = &mut forward.vector {
                            let size = (n, call.map.count);
                            vector.weigh_queries(call.kernels, &forward.queries.features, size);
                        }
                        self.spread_gradient(worker, later, query, &tokens);
                        let of_state = (number == 0).then_some(&of_state);
                        self.pass_state(worker, later, query, &tokens, of_state);
                    }
                }
            }
        } else {
            for piece in all {
                for (_, tokens) in piece.chunks() {
                    run.control.check()?;
                    for query in call.queries(head) {
                        self.load_gradient_of(worker, sequence, query, &tokens);
                        self.spread_gradient(worker, piece, query, &tokens);
                        self.pass_state(worker, piece, query, &tokens, None);
                    }
                }
            }
        }
        // What goes past a token's decay, from before the chunk to after it.
        let mut past = vec![0.0; self.decaying()];
        for (number, tokens) in kept.chunks().rev() {
            run.control.check()?;
            let (forward, before) = (&mut worker.forward, kept.log_before(number));
            call.load_keys(forward, batch, head, tokens.clone(), before);
            self.load_values(worker, batch, head, tokens.clone());
            let wanted = &mut worker.forward.wanted;
            wanted.clear();
            let (k, v) = (
                self.to.k.read_at(batch, head),
                self.to.v.read_at(batch, head),
            );
            k.want(tokens.clone(), 0..call.sizes.key_dim, wanted);
            v.want(tokens.clone(), columns.clone(), wanted);
            let start = tokens
                .start
                .saturating_sub(kept.chunk)
                .max(kept.tokens.start);
            self.want(worker, sequence, head, start..tokens.start);
            self.turn_state(worker, true);
            self.by_past(worker, kept, number, &mut past);
            self.by_keys(worker, kept, sequence, head, tokens, &mut past);
        }
        if own == 0 {
            self.store_gradient(worker, kept, sequence, head);
        }
        Ok(())
    }

    /// Gradients by keys, values and decay of a chunk whose keys are loaded; the gradient by the
    /// state goes from after the chunk to before it. `past` is what goes past the chunk's decay, and
    /// then past that of its end.
    pub(super) fn by_keys(
        &self,
        worker: &mut Worker<T>,
        kept: &Kept<T>,
        sequence: &Sequence,
        head: usize,
        tokens: Range<usize>,
        past: &mut [f64],
    ) {
        let Call {
            kernels,
            map,
            sizes,
            ..
        } = self.call;
        let (n, m, v) = (tokens.len(), map.count, sizes.value_dim);
        // The logarithm of the state where that is all the queries see.
        let is_causal = self.call.arguments.causal;
        let log = (!is_causal).then_some(kept.log_of_end);
        let forward = &mut worker.forward;

        // What comes through the state.
        let weights = &mut worker.weights;
        weights[..n].fill(T::ONE);
        if let Some(log) = log.filter(|_| map.is_stabilised()) {
            for (weight, own) in weights[..n].iter_mut().zip(&forward.keys.logs) {
                *weight = T::of((own.wide() - log.wide()).exp());
            }
        } else if forward.is_decaying {
            weights[..n].copy_from_slice(forward.decay.to_state(n));
        }
        let writing = match &mut forward.vector {
            Some(vector) => {
                vector.weigh_keys(kernels, &forward.keys.features, (n, m));
                &vector.weighed
            }
            None => &forward.keys.features,
        };
        let by = Factors {
            state: Some(&weights[..]),
            whole: None,
        };
        let (state, out) = (Some((writing, &worker.s, m)), &mut worker.by_values);
        let wanted = Some(&mut forward.wanted);
        kernels.outputs(state, false, None, by, (n, v), Out::Tile(out), wanted);
        let (state, out) = (
            Some((&worker.values, &worker.state_turned, v)),
            &mut worker.by_keys,
        );
        kernels.outputs(
            state,
            false,
            None,
            Factors::NONE,
            (n, m),
            Out::Tile(out),
            Some(&mut forward.wanted),
        );
        if self.call.arguments.normalize {
            kernels.add_outer(&mut worker.by_keys, m, &worker.z, &worker.ones[..n]);
        }
        match &mut forward.vector {
            Some(vector) => vector.weigh_to_end(kernels, &mut worker.by_keys, (n, m)),
            None => kernels.scale_rows(&mut worker.by_keys, m, &weights[..n]),
        }
        worker.of_columns.fill(T::ZERO);
        // What writing into the state gives, for each token, and feature that decays by itself.
        let wants_gradient = self.to.decay.is_some();
        let mut written = Vec::new();
        if wants_gradient && forward.vector.is_some() {
            written = vec![T::ZERO; n * m];
            for (row, written) in written.chunks_exact_mut(m).enumerate() {
                let features = forward.keys.features.row(row);
                add_products(written, worker.by_keys.row(row), features);
            }
        } else if wants_gradient {
            let dots = &mut worker.dots[..n];
            kernels.row_dots(&forward.keys.features, &worker.by_keys, m, dots);
            written = dots.to_vec();
        }
        // What writing within the chunk gives, likewise.
        let mut within = vec![T::ZERO; written.len()];
        if map.is_polynomial() {
            clear(&mut worker.by_key_input, n);
        }
        if is_causal {
            let (scored, depth) = forward.keys.scored(map);
            kernels.turn(scored, n, depth, &mut forward.turned);
            let of_state = self.kept_of_state(worker);
            for (number, query) in self.call.queries(head).enumerate() {
                self.through_scores_back(worker, kept, sequence, query, &tokens, &mut within);
                let of_state = (number == 0).then_some(&of_state);
                self.pass_state(worker, kept, query, &tokens, of_state);
            }
        }
        if wants_gradient && worker.forward.vector.is_none() {
            within.copy_from_slice(&worker.of_columns[..n]);
        }
        let sums = (&written[..], &within[..]);
        self.by_decay(worker, kept, (sequence, head), &tokens, sums, past);

        let forward = &mut worker.forward;
        let gradient = forward.keys.back(
            kernels,
            map,
            n,
            &mut worker.by_keys,
            &mut worker.by_key_input,
            &mut worker.scratch,
        );
        let by_values = &mut worker.by_values;
        if self.call.arguments.key_mask.is_some() {
            clear_masked(gradient, &forward.mask[..n]);
            clear_masked(by_values, &forward.mask[..n]);
        }
        let place = (sequence.batch, head);
        let (k, v) = (
            self.to.k.at(place.0, place.1),
            self.to.v.at(place.0, place.1),
        );
        kernels.store(gradient, tokens.clone(), 0..map.key_dim, &k);
        kernels.store(by_values, tokens, 0..v.columns(), &v);
    }

    /// Adds to gradients by keys and values what comes through a query head's scores, and to
    /// `within` what that is of each key's feature, where these decay by themselves.
    pub(super) fn through_scores_back(
        &self,
        worker: &mut Worker<T>,
        kept: &Kept<T>,
        sequence: &Sequence,
        query: usize,
        tokens: &Range<usize>,
        within: &mut [T],
    ) {
        let Call {
            kernels,
            map,
            sizes,
            ..
        } = self.call;
        let (n, m, d, v) = (tokens.len(), map.count, map.key_dim, sizes.value_dim);
        self.ask(worker, sequence, query, tokens.clone(), true);
        let place = self.place(kept, query, tokens);
        let (scale, shift) = (&kept.scale[place.clone()], &kept.shift[place]);
        let forward = &mut worker.forward;
        let table = forward.is_decaying.then_some(&forward.decay.table);
        let wants_sums = self.to.decay.is_some() && forward.vector.is_none();
        let sums = wants_sums.then_some((
            &forward.scores,
            &mut worker.of_rows[..],
            &mut worker.of_columns[..],
        ));
        kernels.by_scores(&mut worker.by_scores, (scale, shift), table, sums);

        self.spread_gradient(worker, kept, query, tokens);
        let forward = &mut worker.forward;
        let weighted = Weighted {
            scores: &forward.scores,
            values: &worker.dout_spread,
            tokens: n,
            kind: Kind::LowerTransposed,
        };
        let out = Out::Tile(&mut worker.by_values);
        kernels.outputs(
            None,
            true,
            Some(&weighted),
            Factors::NONE,
            (n, v),
            out,
            None,
        );
        let forward = &mut worker.forward;
        if let Some(vector) = &mut forward.vector {
            clear(&mut worker.by_features, n);
            clear(&mut worker.rest, n);
            let parts = [&forward.queries.features, &forward.keys.features];
            let by = [&mut worker.by_features, &mut worker.rest];
            vector.back(kernels, parts, &worker.by_scores, (n, m), by);
            for (row, within) in within.chunks_exact_mut(m).enumerate() {
                add_products(within, worker.rest.row(row), forward.keys.features.row(row));
            }
            for row in 0..n {
                // A token with itself.
                let score = worker.by_scores.row(row)[row];
                let by = worker.by_keys.row_mut(row).iter_mut();
                for (by, q) in by.zip(forward.queries.features.row(row)) {
                    *by += score * *q;
                }
            }
            kernels.add_rows(&worker.rest, (0, n), m, &mut worker.by_keys);
            return;
        }
        let (values, size, out) = match map.is_polynomial() {
            true => {
                self.by_products(
                    &forward.products,
                    &mut worker.slopes,
                    &mut worker.by_scores,
                    n,
                );
                kernels.spread(&forward.queries.input, n, d, &mut worker.inputs);
                (&worker.inputs, (n, d), &mut worker.by_key_input)
            }
            false => {
                kernels.spread(&forward.queries.features, n, m, &mut worker.spread);
                (&worker.spread, (n, m), &mut worker.by_keys)
            }
        };
        let weighted = Weighted {
            scores: &worker.by_scores,
            values,
            tokens: n,
            kind: Kind::LowerTransposed,
        };
        let out = Out::Tile(out);
        kernels.outputs(None, true, Some(&weighted), Factors::NONE, size, out, None);
    }
}
