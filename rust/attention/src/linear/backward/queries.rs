//! The first sweep: gradients by queries, and what is kept for the second.

use std::ops::Range;

use super::super::Sequence;
use super::super::chunk::{Call, chunks};
use super::decay::add_products;
use super::kept::Kept;
use super::worker::Worker;
use super::{Backward, clear};
use corekit_base::run::Run;

use crate::error::Result;
use crate::features::Prepared;
use crate::kernels::{Computed, Factors, Kind, Out, Shape, Weighted};
use crate::tiles::Tile;

impl<T: Computed> Backward<'_, T> {
    /// Goes through the chunks of `kept` from the first to the last.
    pub(super) fn first(
        &self,
        worker: &mut Worker<T>,
        kept: &mut Kept<T>,
        sequence: &Sequence,
        head: usize,
        run: &Run,
    ) -> Result<()> {
        let call = &self.call;
        let columns = 0..call.sizes.value_dim;
        let batch = sequence.batch;
        let is_causal = call.arguments.causal;
        let has_turned = self.has_turned_state();
        let mut log = call.load_state(&mut worker.forward, sequence, head, &columns);
        if has_turned {
            self.turn_state(worker, false);
        }
        kept.log_of_start = log;
        self.clear_decay(sequence, head, &kept.tokens);
        for (number, tokens) in chunks(&sequence.tokens, kept.chunk).enumerate() {
            let is_own = kept.chunks.contains(&number);
            if is_causal && number >= kept.chunks.end {
                break;
            }
            run.control.check()?;
            let (n, forward) = (tokens.len(), &mut worker.forward);
            let before = log;
            log = call.load_keys(forward, batch, head, tokens.clone(), log);
            if !has_turned {
                call.load_values(forward, batch, head, tokens.clone(), &columns);
            }
            if has_turned || is_own && is_causal {
                self.load_values(worker, batch, head, tokens.clone());
                self.spread_keys(worker, n);
            }
            worker.forward.wanted.clear();
            if is_own {
                kept.set_log(number, before);
                self.copy_state(worker, kept, number);
            }
            if is_own && is_causal {
                for query in call.queries(head) {
                    let to = self.to.q.read_at(batch, query);
                    let features = 0..call.sizes.key_dim;
                    to.want(tokens.clone(), features, &mut worker.forward.wanted);
                }
                let next = tokens.end..kept.tokens.end.min(tokens.end + kept.chunk);
                self.want(worker, sequence, head, next);
                let forward = &mut worker.forward;
                let (scored, depth) = forward.keys.scored(call.map);
                call.kernels.turn(scored, n, depth, &mut forward.turned);
                if !has_turned {
                    self.turn_state(worker, false);
                }
                for query in call.queries(head) {
                    self.by_queries(worker, kept, sequence, query, tokens.clone(), None);
                }
            }
            match has_turned {
                true => self.absorb_turned(worker, n),
                false => call.absorb(&mut worker.forward, n, columns.len()),
            }
        }
        kept.log_of_end = log;
        if !is_causal {
            self.turn_state(worker, false);
            for (_, tokens) in kept.chunks() {
                run.control.check()?;
                for query in call.queries(head) {
                    self.by_queries(worker, kept, sequence, query, tokens.clone(), Some(log));
                }
            }
        }
        Ok(())
    }

    /// Loads a query head's chunk, its scores, its gradient, and the products of that with values.
    pub(super) fn ask(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        query: usize,
        tokens: Range<usize>,
        is_causal: bool,
    ) {
        let Call { kernels, sizes, .. } = self.call;
        let (n, v) = (tokens.len(), sizes.value_dim);
        let place = (sequence.batch, query);
        let forward = &mut worker.forward;
        self.call
            .ask(forward, place, tokens.clone(), T::ONE, is_causal);
        let dout = self.dout.at(sequence.batch, query);
        kernels.load(&dout, tokens, 0..v, &mut worker.dout);
        if is_causal {
            let (turned, to) = (&worker.values_turned, &mut worker.by_scores);
            let wanted = Some(&mut worker.forward.wanted);
            kernels.scores(&worker.dout, turned, v, (n, n), Shape::Lower, to, wanted);
        }
    }

    /// Gradients by queries, and what is kept for the second sweep. `log` is the state's logarithm
    /// where that is all the queries see.
    pub(super) fn by_queries(
        &self,
        worker: &mut Worker<T>,
        kept: &mut Kept<T>,
        sequence: &Sequence,
        query: usize,
        tokens: Range<usize>,
        log: Option<T>,
    ) {
        let Call {
            arguments,
            kernels,
            map,
            sizes,
            ..
        } = self.call;
        let (n, m, v) = (tokens.len(), map.count, sizes.value_dim);
        let is_causal = log.is_none();
        self.ask(worker, sequence, query, tokens.clone(), is_causal);
        // S Ō.
        let state = Some((&worker.dout, &worker.state_turned, v));
        let out = Out::Tile(&mut worker.by_features);
        let wanted = Some(&mut worker.forward.wanted);
        kernels.outputs(state, false, None, Factors::NONE, (n, m), out, wanted);
        let place = self.place(kept, query, &tokens);
        let scale = &mut kept.scale[place.clone()];
        let shift = &mut kept.shift[place];
        shift.fill(T::ZERO);
        let forward = &mut worker.forward;
        if arguments.normalize || map.is_stabilised() {
            self.call.divide(forward, n, log);
            scale.copy_from_slice(&forward.whole[..n]);
        } else {
            scale.fill(T::ONE);
        }
        for scale in scale.iter_mut() {
            *scale = *scale * map.outer;
        }
        let is_decaying = is_causal && forward.is_decaying;
        let of_state = |t: usize| match is_decaying {
            true => forward.decay.of_state[t],
            false => T::ONE,
        };
        let reading = match &forward.vector {
            Some(vector) => &vector.weighed,
            None => &forward.queries.features,
        };
        if arguments.normalize {
            let dots = &mut worker.dots[..n];
            kernels.row_dots(reading, &worker.by_features, m, dots);
            let inner = &mut worker.of_rows[..n];
            inner.fill(T::ZERO);
            if is_causal {
                kernels.lower_dots(&forward.scores, &worker.by_scores, inner);
            }
            for t in 0..n {
                if !forward.is_least[t] {
                    let divided = of_state(t) * dots[t] + inner[t];
                    shift[t] = -(divided * scale[t] * scale[t]);
                }
            }
        }
        // What comes through the state.
        let factors = &mut worker.weights[..n];
        for t in 0..n {
            factors[t] = scale[t] * of_state(t);
        }
        kernels.scale_rows(&mut worker.by_features, m, factors);
        if arguments.normalize {
            for t in 0..n {
                factors[t] = shift[t] * of_state(t);
            }
            kernels.add_outer(&mut worker.by_features, m, &forward.z, factors);
        }
        if is_causal {
            self.through_scores(worker, kept, sequence, query, &tokens);
        }
        let gradient = &mut worker.by_features;
        let forward = &mut worker.forward;
        if !is_causal && map.is_polynomial() {
            clear(&mut worker.by_input, n);
        }
        let gradient = forward.queries.back(
            kernels,
            map,
            n,
            gradient,
            &mut worker.by_input,
            &mut worker.scratch,
        );
        let to = self.to.q.at(sequence.batch, query);
        kernels.store(gradient, tokens, 0..to.columns(), &to);
    }

    /// Adds to gradients by queries what comes through a chunk's scores, and to those by decay what
    /// reading gives.
    pub(super) fn through_scores(
        &self,
        worker: &mut Worker<T>,
        kept: &mut Kept<T>,
        sequence: &Sequence,
        query: usize,
        tokens: &Range<usize>,
    ) {
        let Call { kernels, map, .. } = self.call;
        let (n, m, d) = (tokens.len(), map.count, map.key_dim);
        let place = self.place(kept, query, tokens);
        let (scale, shift) = (&kept.scale[place.clone()], &kept.shift[place]);
        let start = tokens.start - kept.tokens.start;
        let forward = &mut worker.forward;
        let table = forward.is_decaying.then_some(&forward.decay.table);
        let wants_gradient = self.to.decay.is_some();
        let wants_sums = wants_gradient && forward.vector.is_none();
        let sums = wants_sums.then_some((
            &forward.scores,
            &mut worker.of_rows[..],
            &mut worker.of_columns[..],
        ));
        kernels.by_scores(&mut worker.by_scores, (scale, shift), table, sums);
        if let Some(vector) = &mut forward.vector {
            vector.weigh_in_place(kernels, &mut worker.by_features, (n, m));
            clear(&mut worker.by_keys, n);
            clear(&mut worker.rest, n);
            let parts = [&forward.queries.features, &forward.keys.features];
            let by = [&mut worker.rest, &mut worker.by_keys];
            vector.back(kernels, parts, &worker.by_scores, (n, m), by);
            for row in 0..n {
                let features = forward.queries.features.row(row);
                let place = (start + row) * m..(start + row + 1) * m;
                if let Some(decay) = &self.to.decay {
                    add_products(&mut kept.within[place], worker.rest.row(row), features);
                    let head = query / self.call.sizes.group;
                    let (to, from) = (
                        decay.at(sequence.batch, head),
                        decay.read_at(sequence.batch, head),
                    );
                    let (t, sums) = (tokens.start + row, &mut worker.by_keys.row_mut(row)[..m]);
                    from.load_row(t, 0, sums);
                    add_products(sums, worker.by_features.row(row), features);
                    to.store_row(t, 0, sums);
                }
                // A token with itself.
                let score = worker.by_scores.row(row)[row];
                let (by, keys) = (worker.by_features.row_mut(row), &forward.keys.features);
                for (by, k) in by.iter_mut().zip(keys.row(row)) {
                    *by += score * *k;
                }
            }
            kernels.add_rows(&worker.rest, (0, n), m, &mut worker.by_features);
            return;
        }
        if wants_sums {
            let dots = &mut worker.dots[..n];
            kernels.row_dots(&forward.queries.features, &worker.by_features, m, dots);
            for (sum, of_row) in kept.within[start..start + n]
                .iter_mut()
                .zip(&worker.of_rows)
            {
                *sum += *of_row;
            }
            if let Some(decay) = &self.to.decay {
                let head = query / self.call.sizes.group;
                let (to, from) = (
                    decay.at(sequence.batch, head).transposed(),
                    decay.read_at(sequence.batch, head).transposed(),
                );
                let sums = &mut worker.of_rows[..n];
                from.load_row(0, tokens.start, sums);
                for (sum, dot) in sums.iter_mut().zip(dots) {
                    *sum += *dot;
                }
                to.store_row(0, tokens.start, sums);
            }
        }
        let (values, size) = match map.is_polynomial() {
            true => (&worker.inputs, (n, d)),
            false => (&worker.spread, (n, m)),
        };
        let out = match map.is_polynomial() {
            true => {
                self.by_products(
                    &forward.products,
                    &mut worker.slopes,
                    &mut worker.by_scores,
                    n,
                );
                clear(&mut worker.by_input, n);
                &mut worker.by_input
            }
            false => &mut worker.by_features,
        };
        let weighted = Weighted {
            scores: &worker.by_scores,
            values,
            tokens: n,
            kind: Kind::Lower,
        };
        let out = Out::Tile(out);
        kernels.outputs(None, true, Some(&weighted), Factors::NONE, size, out, None);
    }

    /// Makes gradients by a polynomial's scores those by the dot products.
    pub(super) fn by_products(
        &self,
        products: &Option<Tile<T>>,
        slopes: &mut [T],
        by_scores: &mut Tile<T>,
        n: usize,
    ) {
        let (Some(products), Prepared::Polynomial(polynomial)) =
            (products, &*self.call.map.prepared)
        else {
            return;
        };
        for row in 0..n {
            let slopes = &mut slopes[..=row];
            polynomial.slopes_into(&products.row(row)[..=row], slopes);
            for (by, slope) in by_scores.row_mut(row).iter_mut().zip(slopes) {
                *by = *by * *slope;
            }
        }
    }
}
