//! Lists of features for each output: any sparse law, many rows side by side.
//!
//! A chunk of features is loaded by columns, so that one register holds one feature of many rows.
//! Every output has the list of its features in rising order; its sums stay in registers while they
//! are added or taken off. Nothing depends on how a law places its entries, input that comes by
//! columns needs no turning, and the transposed matrix acts the same way.

use corekit_base::real::Real;
use corekit_base::simd::Level;

use crate::draw::{Placement, SIGN, iid_column, placements};
use crate::law::{SparseLaw, WIDEST};

use super::tables::{ChunkDraw, Words};

/// Rows side by side.
///
/// The more, the longer are the pieces of columns, and the less costs a term beside its sums.
/// Measured on Fortran order, 4096 to 512 (Zen 5, one thread): 22.7 ms, against 28.4 for 32 rows and
/// 24.9 for 128.
pub(crate) const LANES: usize = 64;

/// The most terms of a chunk's lists, which a worker may hold.
const MOST_TERMS: f64 = (1 << 19) as f64;

/// Features of a chunk: so many that a list is some features
/// long, and no more than 1024, for a tile of float32 takes 256 KiB then.
pub(crate) fn chunk_features(law: &SparseLaw<'_>) -> usize {
    let room = (MOST_TERMS / law.column_nnz()) as usize;
    let wanted = law.n_components().next_power_of_two().clamp(256, 1024);
    // Whole blocks of any width.
    wanted.min(room / WIDEST * WIDEST).max(WIDEST)
}

/// For each sum, which lines of the tile are added to it, and which are taken off.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// Sum by sum: where its terms end; they begin where those of the sum before end.
    ends: Vec<u32>,
    /// The line of the tile, with [`MINUS`] where it is taken off.
    terms: Vec<u32>,
    /// More than any line that is named.
    lines: usize,
}

/// The bit of a term that is taken off.
const MINUS: u32 = 1 << 31;

impl Lists {
    /// Adds to line i of `sums` what list i says of the lines of `tile`; a line is [`LANES`] long.
    pub fn accumulate<T: Real>(&self, level: Level, tile: &[T], sums: &mut [T]) {
        let (tile, _) = tile.as_chunks();
        let (sums, _) = sums.as_chunks_mut();
        assert!(self.ends.len() <= sums.len() && self.lines <= tile.len());
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Avx512 => x86::accumulate(level, self, tile, sums),
            _ => add_lines::<T, false>(self, tile, sums),
        }
    }
}

/// The one source of all levels: what differs is which registers the compiler may use, and whether
/// there is an instruction for `FUSED`. A product with ±1 is exact, so that both round alike.
#[inline(always)]
fn add_lines<T: Real, const FUSED: bool>(
    lists: &Lists,
    tile: &[[T; LANES]],
    sums: &mut [[T; LANES]],
) {
    let signs = [T::ONE, -T::ONE];
    let mut start = 0;
    for (&end, sums) in lists.ends.iter().zip(sums) {
        let mut held = *sums;
        for &term in &lists.terms[start..end as usize] {
            let sign = signs[usize::from(term & MINUS != 0)];
            let line = &tile[(term & !MINUS) as usize];
            for (sum, value) in held.iter_mut().zip(line) {
                *sum = if FUSED {
                    value.mul_add(sign, *sum)
                } else {
                    *value * sign + *sum
                };
            }
        }
        *sums = held;
        start = end as usize;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_code)]

    use super::{LANES, Level, Lists, Real, add_lines};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn avx512<T: Real>(lists: &Lists, tile: &[[T; LANES]], sums: &mut [[T; LANES]]) {
        add_lines::<T, true>(lists, tile, sums);
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2<T: Real>(lists: &Lists, tile: &[[T; LANES]], sums: &mut [[T; LANES]]) {
        add_lines::<T, true>(lists, tile, sums);
    }

    pub(super) fn accumulate<T: Real>(
        level: Level,
        lists: &Lists,
        tile: &[[T; LANES]],
        sums: &mut [[T; LANES]],
    ) {
        assert!(level <= Level::detect(), "a level that the machine has");
        // SAFETY: the machine has the level.
        unsafe {
            if level == Level::Avx512 {
                avx512(lists, tile, sums);
            } else {
                avx2(lists, tile, sums);
            }
        }
    }
}

/// Draws lists: for each output its features, or for each feature its outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListDraw<'a> {
    pub seed: u128,
    pub law: SparseLaw<'a>,
    pub n_features: usize,
    /// The sums are the features, and the lines of the tile the outputs.
    pub by_feature: bool,
    /// Features of a chunk.
    pub chunk: usize,
}

impl ListDraw<'_> {
    /// Calls `entry(feature of the chunk, output, is negative)`, features of an output rising and
    /// outputs of a feature rising.
    fn each(&self, chunk: usize, words: &mut Words, mut entry: impl FnMut(usize, usize, bool)) {
        let first = chunk * self.chunk;
        let features = self.chunk.min(self.n_features - first);
        match self.law {
            SparseLaw::Stack(strata) => {
                let width = strata.width;
                let empty = Placement {
                    start: 0,
                    lanes: [0; _],
                };
                let mut drawn = vec![empty; strata.column_nnz()];
                for block in 0..features.div_ceil(width) {
                    let number = (first / width + block) as u64;
                    placements(self.seed, strata, number, words, &mut drawn);
                    for placement in &drawn {
                        for (lane, &from) in placement.lanes[..width].iter().enumerate() {
                            let feature = block * width + usize::from(from & !SIGN);
                            if feature < features {
                                entry(feature, placement.start as usize + lane, from & SIGN != 0);
                            }
                        }
                    }
                }
            }
            SparseLaw::Iid {
                threshold,
                n_components,
            } => {
                for feature in 0..features {
                    let number = (first + feature) as u64;
                    iid_column(
                        self.seed,
                        threshold,
                        n_components,
                        number,
                        words,
                        |output, minus| {
                            entry(feature, output, minus);
                        },
                    );
                }
            }
        }
    }
}

impl ChunkDraw for ListDraw<'_> {
    type Table = Lists;

    fn chunks(&self) -> usize {
        self.n_features.div_ceil(self.chunk)
    }

    fn bytes(&self) -> usize {
        let column = self.law.column_nnz();
        let sums = if self.by_feature {
            self.n_features
        } else {
            self.chunks() * self.law.n_components()
        };
        (self.n_features as f64 * column * 4.0 + sums as f64 * 4.0) as usize
    }

    fn draw(&self, chunk: usize, words: &mut Words, lists: &mut Lists) {
        let features = self.chunk.min(self.n_features - chunk * self.chunk);
        let (sums, lines) = match self.by_feature {
            true => (features, self.law.n_components()),
            false => (self.law.n_components(), features),
        };
        // A counting sort; drawing twice is cheaper than keeping what was drawn.
        lists.lines = lines;
        lists.ends.clear();
        lists.ends.resize(sums, 0);
        let place = |feature: usize, output: usize| match self.by_feature {
            true => (feature, output as u32),
            false => (output, feature as u32),
        };
        self.each(chunk, words, |feature, output, _| {
            lists.ends[place(feature, output).0] += 1;
        });
        let mut before = 0;
        for end in &mut lists.ends {
            before += std::mem::replace(end, before);
        }
        lists.terms.clear();
        lists.terms.resize(before as usize, 0);
        self.each(chunk, words, |feature, output, minus| {
            let (sum, line) = place(feature, output);
            let next = &mut lists.ends[sum];
            lists.terms[*next as usize] = line | if minus { MINUS } else { 0 };
            *next += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::law::{Strata, Threshold};

    #[test]
    fn all_levels_are_the_plain_loop() {
        let strata = Strata::new(50, 3, 16).unwrap();
        let iid = SparseLaw::Iid {
            threshold: Threshold::new(0.3).unwrap(),
            n_components: 50,
        };
        for law in [SparseLaw::Stack(&strata), iid] {
            for by_feature in [false, true] {
                let draw = ListDraw {
                    seed: 3,
                    law,
                    n_features: 256 + 77,
                    by_feature,
                    chunk: 256,
                };
                let tile: Vec<f32> = (0..256 * LANES).map(|i| (i % 103) as f32 / 7.0).collect();
                for chunk in 0..2 {
                    let mut lists = Lists::default();
                    draw.draw(chunk, &mut Words::new(), &mut lists);
                    let mut wanted = vec![1f32; 256 * LANES];
                    lists.accumulate(Level::Scalar, &tile, &mut wanted);
                    for level in Level::all() {
                        let mut sums = vec![1f32; 256 * LANES];
                        lists.accumulate(level, &tile, &mut sums);
                        assert_eq!(sums, wanted, "{level}");
                    }
                }
            }
        }
    }
}
