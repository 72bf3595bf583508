//! CSC turned into CSR, some rows at a time.
//!
//! To turn all of it would take as much memory as the matrix. A slab is a range of rows whose
//! non-zeros fit into some megabytes for each thread. The columns are cut into parts, which fill a
//! slab side by side ([`fill`]): it is known how many values each part has in every row, and so
//! where in the row its values go. A part goes through its columns in order, and puts every value
//! after the one before: features ascend in the rows by themselves, and duplicates stay in the order
//! in which they are stored.
//!
//! Where columns ascend and are long, a slab takes a run of each, and it is remembered how far each
//! column was taken. Otherwise every slab reads all indices.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use corekit_base::array::Element;
use corekit_base::control::Control;
use corekit_base::real::Real;
use corekit_base::run::Run;
use corekit_base::sync::lock;

use crate::error::{Error, Result};
use crate::memory::{fit, zeros};

use super::compressed::{Compressed, Index, Indices, with_indices};
use super::rows::{SparseRows, Stored, ordered_row};

mod fill;

use fill::{Columns, Count, Put, WINDOW};

const WHAT: &str = "rows of a CSC matrix";

/// Bytes of a slab for each thread, unless one row has more.
const BYTES: usize = 10 << 20;

/// The most groups of rows that are counted.
const GROUPS: usize = 1 << 19;

/// Indices that are counted between two looks at the caller's wishes.
const COUNTED: usize = 1 << 17;

/// The mean length from which on columns are long.
const LONG: usize = 8;

/// Columns up to which it is remembered how far each was taken.
const REMEMBERED: usize = 1 << 20;

/// How the rows of a matrix in CSC are divided into slabs.
pub(crate) struct Slabs<'a> {
    x: &'a Compressed<'a>,
    parts: Vec<Part>,
    /// Non-zeros in each group of 2^shift rows.
    counts: Vec<u64>,
    shift: u32,
    ranges: Vec<Range<usize>>,
    /// Whether a slab takes runs of columns, and does not read all of them.
    takes_runs: bool,
}

/// Some of the columns.
struct Part {
    columns: Range<usize>,
    /// Non-zeros in each group of rows that are in parts before this one.
    before: Vec<u64>,
}

/// Rows in the order of CSR.
pub(crate) struct Slab<T: Paired> {
    rows: Range<usize>,
    /// Where each row begins, and where the last one ends.
    starts: Vec<usize>,
    pairs: Vec<T::Pair>,
    is_ascending: bool,
    /// How many values of each column are in rows above this slab's end.
    passed: Vec<u32>,
}

/// The types whose values lie in slabs, beside their columns.
///
/// Pairs are atomic, since several threads put pairs into one slab: each has places of its own,
/// unless the matrix changes meanwhile, and then nothing worse than wrong numbers shall come of it.
pub(crate) trait Paired: Real + Element {
    /// A column and a value.
    type Pair: Default + Send + Sync;
    /// Puts a column and a value.
    fn put(pair: &Self::Pair, column: u32, value: Self);
    /// The column and the value.
    fn get(pair: &Self::Pair) -> (u32, Self);
}

impl Paired for f32 {
    type Pair = AtomicU64;

    #[inline(always)]
    fn put(pair: &AtomicU64, column: u32, value: Self) {
        pair.store(
            u64::from(column) << 32 | u64::from(value.to_bits()),
            Relaxed,
        );
    }

    #[inline(always)]
    fn get(pair: &AtomicU64) -> (u32, Self) {
        let bits = pair.load(Relaxed);
        ((bits >> 32) as u32, Self::from_bits(bits as u32))
    }
}

impl Paired for f64 {
    type Pair = [AtomicU64; 2];

    #[inline(always)]
    fn put([first, second]: &[AtomicU64; 2], column: u32, value: Self) {
        first.store(u64::from(column), Relaxed);
        second.store(value.to_bits(), Relaxed);
    }

    #[inline(always)]
    fn get([first, second]: &[AtomicU64; 2]) -> (u32, Self) {
        let column = first.load(Relaxed) as u32;
        (column, Self::from_bits(second.load(Relaxed)))
    }
}

impl<'a> Slabs<'a> {
    /// Divides `x` into slabs for values of type `T`: O(nnz) time, 4 MB a thread.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there are 2³² columns or more; [`Error::OutOfMemory`],
    /// [`Error::Cancelled`].
    pub fn new<T: Paired>(x: &'a Compressed<'a>, run: &Run<'_>) -> Result<Self> {
        Self::of_bytes::<T>(x, BYTES, GROUPS, run)
    }

    /// As [`Slabs::new`], with slabs of other sizes.
    pub(super) fn of_bytes<T: Paired>(
        x: &'a Compressed<'a>,
        bytes: usize,
        groups: usize,
        run: &Run<'_>,
    ) -> Result<Self> {
        let rows = x.minor();
        if u32::try_from(x.major()).is_err() {
            return Err(Error::InvalidArgument(format!(
                "a CSC matrix must have less than 2**32 columns, got {}",
                x.major()
            )));
        }
        let mut shift = 0;
        while rows.div_ceil(1 << shift) > groups {
            shift += 1;
        }
        let threads = run.threads.max(1);
        let (parts, counts) = with_indices!(x.structure(), indptr, indices => {
            let columns = cut(indptr, threads);
            let counted = each(columns.len(), run, |part| {
                let place = |column: usize| indptr[column].number() as usize;
                let columns: &Range<usize> = &columns[part];
                count(&indices[place(columns.start)..place(columns.end)], rows, shift, run)
            })?;
            let (before, counts) = cumulate(counted)?;
            let parts = columns.into_iter().zip(before);
            let parts = parts.map(|(columns, before)| Part { columns, before });
            (parts.collect::<Vec<_>>(), counts)
        });
        // Each row has a start, and every part's thread where it goes on.
        let row_bytes = (1 + parts.len()) * size_of::<usize>();
        let size = |group: usize| {
            let rows_of_group = rows.min((group + 1) << shift) - (group << shift);
            counts[group] as u128 * size_of::<T::Pair>() as u128
                + (rows_of_group * row_bytes) as u128
        };
        let all: u128 = (0..counts.len()).map(size).sum();
        let share = all / all.div_ceil((bytes * threads) as u128).max(1);
        let mut ranges = Vec::new();
        let (mut start, mut taken) = (0, 0);
        for group in 0..counts.len() {
            let end = rows.min((group + 1) << shift);
            taken += size(group);
            // A slab ends where it comes nearest to its share.
            if group + 1 == counts.len() || taken + size(group + 1) / 2 > share {
                ranges.push(start..end);
                (start, taken) = (end, 0);
            }
        }
        Ok(Self {
            x,
            parts,
            counts,
            shift,
            ranges,
            takes_runs: x.is_ascending() && x.nnz() / LONG > x.major(),
        })
    }

    /// How many slabs there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Puts slab `number` in place of what `slab` held. A slab object takes slabs in rising order.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Cancelled`].
    pub fn fill<T: Paired>(&self, number: usize, slab: &mut Slab<T>, run: &Run<'_>) -> Result<()> {
        let rows = self.ranges[number].clone();
        if rows.start < slab.rows.end {
            slab.passed.clear();
        }
        if self.takes_runs && self.x.major() <= REMEMBERED && u32::try_from(self.x.minor()).is_ok()
        {
            fit(WHAT, &mut slab.passed, self.x.major())?;
        }
        slab.rows = rows;
        slab.is_ascending = self.x.is_ascending();
        with_indices!(self.x.structure(), indptr, indices => {
            self.fill_from(indptr, indices, slab, run)
        })
    }

    fn fill_from<I: Index, T: Paired>(
        &self,
        indptr: &[I],
        indices: &[I],
        slab: &mut Slab<T>,
        run: &Run<'_>,
    ) -> Result<()> {
        let Slab {
            rows,
            starts,
            pairs,
            passed,
            ..
        } = slab;
        let height = rows.len();
        let columns_of = |part: usize| Columns {
            columns: self.parts[part].columns.clone(),
            indptr,
            indices,
            rows: rows.clone(),
            takes_runs: self.takes_runs,
            run,
        };
        // Where groups have several rows, the slab's rows are counted now.
        let counted = match self.shift {
            0 => None,
            _ => Some(cumulate(each(self.parts.len(), run, |part| {
                let mut passed = copy(self.passed_of(part, passed))?;
                let mut rows = zeros(WHAT, height)?;
                columns_of(part).visit(&mut passed, &mut Count { rows: &mut rows })?;
                Ok(rows)
            })?)?),
        };
        let (before, counts): (Vec<&[u64]>, &[u64]) = match &counted {
            Some((before, counts)) => (before.iter().map(Vec::as_slice).collect(), counts),
            None => {
                let before = self.parts.iter().map(|part| &part.before[rows.clone()]);
                (before.collect(), &self.counts[rows.clone()])
            }
        };
        starts.clear();
        fit(WHAT, starts, height + 1)?;
        let mut nnz = 0;
        for (start, count) in starts.iter_mut().zip(counts) {
            *start = nnz;
            nnz += *count as usize;
        }
        starts[height] = nnz;
        fit(WHAT, pairs, nnz)?;
        let (starts, pairs) = (&starts[..height], &pairs[..]);
        let mut rest = passed.as_mut_slice();
        let passed: Vec<Mutex<&mut [u32]>> = self
            .parts
            .iter()
            .map(|part| rest.split_off_mut(..part.columns.len().min(rest.len())))
            .map(|own| Mutex::new(own.unwrap_or_default()))
            .collect();
        run.share(
            self.parts.len(),
            || Ok((zeros::<T>(WHAT, WINDOW)?, zeros(WHAT, height)?)),
            |(values, ends), part| {
                for ((end, start), before) in ends.iter_mut().zip(starts).zip(before[part]) {
                    *end = start + *before as usize;
                }
                let from = self.x.values();
                let mut passed = lock(&passed[part]);
                columns_of(part).visit(&mut passed, &mut Put::new(from, values, ends, pairs))
            },
        )
    }

    /// What is remembered of a part's columns.
    fn passed_of<'p>(&self, part: usize, passed: &'p [u32]) -> &'p [u32] {
        passed
            .get(self.parts[part].columns.clone())
            .unwrap_or_default()
    }
}

/// Cuts columns into at most `count` parts of about as many values.
fn cut<I: Index>(indptr: &[I], count: usize) -> Vec<Range<usize>> {
    let columns = indptr.len() - 1;
    let nnz = indptr[columns].number() as u128;
    let edge = |part: usize| {
        let share = (nnz * part as u128 / count as u128) as u64;
        match part == count {
            true => columns,
            false => indptr[..columns].partition_point(|place| place.number() < share),
        }
    };
    (0..count)
        .map(|part| edge(part)..edge(part + 1))
        .filter(|part| !part.is_empty())
        .collect()
}

/// What `work` gives for each of `count` tasks.
fn each<R: Send + Sync>(
    count: usize,
    run: &Run<'_>,
    work: impl Fn(usize) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let all: Vec<OnceLock<R>> = (0..count).map(|_| OnceLock::new()).collect();
    run.share(
        count,
        || Ok::<_, Error>(()),
        |(), task| {
            // Each is done once.
            let _ = all[task].set(work(task)?);
            Ok(())
        },
    )?;
    Ok(all.into_iter().filter_map(OnceLock::into_inner).collect())
}

/// How many indices there are in each group of 2^shift rows.
fn count<I: Index>(indices: &[I], rows: usize, shift: u32, run: &Run<'_>) -> Result<Vec<u64>> {
    let mut counts = zeros(WHAT, rows.div_ceil(1 << shift))?;
    for some in indices.chunks(COUNTED) {
        run.control.check()?;
        for index in some {
            counts[(index.number() >> shift) as usize] += 1;
        }
    }
    Ok(counts)
}

/// Makes counts of parts those of all parts before, and returns those of all parts beside.
fn cumulate(mut parts: Vec<Vec<u64>>) -> Result<(Vec<Vec<u64>>, Vec<u64>)> {
    let mut all = zeros(WHAT, parts.first().map_or(0, Vec::len))?;
    for part in &mut parts {
        for (count, all) in part.iter_mut().zip(&mut all) {
            *all += std::mem::replace(count, *all);
        }
    }
    Ok((parts, all))
}

fn copy(from: &[u32]) -> Result<Vec<u32>> {
    let mut to = Vec::new();
    fit(WHAT, &mut to, from.len())?;
    to.copy_from_slice(from);
    Ok(to)
}

impl<T: Paired> Default for Slab<T> {
    fn default() -> Self {
        Self {
            rows: 0..0,
            starts: Vec::new(),
            pairs: Vec::new(),
            is_ascending: true,
            passed: Vec::new(),
        }
    }
}

impl<T: Paired> Slab<T> {
    /// Which rows of the matrix it has.
    pub fn row_range(&self) -> Range<usize> {
        self.rows.clone()
    }
}

impl<T: Paired> Stored<T> for Slab<T> {
    #[inline]
    fn begins(&self, row: usize) -> usize {
        self.starts[row]
    }

    fn is_ascending(&self) -> bool {
        self.is_ascending
    }

    fn len(&self) -> usize {
        self.starts[self.rows.len()]
    }

    fn load(&self, first: usize, features: &mut [u64], values: &mut [T]) {
        let pairs = &self.pairs[first..first + features.len()];
        for (feature, pair) in features.iter_mut().zip(pairs) {
            *feature = u64::from(T::get(pair).0);
        }
        for (value, pair) in values.iter_mut().zip(pairs) {
            *value = T::get(pair).1;
        }
    }
}

impl<T: Paired> SparseRows<T> for Slab<T> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn row(
        &self,
        i: usize,
        columns: &mut Vec<u64>,
        values: &mut Vec<T>,
        control: &Control,
    ) -> Result<()> {
        ordered_row(self, i, columns, values, control)
    }
}
