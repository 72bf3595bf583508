//! The matrix of the positive random features, from its seed: a public formula.
//!
//! With rows w_j that are normal, φ_j(x) = exp(w_j·x - |x|²/2) / √m gives E φ(x)·φ(y) = exp(x·y).
//! Choromanski et al., "Rethinking attention with Performers", ICLR 2021
//! (<https://arxiv.org/abs/2009.14794>), lemma 1 and section 2.4: rows of a block of as many as a
//! row has entries may be made orthogonal. Each is still normal, so nothing is biased, and estimates
//! vary less.
//!
//! ```text
//! w_j = normal quantiles of the words of stream j
//! for each block of key_dim rows (the last may have fewer), for each of its rows w in order:
//!     u = w
//!     twice: for each row before it in the block, with u' made of it:  u = u - (u'·u) u'
//!     u = u / |u|
//!     w = |w| u
//! ```
//!
//! Sums go from left to right and nothing is fused, so that the bits are the same everywhere. A row
//! depends on those before it only: more features leave the first as they are. Once is not enough
//! (what is lost to cancellation along the rows before comes back), twice is (Giraud, Langou,
//! Rozložník, "The loss of orthogonality in the Gram-Schmidt orthogonalization process", Comput.
//! Math. Appl. 50 (2005), <https://doi.org/10.1016/j.camwa.2005.08.009>).

use corekit_base::memory::zeroed;
use corekit_base::normal::normals;
use corekit_base::philox::Stream;
use corekit_base::run::Run;

use crate::error::Result;

/// The counter's last word: the domain of attention is 2.
const DOMAIN: u64 = 2 << 32;

/// What memory is asked for.
const WHAT: &str = "the matrix of random features";

/// Positive random features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Favor {
    /// m: how many.
    pub n_features: usize,
    /// Whether rows of a block are orthogonal.
    pub orthogonal: bool,
    /// The key of the generator.
    pub seed: u128,
}

impl Favor {
    /// The m x `key_dim` matrix, row after row.
    ///
    /// Takes O(m key_dim) draws, and O(m key_dim²) operations for orthogonal rows, all in a chain.
    ///
    /// # Errors
    /// When the system refuses memory, or the caller cancels.
    pub fn projection(&self, key_dim: usize, run: &Run) -> Result<Vec<f64>> {
        let mut matrix = zeroed(WHAT, self.n_features.checked_mul(key_dim))?;
        if matrix.is_empty() {
            return Ok(matrix);
        }
        let mut words = zeroed(WHAT, key_dim)?;
        for (row, stream) in matrix.chunks_exact_mut(key_dim).zip(0..) {
            Stream::new(self.seed, stream, DOMAIN).fill(0, &mut words);
            normals(run.level, &words, 1.0, row);
        }
        if self.orthogonal {
            let block = key_dim.saturating_mul(key_dim);
            let mut units = zeroed(WHAT, matrix.len().min(block))?;
            for block in matrix.chunks_mut(block) {
                orthogonalise(block, key_dim, &mut units, run)?;
            }
        }
        Ok(matrix)
    }
}

/// Makes rows orthogonal and leaves their norms, with room for as many in `units`.
///
/// A row that is a sum of those before it has no direction of its own. It stays as it is; that the
/// draws of some seed have one is next to impossible.
fn orthogonalise(rows: &mut [f64], row_len: usize, units: &mut [f64], run: &Run) -> Result<()> {
    for (place, row) in rows.chunks_exact_mut(row_len).enumerate() {
        run.control.check()?;
        let (before, rest) = units.split_at_mut(place * row_len);
        let unit = &mut rest[..row_len];
        unit.copy_from_slice(row);
        for _ in 0..2 {
            for other in before.chunks_exact(row_len) {
                let along = dot(other, unit);
                for (x, y) in unit.iter_mut().zip(other) {
                    *x -= along * y;
                }
            }
        }
        let (norm, left) = (dot(row, row).sqrt(), dot(unit, unit).sqrt());
        if left > 0.0 {
            for (x, w) in unit.iter_mut().zip(row) {
                *x /= left;
                *w = norm * *x;
            }
        }
    }
    Ok(())
}

/// The sum of products from left to right, each rounded.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (x, y) in a.iter().zip(b) {
        sum += x * y;
    }
    sum
}

#[cfg(test)]
mod tests {
    use corekit_base::control::Control;
    use corekit_base::simd::Level;

    use super::*;
    use crate::error::Error;

    fn at(level: Level, control: &Control) -> Run<'_> {
        Run {
            threads: 1,
            level,
            control,
        }
    }

    #[test]
    fn drawing_can_be_cancelled() {
        let control = Control::new();
        control.cancel();
        let favor = Favor {
            n_features: 8,
            orthogonal: true,
            seed: 3,
        };
        let cancelled = favor.projection(4, &at(Level::Scalar, &control));
        assert!(matches!(cancelled, Err(Error::Cancelled)));
    }

    fn draw(n_features: usize, orthogonal: bool, key_dim: usize) -> Vec<f64> {
        let favor = Favor {
            n_features,
            orthogonal,
            seed: 3,
        };
        favor
            .projection(key_dim, &at(Level::detect(), &Control::new()))
            .unwrap()
    }

    #[test]
    fn every_level_gives_the_golden_bits() {
        // Made by `favor_formula.py` of the tests.
        let favor = Favor {
            n_features: 5,
            orthogonal: true,
            seed: 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210,
        };
        let golden: [u64; 15] = [
            0x3FD4_E3C4_C20B_267C,
            0xBFE1_4720_94A6_BC04,
            0xBFD6_58AD_9AB9_AD4E,
            0x3FF9_44C2_9B10_6161,
            0x3FFF_112B_343D_FC2D,
            0xBFF8_6B69_C6EA_A116,
            0xBFE7_2CD5_5E45_2DE7,
            0x3F9A_4C92_1D90_1345,
            0xBFE6_EF70_37C5_1D79,
            0x3FF4_1192_8412_59DD,
            0x3FDB_BBF8_2EF3_7754,
            0x3FF8_D6CF_7651_23B9,
            0x3FF5_2E45_92E1_B41D,
            0xBFE6_D4E9_AAA3_D071,
            0xBFEB_DA41_BFBC_C068,
        ];
        for level in Level::all() {
            let matrix = favor.projection(3, &at(level, &Control::new())).unwrap();
            assert!(matrix.iter().map(|w| w.to_bits()).eq(golden), "{level}");
        }
    }

    #[test]
    fn rows_of_a_block_are_orthogonal_and_have_the_norms_of_normal_rows() {
        for (n_features, key_dim) in [(1, 1), (4, 1), (3, 7), (14, 7), (40, 16), (130, 64)] {
            let plain = draw(n_features, false, key_dim);
            let matrix = draw(n_features, true, key_dim);
            assert_eq!(matrix.len(), n_features * key_dim);
            let rows: Vec<&[f64]> = matrix.chunks(key_dim).collect();
            for (i, (row, plain)) in rows.iter().zip(plain.chunks(key_dim)).enumerate() {
                let norm = dot(plain, plain).sqrt();
                assert!((dot(row, row).sqrt() - norm).abs() <= 1e-14 * norm);
                for other in &rows[i / key_dim * key_dim..i] {
                    let cosine = dot(row, other) / norm / dot(other, other).sqrt();
                    assert!(cosine.abs() < 1e-14, "{n_features} x {key_dim}: {cosine}");
                }
            }
            // Blocks know nothing of each other.
            let mut units = vec![0.0; key_dim * key_dim];
            for (block, plain) in matrix
                .chunks(key_dim * key_dim)
                .zip(plain.chunks(key_dim * key_dim))
            {
                let mut alone = plain.to_vec();
                let control = Control::new();
                let run = at(Level::Scalar, &control);
                orthogonalise(&mut alone, key_dim, &mut units, &run).unwrap();
                assert_eq!(alone, block);
            }
        }
    }

    #[test]
    fn more_features_leave_the_first_as_they_are() {
        for orthogonal in [false, true] {
            let many = draw(50, orthogonal, 12);
            for fewer in [0, 1, 12, 31, 48] {
                assert_eq!(draw(fewer, orthogonal, 12), many[..fewer * 12]);
            }
        }
    }

    #[test]
    fn heads_without_entries_have_empty_rows() {
        for orthogonal in [false, true] {
            assert!(draw(5, orthogonal, 0).is_empty());
            assert!(draw(0, orthogonal, 5).is_empty());
        }
    }

    #[test]
    fn a_row_without_a_direction_of_its_own_stays() {
        let mut rows = [3.0, 0.0, 0.0, -2.0, 0.0, 0.0, 1.0, 0.0, 5.0];
        let control = Control::new();
        let run = at(Level::Scalar, &control);
        orthogonalise(&mut rows, 3, &mut [0.0; 9], &run).unwrap();
        assert_eq!(rows[..6], [3.0, 0.0, 0.0, -2.0, 0.0, 0.0]);
        assert!(rows.iter().all(|w| w.is_finite()));
    }

    #[test]
    fn too_many_are_refused() {
        for n_features in [usize::MAX, usize::MAX / 64] {
            let favor = Favor {
                n_features,
                orthogonal: true,
                seed: 0,
            };
            let refused = favor.projection(8, &at(Level::Scalar, &Control::new()));
            assert!(matches!(refused, Err(Error::OutOfMemory { .. })));
        }
    }
}
