//! The first sweep: gradients by queries, and what is kept for the second.

use std::ops::Range;

use super::super::Sequence;
use super::super::chunk::Call;
use super::decay::add_products;
use super::worker::Worker;
use super::{Backward, clear, store};
use crate::features::Prepared;
use crate::kernels::{Computed, Factors, Keep, Kind, Out, Shape, Weighted};
use crate::tiles::Tile;

impl<T: Computed> Backward<'_, T> {
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
        worker.dout.load(&dout, tokens, 0..v);
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
        let kept = self.kept(sequence, query, &tokens);
        // S Ō.
        let state = Some((&worker.dout, &worker.state_turned, v));
        let out = Out::Tile(&mut worker.by_features);
        let wanted = Some(&mut worker.forward.wanted);
        kernels.outputs(state, false, None, Factors::NONE, (n, m), out, wanted);
        let scale = &mut worker.scale[kept.clone()];
        let shift = &mut worker.shift[kept];
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
        let start = tokens.start - sequence.tokens.start;
        if is_causal {
            self.through_scores(worker, sequence, query, &tokens, start);
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
        store(&to, gradient, tokens.clone(), None);
        if !is_causal {
            self.spread_gradient(worker, sequence, query, &tokens);
            self.add_to_state(worker, sequence, query, Keep::All, n, start);
        }
    }

    /// Adds to gradients by queries what comes through a chunk's scores, and to those by decay what
    /// reading gives.
    pub(super) fn through_scores(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        query: usize,
        tokens: &Range<usize>,
        start: usize,
    ) {
        let Call { kernels, map, .. } = self.call;
        let (n, m, d) = (tokens.len(), map.count, map.key_dim);
        let kept = self.kept(sequence, query, tokens);
        let (scale, shift) = (&worker.scale[kept.clone()], &worker.shift[kept]);
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
                    add_products(&mut worker.within[place], worker.rest.row(row), features);
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
            for (sum, of_row) in worker.within[start..start + n]
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
            (products, &self.call.map.prepared)
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

    /// Spreads r Ō, of which Ō is loaded.
    pub(super) fn spread_gradient(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        query: usize,
        tokens: &Range<usize>,
    ) {
        let Call { kernels, sizes, .. } = self.call;
        let (n, v) = (tokens.len(), sizes.value_dim);
        let scale = &worker.scale[self.kept(sequence, query, tokens)];
        kernels.scale_rows(&mut worker.dout, v, scale);
        kernels.spread(&worker.dout, n, v, &mut worker.dout_spread);
    }

    /// Adds what a query head's chunk, whose r Ō is spread, gives to the gradient by the state before
    /// it.
    pub(super) fn add_to_state(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        query: usize,
        keep: Keep<T>,
        n: usize,
        start: usize,
    ) {
        let Call {
            arguments,
            kernels,
            map,
            sizes,
            ..
        } = self.call;
        let (m, v) = (map.count, sizes.value_dim);
        let begin = sequence.tokens.start + start;
        let kept = self.kept(sequence, query, &(begin..begin + n));
        let forward = &mut worker.forward;
        let reading = match &mut forward.vector {
            Some(vector) => &mut vector.weighed,
            None => &mut forward.queries.features,
        };
        if arguments.causal && forward.is_decaying {
            kernels.scale_rows(reading, m, &forward.decay.of_state[..n]);
        }
        let size = (m, v);
        kernels.update(
            reading,
            &worker.dout_spread,
            n,
            keep,
            size,
            &mut worker.s,
            Some(&mut forward.wanted),
        );
        if arguments.normalize {
            kernels.scale_rows(reading, m, &worker.shift[kept]);
            kernels.column_sums(reading, n, m, &mut worker.z);
        }
    }
}
