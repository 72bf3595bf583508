//! Dense matrices by the sparse laws.
//!
//! Rows are the unit of work. For each few of them the features are gone through chunk by chunk:
//! a chunk is loaded into a tile, and a table says what its features add to which sums. In the end
//! every sum is multiplied once by the weight of its output. There are two kinds of tables,
//! [`blocks`] for rows that lie together and wide blocks, and [`lists`] for all else.

use corekit_base::aligned::{Aligned, zeros};
use corekit_base::array::{Ahead, Matrix, MatrixMut, Rows};
use corekit_base::real::Real;
use corekit_base::run::Run;

use crate::error::Result;

pub(crate) mod blocks;
pub(crate) mod lists;
pub(crate) mod tables;

use blocks::{BlockDraw, Blocks};
use lists::{LANES, ListDraw};
use tables::{ChunkDraw, Kept, Tables, Words};

/// Bytes that a worker's sums may take when tables are drawn again for every panel of rows: the
/// more rows a panel has, the less drawing costs.
const PANEL_BYTES: usize = 2 << 20;

/// Rows of a task: within it, the next tile is known and asked for ahead of time.
const TASK_ROWS: usize = 64;

/// Space between rows of sums, so that they are not a power of two apart in cache.
const GAP: usize = 16;

/// How many groups of `rows` rows a panel has, with sums of `row_bytes` a row.
fn panel_groups<D: ChunkDraw>(tables: &Tables<'_, D>, rows: usize, row_bytes: usize) -> usize {
    if tables.are_drawn() {
        (PANEL_BYTES / (rows * row_bytes)).clamp(1, 64)
    } else {
        1
    }
}

/// What a worker keeps from panel to panel.
struct Worker<T, Table> {
    tile: Aligned<T>,
    sums: Aligned<T>,
    words: Words,
    table: Table,
}

impl<T: Real, Table: Default> Worker<T, Table> {
    fn new(tile: usize, sums: usize) -> Result<Self> {
        Ok(Self {
            tile: zeros("a tile of rows", tile)?,
            sums: zeros("sums of rows", sums)?,
            words: Words::new(),
            table: Table::default(),
        })
    }
}

/// Y = X Aᵀ for rows that lie together; `scales` are the weights of the outputs.
pub(crate) fn project_blocks<T: Blocks>(
    draw: &BlockDraw<'_>,
    kept: &Kept<blocks::Table>,
    scales: &[T],
    x: &Matrix<'_>,
    y: &MatrixMut<'_>,
    run: &Run<'_>,
) -> Result<()> {
    use blocks::{ROWS, tile_stride};
    let (features, tile_stride) = (T::CHUNK, tile_stride::<T>());
    let tables = Tables::new(draw, kept, run)?;
    let width = draw.strata.width;
    let sum_stride = scales.len().next_multiple_of(16) + GAP;
    let groups = panel_groups(&tables, ROWS, sum_stride * size_of::<T>());
    let panel = groups * ROWS;
    let task_rows = panel.max(TASK_ROWS);
    let start = || Worker::new(ROWS * tile_stride, panel * sum_stride);
    run.share(x.rows().div_ceil(task_rows), start, |worker, task| {
        let rows = task * task_rows..x.rows().min((task + 1) * task_rows);
        let panel_rows = |top: usize| top..rows.end.min(top + panel);
        let tile_rows = |top: usize| top..rows.end.min(top + ROWS);
        let tile_columns = |chunk: usize| chunk * features..x.columns().min((chunk + 1) * features);
        let mut tiles = rows
            .clone()
            .step_by(panel)
            .flat_map(|first| {
                let tops = panel_rows(first).step_by(ROWS);
                (0..draw.chunks())
                    .flat_map(move |chunk| tops.clone().map(move |top| (first, chunk, top)))
            })
            .peekable();
        let mut drawn = None;
        while let Some((first, chunk, top)) = tiles.next() {
            let columns = tile_columns(chunk);
            if drawn != Some((first, chunk)) {
                run.control.check()?;
                drawn = Some((first, chunk));
                if chunk == 0 {
                    worker.sums.fill(T::ZERO);
                }
                tables.prepare(chunk, &mut worker.words, &mut worker.table);
            }
            let (len, whole) = (columns.len(), columns.len().next_multiple_of(width));
            // Rows of the kernel's type that begin at cache lines are read where they lie: for a
            // copy there is no room in the nearest cache beside the next tile. Others are copied,
            // for loads across lines cost more. Measured (Zen 5, 4096 to 512, one thread): 12.2 ms
            // in place, 13.8 copied, 16.0 in place across lines.
            let tile = match x.in_place(tile_rows(top), columns.clone()) {
                Some(tile) if len == whole && tile.are_aligned() => tile,
                in_place => {
                    match in_place {
                        Some(tile) => T::copy(run.level, tile, &mut worker.tile),
                        None => {
                            x.load_tile(tile_rows(top), columns, &mut worker.tile, tile_stride);
                        }
                    }
                    // The rest of the last block is zero, whatever the tile held.
                    for row in worker.tile.chunks_mut(tile_stride) {
                        row[len..whole].fill(T::ZERO);
                    }
                    Rows::of(&worker.tile, tile_stride, tile_rows(top).len(), whole)
                }
            };
            let ahead = match tiles.peek() {
                Some(&(_, chunk, top)) => x.ahead(tile_rows(top), tile_columns(chunk)),
                None => Ahead::none(),
            };
            let table = tables.get(chunk, &worker.table);
            let sums = &mut worker.sums[(top - first) * sum_stride..];
            T::accumulate(run.level, table, tile, sums, sum_stride, ahead);
            let is_last = chunk + 1 == draw.chunks() && top + ROWS >= panel_rows(first).end;
            if is_last {
                for (row, sums) in panel_rows(first).zip(worker.sums.chunks(sum_stride)) {
                    y.store_scaled(row, sums, scales);
                }
            }
        }
        run.control.advance(rows.len() as u64);
        Ok(())
    })
}

/// Y = X Aᵀ by lists of features for each output.
pub(crate) fn project_lists<T: Real>(
    draw: &ListDraw<'_>,
    kept: &Kept<lists::Lists>,
    scales: &[T],
    x: &Matrix<'_>,
    y: &MatrixMut<'_>,
    run: &Run<'_>,
) -> Result<()> {
    let features = draw.chunk;
    let tables = Tables::new(draw, kept, run)?;
    let k = scales.len();
    let groups = panel_groups(&tables, LANES, size_of_val(scales));
    let panel = groups * LANES;
    let start = || Worker::new(features * LANES, groups * k * LANES);
    run.share(x.rows().div_ceil(panel), start, |worker, task| {
        let rows = task * panel..x.rows().min((task + 1) * panel);
        worker.sums.fill(T::ZERO);
        for chunk in 0..draw.chunks() {
            let columns = chunk * features..x.columns().min((chunk + 1) * features);
            tables.prepare(chunk, &mut worker.words, &mut worker.table);
            let table = tables.get(chunk, &worker.table);
            let sums = worker.sums.chunks_mut(k * LANES);
            for (top, sums) in rows.clone().step_by(LANES).zip(sums) {
                let some = top..rows.end.min(top + LANES);
                x.load_transposed(some, columns.clone(), &mut worker.tile, LANES);
                table.accumulate(run.level, &worker.tile, sums);
            }
            run.control.check()?;
        }
        let sums = worker.sums.chunks_mut(k * LANES);
        for (top, sums) in rows.clone().step_by(LANES).zip(sums) {
            for (line, scale) in sums.chunks_mut(LANES).zip(scales) {
                line.iter_mut().for_each(|sum| *sum = *sum * *scale);
            }
            y.store_transposed(top..rows.end.min(top + LANES), 0..k, sums, LANES);
        }
        run.control.advance(rows.len() as u64);
        Ok(())
    })
}

/// X = Y A by lists of outputs for each feature; Y is weighted before its terms are added.
pub(crate) fn adjoint<T: Real>(
    draw: &ListDraw<'_>,
    kept: &Kept<lists::Lists>,
    scales: &[T],
    y: &Matrix<'_>,
    x: &MatrixMut<'_>,
    run: &Run<'_>,
) -> Result<()> {
    let features = draw.chunk;
    let tables = Tables::new(draw, kept, run)?;
    let k = scales.len();
    let groups = panel_groups(&tables, LANES, size_of_val(scales));
    let panel = groups * LANES;
    let start = || Worker::new(groups * k * LANES, features * LANES);
    run.share(y.rows().div_ceil(panel), start, |worker, task| {
        let rows = task * panel..y.rows().min((task + 1) * panel);
        let tiles = worker.tile.chunks_mut(k * LANES);
        for (top, tile) in rows.clone().step_by(LANES).zip(tiles) {
            y.load_transposed(top..rows.end.min(top + LANES), 0..k, tile, LANES);
            for (line, scale) in tile.chunks_mut(LANES).zip(scales) {
                line.iter_mut().for_each(|value| *value = *value * *scale);
            }
        }
        for chunk in 0..draw.chunks() {
            let columns = chunk * features..x.columns().min((chunk + 1) * features);
            tables.prepare(chunk, &mut worker.words, &mut worker.table);
            let table = tables.get(chunk, &worker.table);
            let tiles = worker.tile.chunks(k * LANES);
            for (top, tile) in rows.clone().step_by(LANES).zip(tiles) {
                worker.sums.fill(T::ZERO);
                table.accumulate(run.level, tile, &mut worker.sums);
                let some = top..rows.end.min(top + LANES);
                x.store_transposed(some, columns.clone(), &worker.sums, LANES);
            }
            run.control.check()?;
        }
        run.control.advance(rows.len() as u64);
        Ok(())
    })
}
