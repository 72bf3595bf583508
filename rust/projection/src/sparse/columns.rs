//! The table of all columns of A: for every feature, which outputs it touches and with which sign.
//!
//! An entry takes two bytes, or four when there are more than 2¹⁵ outputs, and a column lies
//! together: eight entries are a quarter of a cache line, found by one multiplication. The placements
//! of a block would be less than half as long, but every feature would have to search them.

use std::sync::{Mutex, OnceLock};

use corekit_base::memory::try_vec;
use corekit_base::run::Run;

use crate::error::Result;

use super::Draw;
use super::drawn::Draws;
use crate::law::SparseLaw;
use crate::memory::{Blank, blank, reserve};

const WHAT: &str = "the table of columns";

/// The largest table that is kept, in bytes.
pub(crate) const CAP: usize = 128 << 20;

/// Features that are drawn in one task.
const CHUNK: usize = 1 << 12;

/// An output and a sign.
pub(super) trait Entry: Blank + Copy + Default + Send + Sync + 'static {
    /// Puts them together; the output fits.
    fn new(output: usize, is_negative: bool) -> Self;
    /// The output.
    fn output(self) -> usize;
    /// 1 when negative, else 0.
    fn sign(self) -> usize;
}

macro_rules! entry {
    ($type:ty) => {
        impl Entry for $type {
            #[inline(always)]
            fn new(output: usize, is_negative: bool) -> Self {
                output as $type | (is_negative as $type) << (<$type>::BITS - 1)
            }
            #[inline(always)]
            fn output(self) -> usize {
                (self & (<$type>::MAX >> 1)) as usize
            }
            #[inline(always)]
            fn sign(self) -> usize {
                (self >> (<$type>::BITS - 1)) as usize
            }
        }
    };
}
entry!(u16);
entry!(u32);

/// Whether entries of two bytes hold so many outputs.
pub(super) fn is_short(outputs: usize) -> bool {
    outputs <= 1 << 15
}

/// All columns of A.
#[derive(Debug)]
pub(crate) struct Columns(pub(super) Kinds);

#[derive(Debug)]
pub(super) enum Kinds {
    Short(Table<u16>),
    Long(Table<u32>),
}

#[derive(Debug)]
pub(super) enum Table<E> {
    /// Columns of `each` entries.
    Even { entries: Vec<E>, each: usize },
    /// Columns of any length, [`CHUNK`] of them together.
    Ragged(Vec<Chunk<E>>),
}

/// Some columns of different lengths.
#[derive(Debug, Default)]
pub(super) struct Chunk<E> {
    /// Column i has the entries `starts[i]..starts[i + 1]`.
    starts: Vec<u32>,
    entries: Vec<E>,
}

impl<E: Entry> Table<E> {
    /// The chunk of a feature and its place in it.
    #[inline(always)]
    pub fn place(feature: u64) -> (usize, usize) {
        (feature as usize / CHUNK, feature as usize % CHUNK)
    }
}

impl<E: Entry> Chunk<E> {
    /// Column `place`, or nothing when it has none.
    #[inline(always)]
    pub fn column(&self, place: usize) -> &[E] {
        match self.starts.get(place..place + 2) {
            Some(&[start, end]) => self.entries.get(start as usize..end as usize),
            _ => None,
        }
        .unwrap_or_default()
    }

    /// Where the start of column `place` is kept.
    #[inline(always)]
    pub fn start_address(&self, place: usize) -> *const u32 {
        self.starts.as_ptr().wrapping_add(place)
    }
}

impl Columns {
    /// Whether a table for `law` and `n_features` features is small enough to be kept.
    pub fn fit(law: &SparseLaw<'_>, n_features: usize) -> bool {
        let entry = if is_short(law.n_components()) {
            2.0
        } else {
            4.0
        };
        let start = match law {
            SparseLaw::Stack(_) => 0.0,
            SparseLaw::Iid { .. } => 4.0,
        };
        let bytes = n_features as f64 * (law.column_nnz() * entry + start);
        bytes <= CAP as f64
    }

    /// Whether to build a table for `nnz` look-ups takes no longer than to draw what they need.
    pub fn pay(law: &SparseLaw<'_>, n_features: usize, nnz: usize) -> bool {
        Self::fit(law, n_features) && nnz >= n_features.div_ceil(law.width())
    }

    /// Draws all columns, all outputs of them, O(d s) time; `None` when they do not
    /// [`Columns::fit`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Cancelled`].
    pub fn build(draw: &Draw<'_>, n_features: usize, run: &Run<'_>) -> Result<Option<Self>> {
        if !Self::fit(&draw.law, n_features) {
            return Ok(None);
        }
        Ok(Some(Self(if is_short(draw.part.len) {
            Kinds::Short(table(draw, n_features, run)?)
        } else {
            Kinds::Long(table(draw, n_features, run)?)
        })))
    }
}

fn table<E: Entry>(draw: &Draw<'_>, n_features: usize, run: &Run<'_>) -> Result<Table<E>> {
    match draw.law {
        SparseLaw::Stack(strata) => Ok(Table::Even {
            entries: even(draw, strata.column_nnz(), n_features, run)?,
            each: strata.column_nnz(),
        }),
        SparseLaw::Iid { .. } => ragged(draw, n_features, run).map(Table::Ragged),
    }
}

/// Columns of `each` entries, whole blocks of them.
fn even<E: Entry>(
    draw: &Draw<'_>,
    each: usize,
    n_features: usize,
    run: &Run<'_>,
) -> Result<Vec<E>> {
    let width = draw.law.width();
    // The table fits, so that this does.
    let len = n_features.next_multiple_of(width) * each;
    let mut entries = blank::<E>(WHAT, len)?;
    let chunk = CHUNK * each;
    let tasks = len.div_ceil(chunk);
    let chunks = Mutex::new(entries.chunks_mut(chunk).enumerate());
    run.share(
        tasks,
        || Draws::new(*draw),
        |draws, _| {
            let next = chunks.lock().ok().and_then(|mut chunks| chunks.next());
            let Some((number, chunk)) = next else {
                return Ok(());
            };
            let first = (number * CHUNK / width) as u64;
            for (block, out) in (first..).zip(chunk.chunks_mut(width * each)) {
                out.copy_from_slice(draws.draw(block));
            }
            Ok(())
        },
    )?;
    Ok(entries)
}

/// Columns of different lengths.
fn ragged<E: Entry>(draw: &Draw<'_>, n_features: usize, run: &Run<'_>) -> Result<Vec<Chunk<E>>> {
    let tasks = n_features.div_ceil(CHUNK);
    let mut chunks = try_vec(WHAT, tasks)?;
    chunks.extend((0..tasks).map(|_| OnceLock::<Chunk<E>>::new()));
    run.share(
        tasks,
        || Draws::new(*draw),
        |draws, task| {
            let features = task * CHUNK..n_features.min((task + 1) * CHUNK);
            let mut chunk = Chunk::<E>::default();
            let expected = draw.law.column_nnz() * features.len() as f64;
            reserve(WHAT, &mut chunk.entries, expected as usize)?;
            reserve(WHAT, &mut chunk.starts, features.len() + 1)?;
            chunk.starts.push(0);
            for feature in features {
                let column = draws.draw(feature as u64);
                reserve(WHAT, &mut chunk.entries, column.len())?;
                chunk.entries.extend_from_slice(column);
                chunk.starts.push(chunk.entries.len() as u32);
            }
            chunk.entries.shrink_to_fit();
            // Every task has a chunk of its own, so that nothing is there yet.
            let _ = chunks[task].set(chunk);
            run.control.check()?;
            Ok(())
        },
    )?;
    let mut all = try_vec(WHAT, tasks)?;
    all.extend(chunks.into_iter().filter_map(OnceLock::into_inner));
    Ok(all)
}
