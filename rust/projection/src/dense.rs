//! Dense matrices by the sparse laws.
//!
//! Rows are the unit of work. For each few of them the features are gone through chunk by chunk:
//! a chunk is loaded into a tile, and a table says what its features add to which sums. In the end
//! every sum is multiplied once by the weight of its output. There are two kinds of tables,
//! [`blocks`] for rows that lie together and wide blocks, and [`lists`] for all else.

use corekit_base::aligned::Aligned;
use corekit_base::array::{Matrix, MatrixMut};
use corekit_base::real::Real;

use crate::error::Result;
use crate::run::{Run, zeros};

pub(crate) mod blocks;
pub(crate) mod lists;
pub(crate) mod tables;

use blocks::{BlockDraw, Blocks, Tile};
use lists::{LANES, ListDraw};
use tables::{ChunkDraw, Kept, Tables, Words};

/// Bytes that a worker's sums may take when tables are drawn again for every panel of rows: the
/// more rows a panel has, the less drawing costs.
const PANEL_BYTES: usize = 2 << 20;

/// Space between rows of a tile, so that rows are not a power of two apart in cache.
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
    line: Aligned<T>,
    words: Words,
    table: Table,
}

impl<T: Real, Table: Default> Worker<T, Table> {
    fn new(tile: usize, sums: usize, line: usize) -> Result<Self> {
        Ok(Self {
            tile: zeros("a tile of rows", tile)?,
            sums: zeros("sums of rows", sums)?,
            line: zeros("a row of output", line)?,
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
    use blocks::{CHUNK, ROWS};
    let tables = Tables::new(draw, kept, run)?;
    let k = scales.len();
    let tile_stride = CHUNK.min(x.columns().next_multiple_of(16)) + GAP;
    let sum_stride = k.next_multiple_of(16) + GAP;
    let groups = panel_groups(&tables, ROWS, sum_stride * size_of::<T>());
    let panel = groups * ROWS;
    let start = || Worker::new(ROWS * tile_stride, panel * sum_stride, k);
    run.share(x.rows().div_ceil(panel), start, |worker, task| {
        let rows = task * panel..x.rows().min((task + 1) * panel);
        worker.sums.fill(T::ZERO);
        for chunk in 0..draw.chunks() {
            let columns = chunk * CHUNK..x.columns().min((chunk + 1) * CHUNK);
            let table = tables.get(chunk, &mut worker.words, &mut worker.table);
            if columns.len() < CHUNK {
                // The rest of the last block is zero, whatever the tile held.
                worker.tile.fill(T::ZERO);
            }
            let sums = worker.sums.chunks_mut(ROWS * sum_stride);
            for (top, sums) in rows.clone().step_by(ROWS).zip(sums) {
                let some = top..rows.end.min(top + ROWS);
                x.load_tile(some.clone(), columns.clone(), &mut worker.tile, tile_stride);
                let tile = Tile {
                    values: &worker.tile,
                    stride: tile_stride,
                    rows: some.len(),
                };
                T::accumulate(run.level, table, tile, sums, sum_stride);
            }
            run.control.check()?;
        }
        for (row, sums) in rows.clone().zip(worker.sums.chunks(sum_stride)) {
            for ((out, sum), scale) in worker.line.iter_mut().zip(sums).zip(scales) {
                *out = *sum * *scale;
            }
            y.store_row(row, 0, &worker.line);
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
    let start = || Worker::new(features * LANES, groups * k * LANES, 0);
    run.share(x.rows().div_ceil(panel), start, |worker, task| {
        let rows = task * panel..x.rows().min((task + 1) * panel);
        worker.sums.fill(T::ZERO);
        for chunk in 0..draw.chunks() {
            let columns = chunk * features..x.columns().min((chunk + 1) * features);
            let table = tables.get(chunk, &mut worker.words, &mut worker.table);
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
    let start = || Worker::new(groups * k * LANES, features * LANES, 0);
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
            let table = tables.get(chunk, &mut worker.words, &mut worker.table);
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
