//! One token, in place: S = e^g S + φ(k) vᵀ, o = φ(q) S.

use corekit_base::aligned::Aligned;
use corekit_base::array::{Dtype, MatrixMut};
use corekit_base::run::Run;

use super::{State, is_nothing, reciprocal};
use crate::error::{Error, Result};
use crate::features::cache::MapCache;
use crate::features::{FeatureMap, Features, Side};
use crate::heads::{Heads, HeadsMut};
use crate::kernels::{Computed, Kernels};
use crate::tiles::{Tile, zeros};

/// Tasks for each thread, lest one that comes late leaves nothing to the other.
const TASKS: usize = 4;

/// The arguments of one step; time is an axis of length 1.
#[derive(Clone, Copy, Debug)]
pub struct LinearAttentionStep<'a> {
    /// [batch, query heads, 1, key dimension].
    pub q: Heads<'a>,
    /// [batch, key heads, 1, key dimension].
    pub k: Heads<'a>,
    /// [batch, key heads, 1, value dimension].
    pub v: Heads<'a>,
    /// [batch, key heads, 1, 1 or key dimension].
    pub decay: Option<Heads<'a>>,
    /// The map of queries and keys.
    pub map: FeatureMap,
    /// What the map is made of, if the caller keeps it.
    pub cache: Option<&'a MapCache>,
    /// Whether outputs are divided by φ(q)·z.
    pub normalize: bool,
    /// The least that they are divided by.
    pub eps: f64,
    /// What φ(q) S is multiplied by.
    pub scale: f64,
    /// Whether a thread alone takes the heads from the last to the first. A caller that goes to and
    /// fro begins with the heads that it ended with: of states larger than a cache, these are what
    /// it still holds. No result depends on it.
    pub from_last: bool,
}

/// What a worker keeps from head to head.
struct Worker<T> {
    queries: Side<T>,
    keys: Side<T>,
    values: Aligned<T>,
    decay: Aligned<T>,
    /// Numbers of `decay` that are factors of the state: none, one, or one for each feature.
    kept: usize,
    z: Aligned<T>,
    factors: Vec<T>,
    out: Tile<T>,
}

impl<T: Computed> Worker<T> {
    fn new(map: &Features<T>, group: usize, value_dim: usize) -> Result<Self> {
        let group = group.max(1);
        let numbers = |len: usize| zeros("a row", len.checked_add(64));
        Ok(Self {
            queries: Side::of_rows(map, group)?,
            keys: Side::of_rows(map, 1)?,
            values: numbers(value_dim)?,
            decay: numbers(map.count)?,
            kept: 0,
            z: numbers(map.count)?,
            factors: vec![T::ZERO; group],
            out: Tile::of_rows(group, value_dim)?,
        })
    }
}

impl LinearAttentionStep<'_> {
    /// Bytes of all states from which on threads are asked to help.
    pub const SHARED_BYTES: usize = 512 << 10;

    /// Changes the state and computes outputs, [batch, query heads, 1, value dimension].
    ///
    /// The state is dense, in the type that is computed in.
    ///
    /// # Errors
    /// When shapes do not fit or memory is refused.
    pub fn run(&self, state: &State<HeadsMut>, out: &HeadsMut, run: &Run) -> Result<()> {
        match self.q.dtype() {
            Dtype::F64 => self.run_in::<f64>(state, out, run),
            _ => self.run_in::<f32>(state, out, run),
        }
    }

    fn run_in<T: Computed>(
        &self,
        state: &State<HeadsMut>,
        out: &HeadsMut,
        run: &Run,
    ) -> Result<()> {
        let [batch, query_heads, _, key_dim] = self.q.shape();
        let [_, key_heads, _, value_dim] = self.v.shape();
        let m = self.map.features(key_dim)?;
        let decay = self.decay.map(|decay| decay.shape());
        let last = decay.map_or(1, |shape| if shape[3] == m { m } else { 1 });
        let fits = [
            self.k.shape() == [batch, key_heads, 1, key_dim],
            self.v.shape() == [batch, key_heads, 1, value_dim],
            key_heads > 0 && query_heads % key_heads == 0 || key_heads == query_heads,
            decay.is_none_or(|shape| shape == [batch, key_heads, 1, last]),
            state.s.shape() == [batch, key_heads, m, value_dim],
            size_of::<T>() == state.s.dtype().size(),
            state
                .z
                .is_none_or(|z| z.shape() == [batch, key_heads, 1, m]),
            state
                .log_scale
                .is_none_or(|log| log.shape() == [batch, key_heads, 1, 1]),
            state.z.is_some() == self.normalize,
            state.log_scale.is_some() == self.map.is_stabilised(),
            out.shape() == [batch, query_heads, 1, value_dim],
        ];
        if fits.contains(&false) {
            return Err(Error::InvalidArgument(
                "q, k, v, decay, the state and out must have shapes that fit each other".into(),
            ));
        }
        let states = state.arrays().map(HeadsMut::shape);
        if is_nothing(states.chain([out.shape()])) {
            return Ok(());
        }
        let units = batch * key_heads;
        let bytes = units * m * value_dim * size_of::<T>();
        let run = Run {
            threads: if bytes < Self::SHARED_BYTES {
                1
            } else {
                run.threads
            },
            ..*run
        };
        let map = Features::<T>::new(
            &self.map,
            self.cache,
            key_dim,
            (self.scale, self.normalize),
            &run,
        )?;
        let group = query_heads / key_heads.max(1);
        // A few heads a task: one takes hardly longer than being handed out.
        let tasks = units.min(TASKS * run.threads);
        let from_last = run.threads == 1 && self.from_last;
        run.share(
            tasks,
            || Worker::new(&map, group, value_dim),
            |worker, task| {
                for unit in units * task / tasks..units * (task + 1) / tasks {
                    let unit = if from_last { units - 1 - unit } else { unit };
                    let (batch, head) = (unit / key_heads, unit % key_heads);
                    self.head(worker, &map, (batch, head, group), state, out, &run)?;
                }
                Ok(())
            },
        )
    }

    fn head<T: Computed>(
        &self,
        worker: &mut Worker<T>,
        map: &Features<T>,
        (batch, head, group): (usize, usize, usize),
        state: &State<HeadsMut>,
        out: &HeadsMut,
        run: &Run,
    ) -> Result<()> {
        let kernels: &Kernels<T> = T::kernels(run.level);
        let (m, value_dim) = (map.count, self.v.shape()[3]);
        let (keys, queries) = (&mut worker.keys, &mut worker.queries);
        keys.load(kernels, map, &self.k.at(batch, head), 0..1, T::ONE);
        if group > 0 {
            let rows = self.q.across(batch, head * group, group);
            queries.load(kernels, map, &rows, 0..group, map.outer);
        }
        let values = &mut worker.values[..value_dim];
        self.v.at(batch, head).load_row(0, 0, values);
        let log = self.keep(worker, kernels, m, (batch, head), state);
        let keep = match worker.kept {
            0 => None,
            len => Some(&worker.decay[..len]),
        };
        let key = worker.keys.features.row(0);
        if let Some(z) = state.z {
            let (before, z) = (z.read_at(batch, head), z.at(batch, head));
            let sums = &mut worker.z[..m];
            before.load_row(0, 0, sums);
            for (i, (z, k)) in sums.iter_mut().zip(key).enumerate() {
                let factor = keep.map_or(T::ONE, |keep| keep[if keep.len() > 1 { i } else { 0 }]);
                *z = *z * factor + *k;
            }
            z.store_row(0, 0, sums);
        }
        // A state without numbers gives zeros, which are there already.
        if m > 0 && value_dim > 0 {
            let block = state.s.at(batch, head).block(0..m, 0..value_dim);
            let block = block.ok_or_else(|| {
                Error::InvalidArgument(
                    "a state must be dense and aligned, and of the type that is computed in".into(),
                )
            })?;
            // Without queries the kernel reads by one that is zeros, for nobody.
            let queries = (&worker.queries.features, group.max(1));
            let values = &worker.values[..value_dim];
            kernels.step(&block, (key, values), keep, queries, &mut worker.out);
        }
        if group > 0 {
            let rows = out.across(batch, head * group, group);
            self.give(worker, map, kernels, group, log, &rows);
        }
        Ok(())
    }

    /// What the state keeps, to `worker.decay` and `worker.kept`; returns the state's new logarithm.
    fn keep<T: Computed>(
        &self,
        worker: &mut Worker<T>,
        kernels: &Kernels<T>,
        m: usize,
        (batch, head): (usize, usize),
        state: &State<HeadsMut>,
    ) -> T {
        worker.kept = 0;
        worker.decay[0] = T::ZERO;
        if let Some(decay) = self.decay {
            let decay = decay.at(batch, head);
            worker.kept = if decay.columns() == m { m } else { 1 };
            decay.load_row(0, 0, &mut worker.decay[..worker.kept]);
        }
        let mut log = T::ZERO;
        if let Some(log_scale) = state.log_scale {
            // S and z are divided by e^M; M = max(M + g, the key's logarithm).
            worker.kept = worker.kept.max(1);
            let mut old = [T::ZERO];
            log_scale.read_at(batch, head).load_row(0, 0, &mut old);
            let before = old[0] + worker.decay[0];
            let of_key = worker.keys.logs[0];
            log = if of_key <= before { before } else { of_key };
            worker.decay[0] = before + -log;
            let factor = T::of((of_key + -log).wide().exp());
            kernels.scale_rows(&mut worker.keys.features, m, &[factor]);
            log_scale.at(batch, head).store_row(0, 0, &[log]);
        }
        if worker.kept > 0 {
            let (from, to) = (&worker.decay, &mut worker.z);
            kernels.exps(from, to, worker.kept);
            worker.decay[..worker.kept].copy_from_slice(&worker.z[..worker.kept]);
        }
        log
    }

    /// Stores the outputs that were summed, normalised, with what was divided off them.
    fn give<T: Computed>(
        &self,
        worker: &mut Worker<T>,
        map: &Features<T>,
        kernels: &Kernels<T>,
        group: usize,
        log: T,
        out: &MatrixMut,
    ) {
        let queries = &worker.queries;
        let factors = &mut worker.factors[..group];
        if self.normalize {
            kernels.dots(&queries.features, map.count, &worker.z, factors);
        }
        for (query, factor) in factors.iter_mut().enumerate() {
            let row = &mut worker.out.row_mut(query)[..out.columns()];
            let row_log = (queries.logs[query] + log).wide();
            if self.normalize {
                let least = match map.is_stabilised() {
                    true => self.eps * (-row_log).exp(),
                    false => self.eps,
                };
                *factor = reciprocal(*factor, T::of(least));
            } else if map.is_stabilised() {
                *factor = T::of(row_log.exp());
            }
            if self.normalize || map.is_stabilised() {
                for x in row.iter_mut() {
                    *x = *x * *factor;
                }
            }
            out.store_row(query, 0, row);
        }
    }
}
