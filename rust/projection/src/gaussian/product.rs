//! Rows times the matrix, which is drawn as it is needed.
//!
//! The columns of the result are cut into ranges, the depth of the sums (features; outputs for the
//! adjoint) into pieces of [`DEPTH`]. Rows go in rounds: as many as there is memory for their
//! sums, so that a piece, drawn once in a round, serves them all: with some thousand rows a worker
//! the drawing is a few hundredths of the work. When the pieces of a range fit into one panel they
//! are drawn once for all rows, and sums never leave the cache.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use corekit_base::aligned::{self, Aligned};
use corekit_base::array::{Matrix, MatrixMut};
use corekit_base::memory::try_vec;
use corekit_base::real::Real;
use corekit_base::run::Run;
use corekit_base::sync::lock;

use super::ahead::{Ahead, Panel};
use super::entries::{Entries, Scratch};
use super::gemm::{DEPTH, ROWS, TILE_STRIDE, multiply, width};
use crate::error::Result;

/// Rows of a task.
const BLOCK: usize = 8 * ROWS;

/// Bytes of sums that a worker is allowed.
const SUM_BYTES: usize = 11 << 20;

/// Bytes of panels that a worker is allowed.
const PANEL_BYTES: usize = 4 << 20;

/// Bytes of a row of sums.
const ROW_BYTES: usize = 4096;

/// Nanoseconds that it takes to draw an entry, and to load an element of a row (Zen 5, in profiles).
const DRAWN: f64 = 6.0;
const LOADED: f64 = 0.3;

/// What the rows are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Aᵀ: sums over features, a column for each output.
    Project,
    /// A: sums over outputs, a column for each feature.
    Adjoint,
}

/// How the work is cut, which shows in no bit of the result.
#[derive(Debug)]
struct Plan {
    /// Columns of a range, whole strips.
    columns: usize,
    /// Pieces of a panel.
    together: usize,
    /// Pieces in all.
    pieces: usize,
    /// Rows of a task.
    block: usize,
    /// Rows of a round.
    round: usize,
}

impl Plan {
    fn new<T>(rows: usize, depth: usize, columns: usize, threads: usize) -> Self {
        let (size, width) = (size_of::<T>(), width::<T>());
        let threads = threads.clamp(1, 256);
        let widest = ROW_BYTES / size;
        let pieces = depth.div_ceil(DEPTH);
        let budget = threads * PANEL_BYTES;
        // As wide as one panel can be that holds all pieces; half of the widest still multiplies
        // a row, once it is loaded, by many columns.
        let whole = budget / (size * DEPTH * pieces.max(1)) / width * width;
        let needed = columns.min(widest).next_multiple_of(width);
        let block = rows
            .div_ceil(2 * threads)
            .next_multiple_of(ROWS)
            .clamp(ROWS, BLOCK);
        if whole >= needed.min(widest / 2) {
            return Self {
                columns: needed.min(whole),
                together: pieces,
                pieces,
                block,
                round: rows,
            };
        }
        // Sums of narrower ranges take less memory: rounds are fewer, but all rows are loaded anew
        // for every range.
        let rounds =
            |range: usize| rows.div_ceil((threads * SUM_BYTES / (range * size)).max(block));
        let cost = |range: usize| {
            let drawn = rounds(range) * columns;
            let loaded = columns.div_ceil(range) * rows;
            DRAWN * drawn as f64 + LOADED * loaded as f64
        };
        let range = [needed, (needed / 2).next_multiple_of(width)]
            .into_iter()
            .min_by(|a, b| cost(*a).total_cmp(&cost(*b)))
            .unwrap_or(needed);
        let round = rows.div_ceil(rounds(range).max(1)).next_multiple_of(block);
        Self {
            columns: range,
            together: (budget / 2 / (size * DEPTH * range)).max(1),
            pieces,
            block,
            round,
        }
    }
}

/// What a worker keeps.
struct Worker<T> {
    scratch: Scratch<T>,
    tile: Aligned<T>,
    sums: Aligned<T>,
    turned: Aligned<T>,
}

/// y = x Aᵀ or x A, A being the matrix of `entries`.
pub(super) fn product<T: Real>(
    entries: &Entries,
    side: Side,
    x: &Matrix,
    y: &MatrixMut,
    run: &Run,
) -> Result<()> {
    let (rows, depth) = (x.rows(), x.columns());
    let plan = Plan::new::<T>(rows, depth, y.columns(), run.threads);
    let ranges = y.columns().div_ceil(plan.columns.max(1));
    if rows == 0 || ranges == 0 {
        return Ok(());
    }
    let is_whole = plan.pieces <= plan.together;
    let ahead = Ahead::new(
        run,
        plan.together,
        plan.pieces,
        DEPTH.min(depth) * plan.columns,
    )?;
    // The sums of one round, unless a task goes through with all pieces and keeps them itself.
    let kept = match is_whole {
        true => 0,
        false => plan.round.div_ceil(plan.block),
    };
    let mut sums = try_vec("sums", kept)?;
    for _ in 0..kept {
        sums.push(Mutex::new(aligned::zeros(
            "sums",
            plan.block * plan.columns,
        )?));
    }
    let done = AtomicU64::new(0);
    // A row counts when all its columns are stored.
    let advance = |rows: usize| {
        let before = done.fetch_add(rows as u64, Relaxed);
        let after = before + rows as u64;
        run.control
            .advance(after / ranges as u64 - before / ranges as u64);
    };
    for first in (0..y.columns()).step_by(plan.columns) {
        let columns = first..y.columns().min(first + plan.columns);
        let stride = columns.len().next_multiple_of(width::<T>());
        let deep = |piece: usize| piece * DEPTH..depth.min((piece + 1) * DEPTH);
        let rows_of = |round: usize| round * plan.round..rows.min((round + 1) * plan.round);
        let work = |worker: &mut Worker<T>, round: usize, panel: &Panel<T>, task: usize| {
            let start = rows_of(round).start + task * plan.block;
            let mine = start..rows_of(round).end.min(start + plan.block);
            let mut kept;
            let sums = match sums.get(task) {
                Some(sums) => {
                    kept = lock(sums);
                    &mut kept[..]
                }
                None => &mut worker.sums[..],
            };
            let height = mine.len().next_multiple_of(ROWS);
            let sums = &mut sums[..height * stride];
            if panel.is_first() {
                sums.fill(T::ZERO);
            }
            for piece in panel.pieces.clone() {
                run.control.check()?;
                let deep = deep(piece);
                x.load_tile(mine.clone(), deep.clone(), &mut worker.tile, TILE_STRIDE);
                panel.with(piece, |panel| {
                    let panel = &panel[..deep.len() * stride];
                    multiply(run.level, &worker.tile, height, panel, deep.len(), sums);
                });
            }
            if panel.is_last() {
                let count = mine.len();
                store(y, mine, columns.clone(), sums, height, &mut worker.turned);
                advance(count);
            }
            Ok(())
        };
        ahead.sweep(
            rows.div_ceil(plan.round),
            || {
                Ok(Worker {
                    scratch: Scratch::new()?,
                    tile: aligned::zeros("a tile", plan.block * TILE_STRIDE)?,
                    turned: aligned::zeros("a row", plan.columns.max(BLOCK * width::<T>()))?,
                    sums: aligned::zeros(
                        "sums",
                        if is_whole {
                            plan.block * plan.columns
                        } else {
                            0
                        },
                    )?,
                })
            },
            |worker, piece, panel| {
                let (deep, columns) = (deep(piece), columns.clone());
                let panel = &mut panel[..deep.len() * stride];
                let scratch = &mut worker.scratch;
                match side {
                    Side::Project => entries.strips_of_outputs(deep, columns, scratch, panel),
                    Side::Adjoint => entries.strips_of_features(deep, columns, scratch, panel),
                }
            },
            |round| rows_of(round).len().div_ceil(plan.block),
            work,
        )?;
    }
    Ok(())
}

/// Stores finished sums, which lie in strips of `height` rows; `turned` is memory to turn them in.
fn store<T: Real>(
    y: &MatrixMut,
    rows: Range<usize>,
    columns: Range<usize>,
    sums: &[T],
    height: usize,
    turned: &mut [T],
) {
    let width = width::<T>();
    let strips = || sums.chunks_exact(height * width);
    if !y.is_by_columns() {
        for (r, row) in rows.enumerate() {
            for (part, strip) in turned.chunks_exact_mut(width).zip(strips()) {
                part.copy_from_slice(&strip[r * width..][..width]);
            }
            y.store_row(row, columns.start, &turned[..columns.len()]);
        }
        return;
    }
    for (first, strip) in columns.clone().step_by(width).zip(strips()) {
        for (r, row) in strip.chunks_exact(width).take(rows.len()).enumerate() {
            for (c, sum) in row.iter().enumerate() {
                turned[c * BLOCK + r] = *sum;
            }
        }
        let part = first..columns.end.min(first + width);
        y.store_transposed(rows.clone(), part, turned, BLOCK);
    }
}
