//! The subsampled randomised Hadamard transform: A = S H D / √k.
//!
//! N is the next power of two from n_features on; features up to N are zeros. D negates the
//! features whose bit of stream 0 is 1, H is the N x N matrix of (-1)^popcount(i & f), and S takes
//! the k outputs whose words of stream 1 are the smallest, in ascending order of these words: k
//! different ones, every choice as likely as any other. A row costs N log2 N additions, however
//! many outputs are asked for, and so does a sparse row; `fwht` has the algorithm.
//!
//! Values are sums in `T` (float32 or float64) by the stages of `fwht::reference`, and are
//! multiplied once by 1/√k rounded to `T`. A zero of X counts as +0, whatever its sign: whether it
//! is stored cannot be seen.
//!
//! Every feature meets every output: a NaN makes all outputs of its row NaN. An infinity makes
//! every one an infinity or, where it meets another of the other sign, a NaN, which happens also to
//! infinities that arise on the way: sums of up to N values must not overflow.
//!
//! Ailon, Chazelle, "The fast Johnson-Lindenstrauss transform and approximate nearest neighbors",
//! SIAM J. Comput. 39 (2009) (<https://doi.org/10.1137/060673096>), and, with outputs drawn without
//! replacement, Tropp, "Improved analysis of the subsampled randomized Hadamard transform", Adv.
//! Adapt. Data Anal. 3 (2011) (<https://doi.org/10.1142/S1793536911000787>).

mod fwht;
mod lanes;
#[cfg(test)]
mod tests;

use std::ops::Range;

use corekit_base::aligned::{self, Aligned};
use corekit_base::array::{Matrix, MatrixMut};
use corekit_base::control::Control;
use corekit_base::memory::try_vec;
use corekit_base::philox::Stream;
use corekit_base::run::Run;

use crate::draw::DOMAIN;
use crate::error::{Error, Result};
use crate::sort::sort;
use crate::sparse::SparseRows;
pub(crate) use fwht::Hadamard;

/// The most features: outputs have numbers of 32 bits, and a thread holds a row of N.
const MOST_FEATURES: u64 = 1 << 32;

/// Features, or words, between two looks at the cancel flag; a multiple of 64.
const STRETCH: usize = 1 << 12;

/// Rows that are held together where rows do not lie together: a cache line of float32.
const SIDE: usize = 16;

/// The most rows that are held side by side: of a column, some lines that follow each other.
const MOST_SIDE_BY_SIDE: usize = 64;

/// Columns of a tile of `SIDE` rows.
const TILE_COLUMNS: usize = 64;

/// The most bytes of rows that a thread holds, if more than one.
const PANEL_BYTES: usize = 8 << 20;

/// Values of a task, so that what tasks cost by themselves does not show: some 20 µs of work.
const TASK_VALUES: usize = 1 << 16;

/// Values that pay for starting a thread.
const THREAD_VALUES: usize = 1 << 18;

/// A matrix of the law: which features are negated, and which outputs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srht {
    n_features: usize,
    /// N.
    padded: usize,
    /// Feature f is negated when bit f % 64 of word f / 64 is 1.
    signs: Vec<u64>,
    /// The outputs of the transform that are kept, in their order.
    rows: Vec<u32>,
}

impl Srht {
    /// Draws the matrix under `seed`, in N words of Philox: some 5 ms for a million features.
    ///
    /// # Errors
    /// When there are no features or outputs, or too many; when the system refuses memory; when
    /// the caller cancels.
    pub fn draw(
        seed: u128,
        n_features: usize,
        n_components: usize,
        control: &Control,
    ) -> Result<Self> {
        if !(1..=MOST_FEATURES).contains(&(n_features as u64)) {
            return Err(Error::InvalidArgument(format!(
                "n_features must be from 1 to {MOST_FEATURES} for kind \"srht\", got {n_features}"
            )));
        }
        let padded = n_features.next_power_of_two();
        if !(1..=padded).contains(&n_components) {
            return Err(Error::InvalidArgument(format!(
                "n_components must be from 1 to {padded} for kind \"srht\" (n_features is \
                 {n_features}, and the next power of two counts), got {n_components}"
            )));
        }
        let words = n_features.div_ceil(64);
        let mut signs = try_vec("the signs of features", words)?;
        signs.resize(words, 0);
        let stream = Stream::new(seed, 0, DOMAIN);
        for (i, signs) in signs.chunks_mut(STRETCH).enumerate() {
            control.check()?;
            stream.fill((i * STRETCH) as u64, signs);
        }
        Ok(Self {
            n_features,
            padded,
            signs,
            rows: smallest(Stream::new(seed, 1, DOMAIN), padded, n_components, control)?,
        })
    }

    /// The most bytes that are taken to draw a matrix, and for each thread of a call for numbers of
    /// `size` bytes.
    pub(crate) fn room(n_features: usize, n_components: usize, size: u64) -> [u64; 2] {
        let padded = n_features.next_power_of_two() as u64;
        let kept = n_features as u64 / 8 + 4 * n_components as u64;
        let draw = 16 * draw_room(n_components, padded as usize) as u64;
        let row = size * (padded + SIDE as u64);
        [kept + draw, row.max(PANEL_BYTES as u64) + (1 << 20)]
    }

    /// k.
    pub fn n_components(&self) -> usize {
        self.rows.len()
    }

    /// 1/√k.
    fn scale(&self) -> f64 {
        1.0 / (self.n_components() as f64).sqrt()
    }

    /// Writes the columns of `features` one after the other: entry i of the column of
    /// `features[j]` to `out[j * k + i]`. No column needs another.
    ///
    /// # Panics
    /// When a feature is not below `n_features`, or `out` has another length than all columns.
    pub fn columns(&self, features: &[u64], out: &mut [f64]) {
        assert_eq!(
            Some(out.len()),
            features.len().checked_mul(self.n_components())
        );
        let scale = self.scale();
        for (&feature, column) in features
            .iter()
            .zip(out.chunks_exact_mut(self.n_components()))
        {
            assert!(feature < self.n_features as u64, "a feature of the matrix");
            let negated = (self.signs[(feature / 64) as usize] >> (feature % 64)) as u32 & 1;
            for (entry, row) in column.iter_mut().zip(&self.rows) {
                let minus = (row & feature as u32).count_ones() ^ negated;
                *entry = if minus & 1 == 1 { -scale } else { scale };
            }
        }
    }

    /// Y = X Aᵀ, for X of n x d and Y of n x k.
    ///
    /// # Errors
    /// When the caller cancels, or the system refuses memory for a row of N a thread.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub(crate) fn project<T: Hadamard>(&self, x: &Matrix, y: &MatrixMut, run: &Run) -> Result<()> {
        assert_eq!((x.rows(), x.columns()), (y.rows(), self.n_features));
        assert_eq!(y.columns(), self.n_components());
        let layout = self.layout::<T>(x.rows(), x.is_by_columns(), y.is_by_columns());
        self.by_panels(x.rows(), layout, run, |(), panel: &mut Panel<T>, rows| {
            for features in stretches(self.n_features) {
                run.control.check()?;
                let part = &mut panel.values[layout.at(0, features.start)..];
                if layout.side_by_side {
                    x.load_transposed(rows.clone(), features.clone(), part, layout.height);
                } else {
                    x.load_tile(rows.clone(), features.clone(), part, layout.row_step);
                }
                self.sign(panel, rows.len(), features, T::ONE, run);
            }
            panel.clear(rows.len(), self.n_features, run)?;
            panel.transform(rows.len(), self.n_features, run)?;
            self.store_kept(panel, rows, y);
            Ok(())
        })
    }

    /// Y = X Aᵀ, for the rows of a sparse X; bit-equal to the same rows given densely.
    ///
    /// # Errors
    /// As for [`Srht::project`].
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub(crate) fn project_sparse<T: Hadamard>(
        &self,
        x: &dyn SparseRows<T>,
        y: &MatrixMut,
        run: &Run,
    ) -> Result<()> {
        assert_eq!((x.rows(), self.n_components()), (y.rows(), y.columns()));
        let layout = self.layout::<T>(x.rows(), false, y.is_by_columns());
        self.by_panels(
            x.rows(),
            layout,
            run,
            |(columns, values): &mut (Vec<u64>, Vec<T>), panel: &mut Panel<T>, rows| {
                panel.clear(rows.len(), 0, run)?;
                let mut live = 0;
                for (i, row) in rows.clone().enumerate() {
                    x.row(row, columns, values, run.control)?;
                    let out = &mut panel.values[i * layout.row_step..][..self.n_features];
                    for (&column, &value) in columns.iter().zip(values.iter()) {
                        let minus = self.signs[(column / 64) as usize] >> (column % 64) & 1 == 1;
                        out[column as usize] += if minus { -value } else { value };
                    }
                    live = live.max(columns.last().map_or(0, |last| *last as usize + 1));
                }
                panel.transform(rows.len(), live, run)?;
                self.store_kept(panel, rows, y);
                Ok(())
            },
        )
    }

    /// X = Y A, for Y of n x k and X of n x d.
    ///
    /// # Errors
    /// As for [`Srht::project`].
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub(crate) fn adjoint<T: Hadamard>(&self, y: &Matrix, x: &MatrixMut, run: &Run) -> Result<()> {
        assert_eq!((y.rows(), y.columns()), (x.rows(), self.n_components()));
        assert_eq!(x.columns(), self.n_features);
        let layout = self.layout::<T>(x.rows(), x.is_by_columns(), y.is_by_columns());
        let scale = T::of(self.scale());
        self.by_panels(y.rows(), layout, run, |(), panel: &mut Panel<T>, rows| {
            panel.clear(rows.len(), 0, run)?;
            for outputs in tiles(self.n_components(), rows.len()) {
                let width = outputs.len();
                y.load_tile(rows.clone(), outputs.clone(), &mut panel.tile, width);
                for (row, loaded) in panel.tile.chunks_exact(width).take(rows.len()).enumerate() {
                    for (value, place) in loaded.iter().zip(&self.rows[outputs.clone()]) {
                        panel.values[layout.at(row, *place as usize)] = *value;
                    }
                }
            }
            panel.transform(rows.len(), self.padded, run)?;
            for features in stretches(self.n_features) {
                run.control.check()?;
                self.sign(panel, rows.len(), features.clone(), scale, run);
                if layout.side_by_side {
                    let part = &panel.values[layout.at(0, features.start)..];
                    x.store_transposed(rows.clone(), features, part, layout.height);
                } else {
                    for (i, row) in rows.clone().enumerate() {
                        let part = &panel.values[layout.at(i, features.start)..];
                        x.store_row(row, features.start, &part[..features.len()]);
                    }
                }
            }
            Ok(())
        })
    }

    /// Multiplies some features of the first rows of a panel by their signs and `scale`.
    fn sign<T: Hadamard>(
        &self,
        panel: &mut Panel<T>,
        rows: usize,
        features: Range<usize>,
        scale: T,
        run: &Run,
    ) {
        let signs = &self.signs[features.start / 64..];
        panel.each(rows, features, |values, rows| {
            T::sign(run.level, signs, scale, values, rows);
        });
    }

    /// Stores the outputs that are kept, times 1/√k.
    fn store_kept<T: Hadamard>(&self, panel: &mut Panel<T>, rows: Range<usize>, y: &MatrixMut) {
        let scale = T::of(self.scale());
        let (layout, height) = (panel.layout, rows.len());
        for outputs in tiles(self.n_components(), height) {
            let places = self.rows[outputs.clone()]
                .iter()
                .map(|place| *place as usize);
            if height == 1 {
                for (out, place) in panel.tile.iter_mut().zip(places) {
                    *out = panel.values[place * layout.value_step()] * scale;
                }
                y.store_row(rows.start, outputs.start, &panel.tile[..outputs.len()]);
            } else {
                for (out, place) in panel.tile.chunks_exact_mut(height).zip(places) {
                    for (row, out) in out.iter_mut().enumerate() {
                        *out = panel.values[layout.at(row, place)] * scale;
                    }
                }
                y.store_transposed(rows.clone(), outputs, &panel.tile, height);
            }
        }
    }

    /// How a thread holds rows of N, given whether the matrices of N and of k columns lie by
    /// columns.
    fn layout<T>(&self, rows: usize, wide_by_columns: bool, narrow_by_columns: bool) -> Layout {
        let fit = PANEL_BYTES / size_of::<T>() / self.padded;
        let side_by_side = wide_by_columns && fit >= SIDE && rows > SIDE / 2;
        let height = if side_by_side {
            let most = (1 << fit.ilog2()).min(MOST_SIDE_BY_SIDE);
            rows.next_power_of_two().clamp(SIDE, most)
        } else if wide_by_columns || narrow_by_columns {
            fit.clamp(1, SIDE)
        } else {
            1
        };
        Layout {
            height,
            side_by_side,
            row_step: if side_by_side { 1 } else { self.padded + SIDE },
        }
    }

    /// Does `work` for all rows, a panel at a time; a thread keeps an `S`.
    fn by_panels<T: Hadamard, S: Default>(
        &self,
        rows: usize,
        layout: Layout,
        run: &Run,
        work: impl Fn(&mut S, &mut Panel<T>, Range<usize>) -> Result<()> + Sync,
    ) -> Result<()> {
        let rows_of_task = (TASK_VALUES / self.padded)
            .max(1)
            .next_multiple_of(layout.height);
        let threads = rows.saturating_mul(self.padded) / THREAD_VALUES;
        let run = Run {
            threads: run.threads.min(threads.max(1)),
            ..*run
        };
        run.share(
            rows.div_ceil(rows_of_task),
            || Ok((S::default(), Panel::new(layout, self.padded)?)),
            |(state, panel), task| {
                let first = task * rows_of_task;
                let end = rows.min(first + rows_of_task);
                for top in (first..end).step_by(layout.height) {
                    work(state, panel, top..end.min(top + layout.height))?;
                }
                run.control.advance((end - first) as u64);
                Ok(())
            },
        )
    }
}

/// Words, with their places, that are held to find the `count` smallest of `length`.
fn draw_room(count: usize, length: usize) -> usize {
    count.saturating_mul(2).saturating_add(STRETCH).min(length)
}

/// The places of the `count` smallest of the first `length` words, in ascending order of the
/// words, equal ones in order of place: what sorting all would begin with, in the memory of a few.
fn smallest(stream: Stream, length: usize, count: usize, control: &Control) -> Result<Vec<u32>> {
    let capacity = draw_room(count, length);
    let mut words = [0; STRETCH];
    let mut kept = try_vec("the draw of outputs", capacity)?;
    // Whoever is not below it has `count` others before it.
    let mut bound = None;
    for first in (0..length).step_by(STRETCH) {
        control.check()?;
        let words = &mut words[..STRETCH.min(length - first)];
        stream.fill(first as u64, words);
        for (&mut word, place) in words.iter_mut().zip(first..) {
            let one = (word, place as u32);
            if bound.is_none_or(|bound| one < bound) {
                if kept.len() == capacity {
                    bound = Some(*kept.select_nth_unstable(count - 1).1);
                    kept.truncate(count);
                }
                kept.push(one);
            }
        }
    }
    sort(&mut kept, control)?;
    let mut places = try_vec("the drawn outputs", count)?;
    places.extend(kept.into_iter().take(count).map(|(_, place)| place));
    Ok(places)
}

/// `0..length` in stretches.
fn stretches(length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length)
        .step_by(STRETCH)
        .map(move |start| start..length.min(start + STRETCH))
}

/// `0..columns` in parts that `rows` rows of fit into a tile.
fn tiles(columns: usize, rows: usize) -> impl Iterator<Item = Range<usize>> {
    let width = SIDE * TILE_COLUMNS / rows.next_power_of_two();
    (0..columns)
        .step_by(width)
        .map(move |start| start..columns.min(start + width))
}

/// How a thread holds rows of N.
///
/// One at a time where rows lie together. Where columns do, [`SIDE`] rows, which are what a cache
/// line holds of a column: side by side where the columns of N are those, as then nothing is
/// turned but k outputs; else one after another.
#[derive(Clone, Copy, Debug)]
struct Layout {
    height: usize,
    side_by_side: bool,
    /// From a row to the next: a little more than N, lest rows share the sets of a cache.
    row_step: usize,
}

impl Layout {
    /// From a value of a row to the next.
    #[inline(always)]
    fn value_step(self) -> usize {
        if self.side_by_side { self.height } else { 1 }
    }

    #[inline(always)]
    fn at(self, row: usize, value: usize) -> usize {
        row * self.row_step + value * self.value_step()
    }
}

/// Rows of N in the memory of one thread.
struct Panel<T> {
    layout: Layout,
    padded: usize,
    values: Aligned<T>,
    /// What is on its way between a few rows and a matrix.
    tile: Aligned<T>,
}

impl<T: Hadamard> Panel<T> {
    fn new(layout: Layout, padded: usize) -> Result<Self> {
        let step = layout.row_step.max(padded);
        Ok(Self {
            layout,
            padded,
            values: aligned::zeros("rows of the transform", layout.height.saturating_mul(step))?,
            tile: aligned::zeros("a tile of rows", SIDE * TILE_COLUMNS)?,
        })
    }

    /// Calls `work(values, rows)` for the places `places` of the first `rows` rows, by row or, where
    /// they are side by side, at once.
    fn each(&mut self, rows: usize, places: Range<usize>, mut work: impl FnMut(&mut [T], usize)) {
        if self.layout.side_by_side {
            let height = self.layout.height;
            work(
                &mut self.values[places.start * height..places.end * height],
                height,
            );
            return;
        }
        for row in self
            .values
            .chunks_exact_mut(self.layout.row_step)
            .take(rows)
        {
            work(&mut row[places.clone()], 1);
        }
    }

    /// Sets the values from `start` on to +0.
    fn clear(&mut self, rows: usize, start: usize, run: &Run) -> Result<()> {
        for part in stretches(self.padded - start) {
            run.control.check()?;
            let part = start + part.start..start + part.end;
            self.each(rows, part, |values, _| values.fill(T::ZERO));
        }
        Ok(())
    }

    /// Transforms the rows, whose values from `live` on are +0.
    fn transform(&mut self, rows: usize, live: usize, run: &Run) -> Result<()> {
        let mut outcome = Ok(());
        self.each(rows, 0..self.padded, |values, rows| {
            if outcome.is_ok() {
                outcome = T::transform(run.level, values, rows, live, run.control);
            }
        });
        outcome
    }
}
