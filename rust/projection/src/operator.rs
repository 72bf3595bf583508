//! The operator: a law under a seed, for a number of features.

use corekit_base::array::{Dtype, Matrix, MatrixMut};

use crate::dense::blocks::{BlockDraw, Blocks, Table};
use crate::dense::lists::{Entries, ListDraw, Lists};
use crate::dense::tables::Kept;
use crate::dense::{self};
use crate::error::{Error, Result};
use crate::law::Law;
use crate::run::Run;

/// A random matrix A of n_components x n_features, drawn wherever it is needed.
///
/// It is its parameters. What it keeps beside them are small tables of where features go, so that
/// calls on few rows need not draw them again.
#[derive(Debug)]
pub struct Operator {
    law: Law,
    n_features: usize,
    n_components: usize,
    seed: u128,
    blocks: Kept<Table>,
    lists: Kept<Lists>,
    adjoint: Kept<Lists>,
}

impl Operator {
    /// The matrix of `law` under `seed`.
    ///
    /// # Errors
    /// When a size is zero, or does not fit the law.
    pub fn new(law: Law, n_features: usize, n_components: usize, seed: u128) -> Result<Self> {
        let refuse = |what: String| Err(Error::InvalidArgument(what));
        if n_features == 0 || n_components == 0 {
            return refuse(format!(
                "n_features and n_components must be at least 1, got {n_features} and \
                 {n_components}"
            ));
        }
        if n_components > i32::MAX as usize {
            return refuse(format!(
                "n_components must be below 2**31, got {n_components}"
            ));
        }
        Ok(Self {
            law,
            n_features,
            n_components,
            seed,
            blocks: Kept::new(),
            lists: Kept::new(),
            adjoint: Kept::new(),
        })
    }

    /// d.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// k.
    pub fn n_components(&self) -> usize {
        self.n_components
    }

    /// The weight of every output, for the laws whose entries are ±that.
    fn scales<T: Blocks>(&self) -> Vec<T> {
        match &self.law {
            Law::Stack(strata) => strata.scales().into_iter().map(T::of).collect(),
            Law::Iid(threshold) => {
                let scale = 1.0 / (threshold.density() * self.n_components as f64).sqrt();
                vec![T::of(scale); self.n_components]
            }
            Law::Gaussian | Law::Srht => Vec::new(),
        }
    }

    fn list_draw<'a>(&'a self, entries: Entries<'a>, by_feature: bool) -> ListDraw<'a> {
        ListDraw {
            seed: self.seed,
            entries,
            n_features: self.n_features,
            n_components: self.n_components,
            by_feature,
        }
    }

    /// Y = X Aᵀ: `x` of n x d to `y` of n x k.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the shapes do not fit, [`Error::OutOfMemory`],
    /// [`Error::Cancelled`].
    pub fn project(&self, x: &Matrix<'_>, y: &MatrixMut<'_>, run: &Run<'_>) -> Result<()> {
        self.fits(x, self.n_features, y, self.n_components)?;
        match is_wide(x.dtype()) {
            false => self.project_as::<f32>(x, y, run),
            true => self.project_as::<f64>(x, y, run),
        }
    }

    fn project_as<T: Blocks>(
        &self,
        x: &Matrix<'_>,
        y: &MatrixMut<'_>,
        run: &Run<'_>,
    ) -> Result<()> {
        let scales = self.scales::<T>();
        let entries = match &self.law {
            Law::Stack(strata) if strata.width >= 8 && !x.is_by_columns() => {
                let draw = BlockDraw {
                    seed: self.seed,
                    strata,
                    n_features: self.n_features,
                };
                return dense::project_blocks(&draw, &self.blocks, &scales, x, y, run);
            }
            Law::Stack(strata) => Entries::Stack(strata),
            Law::Iid(threshold) => Entries::Iid(*threshold),
            Law::Gaussian | Law::Srht => todo!(),
        };
        let draw = self.list_draw(entries, false);
        dense::project_lists(&draw, &self.lists, &scales, x, y, run)
    }

    /// X = Y A: `y` of n x k to `x` of n x d.
    ///
    /// # Errors
    /// As [`Operator::project`].
    pub fn adjoint(&self, y: &Matrix<'_>, x: &MatrixMut<'_>, run: &Run<'_>) -> Result<()> {
        self.fits(y, self.n_components, x, self.n_features)?;
        match is_wide(y.dtype()) {
            false => self.adjoint_as::<f32>(y, x, run),
            true => self.adjoint_as::<f64>(y, x, run),
        }
    }

    fn adjoint_as<T: Blocks>(
        &self,
        y: &Matrix<'_>,
        x: &MatrixMut<'_>,
        run: &Run<'_>,
    ) -> Result<()> {
        let entries = match &self.law {
            Law::Stack(strata) => Entries::Stack(strata),
            Law::Iid(threshold) => Entries::Iid(*threshold),
            Law::Gaussian | Law::Srht => todo!(),
        };
        let draw = self.list_draw(entries, true);
        dense::adjoint(&draw, &self.adjoint, &self.scales::<T>(), y, x, run)
    }

    fn fits(
        &self,
        from: &Matrix<'_>,
        from_columns: usize,
        to: &MatrixMut<'_>,
        to_columns: usize,
    ) -> Result<()> {
        let given = [from.columns(), to.rows(), to.columns()];
        let needed = [from_columns, from.rows(), to_columns];
        if given == needed {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "a matrix of n x {from_columns} to one of n x {to_columns} is needed, got {} x {} to \
             {} x {}",
            from.rows(),
            from.columns(),
            to.rows(),
            to.columns()
        )))
    }
}

/// Whether sums are taken in float64.
fn is_wide(dtype: Dtype) -> bool {
    !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use corekit_base::control::Control;
    use corekit_base::simd::Level;
    use std::time::Instant;

    #[test]
    #[ignore]
    fn timing() {
        use crate::law::Strata;
        let control = Control::new();
        for (n, d, k) in [
            (10000, 10000, 1000),
            (100_000, 768, 128),
            (100_000, 4096, 512),
        ] {
            let x: Vec<f32> = (0..n * d).map(|i| (i % 1013) as f32).collect();
            let mut y = vec![1f32; n * k];
            let bytes = (n * d * 4) as f64;
            for level in [Level::Avx512, Level::Avx2] {
                let strata = Strata::new(k, 8, Strata::widest(k, 8)).unwrap();
                let op = Operator::new(Law::Stack(strata), d, k, 1).unwrap();
                for threads in [1, 2] {
                    let run = Run {
                        threads,
                        level,
                        control: &control,
                    };
                    let mut best = f64::MAX;
                    for _ in 0..5 {
                        let began = Instant::now();
                        op.project(&Matrix::of(&x, n, d), &MatrixMut::of(&mut y, n, k), &run)
                            .unwrap();
                        best = best.min(began.elapsed().as_secs_f64());
                    }
                    println!(
                        "{n} x {d} -> {k} {level} {threads} threads: {:.1} ms, {:.1} GB/s",
                        best * 1e3,
                        bytes / best / 1e9
                    );
                }
            }
            let mut best = f64::MAX;
            for _ in 0..5 {
                let began = Instant::now();
                let half = x.len() / 2;
                std::thread::scope(|s| {
                    for part in [&x[..half], &x[half..]] {
                        s.spawn(move || {
                            let mut sums = [0f32; 64];
                            for c in part.as_chunks::<64>().0 {
                                for i in 0..64 {
                                    sums[i] += c[i];
                                }
                            }
                            std::hint::black_box(sums);
                        });
                    }
                });
                best = best.min(began.elapsed().as_secs_f64());
            }
            println!("read: {:.1} ms {:.1} GB/s", best * 1e3, bytes / best / 1e9);
        }
    }
}
