//! The laws: which random matrices there are, and with which weights.
//!
//! A law is a distribution over k x d matrices A with E ‖Ax‖² = ‖x‖² for every x. What is drawn
//! from it under a seed is [`crate::Operator`]; how it acts is the kernels' matter.

use std::ops::Range;

use corekit_base::memory::try_vec;
use corekit_base::real::Real;

use crate::error::{Error, Result};
use crate::memory::resize;

/// The widest block of features that is kept together: one AVX-512 register of float32.
pub const WIDEST: usize = 16;

/// A distribution of matrices.
#[derive(Clone, Debug, PartialEq)]
pub enum Law {
    /// Exactly s entries of magnitude a_r in every column, one in each of s strata of outputs.
    /// Blocks of `width` features go to one group of outputs together, permuted and signed.
    Stack(Strata),
    /// Every entry by itself: zero, or with probability p one of ±1/√(pk).
    Iid(Threshold),
    /// Every entry normal with variance 1/k.
    Gaussian,
    /// Rows of a Hadamard matrix, drawn without replacement, with random signs of the features.
    Srht,
}

impl Law {
    /// The law, if it is a sparse one, of matrices of `n_components` rows.
    pub(crate) fn sparse(&self, n_components: usize) -> Option<SparseLaw<'_>> {
        match self {
            Self::Stack(strata) => Some(SparseLaw::Stack(strata)),
            Self::Iid(threshold) => Some(SparseLaw::Iid {
                threshold: *threshold,
                n_components,
            }),
            Self::Gaussian | Self::Srht => None,
        }
    }
}

/// A law with few entries in a column, all of one magnitude for each output.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SparseLaw<'a> {
    /// [`Law::Stack`].
    Stack(&'a Strata),
    /// [`Law::Iid`].
    Iid {
        /// The density.
        threshold: Threshold,
        /// k.
        n_components: usize,
    },
}

impl<'a> SparseLaw<'a> {
    /// k.
    pub fn n_components(&self) -> usize {
        match *self {
            Self::Stack(strata) => strata.n_components,
            Self::Iid { n_components, .. } => n_components,
        }
    }

    /// Features that are drawn together.
    pub(crate) fn width(&self) -> usize {
        match *self {
            Self::Stack(strata) => strata.width,
            Self::Iid { .. } => 1,
        }
    }

    /// The entries of a column: their number, or what is expected of it.
    pub(crate) fn column_nnz(&self) -> f64 {
        match *self {
            Self::Stack(strata) => strata.column_nnz() as f64,
            Self::Iid {
                threshold,
                n_components,
            } => threshold.density() * n_components as f64,
        }
    }

    /// All outputs.
    #[cfg(test)]
    pub(crate) fn whole(self) -> Part {
        self.parts(usize::MAX, usize::MAX).get(0)
    }

    /// The outputs in parts of at most `outputs` of them, a column having about `column_nnz`
    /// entries in each at most; whole strata, unless one has more outputs than that.
    pub(crate) fn parts(self, outputs: usize, column_nnz: usize) -> Parts<'a> {
        let k = self.n_components();
        let strata = match self {
            Self::Stack(strata) => strata,
            Self::Iid { .. } => {
                let lines = k.div_ceil(WIDEST);
                let by_nnz = (self.column_nnz() / column_nnz as f64).ceil() as usize;
                let by_outputs = match k <= outputs {
                    true => 1,
                    false => lines.div_ceil((outputs / WIDEST).max(1)),
                };
                return Parts {
                    law: self,
                    count: by_outputs.max(by_nnz).min(lines),
                    per_stratum: 1,
                };
            }
        };
        let s = strata.column_nnz();
        if k <= outputs && s <= column_nnz {
            return Parts {
                law: self,
                count: 1,
                per_stratum: 1,
            };
        }
        // Strata differ by a group at most.
        let groups = strata.first[s].div_ceil(s as u64) as usize;
        let most_groups = outputs / strata.width;
        let together = (most_groups / groups).min(column_nnz);
        // Four groups at least, lest the last two, which may overlap, come apart.
        let per_stratum = groups.div_ceil(most_groups.max(4));
        Parts {
            law: self,
            count: match together {
                0 => s * per_stratum,
                _ => s.div_ceil(together),
            },
            per_stratum: if together == 0 { per_stratum } else { 1 },
        }
    }

    /// The magnitude of the entries of every output of `part`, rounded to the type of the sums.
    pub(crate) fn scales<T: Real>(&self, part: &Part, scales: &mut Vec<T>) -> Result<()> {
        const WHAT: &str = "the weights of outputs";
        scales.clear();
        match *self {
            Self::Stack(strata) => {
                resize(WHAT, scales, part.len, T::ZERO)?;
                let mut done = 0;
                for r in part.strata() {
                    let end = (strata.first[r + 1] as usize * strata.width).min(part.outputs().end);
                    scales[done..end - part.start].fill(T::of(strata.weights[r]));
                    done = end - part.start;
                }
            }
            Self::Iid { .. } => {
                resize(WHAT, scales, part.len, T::of(self.iid_weight()))?;
            }
        }
        Ok(())
    }

    /// The magnitude of the entries of an iid law.
    pub(crate) fn iid_weight(&self) -> f64 {
        1.0 / self.column_nnz().sqrt()
    }
}

/// Some of the outputs, one after the other: what a kernel has memory for at a time. A part is drawn
/// by itself, and is summed as the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The first output.
    pub start: usize,
    /// How many outputs.
    pub len: usize,
    first_stratum: usize,
    strata: usize,
    /// Whether it is a piece of one stratum: then it has whole groups, but not all.
    pub cuts: bool,
}

impl Part {
    /// Its outputs.
    pub fn outputs(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// The strata that it has outputs of.
    pub fn strata(&self) -> Range<usize> {
        self.first_stratum..self.first_stratum + self.strata
    }

    /// Whether an output is among its own.
    #[inline]
    pub fn has(&self, output: u32) -> bool {
        (output as usize).wrapping_sub(self.start) < self.len
    }
}

/// How the outputs of a law are divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    law: SparseLaw<'a>,
    count: usize,
    /// Pieces of a stratum, where one is cut.
    per_stratum: usize,
}

impl Parts<'_> {
    /// How many parts there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Part `number`.
    pub fn get(&self, number: usize) -> Part {
        let edge = |of: u64, number: usize, count: usize| mul_div(of, number as u64, count as u64);
        let strata = match self.law {
            SparseLaw::Stack(strata) => strata,
            SparseLaw::Iid { n_components, .. } => {
                let lines = n_components.div_ceil(WIDEST) as u64;
                let end =
                    |number| (edge(lines, number, self.count) as usize * WIDEST).min(n_components);
                return Part {
                    start: end(number),
                    len: end(number + 1) - end(number),
                    first_stratum: 0,
                    strata: 0,
                    cuts: false,
                };
            }
        };
        let (first, width, k) = (&strata.first, strata.width, strata.n_components);
        let (of_strata, groups) = if self.per_stratum == 1 {
            let s = strata.column_nnz() as u64;
            let start = edge(s, number, self.count) as usize;
            let end = edge(s, number + 1, self.count) as usize;
            (start..end, first[start]..first[end])
        } else {
            let (r, piece) = (number / self.per_stratum, number % self.per_stratum);
            let end = |piece| first[r] + edge(first[r + 1] - first[r], piece, self.per_stratum);
            (r..r + 1, end(piece)..end(piece + 1))
        };
        let start = groups.start as usize * width;
        Part {
            start,
            len: (groups.end as usize * width).min(k) - start,
            first_stratum: of_strata.start,
            strata: of_strata.len(),
            cuts: self.per_stratum > 1,
        }
    }

    /// The most outputs of a part.
    pub fn widest(&self) -> usize {
        let k = self.law.n_components();
        let most = match self.law {
            SparseLaw::Stack(strata) => {
                let s = strata.column_nnz();
                let groups = strata.first[s].div_ceil(s as u64) as usize;
                let groups = match self.per_stratum {
                    1 => groups.saturating_mul(s.div_ceil(self.count)),
                    pieces => groups.div_ceil(pieces),
                };
                groups.saturating_mul(strata.width)
            }
            SparseLaw::Iid { .. } => k.div_ceil(WIDEST).div_ceil(self.count) * WIDEST,
        };
        most.min(k)
    }

    /// About the most entries of a column in a part.
    pub fn column_nnz(&self) -> f64 {
        match self.law {
            SparseLaw::Stack(strata) if self.per_stratum == 1 => {
                strata.column_nnz().div_ceil(self.count) as f64
            }
            SparseLaw::Stack(_) => 1.0,
            SparseLaw::Iid { .. } => self.law.column_nnz() / self.count as f64,
        }
    }
}

/// The strata of a stack: how outputs are divided among the `s` entries of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Strata {
    /// Features in a block, and outputs in a group: a power of two up to [`WIDEST`].
    pub width: usize,
    /// Stratum r has the groups `first[r]..first[r + 1]`.
    pub first: Vec<u64>,
    /// a_r, the magnitude of the entries of stratum r.
    pub weights: Vec<f64>,
    /// k.
    pub n_components: usize,
}

impl Strata {
    /// Divides `n_components` outputs among `column_nnz` strata, in groups of `width`.
    ///
    /// The last group overlaps its neighbour, in the same stratum, when `width` does not divide k.
    /// With p_rj the chance that an entry of stratum r falls on output j and c_r = Σ_j p_rj², the
    /// weights are a_r² = (1/c_r) / Σ (1/c), which gives the smallest variance of ‖Ax‖².
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the strata would not be disjoint: `1 <= column_nnz` and
    /// `column_nnz * width <= n_components` is needed. [`Error::OutOfMemory`]: a stratum takes 16
    /// bytes.
    pub fn new(n_components: usize, column_nnz: usize, width: usize) -> Result<Self> {
        if !width.is_power_of_two() || width > WIDEST {
            return Err(Error::InvalidArgument(format!(
                "width must be a power of two up to {WIDEST}, got {width}"
            )));
        }
        let fits = column_nnz
            .checked_mul(width)
            .is_some_and(|least| least <= n_components);
        if column_nnz == 0 || !fits {
            return Err(Error::InvalidArgument(format!(
                "column_nnz must be at least 1 and at most n_components ({n_components}), \
                 got {column_nnz}"
            )));
        }
        const WHAT: &str = "the strata of outputs";
        let (k, s, w) = (n_components as u64, column_nnz as u64, width as u64);
        let groups = k.div_ceil(w);
        let mut first = try_vec(WHAT, column_nnz.saturating_add(1))?;
        first.extend((0..=s).map(|r| mul_div(groups, r, s)));
        let overlap = (groups * w - k) as f64;
        // 1/c, and then what is made of it.
        let mut weights = try_vec(WHAT, column_nnz)?;
        weights.extend((0..column_nnz).map(|r| {
            let size = ((first[r + 1] - first[r]) * w) as f64;
            let twice = if r + 1 == column_nnz { overlap } else { 0.0 };
            size * size / (size + 2.0 * twice)
        }));
        let total: f64 = weights.iter().sum();
        weights
            .iter_mut()
            .for_each(|weight| *weight = (*weight / total).sqrt());
        Ok(Self {
            width,
            first,
            weights,
            n_components,
        })
    }

    /// The widest blocks that `column_nnz` strata of `n_components` outputs allow.
    pub fn widest(n_components: usize, column_nnz: usize) -> usize {
        let most = (n_components / column_nnz.max(1)).clamp(1, WIDEST);
        1 << most.ilog2()
    }

    /// s, the non-zeros of a column.
    pub fn column_nnz(&self) -> usize {
        self.weights.len()
    }

    /// Where the outputs of group `group` start.
    #[inline]
    pub fn start(&self, group: u64) -> usize {
        (group as usize * self.width).min(self.n_components - self.width)
    }

    /// Words of the stream of one block that a stratum takes: one where there is nothing to permute.
    pub fn words_per_stratum(&self) -> usize {
        if self.width == 1 { 1 } else { 2 }
    }
}

/// floor(a * b / c) without overflow.
fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    match a.checked_mul(b) {
        Some(product) => product / c,
        None => (u128::from(a) * u128::from(b) / u128::from(c)) as u64,
    }
}

/// The density of an iid law, as the draw has it: a multiple of 2⁻³¹.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold(u32);

impl Threshold {
    /// 2³¹, the threshold of density 1.
    const ONE: u32 = 1 << 31;

    /// The multiple of 2⁻³¹ nearest to `density`, ties to even.
    ///
    /// # Errors
    /// When that is not in (0, 1].
    pub fn new(density: f64) -> Result<Self> {
        let threshold = (density * f64::from(Self::ONE)).round_ties_even();
        if !(1.0..=f64::from(Self::ONE)).contains(&threshold) {
            return Err(Error::InvalidArgument(format!(
                "density must be above 0 and at most 1, got {density}"
            )));
        }
        Ok(Self(threshold as u32))
    }

    /// The density.
    pub fn density(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ONE)
    }

    /// Whether the entry that drew `half` is not zero; its sign is the lowest bit.
    #[inline]
    pub fn keeps(self, half: u32) -> bool {
        half >> 1 < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strata_are_disjoint_and_cover() {
        for k in 1..200 {
            for s in 1..=k.min(20) {
                for width in [1, Strata::widest(k, s)] {
                    let strata = Strata::new(k, s, width).unwrap();
                    let ends: Vec<usize> = (0..s)
                        .map(|r| strata.start(strata.first[r + 1] - 1) + width)
                        .collect();
                    let starts: Vec<usize> =
                        (0..s).map(|r| strata.start(strata.first[r])).collect();
                    assert_eq!((starts[0], ends[s - 1]), (0, k), "k {k} s {s}");
                    assert_eq!(starts[1..], ends[..s - 1], "k {k} s {s}");
                    let sum: f64 = strata.weights.iter().map(|a| a * a).sum();
                    assert!((sum - 1.0).abs() < 1e-14);
                    let law = SparseLaw::Stack(&strata);
                    let mut scales = Vec::<f64>::new();
                    law.scales(&law.whole(), &mut scales).unwrap();
                    assert_eq!(scales.len(), k);
                    let counts = strata.first.windows(2).map(|f| f[1] - f[0]);
                    assert!(counts.clone().max().unwrap() - counts.min().unwrap() <= 1);
                }
            }
        }
    }

    /// Every law, with its parts of several sizes.
    fn all_parts(mut visit: impl FnMut(SparseLaw<'_>, Parts<'_>, [usize; 2])) {
        for k in [1, 5, 16, 17, 100, 1000, 1003] {
            for most in [
                [1, 1],
                [16, 2],
                [64, 100],
                [100, 3],
                [1 << 20, 2],
                [1 << 20, 1000],
            ] {
                for s in [1, 2, 3, 7, 8, 60] {
                    for width in [1, Strata::widest(k, s)] {
                        if let Ok(strata) = Strata::new(k, s, width) {
                            let law = SparseLaw::Stack(&strata);
                            visit(law, law.parts(most[0], most[1]), most);
                        }
                    }
                }
                for density in [1.0, 0.1, 1e-6] {
                    let law = SparseLaw::Iid {
                        threshold: Threshold::new(density).unwrap(),
                        n_components: k,
                    };
                    visit(law, law.parts(most[0], most[1]), most);
                }
            }
        }
    }

    #[test]
    fn parts_are_the_whole_one_after_the_other() {
        all_parts(|law, parts, [most, nnz]| {
            let (mut whole, mut scales) = (Vec::<f64>::new(), Vec::<f64>::new());
            law.scales(&law.whole(), &mut whole).unwrap();
            let mut next = 0;
            for number in 0..parts.count() {
                let part = parts.get(number);
                assert_eq!(part.start, next, "{law:?} {parts:?}");
                assert!(part.len > 0 && part.len <= parts.widest());
                law.scales(&part, &mut scales).unwrap();
                assert_eq!(scales, whole[part.outputs()]);
                next = part.outputs().end;
                if let SparseLaw::Stack(strata) = law {
                    // The last two groups, which may overlap, are together.
                    let last = strata.start(strata.first[strata.column_nnz()] - 1);
                    assert!(part.start <= last || number == 0);
                    assert!(part.strata().len() <= nnz);
                }
            }
            assert_eq!(next, law.n_components());
            // As small as is asked for, but for four groups, or a line of an iid law.
            assert!(parts.widest() <= most.max(4 * law.width()).max(WIDEST));
        });
    }

    #[test]
    fn what_memory_does_not_hold_is_refused() {
        let most = usize::MAX >> 5;
        assert!(matches!(
            Strata::new(most, most, 1),
            Err(Error::OutOfMemory { .. })
        ));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Strata::new(4, 5, 1).is_err());
        assert!(Strata::new(4, 0, 1).is_err());
        assert!(Strata::new(16, 2, 16).is_err());
        assert!(Threshold::new(0.0).is_err());
        assert!(Threshold::new(1.0 + 1e-9).is_err());
        assert!(Threshold::new(f64::NAN).is_err());
        assert_eq!(Threshold::new(1.0).unwrap().density(), 1.0);
    }
}
