//! The laws: which random matrices there are, and with which weights.
//!
//! A law is a distribution over k x d matrices A with E ‖Ax‖² = ‖x‖² for every x. What is drawn
//! from it under a seed is [`crate::Operator`]; how it acts is the kernels' matter.

use crate::error::{Error, Result};

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

impl SparseLaw<'_> {
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

    /// The magnitude of the entries of every output.
    pub(crate) fn scales(&self) -> Vec<f64> {
        match *self {
            Self::Stack(strata) => strata.scales(),
            Self::Iid { n_components, .. } => {
                vec![1.0 / self.column_nnz().sqrt(); n_components]
            }
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
    /// When the strata would not be disjoint: `1 <= column_nnz` and
    /// `column_nnz * width <= n_components` is needed.
    pub fn new(n_components: usize, column_nnz: usize, width: usize) -> Result<Self> {
        let fits = column_nnz
            .checked_mul(width)
            .is_some_and(|least| least <= n_components);
        if column_nnz == 0 || !fits || !width.is_power_of_two() || width > WIDEST {
            return Err(Error::InvalidArgument(format!(
                "column_nnz must be at least 1 and at most n_components ({n_components}), \
                 got {column_nnz}"
            )));
        }
        let (k, s, w) = (n_components as u64, column_nnz as u64, width as u64);
        let groups = k.div_ceil(w);
        let first: Vec<u64> = (0..=s).map(|r| mul_div(groups, r, s)).collect();
        let overlap = (groups * w - k) as f64;
        let inverse: Vec<f64> = (0..column_nnz)
            .map(|r| {
                let size = ((first[r + 1] - first[r]) * w) as f64;
                let twice = if r + 1 == column_nnz { overlap } else { 0.0 };
                size * size / (size + 2.0 * twice)
            })
            .collect();
        let total: f64 = inverse.iter().sum();
        Ok(Self {
            width,
            first,
            weights: inverse.iter().map(|i| (i / total).sqrt()).collect(),
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

    /// The weight of every output.
    pub fn scales(&self) -> Vec<f64> {
        let mut scales = Vec::with_capacity(self.n_components);
        for (r, &weight) in self.weights.iter().enumerate() {
            let end = (self.first[r + 1] as usize * self.width).min(self.n_components);
            scales.resize(end, weight);
        }
        scales
    }

    /// Words of the stream of one block: a stratum takes two, or one where there is nothing to
    /// permute.
    pub fn words(&self) -> usize {
        self.column_nnz() * self.words_per_stratum()
    }

    pub(crate) fn words_per_stratum(&self) -> usize {
        if self.width == 1 { 1 } else { 2 }
    }
}

/// floor(a * b / c) without overflow.
fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    (u128::from(a) * u128::from(b) / u128::from(c)) as u64
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
                    assert_eq!(strata.scales().len(), k);
                    let counts = strata.first.windows(2).map(|f| f[1] - f[0]);
                    assert!(counts.clone().max().unwrap() - counts.min().unwrap() <= 1);
                }
            }
        }
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
