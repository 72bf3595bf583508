//! The gradient by the state, from after the last chunk to before the first.

use std::mem;
use std::ops::Range;

use super::super::chunk::Call;
use super::super::{Sequence, State};
use super::Backward;
use super::kept::Kept;
use super::worker::Worker;
use crate::kernels::{Computed, Keep};

impl<T: Computed> Backward<'_, T> {
    /// Loads the gradient by the last state, zeros if there is none.
    pub(super) fn load_gradient(&self, worker: &mut Worker<T>, sequence: &Sequence, head: usize) {
        worker.s.clear();
        worker.z.fill(T::ZERO);
        let Some(State { s, z, .. }) = self.dlast else {
            return;
        };
        let (s, m) = (s.at(sequence.number, head), self.call.map.count);
        for feature in 0..m {
            let row = worker.dout.row_mut(0);
            s.load_row(feature, 0, row);
            worker.s.set_row(feature, row);
        }
        if let Some(z) = z {
            let z = z.at(sequence.number, head);
            z.load_row(0, 0, &mut worker.z[..m]);
        }
    }

    /// Loads a query head's chunk and the gradient by its outputs.
    pub(super) fn load_gradient_of(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        query: usize,
        tokens: &Range<usize>,
    ) {
        let place = (sequence.batch, query);
        let forward = &mut worker.forward;
        self.call.ask(forward, place, tokens.clone(), T::ONE, false);
        let dout = self.dout.at(sequence.batch, query);
        let columns = 0..self.call.sizes.value_dim;
        self.call
            .kernels
            .load(&dout, tokens.clone(), columns, &mut worker.dout);
    }

    /// Spreads r Ō, of which Ō is loaded.
    pub(super) fn spread_gradient(
        &self,
        worker: &mut Worker<T>,
        kept: &Kept<T>,
        query: usize,
        tokens: &Range<usize>,
    ) {
        let Call { kernels, sizes, .. } = self.call;
        let (n, v) = (tokens.len(), sizes.value_dim);
        let scale = &kept.scale[self.place(kept, query, tokens)];
        kernels.scale_rows(&mut worker.dout, v, scale);
        kernels.spread(&worker.dout, n, v, &mut worker.dout_spread);
    }

    /// What the state keeps over the chunk that is loaded, and what that lacks: for each feature, or
    /// the first for all.
    pub(super) fn kept_of_state(&self, worker: &Worker<T>) -> (Vec<T>, Vec<T>) {
        match &worker.forward.vector {
            Some(vector) => match vector.kept() {
                Keep::Each(factor, rest) => (factor.to_vec(), rest.to_vec()),
                _ => (vec![T::ONE], vec![T::ZERO]),
            },
            None => {
                let [factor, rest] = worker.forward.decay.keep;
                (vec![factor], vec![rest])
            }
        }
    }

    /// Takes the gradient by the state from after a query head's chunk, whose r Ō is spread, to
    /// before it. `of_state` is what the state keeps over the chunk, with the first query head.
    pub(super) fn pass_state(
        &self,
        worker: &mut Worker<T>,
        kept: &Kept<T>,
        query: usize,
        tokens: &Range<usize>,
        of_state: Option<&(Vec<T>, Vec<T>)>,
    ) {
        let m = self.call.map.count;
        let one;
        let keep = match of_state {
            Some((decay, rest)) if self.call.arguments.has_vector_decay() => {
                Keep::Each(decay, rest)
            }
            Some((decay, rest)) if worker.forward.is_decaying => {
                one = [decay[0], rest[0]];
                Keep::One(&one)
            }
            _ => Keep::All,
        };
        if self.call.arguments.normalize {
            for (i, z) in worker.z[..m].iter_mut().enumerate() {
                match keep {
                    Keep::Each(decay, rest) => *z = *z * decay[i] + *z * rest[i],
                    Keep::One([decay, rest]) => *z = *z * *decay + *z * *rest,
                    Keep::All => {}
                }
            }
        }
        self.add_to_state(worker, kept, query, tokens, keep);
    }

    /// Adds what a query head's chunk, whose r Ō is spread, gives to the gradient by the state before
    /// it.
    pub(super) fn add_to_state(
        &self,
        worker: &mut Worker<T>,
        kept: &Kept<T>,
        query: usize,
        tokens: &Range<usize>,
        keep: Keep<T>,
    ) {
        let Call {
            arguments,
            kernels,
            map,
            sizes,
            ..
        } = self.call;
        let (n, m, v) = (tokens.len(), map.count, sizes.value_dim);
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
            let place = self.place(kept, query, tokens);
            kernels.scale_rows(reading, m, &kept.shift[place]);
            kernels.column_sums(reading, n, m, &mut worker.z);
        }
    }

    /// Stores the gradient by the initial state, if it is wanted.
    pub(super) fn store_gradient(
        &self,
        worker: &mut Worker<T>,
        kept: &Kept<T>,
        sequence: &Sequence,
        head: usize,
    ) {
        let call = &self.call;
        let Some(initial) = &self.to.initial else {
            return;
        };
        let (first, last) = (kept.log_of_start, kept.log_of_end);
        if !call.arguments.causal && call.map.is_stabilised() && first != last {
            // The initial state is part of the last one, which has another logarithm.
            let factor = T::of((first.wide() - last.wide()).exp());
            worker.s.scale(factor);
            for z in worker.z.iter_mut() {
                *z = *z * factor;
            }
        }
        mem::swap(&mut worker.s, &mut worker.forward.s);
        mem::swap(&mut worker.z, &mut worker.forward.z);
        let (forward, columns) = (&mut worker.forward, 0..call.sizes.value_dim);
        call.store_state(forward, initial, sequence, head, &columns, true, T::ZERO);
        mem::swap(&mut worker.s, &mut worker.forward.s);
        mem::swap(&mut worker.z, &mut worker.forward.z);
    }
}
