//! Forgetting by one number for each token, and logarithms of features that are kept apart.
//!
//! Within a chunk, with G_t the sum of g up to t, the score of (t, s) carries e^{G_t - G_s}, what the
//! state gives carries e^{G_t}, and the new state takes token s with e^{G_C - G_s}. No e^{-G} is ever
//! formed: all exponents are differences that are not positive. Where features come as φ e^{-m} (the
//! stabilised map), S and z are kept divided by e^M with M_t = max(M_{t-1} + g_t, m_t), and the same
//! three factors are e^{R_t - K_s}, e^{R_t + M_0} and e^{R_C - K_s} with R = G - M and K = G - m.
//!
//! Sums of logarithms are kept as pairs of numbers, what was rounded off being the second: after a
//! strong decay the difference of two large sums must still be right to the last place.

use corekit_base::array::Matrix;
use corekit_base::real::Real;

use crate::error::Result;
use crate::kernels::{Computed, Kernels};
use crate::tiles::{ROOM, Tile};

/// Decay below this is a hard reset, for which it stands: its exponential is 0 in every type, and
/// beside logarithms of features too, which may be some thousands below 0.
const NOTHING: f64 = -65536.0;

/// A sum and what was rounded off.
#[derive(Clone, Copy)]
struct Pair<T>(T, T);

impl<T: Real> Pair<T> {
    /// The sum with one more number (Knuth's two-sum).
    fn plus(self, x: T) -> Self {
        let sum = self.0 + x;
        let part = sum - self.0;
        let lost = (self.0 - (sum - part)) + (x - part);
        Self(sum, self.1 + lost)
    }
}

/// The factors of one chunk.
pub(crate) struct Decay<T> {
    rows: [Vec<T>; 2],
    columns: [Vec<T>; 2],
    numbers: Vec<T>,
    /// e^{G_t - G_s} and so on, on and below the diagonal.
    pub(crate) table: Tile<T>,
    /// What each row takes of the state, with room.
    pub(crate) of_state: Vec<T>,
    /// What the state keeps, and what that lacks.
    pub(crate) keep: [T; 2],
    /// M_t for each row: zero where nothing was there yet.
    pub(crate) logs: Vec<T>,
}

impl<T: Computed> Decay<T> {
    /// Room for `tokens` tokens.
    pub(crate) fn new(tokens: usize) -> Result<Self> {
        let room = tokens + 64 + ROOM;
        let numbers = || vec![T::ZERO; room];
        Ok(Self {
            rows: [numbers(), numbers()],
            columns: [numbers(), numbers()],
            numbers: numbers(),
            table: Tile::new(tokens, tokens)?,
            of_state: numbers(),
            keep: [T::ONE, T::ZERO],
            logs: numbers(),
        })
    }

    /// Makes the factors of the tokens `start..start + n` and returns the state's new logarithm.
    ///
    /// `logs` are those of the keys' features, and `log` that of the state; masked tokens do not
    /// decay, whatever is written for them.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn prepare(
        &mut self,
        kernels: &Kernels<T>,
        decay: Option<&Matrix>,
        start: usize,
        n: usize,
        mask: Option<&[T]>,
        logs: Option<&[T]>,
        log: T,
    ) -> T {
        let nothing = T::of(f64::NEG_INFINITY);
        let mut sum = Pair(T::ZERO, T::ZERO);
        let mut most = log;
        match decay {
            Some(decay) => decay
                .transposed()
                .load_row(0, start, &mut self.numbers[..n]),
            None => self.numbers[..n].fill(T::ZERO),
        }
        for t in 0..n {
            let is_there = mask.is_none_or(|mask| mask[t] != T::ZERO);
            let mut g = self.numbers[t];
            if !is_there {
                g = T::ZERO;
            } else if g < T::of(NOTHING) {
                g = T::of(NOTHING);
            }
            sum = sum.plus(g);
            let (mut row, mut column) = (sum, sum);
            self.logs[t] = T::ZERO;
            if let Some(logs) = logs {
                most += g;
                if logs[t] > most || logs[t].wide().is_nan() {
                    most = logs[t];
                }
                if most != nothing {
                    row = sum.plus(-most);
                    self.logs[t] = most;
                }
                column = match logs[t] != nothing {
                    true => sum.plus(-logs[t]),
                    false => Pair(-nothing, T::ZERO),
                };
            } else if !is_there {
                // Scores that are polynomials are not zero for features that are.
                column = Pair(-nothing, T::ZERO);
            }
            (self.rows[0][t], self.rows[1][t]) = (row.0, row.1);
            (self.columns[0][t], self.columns[1][t]) = (column.0, column.1);
        }
        let columns = [&self.columns[0][..], &self.columns[1][..]];
        let rows = [&self.rows[0][..n], &self.rows[1][..n]];
        kernels.decay_table(rows, columns, &mut self.table);
        let base = if logs.is_some() { log } else { T::ZERO };
        for t in 0..n {
            // An empty state has the logarithm -inf, and gives nothing.
            self.numbers[t] = self.rows[0][t] + base + self.rows[1][t];
        }
        kernels.exps(&self.numbers, &mut self.of_state, n);
        if let Some(end) = n.checked_sub(1) {
            let exponent = self.rows[0][end].wide() + base.wide() + self.rows[1][end].wide();
            let exact = exponent.exp();
            let keep = T::of(exact);
            self.keep = [keep, T::of(exact - keep.wide())];
        }
        most
    }

    /// What the new state takes of each token.
    pub(crate) fn to_state(&self, n: usize) -> &[T] {
        &self.table.row(n - 1)[..n]
    }
}
