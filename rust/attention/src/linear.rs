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
    /// Favor's matrix, if the caller has it.
    pub matrix: Option<&'a [f64]>,
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
    pub(crate) fn sequences(&self) -> Vec<Sequence> {
        match self.cu_seqlens {
            Some(ends) => ends
                .windows(2)
                .enumerate()
                .map(|(number, pair)| Sequence {
                    batch: 0,
                    number,
                    tokens: pair[0] as usize..pair[1] as usize,
                })
                .collect(),
            None => (0..self.q.shape()[0])
                .map(|batch| Sequence {
                    batch,
                    number: batch,
                    tokens: 0..self.q.shape()[2],
                })
                .collect(),
        }
    }

    /// Tokens of a chunk, for states of `state` numbers; no more than there are.
    pub(crate) fn chunk(&self, longest: usize, state: usize) -> usize {
        let is_short = self.causal && longest <= MANY && state <= MANY;
        let chosen = if is_short { CHUNK } else { LONG_CHUNK };
        self.chunk_size.unwrap_or(chosen).min(longest).max(1)
    }

    /// Bytes of a head's state, with its normaliser.
    fn state_bytes<T>(&self, sizes: &Sizes) -> u128 {
        let m = self.map.features(sizes.key_dim).unwrap_or(usize::MAX);
        m as u128 * (sizes.value_dim as u128 + 1) * size_of::<T>() as u128
    }

    /// Checks a state's shape.
    pub(crate) fn check_state<H>(
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
        let has = (state.z.is_some(), state.log_scale.is_some());
        if has != (self.normalize, self.map.is_stabilised()) {
            return Err(Error::InvalidArgument(
                "a state must have z where outputs are normalised, and log_scale for Favor".into(),
            ));
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
        let dtype = if size_of::<T>() == 4 {
            Dtype::F32
        } else {
            Dtype::F64
        };
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
        match self.state_bytes::<T>(&sizes) {
            bytes if bytes <= STATE_BYTES as u128 => {
                chunk::forward::<T>(self, &sizes, out, last, run)
            }
            _ if self.initial.is_none() && last.is_none() => {
                pairwise::forward::<T>(self, &sizes, out, run)
            }
            bytes => Err(too_large(bytes)),
        }
    }
}

/// The error for a state that is not kept.
fn too_large(bytes: u128) -> Error {
    Error::OutOfMemory {
        what: "the state of a head",
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
    }
}

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
