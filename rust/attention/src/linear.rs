//! Linear attention: o_t = φ(q_t) S_t with S_t = e^{g_t} S_{t-1} + φ(k_t) v_tᵀ.
//!
//! - [`chunk`]: chunks of tokens by matrix products, causal and not;
//! - [`pairwise`]: every pair of tokens, for maps whose state would be too large;
//! - [`recurrent`]: one token, in place;
//! - [`backward`], for gradients.
//!
//! Of forgetting, [`decay`] and [`vector_decay`] are all that chunk and backward know.

pub(crate) mod backward;
pub(crate) mod chunk;
pub(crate) mod decay;
pub(crate) mod pairwise;
pub(crate) mod recurrent;
pub(crate) mod vector_decay;

use std::ops::Range;

use corekit_base::array::Dtype;
use corekit_base::real::Real;
use corekit_base::run::Run;

use crate::error::{Error, Result};
use crate::features::cache::MapCache;
use crate::features::{FeatureMap, STATE_BYTES};
use crate::heads::{Heads, HeadsMut};
use crate::kernels::Computed;

/// What a state consists of, as arrays of the type that is computed in, dense.
#[derive(Clone, Copy, Debug)]
pub struct State<H> {
    /// [sequences, key heads, features, values].
    pub s: H,
    /// [sequences, key heads, 1, features], when outputs are normalised.
    pub z: Option<H>,
    /// [sequences, key heads, 1, 1]: the logarithm that S and z are to be multiplied by.
    pub log_scale: Option<H>,
}

impl<H> State<H> {
    /// The arrays that there are.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &H> {
        [Some(&self.s), self.z.as_ref(), self.log_scale.as_ref()]
            .into_iter()
            .flatten()
    }
}

/// The arguments of linear attention.
#[derive(Clone, Copy, Debug)]
pub struct LinearAttention<'a> {
    /// [batch, query heads, time, key dimension].
    pub q: Heads<'a>,
    /// [batch, key heads, time, key dimension].
    pub k: Heads<'a>,
    /// [batch, key heads, time, value dimension].
    pub v: Heads<'a>,
    /// [batch, key heads, time, 1 or key dimension]: logarithms, not positive.
    pub decay: Option<Heads<'a>>,
    /// [batch, 1, 1, time]: 0 for tokens that are not there.
    pub key_mask: Option<Heads<'a>>,
    /// Where sequences start in a batch of one, and where the last one ends.
    pub cu_seqlens: Option<&'a [i64]>,
    /// The state before the first token.
    pub initial: Option<State<Heads<'a>>>,
    /// Whether a token sees no later one.
    pub causal: bool,
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
    /// Tokens of a chunk; `None` for what suits the shapes.
    pub chunk_size: Option<usize>,
}

/// One sequence of tokens.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) batch: usize,
    /// Its state's number.
    pub(crate) number: usize,
    pub(crate) tokens: Range<usize>,
}

/// The sequences of a call, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequences<'a> {
    batch: usize,
    time: usize,
    /// Where sequences start in a batch of one, and where the last one ends.
    ends: Option<&'a [i64]>,
}

impl<'a> Sequences<'a> {
    pub(crate) fn new(batch: usize, time: usize, ends: Option<&'a [i64]>) -> Self {
        Self { batch, time, ends }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends
            .map_or(self.batch, |ends| ends.len().saturating_sub(1))
    }

    /// One of them.
    pub(crate) fn get(&self, number: usize) -> Sequence {
        let (batch, tokens) = match self.ends {
            Some(ends) => (0, ends[number] as usize..ends[number + 1] as usize),
            None => (number, 0..self.time),
        };
        Sequence {
            batch,
            number,
            tokens,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Sequence> {
        (0..self.len()).map(|number| self.get(number))
    }

    /// Tokens of the longest one.
    pub(crate) fn longest(&self) -> usize {
        match self.ends {
            Some(_) => self.iter().map(|s| s.tokens.len()).max().unwrap_or(0),
            None => self.time,
        }
    }
}

/// What the arrays' shapes say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) time: usize,
    pub(crate) key_heads: usize,
    /// Query heads of each key head.
    pub(crate) group: usize,
    pub(crate) key_dim: usize,
    pub(crate) value_dim: usize,
}

impl LinearAttention<'_> {
    /// What the shapes say, if they fit each other.
    ///
    /// # Errors
    /// When they do not.
    pub(crate) fn sizes(&self) -> Result<Sizes> {
        let [batch, query_heads, time, key_dim] = self.q.shape();
        let [_, key_heads, _, value_dim] = self.v.shape();
        let need = |what: &str, given: [usize; 4], wanted: [usize; 4]| match given == wanted {
            true => Ok(()),
            false => Err(Error::InvalidArgument(format!(
                "{what} must have shape {wanted:?} (batch, head, time, dimension), got {given:?}"
            ))),
        };
        need("k", self.k.shape(), [batch, key_heads, time, key_dim])?;
        need("v", self.v.shape(), [batch, key_heads, time, value_dim])?;
        if key_heads == 0 && query_heads > 0 || key_heads > 0 && query_heads % key_heads != 0 {
            return Err(Error::InvalidArgument(format!(
                "q must have a multiple of the {key_heads} heads of k, got {query_heads}"
            )));
        }
        if let Some(decay) = self.decay {
            let last = decay.shape()[3];
            let last = if last == key_dim { key_dim } else { 1 };
            need("decay", decay.shape(), [batch, key_heads, time, last])?;
        }
        if let Some(mask) = self.key_mask {
            need("key_mask", mask.shape(), [batch, 1, 1, time])?;
        }
        if let Some(ends) = self.cu_seqlens {
            let rises = ends.windows(2).all(|pair| pair[0] <= pair[1]);
            let spans = ends.first() == Some(&0) && ends.last() == Some(&(time as i64));
            if batch != 1 || !rises || !spans {
                return Err(Error::InvalidArgument(
                    "cu_seqlens must rise from 0 to the length of a batch of one".into(),
                ));
            }
        }
        Ok(Sizes {
            time,
            key_heads,
            group: query_heads.checked_div(key_heads).unwrap_or(0),
            key_dim,
            value_dim,
        })
    }

    /// Whether decay is a number for each feature.
    pub(crate) fn has_vector_decay(&self) -> bool {
        self.decay.is_some_and(|decay| decay.shape()[3] > 1)
    }

    /// The sequences, in order.
    pub(crate) fn sequences(&self) -> Sequences<'_> {
        let [batch, _, time, _] = self.q.shape();
        Sequences::new(batch, time, self.cu_seqlens)
    }

    /// Tokens of a chunk of a sequence of `tokens`, for states of `state` numbers; no more than there
    /// are, and no fewer than a shorter sequence has.
    pub(crate) fn chunk(&self, tokens: usize, state: usize) -> usize {
        let is_short = self.causal && tokens <= MANY && state <= MANY;
        let chosen = if is_short { CHUNK } else { LONG_CHUNK };
        self.chunk_size.unwrap_or(chosen).min(tokens).max(1)
    }

    /// The error for a head's state, with its normaliser, that is not kept: of maps whose states grow
    /// with a power of the key dimension, and whose scores can be had without one.
    fn too_large<T>(&self, sizes: &Sizes) -> Option<Error> {
        let m = self.map.features(sizes.key_dim).unwrap_or(usize::MAX);
        let numbers = m as u128 * (sizes.value_dim as u128 + 1);
        let bytes = numbers * size_of::<T>() as u128;
        let is_kept = !self.map.is_polynomial() || bytes <= STATE_BYTES as u128;
        (!is_kept).then(|| Error::OutOfMemory {
            what: "the state of a head",
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        })
    }

    /// Checks a state.
    pub(crate) fn check_state<H>(
        &self,
        state: &State<H>,
        shape: impl Fn(&H) -> ([usize; 4], Dtype),
        dtype: Dtype,
        sizes: &Sizes,
    ) -> Result<()> {
        self.check_arrays(state, shape, dtype, sizes)?;
        let has = (state.z.is_some(), state.log_scale.is_some());
        if has != (self.normalize, self.map.is_stabilised()) {
            return Err(Error::InvalidArgument(
                "a state must have z where outputs are normalised, and log_scale for Favor".into(),
            ));
        }
        Ok(())
    }

    /// Checks the shapes of the arrays that a state, or the gradient by one, has.
    pub(crate) fn check_arrays<H>(
        &self,
        state: &State<H>,
        shape: impl Fn(&H) -> ([usize; 4], Dtype),
        dtype: Dtype,
        sizes: &Sizes,
    ) -> Result<()> {
        let n = self.sequences().len();
        let m = self.map.features(sizes.key_dim)?;
        let h = sizes.key_heads;
        let wanted = [
            Some((&state.s, [n, h, m, sizes.value_dim])),
            state.z.as_ref().map(|z| (z, [n, h, 1, m])),
            state.log_scale.as_ref().map(|l| (l, [n, h, 1, 1])),
        ];
        for (array, wanted) in wanted.into_iter().flatten() {
            if shape(array) != (wanted, dtype) {
                return Err(Error::InvalidArgument(format!(
                    "a state must have arrays of shape {wanted:?} in {dtype:?}, got {:?}",
                    shape(array)
                )));
            }
        }
        Ok(())
    }

    /// Computes outputs, [batch, query heads, time, value dimension], and the state after the last
    /// token.
    ///
    /// # Errors
    /// When shapes do not fit, memory is refused, or the caller cancels.
    pub fn forward(&self, out: &HeadsMut, last: Option<&State<HeadsMut>>, run: &Run) -> Result<()> {
        match self.q.dtype() {
            Dtype::F64 => self.forward_in::<f64>(out, last, run),
            _ => self.forward_in::<f32>(out, last, run),
        }
    }

    fn forward_in<T: Computed>(
        &self,
        out: &HeadsMut,
        last: Option<&State<HeadsMut>>,
        run: &Run,
    ) -> Result<()> {
        let sizes = self.sizes()?;
        let dtype = T::DTYPE;
        if let Some(initial) = &self.initial {
            self.check_state(initial, |h| (h.shape(), h.dtype()), dtype, &sizes)?;
        }
        if let Some(last) = last {
            self.check_state(last, |h| (h.shape(), h.dtype()), dtype, &sizes)?;
        }
        let wanted = [
            self.q.shape()[0],
            self.q.shape()[1],
            sizes.time,
            sizes.value_dim,
        ];
        if out.shape() != wanted {
            return Err(Error::InvalidArgument(format!(
                "out must have shape {wanted:?}, got {:?}",
                out.shape()
            )));
        }
        let states = last.iter().flat_map(|last| last.arrays());
        if is_nothing(states.map(HeadsMut::shape).chain([wanted])) {
            return Ok(());
        }
        match self.too_large::<T>(&sizes) {
            None => chunk::forward::<T>(self, &sizes, out, last, run),
            Some(_) if self.initial.is_none() && last.is_none() => {
                pairwise::forward::<T>(self, &sizes, out, run)
            }
            Some(error) => Err(error),
        }
    }
}

/// Whether arrays of these shapes hold no number at all: then there is nothing to compute, whatever
/// the other sizes are.
pub(crate) fn is_nothing(shapes: impl IntoIterator<Item = [usize; 4]>) -> bool {
    shapes.into_iter().all(|shape| shape.contains(&0))
}

/// Decay below this is a hard reset, for which it stands: its exponential is 0 in every type, and sums
/// of it are finite.
const NOTHING: f64 = -1000.0;

/// Tokens of a chunk, if the caller does not say: what suits most shapes on the machines that were
/// measured. It is no function of the machine, for results depend on it.
const CHUNK: usize = 32;

/// The same where nothing is gained by short chunks: without causality, where a state leaves the
/// cache, and in sequences so long that the state's roundings, one a chunk, would show.
const LONG_CHUNK: usize = 64;

/// The most tokens of a sequence, and numbers of a state, for short chunks.
const MANY: usize = 1 << 16;

/// Parts that a head's values are cut into, so that all threads have work.
///
/// Columns of values know nothing of each other: the cut is exact, and costs making the scores
/// again.
pub(crate) fn parts(units: usize, threads: usize, value_dim: usize, width: usize) -> usize {
    if units == 0 || units >= threads {
        return 1;
    }
    threads
        .div_ceil(units)
        .min(value_dim.div_ceil(width))
        .max(1)
}

/// The columns of one part.
pub(crate) fn part(part: usize, parts: usize, value_dim: usize, width: usize) -> Range<usize> {
    let panels = value_dim.div_ceil(width);
    let edge = |part: usize| (panels * part / parts * width).min(value_dim);
    edge(part)..edge(part + 1)
}

/// 1 over what outputs are divided by: sgn(d) max(|d|, least), with sgn(0) = 1; 0 if that is 0.
pub(crate) fn reciprocal<T: Real>(d: T, least: T) -> T {
    let size = if d < T::ZERO { -d } else { d };
    // NaN goes through.
    let size = if size < least { least } else { size };
    if size == T::ZERO {
        T::ZERO
    } else if d < T::ZERO {
        -(T::ONE / size)
    } else {
        T::ONE / size
    }
}
