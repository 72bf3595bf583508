//! Gradients by decay: what goes past each token.

use std::ops::Range;

use super::super::Sequence;
use super::Backward;
use super::kept::Kept;
use super::worker::Worker;
use crate::kernels::Computed;

impl<T: Computed> Backward<'_, T> {
    /// Numbers of decay for each token.
    pub(super) fn decaying(&self) -> usize {
        match self.to.decay {
            Some(decay) if decay.shape()[3] > 1 => self.call.map.count,
            Some(_) => 1,
            None => 0,
        }
    }

    /// Copies the state before a chunk, if it is one that is kept.
    pub(super) fn copy_state(&self, worker: &mut Worker<T>, kept: &mut Kept<T>, chunk: usize) {
        let Some(place) = kept.copy_of(chunk) else {
            return;
        };
        let (m, v) = (self.call.map.count, self.call.sizes.value_dim);
        let (s, z) = kept.states[place].split_at_mut(m * v);
        if v > 0 {
            for (feature, row) in s.chunks_exact_mut(v).enumerate() {
                worker.forward.s.get_row(feature, row);
            }
        }
        z.copy_from_slice(&worker.forward.z[..m]);
    }

    /// What goes past a chunk's decay, from the state before it to the gradient by the state after
    /// it, if there is a copy of the former; else `past`, which is what goes past the chunk's end,
    /// is left to be reduced by what the chunk gives to it.
    pub(super) fn by_past(
        &self,
        worker: &mut Worker<T>,
        kept: &Kept<T>,
        chunk: usize,
        past: &mut [f64],
    ) {
        let Some(place) = kept.copy_of(chunk) else {
            return;
        };
        let (m, v) = (self.call.map.count, self.call.sizes.value_dim);
        let (s, z) = kept.states[place].split_at(m * v);
        let (decay, rest) = self.kept_of_state(worker);
        let mut row = vec![T::ZERO; v];
        past.fill(0.0);
        for feature in 0..m {
            worker.s.get_row(feature, &mut row);
            let before = &s[feature * v..(feature + 1) * v];
            let products = row.iter().zip(before).map(|(a, b)| a.wide() * b.wide());
            let of_z = match self.call.arguments.normalize {
                true => worker.z[feature].wide() * z[feature].wide(),
                false => 0.0,
            };
            let at = if decay.len() > 1 { feature } else { 0 };
            let decay = decay[at].wide() + rest[at].wide();
            past[if past.len() > 1 { feature } else { 0 }] +=
                decay * (products.sum::<f64>() + of_z);
        }
    }

    /// Gradients by the decay of a chunk. Of each token, `written` is what its writing into the
    /// state gives, and `within` what it gives in the chunk.
    pub(super) fn by_decay(
        &self,
        worker: &mut Worker<T>,
        kept: &Kept<T>,
        (sequence, head): (&Sequence, usize),
        tokens: &Range<usize>,
        (written, within): (&[T], &[T]),
        past: &mut [f64],
    ) {
        let Some(decay) = &self.to.decay else {
            return;
        };
        let (n, count) = (tokens.len(), past.len());
        let start = tokens.start - kept.tokens.start;
        let read_within = &kept.within[start * count..(start + n) * count];
        let mut read_before = vec![T::ZERO; n * count];
        let from = decay.read_at(sequence.batch, head);
        for (t, row) in tokens
            .clone()
            .zip(read_before.chunks_exact_mut(count.max(1)))
        {
            from.load_row(t, 0, row);
        }
        let number = (tokens.start - sequence.tokens.start) / kept.chunk;
        let has_past = kept.copy_of(number).is_some();
        let to = decay.at(sequence.batch, head);
        let mut out = vec![T::ZERO; n * count];
        for i in 0..count {
            let of = |numbers: &[T], t: usize| numbers[t * count + i].wide();
            if !has_past {
                // So far it is what goes past the chunk's end.
                past[i] -= (0..n).map(|t| of(written, t)).sum::<f64>();
            }
            let mut crossing = 0.0;
            for t in 0..n {
                // Writers before t, less readers before t: what is within, and goes out.
                out[t * count + i] = T::of(past[i] + crossing);
                crossing += of(written, t) + of(within, t) - of(read_within, t);
            }
            // What comes in is read by t or later.
            let mut later = 0.0;
            for t in (0..n).rev() {
                later += of(&read_before, t);
                let out = &mut out[t * count + i];
                *out = T::of(out.wide() + later);
            }
            past[i] += later;
        }
        let is_masked = self.call.arguments.key_mask.is_some();
        for (row, t) in tokens.clone().enumerate() {
            let out = &mut out[row * count..(row + 1) * count];
            if is_masked && worker.forward.mask[row] == T::ZERO {
                out.fill(T::ZERO);
            }
            to.store_row(t, 0, out);
        }
    }

    /// Sets gradients by the decay of a head's tokens to zero.
    pub(super) fn clear_decay(&self, sequence: &Sequence, head: usize, tokens: &Range<usize>) {
        if let Some(decay) = &self.to.decay {
            let to = decay.at(sequence.batch, head);
            let zeros = vec![T::ZERO; to.columns()];
            for t in tokens.clone() {
                to.store_row(t, 0, &zeros);
            }
        }
    }
}

/// sums += a ∘ b.
pub(super) fn add_products<T: Computed>(sums: &mut [T], a: &[T], b: &[T]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += *a * *b;
    }
}
