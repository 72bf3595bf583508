//! The matrices that `tests/projection/golden.toml` pins: the same file holds the Python package
//! and this crate to the published formulas.

use corekit_base::array::{Matrix, MatrixMut};
use corekit_base::control::Control;
use corekit_base::run::Run;
use corekit_base::simd::Level;
use corekit_projection::{Law, Operator, Strata, Threshold};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Golden {
    projection: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    n_features: usize,
    n_components: usize,
    seed: String,
    column_nnz: Option<usize>,
    density: Option<f64>,
    matrix: String,
}

impl Case {
    fn law(&self) -> Law {
        let k = self.n_components;
        let s = self.column_nnz.unwrap_or(k.min(8));
        let stack = |s, width| Law::Stack(Strata::new(k, s, width).expect("strata that fit"));
        match &self.kind[..] {
            "block-stack" => stack(s, Strata::widest(k, s)),
            "stack" => stack(s, 1),
            "countsketch" => stack(1, 1),
            "iid" => {
                let density = self.density.unwrap_or(1.0 / 3.0);
                Law::Iid(Threshold::new(density).expect("a density"))
            }
            "gaussian" => Law::Gaussian,
            "srht" => Law::Srht,
            other => panic!("no kind {other}"),
        }
    }

    /// The hash of the matrix, which is the adjoint of the identity.
    fn hash(&self, level: Level) -> String {
        let (k, d) = (self.n_components, self.n_features);
        let seed = u128::from_str_radix(self.seed.trim_start_matches("0x"), 16).expect("a seed");
        let operator = Operator::new(self.law(), d, k, seed).expect("an operator");
        let mut identity = vec![0f64; k * k];
        identity
            .iter_mut()
            .step_by(k + 1)
            .for_each(|one| *one = 1.0);
        let mut matrix = vec![0f64; k * d];
        let control = Control::new();
        let run = Run {
            threads: 2,
            level,
            control: &control,
        };
        let from = Matrix::of(&identity, k, k);
        let to = MatrixMut::of(&mut matrix, k, d);
        operator.adjoint(&from, &to, &run).expect("a matrix");
        // Adding zero makes zeros positive.
        let bytes = matrix.iter().flat_map(|value| (value + 0.0).to_le_bytes());
        let hash = Sha256::digest(bytes.collect::<Vec<_>>());
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[test]
fn every_level_draws_the_pinned_matrices() {
    let text = include_str!("../../../tests/projection/golden.toml");
    let golden: Golden = toml::from_str(text).expect("a file of cases");
    assert!(golden.projection.len() > 30);
    for case in &golden.projection {
        for level in Level::all() {
            let (d, k) = (case.n_features, case.n_components);
            assert_eq!(
                case.hash(level),
                case.matrix,
                "{} {d} {k} {level}",
                case.kind
            );
        }
    }
}
