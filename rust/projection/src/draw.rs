//! Drawing columns: from a seed to the entries of the sparse laws.
//!
//! The formulas are public (`docs/projection-mathematics.md`) and frozen by golden vectors. All of
//! them take words of Philox streams whose counter ends in [`DOMAIN`]: stream b for block b of a
//! stack, stream j for feature j of the other laws.

use std::ops::Range;

use corekit_base::philox::Stream;

use crate::law::{Strata, Threshold, WIDEST};

/// The counter's last word: the domain of projections is 1.
pub const DOMAIN: u64 = 1 << 32;

/// 8!
const ORDERS_OF_EIGHT: u64 = 40320;

/// floor(word * n / 2^64): uniform below `n`, but for n/2^64.
#[inline(always)]
fn below(word: u64, n: u64) -> u64 {
    ((u128::from(word) * u128::from(n)) >> 64) as u64
}

/// Where the features of one block go in one stratum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The first output of the group.
    pub start: u32,
    /// Lane l of the group takes the feature of the block whose number is in the low bits of
    /// `lanes[l]`, negated when [`SIGN`] is set.
    pub lanes: [u8; WIDEST],
}

/// The bit of a lane that says "negated".
pub const SIGN: u8 = 0x80;

impl Placement {
    /// What is there before it is drawn.
    pub const NOWHERE: Self = Self {
        start: 0,
        lanes: [0; WIDEST],
    };
}

/// Draws the placements of block `block` in the strata `which`, one for each; `words` is room for
/// their words of the stream, [`Strata::words_per_stratum`] each.
pub fn placements(
    seed: u128,
    strata: &Strata,
    which: Range<usize>,
    block: u64,
    words: &mut [u64],
    out: &mut [Placement],
) {
    let each = strata.words_per_stratum();
    Stream::new(seed, block, DOMAIN).fill((which.start * each) as u64, words);
    for (r, (placement, drawn)) in which.zip(out.iter_mut().zip(words.chunks_exact(each))) {
        let group = strata.first[r] + below(drawn[0], strata.first[r + 1] - strata.first[r]);
        let mut lanes = [0; WIDEST];
        match strata.width {
            1 => {}
            2 => lanes[..2].copy_from_slice(&permutation::<2>(below(drawn[1], 2))),
            4 => lanes[..4].copy_from_slice(&permutation::<4>(below(drawn[1], 24))),
            8 => lanes[..8].copy_from_slice(&permutation::<8>(below(drawn[1], ORDERS_OF_EIGHT))),
            _ => {
                let swap = ((drawn[0] >> 16 & 1) as u8) << 3;
                let order = below(drawn[1], ORDERS_OF_EIGHT * ORDERS_OF_EIGHT);
                let upper = permutation::<8>(order / ORDERS_OF_EIGHT);
                let lower = permutation::<8>(order % ORDERS_OF_EIGHT);
                for lane in 0..8 {
                    lanes[lane] = upper[lane] | swap;
                    lanes[lane + 8] = lower[lane] | swap ^ 8;
                }
            }
        }
        for (l, lane) in lanes[..strata.width].iter_mut().enumerate() {
            *lane |= ((drawn[0] >> l & 1) as u8) << 7;
        }
        *placement = Placement {
            start: strata.start(group) as u32,
            lanes,
        };
    }
}

/// The `index`-th order of 0, 1, .. N - 1, N at most 8: Fisher and Yates, with the digits of
/// `index`. The order is kept in a register, a byte an element: in memory every exchange would
/// wait for the one before.
#[inline(always)]
fn permutation<const N: usize>(index: u64) -> [u8; N] {
    let mut order = 0x07_06_05_04_03_02_01_00u64;
    // 32 bits hold the largest index, and divide in fewer cycles.
    let mut index = index as u32;
    for i in (1..N as u32).rev() {
        let j = index % (i + 1);
        index /= i + 1;
        let both = (order >> (8 * i) ^ order >> (8 * j)) & 0xFF;
        order ^= both << (8 * i) ^ both << (8 * j);
    }
    std::array::from_fn(|i| (order >> (8 * i)) as u8)
}

/// Calls `entry(output, is_negative)` for the entries of feature `feature` under an iid law among
/// `outputs`, which begin at an even one and are counted from there. `words` is room for the words
/// of the stream, half as many.
pub fn iid_column(
    seed: u128,
    threshold: Threshold,
    outputs: Range<usize>,
    feature: u64,
    words: &mut [u64],
    mut entry: impl FnMut(usize, bool),
) {
    debug_assert!(outputs.start.is_multiple_of(2));
    Stream::new(seed, feature, DOMAIN).fill((outputs.start / 2) as u64, words);
    let halves = words
        .iter()
        .flat_map(|word| [*word as u32, (*word >> 32) as u32]);
    for (output, half) in halves.take(outputs.len()).enumerate() {
        if threshold.keeps(half) {
            entry(output, half & 1 == 1);
        }
    }
}
