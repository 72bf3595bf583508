//! Every pair of tokens, for maps whose scores are polynomials of dot products and whose state would
//! be too large: o_t = Σ_s e^{G_t - G_s} p(q_t·k_s) v_s.
//!
//! The tiles are those of softmax attention ([`crate::pairs`]); nothing is kept from token to token
//! but sums, and the time is O(n² (D + V)), whatever the number of features. With G_t the sum of the
//! logarithms of decay up to t, no e^{-G} is formed: exponents are differences that are not
//! positive.
//!
//! 1. G is summed over the whole sequence, where a hard reset counts as -1000 (its exponential is 0
//!    in every type), and differences of large sums must be right to the last place: it is summed
//!    in pairs of f64, and each pair is cut into two numbers of the type that is computed in.
//! 2. Masked tokens do not decay and have no weight: p(0) is not 0.

#[cfg(test)]
mod tests;

use corekit_base::aligned::Aligned;
use corekit_base::array::Matrix;
use corekit_base::run::Run;

use super::{LinearAttention, NOTHING, Sequence, Sizes, reciprocal};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::features::polynomial::Polynomial;
use crate::heads::{Heads, HeadsMut};
use crate::kernels::online::Seen;
use crate::kernels::{Computed, Kernels};
use crate::pairs::{self, Block, Pairs, Panel, Weighing};
use crate::tiles::{Panels, zeros};

/// Outputs.
pub(crate) fn forward<T: Computed>(
    arguments: &LinearAttention,
    sizes: &Sizes,
    out: &HeadsMut,
    run: &Run,
) -> Result<()> {
    let pairs = Pairs {
        q: arguments.q,
        k: arguments.k,
        v: arguments.v,
        key_mask: arguments.key_mask,
        causal: arguments.causal,
        sizes,
        sequences: arguments.sequences(),
    };
    let polynomial = match arguments.map {
        FeatureMap::Taylor(order) => Polynomial::taylor(sizes.key_dim, order)?,
        FeatureMap::ExponentialLimit(n) => Polynomial::exponential_limit(sizes.key_dim, n)?,
        _ => {
            return Err(Error::InvalidArgument(
                "every pair of tokens needs a map whose scores are polynomials".into(),
            ));
        }
    };
    let weighing = Polynomials {
        kernels: T::kernels(run.level),
        polynomial,
        scale: T::of(arguments.scale),
        decay: arguments.decay,
        key_mask: arguments.key_mask,
        normalize: arguments.normalize,
        eps: T::of(arguments.eps),
    };
    pairs::forward(&pairs, &weighing, out, run)
}

/// Sums of the logarithms of decay, [0..t], as pairs of numbers.
struct Sums<T> {
    parts: [Aligned<T>; 2],
    /// Those of one panel, with room.
    of_queries: [Aligned<T>; 2],
}

/// Weights of linear attention with such a map.
struct Polynomials<'a, T: Computed> {
    kernels: &'static Kernels<T>,
    polynomial: Polynomial<T>,
    scale: T,
    decay: Option<Heads<'a>>,
    key_mask: Option<Heads<'a>>,
    normalize: bool,
    eps: T,
}

impl<T: Computed> Weighing<T> for Polynomials<'_, T> {
    type Kept = Option<Sums<T>>;

    fn scale(&self) -> T {
        self.scale
    }

    fn lowest(&self) -> T {
        T::ZERO
    }

    fn start(&self, longest: usize) -> Result<Option<Sums<T>>> {
        if self.decay.is_none() {
            return Ok(None);
        }
        let numbers = |count| zeros("sums of decay", Some(count));
        let width = self.kernels.width();
        Ok(Some(Sums {
            parts: [numbers(longest)?, numbers(longest)?],
            of_queries: [numbers(width)?, numbers(width)?],
        }))
    }

    fn begin(&self, kept: &mut Option<Sums<T>>, sequence: &Sequence, head: usize, tokens: usize) {
        let (Some(sums), Some(decay)) = (kept, self.decay) else {
            return;
        };
        let decay = decay.at(sequence.batch, head);
        let mask = self.key_mask.map(|mask| mask.at(sequence.batch, 0));
        sum_up(sums, &decay, mask.as_ref(), sequence.tokens.start, tokens);
    }

    fn weigh(
        &self,
        kept: &mut Option<Sums<T>>,
        panel: &mut Panel<T>,
        block: &Block<T>,
        seen: &Seen<T>,
        weights: &mut Panels<T>,
        _rescale: &mut [T],
    ) -> bool {
        let (queries, depth) = (&panel.queries, block.keys.columns());
        self.kernels
            .panel_scores(&block.keys, depth, queries, seen, None, weights);
        let logs = kept.as_mut().map(|sums| {
            let Sums { parts, of_queries } = sums;
            for (part, of_queries) in parts.iter().zip(of_queries.iter_mut()) {
                let part = &part[panel.first..];
                let count = part.len().min(of_queries.len());
                of_queries[..count].copy_from_slice(&part[..count]);
            }
            (
                [&of_queries[0][..], &of_queries[1][..]],
                [&parts[0][block.first..], &parts[1][block.first..]],
            )
        });
        self.kernels
            .forget(weights, seen, &self.polynomial, logs, &mut panel.sums);
        false
    }

    fn factor(&self, sum: T) -> T {
        match self.normalize {
            true => reciprocal(sum, self.eps),
            false => T::ONE,
        }
    }
}

/// Sums the logarithms of the first `tokens` tokens of a sequence that begins at `start`.
fn sum_up<T: Computed>(
    sums: &mut Sums<T>,
    decay: &Matrix,
    mask: Option<&Matrix>,
    start: usize,
    tokens: usize,
) {
    /// Tokens that are loaded at a time.
    const PIECE: usize = 64;
    let decay = decay.transposed();
    let (mut numbers, mut there) = ([0f64; PIECE], [1f64; PIECE]);
    let (mut sum, mut rest) = (0f64, 0f64);
    for first in (0..tokens).step_by(PIECE) {
        let n = PIECE.min(tokens - first);
        decay.load_row(0, start + first, &mut numbers[..n]);
        if let Some(mask) = mask {
            mask.load_row(0, start + first, &mut there[..n]);
        }
        for (t, (g, there)) in (first..).zip(numbers[..n].iter().zip(&there)) {
            if *there != 0.0 {
                let g = if *g < NOTHING { NOTHING } else { *g };
                // What is rounded off (Knuth's two-sum), and again when it is added.
                let next = sum + g;
                let part = next - sum;
                rest += (sum - (next - part)) + (g - part);
                sum = next + rest;
                rest += next - sum;
            }
            let high = T::of(sum);
            sums.parts[0][t] = high;
            sums.parts[1][t] = T::of((sum - high.wide()) + rest);
        }
    }
}
