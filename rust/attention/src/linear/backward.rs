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

use std::ops::Range;

use corekit_base::aligned::Aligned;
use corekit_base::array::{Dtype, MatrixMut};

use super::chunk::{self, Call, chunks};
use super::{LinearAttention, Sequence, State, too_large};
use crate::error::{Error, Result};
use crate::features::{Features, Prepared, STATE_BYTES};
use crate::heads::{Heads, HeadsMut};
use crate::kernels::{Computed, Factors, Keep, Kind, Out, Shape, Weighted};
use crate::run::Run;
use crate::tiles::{Panels, ROOM, Tile, zeros};

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

/// What a worker keeps from unit to unit, beside what it has for the forward pass.
struct Worker<T> {
    forward: chunk::Worker<T>,
    values: Tile<T>,
    /// Vᵀ in panels.
    values_turned: Panels<T>,
    /// Features of keys or queries in panels.
    spread: Panels<T>,
    /// Inputs of a polynomial in panels.
    inputs: Panels<T>,
    /// Sᵀ or S̄ᵀ.
    state_turned: Panels<T>,
    dout: Tile<T>,
    dout_spread: Panels<T>,
    by_scores: Tile<T>,
    by_features: Tile<T>,
    by_keys: Tile<T>,
    by_values: Tile<T>,
    by_input: Tile<T>,
    by_key_input: Tile<T>,
    /// Gradients that nobody asked for.
    rest: Tile<T>,
    slopes: Vec<T>,
    scratch: Vec<T>,
    s: Panels<T>,
    z: Aligned<T>,
    dots: Vec<T>,
    ones: Vec<T>,
    weights: Vec<T>,
    /// Sums of scores times gradients by them, of rows and of columns.
    of_rows: Vec<T>,
    of_columns: Vec<T>,
    /// For each query head and token: what its output is multiplied by, and D.
    scale: Vec<T>,
    shift: Vec<T>,
    /// The state's logarithm before each chunk.
    logs: Vec<T>,
    /// For each token, and each feature that decays by itself: what reading gives, within the chunk
    /// and from before it.
    within: Vec<T>,
    from_before: Vec<T>,
    /// The state before every `apart`th chunk, and then before the last, s and z of each.
    states: Vec<T>,
    apart: usize,
    /// The last chunk of this sequence.
    last: usize,
}

impl<T: Computed> Worker<T> {
    fn new(backward: &Backward<T>, longest: usize) -> Result<Self> {
        let Backward { call, to, .. } = backward;
        let (kernels, map, sizes) = (call.kernels, call.map, call.sizes);
        let (chunk, m, d, v) = (call.chunk, map.count, map.key_dim, sizes.value_dim);
        let has_vector = call.arguments.has_vector_decay();
        let mut forward = chunk::Worker::new(kernels, map, chunk, v, has_vector)?;
        let mut scratch = Vec::new();
        let needs_input = !matches!(map.prepared, Prepared::Rows(_));
        let inputs = if needs_input { d } else { 0 };
        if let Prepared::Polynomial(polynomial) = &map.prepared {
            forward.products = Some(Tile::new(chunk, chunk)?);
            scratch = vec![T::ZERO; polynomial.scratch_len()];
        }
        let numbers = || vec![T::ZERO; chunk + 64 + ROOM];
        let kept = zeros("what is kept of a token", longest.checked_mul(sizes.group))?.to_vec();
        let decaying = match to.decay {
            Some(decay) if decay.shape()[3] > 1 => m,
            Some(_) => 1,
            None => 0,
        };
        let sums = zeros("sums", longest.checked_mul(decaying))?.to_vec();
        // Half as much memory as q, k and v take at most.
        let (state, token) = (m * (v + 1), 2 * d + v);
        let apart = (2 * state).div_ceil((chunk * token).max(1)).max(1);
        let copies = match to.decay {
            Some(_) => longest.div_ceil(chunk).div_ceil(apart) + 1,
            None => 0,
        };
        let states = zeros("copies of states", copies.checked_mul(state))?.to_vec();
        Ok(Self {
            forward,
            values: Tile::new(chunk, v)?,
            values_turned: kernels.panels(v, chunk)?,
            spread: kernels.panels(chunk, m)?,
            inputs: kernels.panels(chunk, inputs)?,
            state_turned: kernels.panels(v, m)?,
            dout: Tile::new(chunk, v)?,
            dout_spread: kernels.panels(chunk, v)?,
            by_scores: Tile::new(chunk, chunk)?,
            by_features: Tile::new(chunk, m)?,
            by_keys: Tile::new(chunk, m)?,
            by_values: Tile::new(chunk, v)?,
            by_input: Tile::new(chunk, inputs)?,
            by_key_input: Tile::new(chunk, inputs)?,
            rest: Tile::new(if has_vector { chunk } else { 0 }, m)?,
            slopes: vec![T::ZERO; chunk],
            scratch,
            s: kernels.panels(m, v)?,
            z: zeros("a state", m.checked_add(64))?,
            dots: numbers(),
            ones: vec![T::ONE; chunk],
            weights: numbers(),
            of_rows: numbers(),
            of_columns: numbers(),
            scale: kept.clone(),
            shift: kept,
            logs: vec![T::ZERO; longest.div_ceil(chunk)],
            within: sums.clone(),
            from_before: sums,
            states,
            apart,
            last: 0,
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
        worker.from_before.fill(T::ZERO);
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
            if is_causal {
                let (scored, depth) = forward.keys.scored(call.map);
                call.kernels.turn(scored, n, depth, &mut forward.turned);
                self.load_values(worker, batch, head, tokens.clone());
                self.turn_state(worker, false);
                for query in self.queries(head) {
                    self.by_queries(worker, sequence, query, tokens.clone(), None);
                }
            }
            call.absorb(&mut worker.forward, n, columns.len());
        }
        if !is_causal {
            self.turn_state(worker, false);
            for (_, tokens) in &all {
                run.control.check()?;
                for query in self.queries(head) {
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

    fn queries(&self, head: usize) -> Range<usize> {
        let group = self.call.sizes.group;
        head * group..(head + 1) * group
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

    /// Values by rows and turned, and what gradients by queries multiply scores' by.
    fn load_values(&self, worker: &mut Worker<T>, batch: usize, head: usize, tokens: Range<usize>) {
        let Call {
            arguments,
            kernels,
            map,
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
        let keys = &worker.forward.keys;
        if map.is_polynomial() {
            kernels.spread(&keys.input, n, map.key_dim, &mut worker.inputs);
        } else {
            kernels.spread(&keys.features, n, map.count, &mut worker.spread);
        }
    }

    /// Loads a query head's chunk, its scores, its gradient, and the products of that with values.
    fn ask(
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
            kernels.scores(&worker.dout, turned, v, (n, n), Shape::Lower, to, None);
        }
    }

    /// Where the numbers that are kept of a query head's tokens start.
    fn kept(&self, sequence: &Sequence, query: usize, tokens: &Range<usize>) -> Range<usize> {
        let length = sequence.tokens.len();
        let start =
            query % self.call.sizes.group.max(1) * length + tokens.start - sequence.tokens.start;
        start..start + tokens.len()
    }

    /// Gradients by queries, and what is kept for the second sweep. `log` is the state's logarithm
    /// where that is all the queries see.
    fn by_queries(
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
        kernels.outputs(state, false, None, Factors::NONE, (n, m), out, None);
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
        store(&self.to.q.at(sequence.batch, query), gradient, tokens, None);
        if !is_causal {
            self.add_to_state(worker, sequence, query, Keep::All, n, start);
        }
    }

    /// Adds to gradients by queries what comes through a chunk's scores, and to those by decay what
    /// reading gives.
    fn through_scores(
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
                if wants_gradient {
                    let (within, before) = (worker.rest.row(row), worker.by_features.row(row));
                    add_products(&mut worker.within[place.clone()], within, features);
                    add_products(&mut worker.from_before[place], before, features);
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
            for (sum, dot) in worker.from_before[start..start + n].iter_mut().zip(dots) {
                *sum += *dot;
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
    fn by_products(
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

    /// Adds what a query head's chunk, which is loaded, gives to the gradient by the state before it.
    fn add_to_state(
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
        kernels.scale_rows(&mut worker.dout, v, &worker.scale[kept.clone()]);
        kernels.spread(&worker.dout, n, v, &mut worker.dout_spread);
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
            None,
        );
        if arguments.normalize {
            kernels.scale_rows(reading, m, &worker.shift[kept]);
            kernels.column_sums(reading, n, m, &mut worker.z);
        }
    }

    /// Gradients by keys, values and decay of a chunk whose keys are loaded; the gradient by the
    /// state goes from after the chunk to before it. `log` is that of the last state where queries
    /// saw nothing else; `past` is what goes past the chunk's decay, and then past that of its end.
    fn by_keys(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        head: usize,
        tokens: Range<usize>,
        log: Option<T>,
        past: &mut [f64],
    ) {
        let Call {
            kernels,
            map,
            sizes,
            ..
        } = self.call;
        let (n, m, v) = (tokens.len(), map.count, sizes.value_dim);
        let is_causal = log.is_none();
        let start = tokens.start - sequence.tokens.start;
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
        kernels.outputs(state, false, None, by, (n, v), Out::Tile(out), None);
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
            None,
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
            let (decay, rest) = self.kept_of_state(worker);
            let keep = [decay[0], rest[0]];
            for (number, query) in self.queries(head).enumerate() {
                self.through_scores_back(worker, sequence, query, &tokens, &mut within);
                let keep = match (number, self.call.arguments.has_vector_decay()) {
                    (0, true) => Keep::Each(&decay, &rest),
                    (0, false) if worker.forward.is_decaying => Keep::One(&keep),
                    _ => Keep::All,
                };
                if number == 0 && self.call.arguments.normalize {
                    let is_each = matches!(keep, Keep::Each(..));
                    let is_all = matches!(keep, Keep::All);
                    for (i, z) in worker.z[..m].iter_mut().enumerate() {
                        let at = if is_each { i } else { 0 };
                        if !is_all {
                            *z = *z * decay[at] + *z * rest[at];
                        }
                    }
                }
                self.add_to_state(worker, sequence, query, keep, n, start);
            }
        }
        if wants_gradient && worker.forward.vector.is_none() {
            within.copy_from_slice(&worker.of_columns[..n]);
        }
        self.by_decay(worker, sequence, head, &tokens, (&written, &within), past);

        let mask = self.call.arguments.key_mask.is_some();
        let forward = &mut worker.forward;
        let gradient = forward.keys.back(
            kernels,
            map,
            n,
            &mut worker.by_keys,
            &mut worker.by_key_input,
            &mut worker.scratch,
        );
        let mask = mask.then_some(&forward.mask[..n]);
        let batch = sequence.batch;
        store(&self.to.k.at(batch, head), gradient, tokens.clone(), mask);
        store(
            &self.to.v.at(batch, head),
            &mut worker.by_values,
            tokens,
            mask,
        );
    }

    /// What the state keeps over the chunk that is loaded, and what that lacks: for each feature, or
    /// the first for all.
    fn kept_of_state(&self, worker: &Worker<T>) -> (Vec<T>, Vec<T>) {
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

    /// Adds to gradients by keys and values what comes through a query head's scores, and to
    /// `within` what that is of each key's feature, where these decay by themselves.
    fn through_scores_back(
        &self,
        worker: &mut Worker<T>,
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
        let kept = self.kept(sequence, query, tokens);
        let (scale, shift) = (&worker.scale[kept.clone()], &worker.shift[kept]);
        let forward = &mut worker.forward;
        let table = forward.is_decaying.then_some(&forward.decay.table);
        let wants_sums = self.to.decay.is_some() && forward.vector.is_none();
        let sums = wants_sums.then_some((
            &forward.scores,
            &mut worker.of_rows[..],
            &mut worker.of_columns[..],
        ));
        kernels.by_scores(&mut worker.by_scores, (scale, shift), table, sums);

        // Ō r, of which `add_to_state` makes the same again for itself.
        kernels.scale_rows(&mut worker.dout, v, scale);
        kernels.spread(&worker.dout, n, v, &mut worker.dout_spread);
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
        self.load_gradient_of(worker, sequence, query, tokens);

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

    /// Loads the gradient by a query head's outputs again.
    fn load_gradient_of(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        query: usize,
        tokens: &Range<usize>,
    ) {
        let dout = self.dout.at(sequence.batch, query);
        let columns = 0..self.call.sizes.value_dim;
        worker.dout.load(&dout, tokens.clone(), columns);
    }

    /// Numbers of decay for each token.
    fn decaying(&self) -> usize {
        match self.to.decay {
            Some(decay) if decay.shape()[3] > 1 => self.call.map.count,
            Some(_) => 1,
            None => 0,
        }
    }

    /// Where the copy of the state before a chunk is, if there is one.
    fn copy_of(&self, worker: &Worker<T>, chunk: usize) -> Option<Range<usize>> {
        let size = self.call.map.count * (self.call.sizes.value_dim + 1);
        let copies = worker.states.len().checked_div(size)?;
        let number = match chunk {
            chunk if chunk.is_multiple_of(worker.apart) => chunk / worker.apart,
            chunk if chunk == worker.last => copies.checked_sub(1)?,
            _ => return None,
        };
        (number < copies).then_some(number * size..(number + 1) * size)
    }

    /// Copies the state before a chunk, if it is one that is kept.
    fn copy_state(&self, worker: &mut Worker<T>, chunk: usize) {
        let Some(place) = self.copy_of(worker, chunk) else {
            return;
        };
        let (m, v) = (self.call.map.count, self.call.sizes.value_dim);
        let (s, z) = worker.states[place].split_at_mut(m * v);
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
    fn by_past(&self, worker: &mut Worker<T>, chunk: usize, past: &mut [f64]) {
        let Some(place) = self.copy_of(worker, chunk) else {
            return;
        };
        let (m, v) = (self.call.map.count, self.call.sizes.value_dim);
        let (s, z) = worker.states[place].split_at(m * v);
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
            let kept = decay[at].wide() + rest[at].wide();
            past[if past.len() > 1 { feature } else { 0 }] += kept * (products.sum::<f64>() + of_z);
        }
    }

    /// Gradients by the decay of a chunk. Of each token, `written` is what its writing into the
    /// state gives, and `within` what it gives in the chunk.
    fn by_decay(
        &self,
        worker: &mut Worker<T>,
        sequence: &Sequence,
        head: usize,
        tokens: &Range<usize>,
        (written, within): (&[T], &[T]),
        past: &mut [f64],
    ) {
        let Some(decay) = &self.to.decay else {
            return;
        };
        let (n, count) = (tokens.len(), past.len());
        let start = tokens.start - sequence.tokens.start;
        let place = start * count..(start + n) * count;
        let (read_within, read_before) =
            (&worker.within[place.clone()], &worker.from_before[place]);
        let has_past = self.copy_of(worker, start / self.call.chunk).is_some();
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
                later += of(read_before, t);
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
}

/// sums += a ∘ b.
fn add_products<T: Computed>(sums: &mut [T], a: &[T], b: &[T]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += *a * *b;
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
