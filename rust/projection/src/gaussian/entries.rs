//! Parts of the matrix, drawn from the seed.

use std::ops::Range;

use corekit_base::aligned::{self, Aligned};
use corekit_base::philox::Stream;
use corekit_base::real::Real;
use corekit_base::simd::Level;

use super::gemm::width;
use crate::draw::DOMAIN;
use crate::error::Result;
use crate::memory::zeros;
use corekit_base::normal::normals;

/// Which matrix: k x d, entry (i, j) from word i of stream j.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    seed: u128,
    scale: f64,
    level: Level,
}

/// Entries that are drawn in one go: enough to fill vectors, few enough to stay in cache.
const BATCH: usize = 2048;

/// Words and numbers on their way into a panel.
pub(super) struct Scratch<T> {
    words: Vec<u64>,
    numbers: Aligned<T>,
}

impl<T: Real> Scratch<T> {
    pub fn new() -> Result<Self> {
        Ok(Self {
            words: zeros("random words", BATCH)?,
            numbers: aligned::zeros("random numbers", BATCH)?,
        })
    }
}

impl Entries {
    /// The matrix of `k` outputs under `seed`.
    pub fn new(seed: u128, k: usize, level: Level) -> Self {
        Self {
            seed,
            scale: 1.0 / (k as f64).sqrt(),
            level,
        }
    }

    /// Draws the entries of `features` at `outputs`, feature after feature, and gives them to
    /// `take` in pieces of whole features, or of one: (number of the first feature, outputs,
    /// entries).
    fn each<T: Real>(
        &self,
        features: impl ExactSizeIterator<Item = u64>,
        outputs: Range<usize>,
        scratch: &mut Scratch<T>,
        mut take: impl FnMut(usize, Range<usize>, &[T]),
    ) {
        let mut draw = |first: usize, outputs: Range<usize>, words: &mut [u64]| {
            let numbers = &mut scratch.numbers[..words.len()];
            normals(self.level, words, self.scale, numbers);
            take(first, outputs, numbers);
        };
        let m = outputs.len();
        if m == 0 {
            return;
        }
        let together = (BATCH / m).max(1);
        let count = features.len();
        for (number, feature) in features.enumerate() {
            let stream = Stream::new(self.seed, feature, DOMAIN);
            if m > BATCH {
                for start in outputs.clone().step_by(BATCH) {
                    let part = start..outputs.end.min(start + BATCH);
                    let words = &mut scratch.words[..part.len()];
                    stream.fill(start as u64, words);
                    draw(number, part, words);
                }
                continue;
            }
            let at = number % together;
            stream.fill(outputs.start as u64, &mut scratch.words[at * m..][..m]);
            if at + 1 == together || number + 1 == count {
                let words = &mut scratch.words[..(at + 1) * m];
                draw(number - at, outputs.clone(), words);
            }
        }
    }

    /// The columns of `features`: output `outputs.start + i` of the f-th of them to
    /// `out[f * stride + i]`.
    pub fn columns<T: Real>(
        &self,
        features: impl ExactSizeIterator<Item = u64>,
        outputs: Range<usize>,
        scratch: &mut Scratch<T>,
        out: &mut [T],
        stride: usize,
    ) {
        let start = outputs.start;
        self.each(features, outputs, scratch, |first, outputs, numbers| {
            for (f, column) in numbers.chunks_exact(outputs.len()).enumerate() {
                let at = (first + f) * stride + (outputs.start - start);
                out[at..at + column.len()].copy_from_slice(column);
            }
        });
    }

    /// Strips of outputs, a row of a strip for each feature: what `project` multiplies by.
    pub fn strips_of_outputs<T: Real>(
        &self,
        features: Range<usize>,
        outputs: Range<usize>,
        scratch: &mut Scratch<T>,
        panel: &mut [T],
    ) {
        let width = width::<T>();
        let (start, depth) = (outputs.start, features.len());
        let features = features.map(|feature| feature as u64);
        self.each(features, outputs, scratch, |first, outputs, numbers| {
            for (f, column) in numbers.chunks_exact(outputs.len()).enumerate() {
                let first_strip = (outputs.start - start) / width;
                for (s, part) in column.chunks(width).enumerate() {
                    let at = ((first_strip + s) * depth + first + f) * width;
                    panel[at..at + part.len()].copy_from_slice(part);
                }
            }
        });
    }

    /// Strips of features, a row of a strip for each output: what `adjoint` multiplies by.
    pub fn strips_of_features<T: Real>(
        &self,
        outputs: Range<usize>,
        features: Range<usize>,
        scratch: &mut Scratch<T>,
        panel: &mut [T],
    ) {
        /// Outputs that are turned at once.
        const SIDE: usize = 128;
        let width = width::<T>();
        let mut block = [T::ZERO; 32 * SIDE];
        let strips = panel.chunks_mut(outputs.len() * width);
        for (first, strip) in features.clone().step_by(width).zip(strips) {
            let count = width.min(features.end - first);
            for start in outputs.clone().step_by(SIDE) {
                let part = start..outputs.end.min(start + SIDE);
                let len = part.len();
                let features = (first..first + count).map(|feature| feature as u64);
                self.columns(features, part, scratch, &mut block, SIDE);
                let rows = &mut strip[(start - outputs.start) * width..][..len * width];
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    for (f, entry) in row[..count].iter_mut().enumerate() {
                        *entry = block[f * SIDE + i];
                    }
                }
            }
        }
    }
}
