//! Sparse rows times the matrix: only the features that occur are drawn.
//!
//! Rows go in rounds whose entries fit in memory. The features of a round, each once and in rising
//! order, are what [`product`](super::product) has all features for: they are drawn in pieces,
//! ahead of their use, and every row adds, for its entries among them, a multiple of a column.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Mutex;

use corekit_base::aligned::{self, Aligned};
use corekit_base::array::MatrixMut;
use corekit_base::memory::try_vec;
use corekit_base::real::Real;
use corekit_base::run::Run;
use corekit_base::simd::Level;
use corekit_base::sync::lock;

use super::ahead::{Ahead, Panel};
use super::entries::{Entries, Scratch};
use crate::error::Result;
use crate::memory::reserve;
use crate::sort::sort;
use crate::sparse::SparseRows;

/// Rows of a task.
const BLOCK: usize = 32;

/// Entries of a round, for each worker: up to 40 bytes each.
const ENTRIES: usize = 1 << 17;

/// Bytes of sums that a worker is allowed.
const SUM_BYTES: usize = 6 << 20;

/// Bytes of each of the two panels that a worker is allowed, and of a piece.
const PANEL_BYTES: usize = 2 << 20;
const PIECE_BYTES: usize = 256 << 10;

/// Bytes of a row of sums.
const ROW_BYTES: usize = 4096;

/// The entries of the rows of a round.
struct Round<T> {
    /// Where the entries of each row start, and the end.
    starts: Vec<usize>,
    columns: Vec<u64>,
    values: Vec<T>,
    /// The columns that occur, in rising order.
    features: Vec<u64>,
}

impl<T: Real> Round<T> {
    /// Reads rows from `first` on, at most `most`, and a row more than fit at most.
    fn read(rows: &dyn SparseRows<T>, first: usize, most: usize, run: &Run) -> Result<Self> {
        const WHAT: &str = "rows of a sparse matrix";
        let room = ENTRIES * run.threads.clamp(1, 256);
        let mut round = Self {
            starts: try_vec(WHAT, most.min(rows.rows() - first) + 1)?,
            columns: Vec::new(),
            values: Vec::new(),
            features: Vec::new(),
        };
        round.starts.push(0);
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        for row in (first..rows.rows()).take(most) {
            run.control.check()?;
            rows.row(row, &mut columns, &mut values, run.control)?;
            reserve(WHAT, &mut round.columns, columns.len())?;
            reserve(WHAT, &mut round.values, values.len())?;
            round.columns.extend_from_slice(&columns);
            round.values.extend_from_slice(&values);
            round.starts.push(round.columns.len());
            if round.columns.len() >= room {
                break;
            }
        }
        reserve(WHAT, &mut round.features, round.columns.len())?;
        round.features.extend_from_slice(&round.columns);
        sort(&mut round.features, run.control)?;
        round.features.dedup();
        Ok(round)
    }

    fn rows(&self) -> usize {
        self.starts.len() - 1
    }
}

/// The sums of a block of rows, and how far into the entries of each row they are.
struct Sums<T> {
    values: Aligned<T>,
    next: [usize; BLOCK],
}

/// y = x Aᵀ for the k x d matrix A under `seed` and sparse rows x.
///
/// Memory grows with the entries of the longest row, and with nothing else.
pub(crate) fn project_sparse<T: Real>(
    seed: u128,
    k: usize,
    rows: &dyn SparseRows<T>,
    y: &MatrixMut,
    run: &Run,
) -> Result<()> {
    assert!(rows.rows() == y.rows() && y.columns() == k);
    let entries = Entries::new(seed, k, run.level);
    let threads = run.threads.clamp(1, 256);
    let widest = k.clamp(1, ROW_BYTES / size_of::<T>());
    // A few words beside the sums: where a row starts, and how far it is.
    let row_bytes = widest * size_of::<T>() + 32;
    let most = (threads * SUM_BYTES / row_bytes).next_multiple_of(BLOCK);
    let blocks = most.min(rows.rows()).div_ceil(BLOCK);
    let mut sums = try_vec("sums", blocks)?;
    for _ in 0..blocks {
        sums.push(Mutex::new(Sums {
            values: aligned::zeros("sums", BLOCK * widest)?,
            next: [0; BLOCK],
        }));
    }
    let piece = (PIECE_BYTES / (widest * size_of::<T>())).max(1);
    let together = threads * PANEL_BYTES / PIECE_BYTES;
    let mut first = 0;
    while first < rows.rows() {
        let round = Round::read(rows, first, most, run)?;
        let pieces = round.features.len().div_ceil(piece);
        let ahead = Ahead::new(run, together, pieces, piece * widest)?;
        for start in (0..k).step_by(widest) {
            let outputs = start..k.min(start + widest);
            let width = outputs.len();
            let features = |n: usize| {
                let end = round.features.len().min((n + 1) * piece);
                &round.features[n * piece..end]
            };
            let work = |panel: &Panel<T>, task: usize| {
                let block = task * BLOCK..round.rows().min((task + 1) * BLOCK);
                let mut sums = lock(&sums[task]);
                let Sums { values, next } = &mut *sums;
                if panel.is_first() {
                    values.fill(T::ZERO);
                    next[..block.len()].copy_from_slice(&round.starts[block.clone()]);
                }
                for n in panel.pieces.clone() {
                    run.control.check()?;
                    panel.with(n, |columns| {
                        let rows = values.chunks_exact_mut(width).zip(next.iter_mut());
                        for ((sums, next), row) in rows.zip(block.clone()) {
                            let entries = *next..round.starts[row + 1];
                            *next = add(run.level, &round, entries, features(n), columns, sums);
                        }
                    });
                }
                if panel.is_last() {
                    for (row, sums) in block.zip(values.chunks_exact(width)) {
                        y.store_row(first + row, outputs.start, sums);
                    }
                }
                Ok(())
            };
            ahead.sweep(
                1,
                Scratch::new,
                |scratch, n, panel| {
                    let features = features(n).iter().copied();
                    entries.columns(features, outputs.clone(), scratch, panel, width);
                },
                |_| round.rows().div_ceil(BLOCK),
                |_, _, panel, task| work(panel, task),
            )?;
        }
        first += round.rows();
        run.control.advance(round.rows() as u64);
    }
    Ok(())
}

/// Adds the columns of `features` to `sums`, for the entries of a row among them; tells which entry
/// is the next.
fn add<T: Real>(
    level: Level,
    round: &Round<T>,
    entries: Range<usize>,
    features: &[u64],
    columns: &[T],
    sums: &mut [T],
) -> usize {
    let mut place = 0;
    for entry in entries.clone() {
        place += features[place..].partition_point(|feature| *feature < round.columns[entry]);
        if place == features.len() {
            return entry;
        }
        let column = &columns[place * sums.len()..][..sums.len()];
        add_multiple(level, round.values[entry], column, sums);
    }
    entries.end
}

/// `sums` += `x` * `column`, fused.
fn add_multiple<T: Real>(level: Level, x: T, column: &[T], sums: &mut [T]) {
    #[inline(always)]
    fn each<T: Real>(x: T, column: &[T], sums: &mut [T]) {
        for (sum, entry) in sums.iter_mut().zip(column) {
            *sum = x.mul_add(*entry, *sum);
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
    fn avx512<T: Real>(x: T, column: &[T], sums: &mut [T]) {
        each(x, column, sums);
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2<T: Real>(x: T, column: &[T], sums: &mut [T]) {
        each(x, column, sums);
    }
    match level {
        // SAFETY: the machine has what a level stands for.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(x, column, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(x, column, sums) },
        _ => each(x, column, sums),
    }
}
