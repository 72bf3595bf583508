//! Lists of features for each output: any sparse law, many rows side by side.
//!
//! A chunk of features is loaded by columns, so that one register holds one feature of many rows.
//! Every output has the list of its features in rising order; its sums stay in registers while they
//! are added or taken off. Nothing depends on how a law places its entries, input that comes by
//! columns needs no turning, and the transposed matrix acts the same way.

use corekit_base::real::Real;
use corekit_base::simd::Level;

use crate::draw::{self, Placement, SIGN, iid_column};
use crate::error::Result;
use crate::law::{Parts, SparseLaw, WIDEST};
use crate::memory::resize;

use super::tables::{ChunkDraw, Room, WHAT};

mod kernel;

/// Rows side by side.
///
/// The more, the longer are the pieces of columns, and the less costs a term beside its sums.
/// Measured on Fortran order, 4096 to 512 (Zen 5, one thread): 22.7 ms, against 28.4 for 32 rows and
/// 24.9 for 128.
pub(crate) const LANES: usize = 64;

/// The most outputs of a part: their sums, of float64, take 5 MiB.
const MOST_OUTPUTS: usize = 10 << 10;

/// The most terms of a chunk's lists, which a worker may hold.
const MOST_TERMS: usize = 1 << 19;

/// How outputs are divided: the least chunk of features has no more terms than a worker may hold.
pub(crate) fn parts(law: SparseLaw<'_>) -> Parts<'_> {
    law.parts(MOST_OUTPUTS, MOST_TERMS / WIDEST)
}

/// Features of a chunk: so many that a list is some features
/// long, and no more than 1024, for a tile of float32 takes 256 KiB then.
pub(crate) fn chunk_features(parts: &Parts<'_>) -> usize {
    let room = (MOST_TERMS as f64 / parts.column_nnz()) as usize;
    let wanted = parts.widest().next_power_of_two().clamp(256, 1024);
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
            Level::Avx2 | Level::Avx512 => kernel::x86::accumulate(level, self, tile, sums),
            _ => kernel::add_lines::<T, false>(self, tile, sums),
        }
    }
}

/// Draws lists: for each output its features, or for each feature its outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListDraw<'a> {
    pub seed: u128,
    pub law: SparseLaw<'a>,
    pub n_features: usize,
    /// How outputs are divided: [`parts`].
    pub parts: Parts<'a>,
    /// The sums are the features, and the lines of the tile the outputs.
    pub by_feature: bool,
    /// Features of a chunk.
    pub chunk: usize,
}

impl ListDraw<'_> {
    /// Calls `entry(feature of the chunk, output of the part, is negative)`, features of an output
    /// rising and outputs of a feature rising.
    fn each(
        &self,
        part: usize,
        chunk: usize,
        room: &mut Room,
        mut entry: impl FnMut(usize, usize, bool),
    ) -> Result<()> {
        let first = chunk * self.chunk;
        let features = self.chunk.min(self.n_features - first);
        let part = self.parts.get(part);
        let Room {
            words, placements, ..
        } = room;
        match self.law {
            SparseLaw::Stack(strata) => {
                let (width, s) = (strata.width, part.strata().len());
                resize(WHAT, words, s * strata.words_per_stratum(), 0)?;
                resize(WHAT, placements, s, Placement::NOWHERE)?;
                for block in 0..features.div_ceil(width) {
                    let number = (first / width + block) as u64;
                    draw::placements(self.seed, strata, part.strata(), number, words, placements);
                    for placement in placements.iter() {
                        if part.cuts && !part.has(placement.start) {
                            continue;
                        }
                        let start = placement.start as usize - part.start;
                        for (lane, &from) in placement.lanes[..width].iter().enumerate() {
                            let feature = block * width + usize::from(from & !SIGN);
                            if feature < features {
                                entry(feature, start + lane, from & SIGN != 0);
                            }
                        }
                    }
                }
            }
            SparseLaw::Iid { threshold, .. } => {
                resize(WHAT, words, part.len.div_ceil(2), 0)?;
                for feature in 0..features {
                    let number = (first + feature) as u64;
                    let entry = |output, minus| entry(feature, output, minus);
                    iid_column(self.seed, threshold, part.outputs(), number, words, entry);
                }
            }
        }
        Ok(())
    }
}

impl ChunkDraw for ListDraw<'_> {
    type Table = Lists;

    fn parts(&self) -> &Parts<'_> {
        &self.parts
    }

    fn chunks(&self) -> usize {
        self.n_features.div_ceil(self.chunk)
    }

    fn bytes(&self) -> usize {
        let column = self.law.column_nnz();
        let sums = if self.by_feature {
            self.n_features as f64 * self.parts.count() as f64
        } else {
            self.chunks() as f64 * self.law.n_components() as f64
        };
        (self.n_features as f64 * column * 4.0 + sums * 4.0) as usize
    }

    fn draw(&self, part: usize, chunk: usize, room: &mut Room, lists: &mut Lists) -> Result<()> {
        let features = self.chunk.min(self.n_features - chunk * self.chunk);
        let outputs = self.parts.get(part).len;
        let (sums, lines) = match self.by_feature {
            true => (features, outputs),
            false => (outputs, features),
        };
        // A counting sort; drawing twice is cheaper than keeping what was drawn.
        lists.lines = lines;
        lists.ends.clear();
        resize(WHAT, &mut lists.ends, sums, 0)?;
        let place = |feature: usize, output: usize| match self.by_feature {
            true => (feature, output as u32),
            false => (output, feature as u32),
        };
        self.each(part, chunk, room, |feature, output, _| {
            lists.ends[place(feature, output).0] += 1;
        })?;
        let mut before = 0;
        for end in &mut lists.ends {
            before += std::mem::replace(end, before);
        }
        lists.terms.clear();
        resize(WHAT, &mut lists.terms, before as usize, 0)?;
        self.each(part, chunk, room, |feature, output, minus| {
            let (sum, line) = place(feature, output);
            let next = &mut lists.ends[sum];
            lists.terms[*next as usize] = line | if minus { MINUS } else { 0 };
            *next += 1;
        })
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
                    parts: law.parts(MOST_OUTPUTS, 100),
                    n_features: 256 + 77,
                    by_feature,
                    chunk: 256,
                };
                let tile: Vec<f32> = (0..256 * LANES).map(|i| (i % 103) as f32 / 7.0).collect();
                for chunk in 0..2 {
                    let mut lists = Lists::default();
                    draw.draw(0, chunk, &mut Room::default(), &mut lists)
                        .unwrap();
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
