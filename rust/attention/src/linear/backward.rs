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
//! 3. Where there are fewer sequences and heads than threads, sequences are cut into pieces between
//!    chunks. Who computes a piece first adds to the state what lies before it, or to the gradient
//!    by the state what lies behind it, a chunk after the other as ever: that is a small part of the
//!    work, and no sum depends on the cut.
//! 4. Maps are differentiated by their features, which say all that is needed. A logarithm that
//!    features were divided by is no function of anything here: what it divides is multiplied again.

mod decay;
mod kept;
mod keys;
mod queries;
mod state;
mod worker;

use std::ops::Range;
use std::sync::OnceLock;

use corekit_base::array::Dtype;
use corekit_base::run::Run;

use kept::{Kept, Room};
use worker::Worker;

use super::chunk::Call;
use super::{LinearAttention, Sequence, State, is_nothing};
use crate::error::{Error, Result};
use crate::features::Features;
use crate::heads::{Heads, HeadsMut};
use crate::kernels::{Computed, Keep};
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
        if let Some(error) = self.too_large::<T>(&sizes) {
            return Err(error);
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
        let arrays = [Some(&to.q), Some(&to.k), Some(&to.v), to.decay.as_ref()];
        let states = to.initial.iter().flat_map(|initial| initial.arrays());
        let arrays = arrays.into_iter().flatten().chain(states);
        if is_nothing(arrays.map(HeadsMut::shape)) {
            return Ok(());
        }
        let dtype = T::DTYPE;
        if let Some(initial) = &self.initial {
            self.check_state(initial, |h| (h.shape(), h.dtype()), dtype, &sizes)?;
        }
        if let Some(by) = dlast {
            self.check_arrays(by, |h| (h.shape(), h.dtype()), dtype, &sizes)?;
        }
        if let Some(by) = &to.initial {
            self.check_arrays(by, |h| (h.shape(), h.dtype()), dtype, &sizes)?;
        }
        let kernels = T::kernels(run.level);
        let map = Features::<T>::new(
            &self.map,
            self.cache,
            sizes.key_dim,
            (self.scale, self.normalize),
            run,
        )?;
        let sequences = self.sequences();
        let state = map.count.saturating_mul(sizes.value_dim);
        let call = Backward {
            call: Call {
                arguments: self,
                sizes: &sizes,
                map: &map,
                kernels,
                chunk: self.chunk(sequences.longest(), state),
            },
            dout,
            dlast,
            to,
        };
        let units = sequences.len() * sizes.key_heads;
        let of_unit = |unit: usize| {
            let (sequence, head) = (unit / sizes.key_heads, unit % sizes.key_heads);
            (sequences.get(sequence), head)
        };
        if units >= run.threads {
            let room = || {
                let rooms = sequences.iter().map(|sequence| call.room(&sequence));
                rooms.reduce(Room::most).unwrap_or_default()
            };
            let start = || Ok((Worker::new(&call)?, Kept::new(&call, room())?));
            return run.share(units, start, |(worker, kept), unit| {
                let (sequence, head) = of_unit(unit);
                kept.begin(&call, &sequence, 0..call.chunks(&sequence));
                call.first(worker, kept, &sequence, head, run)?;
                call.second(worker, &[kept], 0, &sequence, head, run)
            });
        }
        // Each thread computes a piece of a sequence, and brings the state there by itself.
        let count = run.threads.div_ceil(units.max(1));
        let mut pieces = Vec::new();
        let mut of_units = Vec::new();
        for unit in 0..units {
            let cut = call.pieces(&of_unit(unit).0, count);
            of_units.push(pieces.len()..pieces.len() + cut.len());
            pieces.extend(cut.into_iter().map(|chunks| (unit, chunks)));
        }
        let kept: Vec<OnceLock<Kept<T>>> = pieces.iter().map(|_| OnceLock::new()).collect();
        let start = || Worker::new(&call);
        run.share(pieces.len(), start, |worker, piece| {
            let (unit, chunks) = &pieces[piece];
            let (sequence, head) = of_unit(*unit);
            let mut own = Kept::new(&call, call.room_of_piece(&sequence, chunks.len()))?;
            own.begin(&call, &sequence, chunks.clone());
            call.first(worker, &mut own, &sequence, head, run)?;
            // Nobody else has this piece.
            let _ = kept[piece].set(own);
            Ok(())
        })?;
        let kept: Vec<&Kept<T>> = kept.iter().filter_map(OnceLock::get).collect();
        run.share(pieces.len(), start, |worker, piece| {
            let unit = pieces[piece].0;
            let ((sequence, head), of_unit) = (of_unit(unit), of_units[unit].clone());
            let own = piece - of_unit.start;
            call.second(worker, &kept[of_unit], own, &sequence, head, run)
        })
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
    /// Sᵀ, or S̄ᵀ where `is_gradient`.
    fn turn_state(&self, worker: &mut Worker<T>, is_gradient: bool) {
        let size = (self.call.map.count, self.call.sizes.value_dim);
        let from = match is_gradient {
            true => &worker.s,
            false => &worker.forward.s,
        };
        self.call.kernels.flip(from, size, &mut worker.state_turned);
    }

    /// Whether the first sweep has Sᵀ alone, so that nothing need be turned: where what is added to
    /// it are keys and values as they are.
    fn has_turned_state(&self) -> bool {
        let Call { arguments, map, .. } = self.call;
        let weighs = arguments.decay.is_some() || map.is_stabilised();
        arguments.causal && !weighs && !map.is_polynomial()
    }

    /// Adds the chunk that is loaded, its keys spread, to Sᵀ and z. The sums are those of S.
    fn absorb_turned(&self, worker: &mut Worker<T>, n: usize) {
        let Call {
            arguments,
            kernels,
            map,
            sizes,
            ..
        } = self.call;
        let forward = &mut worker.forward;
        if arguments.normalize {
            let keys = &forward.keys.features;
            kernels.column_sums(keys, n, map.count, &mut forward.z);
        }
        kernels.update(
            &worker.values,
            &worker.spread,
            n,
            Keep::All,
            (sizes.value_dim, map.count),
            &mut worker.state_turned,
            Some(&mut forward.wanted),
        );
    }

    /// Adds the lines that the next chunk reads to the list.
    fn want(&self, worker: &mut Worker<T>, sequence: &Sequence, head: usize, next: Range<usize>) {
        let (call, batch) = (&self.call, sequence.batch);
        let (forward, columns) = (&mut worker.forward, 0..call.sizes.value_dim);
        call.want(forward, batch, head, next.clone(), columns.clone());
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
        kernels.load(&values, tokens, 0..v, &mut worker.values);
        if arguments.key_mask.is_some() {
            clear_masked(&mut worker.values, &worker.forward.mask[..n]);
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

    /// Where what is kept of a query head's tokens is.
    fn place(&self, kept: &Kept<T>, query: usize, tokens: &Range<usize>) -> Range<usize> {
        kept.place(query % self.call.sizes.group.max(1), tokens)
    }
}

/// Sets the first rows to zero.
fn clear<T: Computed>(tile: &mut Tile<T>, rows: usize) {
    for row in 0..rows {
        tile.row_mut(row).fill(T::ZERO);
    }
}

/// Sets the rows of masked tokens to zero.
fn clear_masked<T: Computed>(tile: &mut Tile<T>, mask: &[T]) {
    for (row, _) in mask.iter().enumerate().filter(|(_, m)| **m == T::ZERO) {
        tile.row_mut(row).fill(T::ZERO);
    }
}
