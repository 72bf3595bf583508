//! Dense matrices by the sparse laws.
//!
//! Rows are the unit of work. For each few of them the features are gone through chunk by chunk:
//! a chunk is loaded into a tile, and a table says what its features add to which sums. In the end
//! every sum is multiplied once by the weight of its output. There are two kinds of tables,
//! [`blocks`] for rows that lie together and wide blocks, and [`lists`] for all else.
//!
//! Where there are more outputs than a worker has memory for sums of, they are gone through in
//! parts: chunks are loaded again for each, but drawn and summed no more often.

use corekit_base::aligned::{self, Aligned};
use corekit_base::array::{Ahead, Matrix, MatrixMut, Rows};
use corekit_base::real::Real;
use corekit_base::run::Run;

use crate::error::Result;
use crate::law::{Part, SparseLaw};

pub(crate) mod blocks;
pub(crate) mod lists;
pub(crate) mod tables;

use blocks::{BlockDraw, Blocks};
use lists::{LANES, ListDraw};
use tables::{ChunkDraw, Kept, Room, Tables};

/// Bytes that a worker's sums may take when tables are drawn again for every panel of rows: the
/// more rows a panel has, the less drawing costs.
const PANEL_BYTES: usize = 2 << 20;

/// Rows of a task: within it, the next tile is known and asked for ahead of time.
const TASK_ROWS: usize = 64;

/// Space between rows of sums, so that they are not a power of two apart in cache.
const GAP: usize = 16;

/// Bytes of the sums that the adjoint holds while it goes through parts of the outputs.
const ADJOINT_BYTES: usize = 2 << 20;

/// How many groups of `rows` rows a panel has, with sums of `row_bytes` a row.
fn panel_groups<D: ChunkDraw>(
    draw: &D,
    tables: &Tables<'_, D>,
    rows: usize,
    row_bytes: usize,
) -> usize {
    if tables.are_drawn() && draw.parts().count() == 1 {
        (PANEL_BYTES / (rows * row_bytes)).clamp(1, 64)
    } else {
        1
    }
}

/// What a worker keeps from panel to panel.
struct Worker<T, Table> {
    tile: Aligned<T>,
    sums: Aligned<T>,
    room: Room,
    table: Table,
    /// The weights of the outputs of part `weighted`.
    scales: Vec<T>,
    weighted: Option<usize>,
}

impl<T: Real, Table: Default> Worker<T, Table> {
    fn new(tile: usize, sums: usize) -> Result<Self> {
        Ok(Self {
            tile: aligned::zeros("a tile of rows", tile)?,
            sums: aligned::zeros("sums of rows", sums)?,
            room: Room::default(),
            table: Table::default(),
            scales: Vec::new(),
            weighted: None,
        })
    }

    /// Has the weights of the outputs of part `number`, and tells which these are.
    fn begin<D: ChunkDraw>(&mut self, law: SparseLaw<'_>, draw: &D, number: usize) -> Result<Part> {
        let part = draw.parts().get(number);
        if self.weighted != Some(number) {
            law.scales(&part, &mut self.scales)?;
            self.weighted = Some(number);
        }
        Ok(part)
    }
}

/// The columns of `y` that are the outputs of `part`.
fn columns_of<'a>(y: &MatrixMut<'a>, part: &Part) -> MatrixMut<'a> {
    y.transposed().row_range(part.outputs()).transposed()
}

/// Y = X Aᵀ for rows that lie together.
pub(crate) fn project_blocks<T: Blocks>(
    draw: &BlockDraw<'_>,
    kept: &Kept<blocks::Table>,
    x: &Matrix<'_>,
    y: &MatrixMut<'_>,
    run: &Run<'_>,
) -> Result<()> {
    use blocks::{ROWS, tile_stride};
    let (features, tile_stride) = (T::CHUNK, tile_stride::<T>());
    let tables = Tables::new(draw, kept, run)?;
    let (law, width) = (SparseLaw::Stack(draw.strata), draw.strata.width);
    let sum_stride = draw.parts.widest().next_multiple_of(16) + GAP;
    let groups = panel_groups(draw, &tables, ROWS, sum_stride * size_of::<T>());
    let panel = groups * ROWS;
    let task_rows = panel.max(TASK_ROWS);
    let start = || Worker::new(ROWS * tile_stride, panel * sum_stride);
    run.share(x.rows().div_ceil(task_rows), start, |worker, task| {
        let rows = task * task_rows..x.rows().min((task + 1) * task_rows);
        let panel_rows = |top: usize| top..rows.end.min(top + panel);
        let tile_rows = |top: usize| top..rows.end.min(top + ROWS);
        let tile_columns = |chunk: usize| chunk * features..x.columns().min((chunk + 1) * features);
        for number in 0..draw.parts.count() {
            let part = worker.begin(law, draw, number)?;
            let y = columns_of(y, &part);
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
                    tables.prepare(number, chunk, &mut worker.room, &mut worker.table)?;
                }
                let (len, whole) = (columns.len(), columns.len().next_multiple_of(width));
                // Rows of the kernel's type that begin at cache lines are read where they lie: for
                // a copy there is no room in the nearest cache beside the next tile. Others are
                // copied, for loads across lines cost more. Measured (Zen 5, 4096 to 512, one
                // thread): 12.2 ms in place, 13.8 copied, 16.0 in place across lines.
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
                let table = tables.get(number, chunk, &worker.table);
                let sums = &mut worker.sums[(top - first) * sum_stride..];
                T::accumulate(run.level, table, tile, sums, sum_stride, ahead);
                let is_last = chunk + 1 == draw.chunks() && top + ROWS >= panel_rows(first).end;
                if is_last {
                    for (row, sums) in panel_rows(first).zip(worker.sums.chunks(sum_stride)) {
                        y.store_scaled(row, sums, &worker.scales);
                    }
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
    x: &Matrix<'_>,
    y: &MatrixMut<'_>,
    run: &Run<'_>,
) -> Result<()> {
    let features = draw.chunk;
    let tables = Tables::new(draw, kept, run)?;
    let widest = draw.parts.widest();
    let groups = panel_groups(draw, &tables, LANES, widest * size_of::<T>());
    let panel = groups * LANES;
    let start = || Worker::new(features * LANES, groups * widest * LANES);
    run.share(x.rows().div_ceil(panel), start, |worker, task| {
        let rows = task * panel..x.rows().min((task + 1) * panel);
        for number in 0..draw.parts.count() {
            let part = worker.begin(draw.law, draw, number)?;
            let (k, y) = (part.len, columns_of(y, &part));
            worker.sums.fill(T::ZERO);
            for chunk in 0..draw.chunks() {
                let columns = chunk * features..x.columns().min((chunk + 1) * features);
                tables.prepare(number, chunk, &mut worker.room, &mut worker.table)?;
                let table = tables.get(number, chunk, &worker.table);
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
                for (line, scale) in sums.chunks_mut(LANES).zip(&worker.scales) {
                    line.iter_mut().for_each(|sum| *sum = *sum * *scale);
                }
                y.store_transposed(top..rows.end.min(top + LANES), 0..k, sums, LANES);
            }
        }
        run.control.advance(rows.len() as u64);
        Ok(())
    })
}

/// X = Y A by lists of outputs for each feature; Y is weighted before its terms are added.
pub(crate) fn adjoint<T: Real>(
    draw: &ListDraw<'_>,
    kept: &Kept<lists::Lists>,
    y: &Matrix<'_>,
    x: &MatrixMut<'_>,
    run: &Run<'_>,
) -> Result<()> {
    let features = draw.chunk;
    let tables = Tables::new(draw, kept, run)?;
    let (parts, widest) = (draw.parts.count(), draw.parts.widest());
    let groups = panel_groups(draw, &tables, LANES, widest * size_of::<T>());
    let panel = groups * LANES;
    // The sums of a chunk are whole at once, unless outputs come in parts: then those of some
    // chunks wait for the next part, lest every chunk loads all outputs again.
    let together = match parts {
        1 => 1,
        _ => (ADJOINT_BYTES / (features * LANES * size_of::<T>())).clamp(1, draw.chunks()),
    };
    let start = || Worker::new(groups * widest * LANES, together * features * LANES);
    run.share(y.rows().div_ceil(panel), start, |worker, task| {
        let rows = task * panel..y.rows().min((task + 1) * panel);
        for first in (0..draw.chunks()).step_by(together) {
            let chunks = first..draw.chunks().min(first + together);
            for number in 0..parts {
                let part = worker.begin(draw.law, draw, number)?;
                let k = part.len;
                if first == 0 || parts > 1 {
                    let tiles = worker.tile.chunks_mut(k * LANES);
                    for (top, tile) in rows.clone().step_by(LANES).zip(tiles) {
                        let some = top..rows.end.min(top + LANES);
                        y.load_transposed(some, part.outputs(), tile, LANES);
                        for (line, scale) in tile.chunks_mut(LANES).zip(&worker.scales) {
                            line.iter_mut().for_each(|value| *value = *value * *scale);
                        }
                    }
                }
                let sums = worker.sums.chunks_mut(features * LANES);
                for (chunk, sums) in chunks.clone().zip(sums) {
                    let columns = chunk * features..x.columns().min((chunk + 1) * features);
                    tables.prepare(number, chunk, &mut worker.room, &mut worker.table)?;
                    let table = tables.get(number, chunk, &worker.table);
                    let tiles = worker.tile.chunks(k * LANES);
                    for (top, tile) in rows.clone().step_by(LANES).zip(tiles) {
                        if number == 0 {
                            sums.fill(T::ZERO);
                        }
                        table.accumulate(run.level, tile, sums);
                        if number + 1 == parts {
                            let some = top..rows.end.min(top + LANES);
                            x.store_transposed(some, columns.clone(), sums, LANES);
                        }
                    }
                    run.control.check()?;
                }
            }
        }
        run.control.advance(rows.len() as u64);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use corekit_base::array::Element;
    use corekit_base::control::Control;
    use corekit_base::simd::Level;

    use super::*;
    use crate::law::{Parts, Strata, Threshold};

    /// Rows that are no two alike.
    fn rows<T: Real>(n: usize, columns: usize) -> Vec<T> {
        let value = |i: usize| T::of((i * 37 % 1009) as f64 / 7.0 - 70.0);
        (0..n * columns).map(value).collect()
    }

    /// What a kernel makes of a matrix of n rows.
    fn made<T: Real + Element>(
        n: usize,
        columns: usize,
        kernel: impl FnOnce(&MatrixMut<'_>, &Run<'_>) -> Result<()>,
    ) -> Vec<T> {
        let control = Control::new();
        let run = Run {
            threads: 2,
            level: Level::detect(),
            control: &control,
        };
        let mut y = vec![T::of(f64::NAN); n * columns];
        kernel(&MatrixMut::of(&mut y, n, columns), &run).unwrap();
        assert_eq!(control.progress().done, n as u64);
        y
    }

    /// The parts of `law` give what the whole gives, tables drawn for every panel too.
    fn check<T: Blocks>(law: SparseLaw<'_>, d: usize) {
        let (n, k) = (70, law.n_components());
        let (x, y) = (rows::<T>(n, d), rows::<T>(n, k));
        let (x, y) = (Matrix::of(&x, n, d), Matrix::of(&y, n, k));
        let all = |parts: Parts<'_>| {
            let lists = |by_feature| ListDraw {
                seed: 5,
                law,
                parts,
                n_features: d,
                by_feature,
                chunk: 256,
            };
            let projected = made::<T>(n, k, |y, run| {
                project_lists::<T>(&lists(false), &Kept::new(), &x, y, run)
            });
            let back = made::<T>(n, d, |x, run| {
                adjoint::<T>(&lists(true), &Kept::new(), &y, x, run)
            });
            if let SparseLaw::Stack(strata) = law
                && strata.width >= 8
            {
                let draw = BlockDraw {
                    seed: 5,
                    strata,
                    parts,
                    n_features: d,
                    chunk: T::CHUNK,
                };
                let blocks = made::<T>(n, k, |y, run| {
                    project_blocks::<T>(&draw, &Kept::new(), &x, y, run)
                });
                assert!(blocks == projected, "{law:?}, {parts:?}");
            }
            (projected, back)
        };
        let whole = all(law.parts(usize::MAX, usize::MAX));
        for most in [[64, 100], [100, 1], [k / 2 + 1, 3]] {
            let parts = law.parts(most[0], most[1]);
            assert!(all(parts) == whole, "{law:?}, {parts:?}, {d} features");
        }
    }

    #[test]
    fn parts_are_the_whole() {
        for (k, s, width) in [
            (300, 3, 16),
            (315, 1, 16),
            (203, 5, 8),
            (200, 7, 1),
            (90, 1, 1),
        ] {
            let strata = Strata::new(k, s, width).unwrap();
            check::<f32>(SparseLaw::Stack(&strata), 700);
            check::<f64>(SparseLaw::Stack(&strata), 1100);
        }
        let law = SparseLaw::Iid {
            threshold: Threshold::new(0.1).unwrap(),
            n_components: 203,
        };
        check::<f32>(law, 700);
        // More than tables are kept of.
        let strata = Strata::new(200, 8, 1).unwrap();
        check::<f32>(SparseLaw::Stack(&strata), 270_000);
    }
}
