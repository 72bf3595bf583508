//! Softmax attention: o_t = the mean of v_s with the weights e^(scale q_t·k_s).
//!
//! The yardstick of linear attention. Scores are never all there at once: a query keeps the largest
//! score m so far, the sum of weights e^(score - m) and the values gathered with these, and when a
//! block of keys brings a larger one, both are multiplied by e^(m - m') (Milakov & Gimelshein 2018,
//! "Online normalizer calculation for softmax"; Rabe & Staats 2021, "Self-attention does not need
//! O(n²) memory"; Dao et al. 2022, "FlashAttention"). Time is O(n² (D + V)), memory beside the
//! arrays is what one block takes.
//!
//! 1. **A token that attends to nothing gets 0**: m begins at the lowest finite number, so that a
//!    score of -∞ has the weight 0 even if it is the first one.
//! 2. Scores are in bits: scale / ln 2 goes into the queries, and weights are powers of two.

#[cfg(test)]
mod tests;

use corekit_base::array::Dtype;
use corekit_base::run::Run;

use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::heads::{Heads, HeadsMut};
use crate::kernels::online::{Power, Seen};
use crate::kernels::{Computed, Kernels};
use crate::linear::{LinearAttention, Sequence};
use crate::pairs::{self, Block, Pairs, Panel, Weighing};
use crate::tiles::Panels;

/// The arguments of softmax attention.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxAttention<'a> {
    /// [batch, query heads, time, key dimension].
    pub q: Heads<'a>,
    /// [batch, key heads, time, key dimension].
    pub k: Heads<'a>,
    /// [batch, key heads, time, value dimension].
    pub v: Heads<'a>,
    /// [batch, 1, 1, time]: 0 for tokens that are not there.
    pub key_mask: Option<Heads<'a>>,
    /// Where sequences start in a batch of one, and where the last one ends.
    pub cu_seqlens: Option<&'a [i64]>,
    /// Whether a token sees no later one.
    pub causal: bool,
    /// What dot products are multiplied by.
    pub scale: f64,
}

/// Weights of softmax attention.
struct Softmax<T: Computed> {
    kernels: &'static Kernels<T>,
    scale: T,
}

impl<T: Computed + Power> Weighing<T> for Softmax<T> {
    /// The largest scores with a block.
    type Kept = Vec<T>;

    fn scale(&self) -> T {
        self.scale
    }

    fn lowest(&self) -> T {
        T::LOWEST
    }

    fn start(&self, _longest: usize) -> Result<Vec<T>> {
        Ok(vec![T::ZERO; self.kernels.width()])
    }

    fn begin(&self, _next: &mut Vec<T>, _sequence: &Sequence, _head: usize, _tokens: usize) {}

    fn weigh(
        &self,
        next: &mut Vec<T>,
        panel: &mut Panel<T>,
        block: &Block<T>,
        seen: &Seen<T>,
        weights: &mut Panels<T>,
        rescale: &mut [T],
    ) -> bool {
        let (queries, depth) = (&panel.queries, block.keys.columns());
        let most = Some((&panel.most[..], &mut next[..]));
        self.kernels
            .panel_scores(&block.keys, depth, queries, seen, most, weights);
        let most = (&panel.most[..], &next[..]);
        self.kernels
            .soften(weights, seen, most, &mut panel.sums, rescale);
        panel.most.copy_from_slice(next);
        true
    }

    fn factor(&self, sum: T) -> T {
        if sum == T::ZERO { sum } else { T::ONE / sum }
    }
}

impl SoftmaxAttention<'_> {
    /// Computes outputs, [batch, query heads, time, value dimension].
    ///
    /// # Errors
    /// When shapes do not fit, memory is refused, or the caller cancels.
    pub fn forward(&self, out: &HeadsMut, run: &Run) -> Result<()> {
        match self.q.dtype() {
            Dtype::F64 => self.forward_in::<f64>(out, run),
            _ => self.forward_in::<f32>(out, run),
        }
    }

    fn forward_in<T: Computed + Power>(&self, out: &HeadsMut, run: &Run) -> Result<()> {
        let shapes = self.shapes();
        let sizes = shapes.sizes()?;
        let [batch, heads, time, _] = self.q.shape();
        let wanted = [batch, heads, time, sizes.value_dim];
        if out.shape() != wanted {
            return Err(Error::InvalidArgument(format!(
                "out must have shape {wanted:?}, got {:?}",
                out.shape()
            )));
        }
        let pairs = Pairs {
            q: self.q,
            k: self.k,
            v: self.v,
            key_mask: self.key_mask,
            causal: self.causal,
            sizes: &sizes,
            sequences: shapes.sequences(),
        };
        let weighing = Softmax {
            kernels: T::kernels(run.level),
            scale: T::of(self.scale * std::f64::consts::LOG2_E),
        };
        pairs::forward(&pairs, &weighing, out, run)
    }

    /// The same arrays as those of linear attention, which knows what shapes must fit.
    fn shapes(&self) -> LinearAttention<'_> {
        LinearAttention {
            q: self.q,
            k: self.k,
            v: self.v,
            decay: None,
            key_mask: self.key_mask,
            cu_seqlens: self.cu_seqlens,
            initial: None,
            causal: self.causal,
            cache: None,
            map: FeatureMap::Identity,
            normalize: false,
            eps: 0.0,
            scale: self.scale,
            chunk_size: None,
        }
    }
}
