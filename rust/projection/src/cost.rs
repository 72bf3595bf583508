//! About what calls cost, for those who decide where to run them: no result depends on it.
//!
//! Times are nanoseconds on one core of a recent server, and are right to within a few times.

use crate::law::{Law, SparseLaw, WIDEST};
use crate::operator::Operator;
use crate::sparse::Columns;

/// What is asked of a matrix, as far as time depends on it.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// Dense rows, projected or, by the adjoint, the other way.
    Dense {
        /// How many rows.
        rows: usize,
    },
    /// Sparse rows.
    Sparse {
        /// How many rows.
        rows: usize,
        /// Stored values.
        nnz: usize,
    },
    /// Columns of the matrix.
    Columns {
        /// How many columns.
        features: usize,
    },
}

/// A word or a number of a column that is drawn.
const WORD: f64 = 1.0;
/// A block's placement in a stratum.
const PLACEMENT: f64 = 15.0;
/// A normal number.
const NORMAL: f64 = 6.0;
/// A term of a sum.
const TERM: f64 = 0.05;
/// An output that is stored, or what it is stored from.
const OUTPUT: f64 = 0.5;

impl Operator {
    /// About how many nanoseconds a call takes.
    pub fn nanoseconds(&self, call: Call) -> f64 {
        let (d, k) = (self.n_features() as f64, self.n_components() as f64);
        match (self.law().sparse(self.n_components()), self.law()) {
            (Some(law), _) => self.of_sparse_law(law, call),
            (None, Law::Srht) => {
                let padded = self.n_features().next_power_of_two() as f64;
                let draw = if self.has_drawn() {
                    0.0
                } else {
                    padded * 4.0 * WORD
                };
                let rows = match call {
                    Call::Dense { rows } | Call::Sparse { rows, .. } => rows as f64,
                    Call::Columns { features } => return draw + features as f64 * k * WORD,
                };
                draw + rows * (padded * (1.0 + padded.log2()) * TERM + k * OUTPUT)
            }
            (None, _) => match call {
                Call::Dense { rows } => d * k * (NORMAL + rows as f64 * TERM),
                Call::Sparse { rows, nnz } => {
                    let nnz = nnz as f64;
                    nnz.min(d) * k * NORMAL + nnz * k * TERM + rows as f64 * k * OUTPUT
                }
                Call::Columns { features } => features as f64 * k * NORMAL,
            },
        }
    }

    fn of_sparse_law(&self, law: SparseLaw<'_>, call: Call) -> f64 {
        let (d, k) = (self.n_features() as f64, self.n_components() as f64);
        let (s, width) = (law.column_nnz(), law.width() as f64);
        // To draw a column: with its block, and alone.
        let (shared, alone) = match law {
            SparseLaw::Stack(_) => (
                s * (PLACEMENT / width + 2.0 * WORD),
                s * width * 2.0 * PLACEMENT,
            ),
            SparseLaw::Iid { .. } => (k * WORD, k * WORD + s * WORD),
        };
        match call {
            Call::Dense { rows } => {
                // Some rows go side by side, whether or not there are as many.
                let rows = rows.next_multiple_of(WIDEST) as f64;
                let draws = if self.keeps_tables() {
                    0.0
                } else {
                    2.0 * d * shared
                };
                draws + rows * (d * s * TERM + k * (OUTPUT + d / 1024.0 * TERM))
            }
            Call::Sparse { rows, nnz } => {
                let nnz = nnz as f64;
                let (draws, find) = match self.has_columns() {
                    true => (0.0, 4.0 + 1.5 * s),
                    false if Columns::pay(&law, self.n_features(), nnz as usize) => {
                        (d * shared, 4.0 + 1.5 * s)
                    }
                    false => (0.0, alone),
                };
                draws + nnz * find + rows as f64 * k * OUTPUT
            }
            Call::Columns { features } => features as f64 * alone,
        }
    }
}
