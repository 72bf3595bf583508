//! Blocks of features, permuted and signed in registers: dense rows by stacks of wide blocks.
//!
//! A chunk of features is loaded, for a few rows, into a tile in cache. Every group of outputs then
//! gathers the blocks that fall on it: its sums stay in registers while block after block is
//! permuted, signed and added, for all rows of the tile at once. So a block costs a load, a
//! permutation and a multiply-add for each stratum, and nothing is transposed or stored between.
//! The blocks of a group come in rising order, so every output is the same sum as in a plain loop.

use corekit_base::array::{Ahead, Element, Rows};
use corekit_base::real::Real;
use corekit_base::simd::Level;

use crate::draw::{Placement, SIGN, placements};
use crate::error::Result;
use crate::law::{Parts, SparseLaw, Strata, WIDEST};
use crate::memory::{reserve, resize};

use super::tables::{ChunkDraw, Room, WHAT};

mod kernel;

/// Rows of a tile.
pub(crate) const ROWS: usize = 8;

/// Bytes that the sums of a tile's rows may take.
const SUM_BYTES: usize = 4 << 20;

/// The most strata of a part: of a chunk, some hundred thousand placements.
const MOST_STRATA: usize = 1 << 10;

/// How outputs are divided.
pub(crate) fn parts<T>(strata: &Strata) -> Parts<'_> {
    SparseLaw::Stack(strata).parts(SUM_BYTES / (ROWS * size_of::<T>()), MOST_STRATA)
}

/// Where the blocks of one chunk of features go, by groups of a part's outputs.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Each has the next of the items; a group has one, but where two groups overlap.
    runs: Vec<GroupRun>,
    items: Vec<Item>,
    width: usize,
    /// Features of the chunk, whole blocks.
    features: usize,
    /// Outputs.
    outputs: usize,
}

/// A group of outputs, and how many of the items are its.
#[derive(Clone, Copy, Debug)]
struct GroupRun {
    start: u32,
    items: u32,
}

/// A block of the chunk: where it begins in the tile, and how its lanes are placed.
#[derive(Clone, Copy, Debug, Default)]
struct Item {
    offset: u32,
    lanes: [u8; WIDEST],
}

/// Draws the tables of a stack of wide blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockDraw<'a> {
    pub seed: u128,
    pub strata: &'a Strata,
    /// How outputs are divided: [`parts`].
    pub parts: Parts<'a>,
    pub n_features: usize,
    /// Features of a chunk: [`Blocks::CHUNK`].
    pub chunk: usize,
}

impl ChunkDraw for BlockDraw<'_> {
    type Table = Table;

    fn parts(&self) -> &Parts<'_> {
        &self.parts
    }

    fn chunks(&self) -> usize {
        self.n_features.div_ceil(self.chunk)
    }

    fn bytes(&self) -> usize {
        let blocks = self.n_features.div_ceil(self.strata.width);
        blocks
            .saturating_mul(self.strata.column_nnz())
            .saturating_mul(size_of::<Item>())
    }

    fn draw(&self, part: usize, chunk: usize, room: &mut Room, table: &mut Table) -> Result<()> {
        let part = self.parts.get(part);
        let (s, width) = (part.strata().len(), self.strata.width);
        let features = self.chunk.min(self.n_features - chunk * self.chunk);
        let blocks = features.div_ceil(width);
        let Room {
            words,
            placements: drawn,
            counts,
            starts,
        } = room;
        resize(WHAT, words, s * self.strata.words_per_stratum(), 0)?;
        resize(WHAT, drawn, blocks * s, Placement::NOWHERE)?;
        let first = (chunk * self.chunk / width) as u64;
        for (block, drawn) in (first..).zip(drawn.chunks_exact_mut(s)) {
            placements(self.seed, self.strata, part.strata(), block, words, drawn);
        }
        // A counting sort by group. When the last group overlaps its neighbour, the two are one:
        // the sums that they share take both groups' blocks in rising order.
        let kinds = part.len / width;
        let kind = |start: u32| {
            let is_inside = !part.cuts || part.has(start);
            is_inside.then(|| ((start as usize - part.start) / width).min(kinds - 1))
        };
        counts.clear();
        resize(WHAT, counts, kinds, 0)?;
        for kind in drawn.iter().filter_map(|placement| kind(placement.start)) {
            counts[kind] += 1;
        }
        let mut before = 0;
        for count in counts.iter_mut() {
            before += std::mem::replace(count, before);
        }
        resize(WHAT, &mut table.items, before as usize, Item::default())?;
        resize(WHAT, starts, before as usize, 0)?;
        for (block, drawn) in drawn.chunks_exact(s).enumerate() {
            for placement in drawn {
                let Some(kind) = kind(placement.start) else {
                    continue;
                };
                let next = &mut counts[kind];
                starts[*next as usize] = placement.start - part.start as u32;
                table.items[*next as usize] = Item {
                    offset: (block * width) as u32,
                    lanes: placement.lanes,
                };
                *next += 1;
            }
        }
        table.runs.clear();
        for run in starts.chunk_by(|a, b| a == b) {
            reserve(WHAT, &mut table.runs, 1)?;
            table.runs.push(GroupRun {
                start: run[0],
                items: run.len() as u32,
            });
        }
        table.width = width;
        table.features = blocks * width;
        table.outputs = part.len;
        Ok(())
    }
}

/// From one row of a tile to the next: a constant that instructions hold, and no power of two,
/// which would put all rows to the same places of a cache.
pub(crate) const fn tile_stride<T: Blocks>() -> usize {
    T::CHUNK + 16
}

/// The types that have kernels for blocks.
pub(crate) trait Blocks: Real + Element {
    /// Features of a chunk: eight rows take 32 KiB of the nearest cache.
    const CHUNK: usize = 4096 / size_of::<Self>();

    /// Copies rows to a tile, each [`tile_stride`] after the one before.
    fn copy(level: Level, from: Rows<'_, Self>, tile: &mut [Self]);

    /// Adds to row r of `sums` (each `stride` after the one before) what the table says of row r
    /// of the tile, which has whole blocks; meanwhile asks for the lines `ahead`.
    fn accumulate(
        level: Level,
        table: &Table,
        tile: Rows<'_, Self>,
        sums: &mut [Self],
        stride: usize,
        ahead: Ahead,
    );
}

/// The reference: what the kernels do, one lane after the other.
fn accumulate_plainly<T: Real>(table: &Table, tile: Rows<'_, T>, sums: &mut [T], stride: usize) {
    let width = table.width;
    let mut items = table.items.iter();
    for run in &table.runs {
        for item in items.by_ref().take(run.items as usize) {
            for row in 0..tile.rows() {
                let to = &mut sums[row * stride + run.start as usize..][..width];
                for (sum, lane) in to.iter_mut().zip(item.lanes) {
                    let value = tile.get(row, item.offset as usize + usize::from(lane & !SIGN));
                    *sum += if lane & SIGN == 0 { value } else { -value };
                }
            }
        }
    }
}

/// The reference of copies.
fn copy_plainly<T: Blocks>(from: Rows<'_, T>, tile: &mut [T]) {
    for (row, to) in (0..from.rows()).zip(tile.chunks_mut(tile_stride::<T>())) {
        for (column, to) in to[..from.columns()].iter_mut().enumerate() {
            *to = from.get(row, column);
        }
    }
}

macro_rules! blocks {
    ($type:ty, $kernel:ident) => {
        impl Blocks for $type {
            fn copy(level: Level, from: Rows<'_, Self>, tile: &mut [Self]) {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => kernel::x86::copy(level, from, tile),
                    _ => copy_plainly(from, tile),
                }
            }

            fn accumulate(
                level: Level,
                table: &Table,
                tile: Rows<'_, Self>,
                sums: &mut [Self],
                stride: usize,
                ahead: Ahead,
            ) {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 | Level::Avx512 => {
                        kernel::x86::$kernel(level, table, tile, sums, stride, ahead);
                    }
                    _ => accumulate_plainly(table, tile, sums, stride),
                }
            }
        }
    };
}

blocks!(f32, accumulate_f32);
blocks!(f64, accumulate_f64);

#[cfg(test)]
mod tests {
    use super::*;

    fn levels_agree<T: Blocks>() {
        for (k, s) in [
            (8, 1),
            (16, 1),
            (17, 1),
            (100, 4),
            (192, 8),
            (1000, 8),
            (64, 8),
            (75, 9),
        ] {
            let strata = Strata::new(k, s, Strata::widest(k, s)).unwrap();
            assert!(strata.width >= 8);
            for features in [1, 7, 16, 33, 500, T::CHUNK] {
                let mut table = Table::default();
                let draw = BlockDraw {
                    seed: 9,
                    strata: &strata,
                    parts: parts::<T>(&strata),
                    n_features: features,
                    chunk: T::CHUNK,
                };
                draw.draw(0, 0, &mut Room::default(), &mut table).unwrap();
                // A tile of our own, or rows where they lie.
                let strides = [tile_stride::<T>(), T::CHUNK + 48];
                for (rows, stride) in (1..=ROWS).flat_map(|r| strides.map(|stride| (r, stride))) {
                    let mut values = vec![T::ZERO; ROWS * stride];
                    for row in 0..rows {
                        for (c, value) in values[row * stride..][..features].iter_mut().enumerate()
                        {
                            *value = T::of(((row * 31 + c * 17) % 101) as f64 / 7.0 - 6.0);
                        }
                    }
                    let whole = features.next_multiple_of(strata.width);
                    let tile = Rows::of(&values, stride, rows, whole);
                    let start: Vec<T> =
                        (0..ROWS * (k + 3)).map(|i| T::of(i as f64 / 3.0)).collect();
                    let mut wanted = start.clone();
                    accumulate_plainly(&table, tile, &mut wanted, k + 3);
                    for level in Level::all() {
                        let mut sums = start.clone();
                        T::accumulate(level, &table, tile, &mut sums, k + 3, Ahead::none());
                        assert_eq!(sums, wanted, "{level} k {k} s {s} d {features} rows {rows}");
                    }
                }
            }
        }
    }

    #[test]
    fn all_levels_are_the_plain_loop() {
        levels_agree::<f32>();
        levels_agree::<f64>();
    }

    fn copies_agree<T: Blocks>() {
        let (stride, tile_stride) = (T::CHUNK + 5, tile_stride::<T>());
        let values: Vec<T> = (0..ROWS * stride + 9).map(|i| T::of(i as f64)).collect();
        for columns in [1, 7, 8, 16, 33, 500, T::CHUNK - 1, T::CHUNK] {
            for rows in [1, 3, ROWS] {
                for first in [0, 4, 9] {
                    let from = Rows::of(&values[first..], stride, rows, columns);
                    let mut wanted = vec![T::ZERO; ROWS * tile_stride];
                    copy_plainly(from, &mut wanted);
                    assert_eq!(
                        wanted[(rows - 1) * tile_stride],
                        values[first + (rows - 1) * stride]
                    );
                    for level in Level::all() {
                        let mut tile = vec![T::ZERO; ROWS * tile_stride];
                        T::copy(level, from, &mut tile);
                        assert_eq!(tile, wanted, "{level} {rows} x {columns} from {first}");
                    }
                }
            }
        }
    }

    #[test]
    fn all_levels_copy_the_same() {
        copies_agree::<f32>();
        copies_agree::<f64>();
    }
}
