//! Gradients, a chunk of tokens at a time.
//!
//! The forward pass is made again, in two sweeps, and nothing but a few numbers for each token is
//! kept between them. With Ō the gradient by the outputs, r what outputs were multiplied by,
//! D the gradient by what they were divided by, and the rest as in [`super::chunk`]:
//!
//! ```text
//! first to last, with S and z:          Ā = tril(Ō Vᵀ r + D) ∘ F      by scores
//!                                       Q̄ = f ∘ (Ō Sᵀ r + D zᵀ) + Ā K
//! last to first, with S̄ and z̄:          V̄ = (w ∘ K) S̄ + Aᵀ (r Ō)
//!                                       K̄ = w ∘ (V S̄ᵀ + z̄) + Āᵀ Q
//!                                       S̄ = γ S̄ + (f ∘ Q)ᵀ (r Ō),  z̄ = γ z̄ + (f ∘ Q)ᵀ D
//! ```
//!
//! 1. D_t = -r_t² Ō_t·n_t, with n_t what is divided, comes without n: Ō_t·n_t = f_t q_t·(S Ō_t) +
//!    Σ_s A_ts (Ō Vᵀ)_ts, of both of which the parts are there.
//! 2. The gradient by g_r is what all pairs of tokens on both sides of it give: within the chunk,
//!    through the state into it, out of it, and past it. Each of these is summed by itself. (The
//!    known form, Σ_{t >= r} (q_t·q̄_t - k_t·k̄_t) over the rest of the sequence, is the difference of
//!    two sums that grow with it: in f32 its error does too, and where decay is strong it is all
//!    error.) What goes past a chunk is γ S·S̄, with the state before it, of which the first sweep
//!    keeps a copy where there is memory for it, and the gradient after it; between copies it is
//!    what the next chunk takes, less what this one adds. Pairs of a token with itself cross nothing.
//! 3. Maps are differentiated by their features, which say all that is needed. A logarithm that
//!    features were divided by is no function of anything here: what it divides is multiplied again.

mod decay;
mod keys;
mod queries;
mod worker;

use std::ops::Range;

use corekit_base::array::{Dtype, MatrixMut};

use worker::Worker;

use super::chunk::{Call, chunks};
use super::{LinearAttention, Sequence, State, too_large};
use crate::error::{Error, Result};
use crate::features::{Features, STATE_BYTES};
use crate::heads::{Heads, HeadsMut};
use crate::kernels::Computed;
use crate::run::Run;
use crate::tiles::Tile;

/// Where gradients go. All arrays have the shapes of what they are gradients by.
#[derive(Clone, Copy, Debug)]
pub struct Gradients<'a> {
    /// By queries.
    pub q: HeadsMut<'a>,
    /// By keys.
    pub k: HeadsMut<'a>,
    /// By values.
    pub v: HeadsMut<'a>,
    /// By decay, in the type that is computed in.
    pub decay: Option<HeadsMut<'a>>,
    /// By s and z of the initial state, in the type that is computed in.
    pub initial: Option<State<HeadsMut<'a>>>,
}

impl LinearAttention<'_> {
    /// Computes gradients from those by the outputs, `dout`, and by s and z of the last state.
    ///
    /// # Errors
    /// When shapes do not fit, memory is refused, or the caller cancels.
    pub fn backward(
        &self,
        dout: &Heads,
        dlast: Option<&State<Heads>>,
        to: &Gradients,
        run: &Run,
    ) -> Result<()> {
        match self.q.dtype() {
            Dtype::F64 => self.backward_in::<f64>(dout, dlast, to, run),
            _ => self.backward_in::<f32>(dout, dlast, to, run),
        }
    }

    fn backward_in<T: Computed>(
        &self,
        dout: &Heads,
        dlast: Option<&State<Heads>>,
        to: &Gradients,
        run: &Run,
    ) -> Result<()> {
        let sizes = self.sizes()?;
        let bytes = self.state_bytes::<T>(&sizes);
        if bytes > STATE_BYTES as u128 {
            return Err(too_large(bytes));
        }
        let [batch, query_heads, time, _] = self.q.shape();
        let fits = [
            dout.shape() == [batch, query_heads, time, sizes.value_dim],
            to.q.shape() == self.q.shape(),
            to.k.shape() == self.k.shape(),
            to.v.shape() == self.v.shape(),
            to.decay.map(|d| d.shape()) == self.decay.map(|d| d.shape()),
        ];
        if fits.contains(&false) {
            return Err(Error::InvalidArgument(
                "gradients must have the shapes of what they are gradients by".into(),
            ));
        }
        let dtype = T::DTYPE;
        if let Some(initial) = &self.initial {
            self.check_state(initial, |h| (h.shape(), h.dtype()), dtype, &sizes)?;
        }
        let kernels = T::kernels(run.level);
        let map = Features::<T>::new(
            &self.map,
            self.matrix,
            sizes.key_dim,
            (self.scale, self.normalize),
            run,
        )?;
        let sequences = self.sequences();
        let longest = sequences.iter().map(|s| s.tokens.len()).max().unwrap_or(0);
        let call = Backward {
            call: Call {
                arguments: self,
                sizes: &sizes,
                map: &map,
                kernels,
                chunk: self.chunk(map.count, sizes.value_dim, longest),
            },
            dout,
            dlast,
            to,
        };
        run.share(
            sequences.len() * sizes.key_heads,
            || Worker::new(&call, longest),
            |worker, unit| {
                let sequence = &sequences[unit / sizes.key_heads];
                call.unit(worker, sequence, unit % sizes.key_heads, run)
            },
        )
    }
}

/// What all units share.
struct Backward<'a, T: Computed> {
    call: Call<'a, T>,
    dout: &'a Heads<'a>,
    dlast: Option<&'a State<Heads<'a>>>,
    to: &'a Gradients<'a>,
}

impl<T: Computed> Backward<'_, T> {
    fn unit(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        head: usize,
        run: &Run,
    ) -> Result<()> {
        let call = &self.call;
        let columns = 0..call.sizes.value_dim;
        let batch = sequence.batch;
        let is_causal = call.arguments.causal;
        let mut log = call.load_state(&mut worker.forward, sequence, head, &columns);
        let first_log = log;
        worker.within.fill(T::ZERO);
        self.clear_decay(sequence, head);
        self.load_gradient(worker, sequence, head);
        let all: Vec<_> = chunks(&sequence.tokens, call.chunk).enumerate().collect();
        worker.last = all.len().saturating_sub(1);
        for (number, tokens) in &all {
            run.control.check()?;
            worker.logs[*number] = log;
            self.copy_state(worker, *number);
            let n = tokens.len();
            let forward = &mut worker.forward;
            log = call.load_keys(forward, batch, head, tokens.clone(), &columns, log);
            worker.forward.wanted.clear();
            if is_causal {
                for query in call.queries(head) {
                    let to = self.to.q.read_at(batch, query);
                    to.want(
                        tokens.clone(),
                        0..call.sizes.key_dim,
                        &mut worker.forward.wanted,
                    );
                }
            }
            let next = all.get(number + 1).map(|(_, tokens)| tokens.clone());
            self.want(worker, sequence, head, next);
            if is_causal {
                let forward = &mut worker.forward;
                let (scored, depth) = forward.keys.scored(call.map);
                call.kernels.turn(scored, n, depth, &mut forward.turned);
                self.load_values(worker, batch, head, tokens.clone());
                self.spread_keys(worker, n);
                self.turn_state(worker, false);
                for query in call.queries(head) {
                    self.by_queries(worker, sequence, query, tokens.clone(), None);
                }
            }
            call.absorb(&mut worker.forward, n, columns.len());
        }
        if !is_causal {
            self.turn_state(worker, false);
            for (_, tokens) in &all {
                run.control.check()?;
                for query in call.queries(head) {
                    self.by_queries(worker, sequence, query, tokens.clone(), Some(log));
                }
            }
        }
        // What goes past a token's decay, from before the chunk to after it.
        let mut past = vec![0.0; self.decaying()];
        for (number, tokens) in all.iter().rev() {
            run.control.check()?;
            let before = worker.logs[*number];
            let forward = &mut worker.forward;
            call.load_keys(forward, batch, head, tokens.clone(), &columns, before);
            self.load_values(worker, batch, head, tokens.clone());
            let wanted = &mut worker.forward.wanted;
            wanted.clear();
            let (k, v) = (
                self.to.k.read_at(batch, head),
                self.to.v.read_at(batch, head),
            );
            k.want(tokens.clone(), 0..call.sizes.key_dim, wanted);
            v.want(tokens.clone(), columns.clone(), wanted);
            let next = number.checked_sub(1).map(|number| all[number].1.clone());
            self.want(worker, sequence, head, next);
            self.turn_state(worker, true);
            let end = if is_causal { None } else { Some(log) };
            self.by_past(worker, *number, &mut past);
            self.by_keys(worker, sequence, head, tokens.clone(), end, &mut past);
        }
        if !is_causal && call.map.is_stabilised() && first_log != log {
            // The initial state is part of the last one, which has another logarithm.
            let factor = T::of((first_log.wide() - log.wide()).exp());
            worker.s.scale(factor);
            for z in worker.z.iter_mut() {
                *z = *z * factor;
            }
        }
        if let Some(initial) = &self.to.initial {
            std::mem::swap(&mut worker.s, &mut worker.forward.s);
            std::mem::swap(&mut worker.z, &mut worker.forward.z);
            let forward = &mut worker.forward;
            call.store_state(forward, initial, sequence, head, &columns, true, T::ZERO);
            std::mem::swap(&mut worker.s, &mut worker.forward.s);
            std::mem::swap(&mut worker.z, &mut worker.forward.z);
        }
        Ok(())
    }

    /// Loads the gradient by the last state, zeros if there is none.
    fn load_gradient(&self, worker: &mut Worker<T>, sequence: &Sequence, head: usize) {
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

    /// Sᵀ, or S̄ᵀ where `is_gradient`.
    fn turn_state(&self, worker: &mut Worker<T>, is_gradient: bool) {
        let size = (self.call.map.count, self.call.sizes.value_dim);
        let from = match is_gradient {
            true => &worker.s,
            false => &worker.forward.s,
        };
        self.call.kernels.flip(from, size, &mut worker.state_turned);
    }

    /// Adds the lines that the next chunk reads to the list.
    fn want(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        head: usize,
        next: Option<Range<usize>>,
    ) {
        let (call, batch) = (&self.call, sequence.batch);
        let columns = 0..call.sizes.value_dim;
        let Some(next) = next else {
            return;
        };
        call.want(
            &mut worker.forward,
            batch,
            head,
            next.clone(),
            columns.clone(),
        );
        if call.arguments.causal {
            for query in call.queries(head) {
                let dout = self.dout.at(batch, query);
                dout.want(next.clone(), columns.clone(), &mut worker.forward.wanted);
            }
        }
    }

    /// Values by rows and turned.
    fn load_values(&self, worker: &mut Worker<T>, batch: usize, head: usize, tokens: Range<usize>) {
        let Call {
            arguments,
            kernels,
            sizes,
            ..
        } = self.call;
        let (n, v) = (tokens.len(), sizes.value_dim);
        let values = arguments.v.at(batch, head);
        worker.values.load(&values, tokens, 0..v);
        if arguments.key_mask.is_some() {
            for token in 0..n {
                if worker.forward.mask[token] == T::ZERO {
                    worker.values.row_mut(token).fill(T::ZERO);
                }
            }
        }
        kernels.turn(&worker.values, n, v, &mut worker.values_turned);
    }

    /// What gradients by queries multiply those by scores by.
    fn spread_keys(&self, worker: &mut Worker<T>, n: usize) {
        let Call { kernels, map, .. } = self.call;
        let keys = &worker.forward.keys;
        if map.is_polynomial() {
            kernels.spread(&keys.input, n, map.key_dim, &mut worker.inputs);
        } else {
            kernels.spread(&keys.features, n, map.count, &mut worker.spread);
        }
    }

    /// Where the numbers that are kept of a query head's tokens start.
    fn kept(&self, sequence: &Sequence, query: usize, tokens: &Range<usize>) -> Range<usize> {
        let length = sequence.tokens.len();
        let start =
            query % self.call.sizes.group.max(1) * length + tokens.start - sequence.tokens.start;
        start..start + tokens.len()
    }
}

/// Sets the first rows to zero.
fn clear<T: Computed>(tile: &mut Tile<T>, rows: usize) {
    for row in 0..rows {
        tile.row_mut(row).fill(T::ZERO);
    }
}

/// Stores rows, and zeros for masked tokens.
fn store<T: Computed>(
    to: &MatrixMut,
    rows: &mut Tile<T>,
    tokens: Range<usize>,
    mask: Option<&[T]>,
) {
    let columns = to.columns();
    for (row, t) in tokens.enumerate() {
        let values = &mut rows.row_mut(row)[..columns];
        if mask.is_some_and(|mask| mask[row] == T::ZERO) {
            values.fill(T::ZERO);
        }
        to.store_row(t, 0, values);
    }
}
