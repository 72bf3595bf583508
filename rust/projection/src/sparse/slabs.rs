//! CSC turned into CSR, some rows at a time.
//!
//! To turn all of it would take as much memory as the matrix. A slab is a range of rows whose
//! non-zeros fit into some megabytes. To fill it, columns are gone through in order and every value
//! is put at the end of its row so far: features ascend in the rows by themselves, and duplicates
//! stay in the order in which they are stored.
//!
//! Where columns ascend and are long, a slab takes a run of each, and a thread remembers how far it
//! has come in every column. Otherwise every slab reads all indices.

use std::ops::Range;
use std::sync::Mutex;

use corekit_base::array::Matrix;
use corekit_base::real::Real;
use corekit_base::run::Run;

use crate::error::{Error, Result};

use super::compressed::{Compressed, Index, Indices, with_indices};
use super::memory::{fit, zeros};
use super::rows::{SparseRows, Stored, ordered_row};

const WHAT: &str = "rows of a CSC matrix";

/// Bytes of a slab, unless one row has more.
const BYTES: usize = 10 << 20;

/// The most groups of rows that are counted.
const GROUPS: usize = 1 << 19;

/// Indices that are counted in one task.
const COUNTED: usize = 1 << 17;

/// Values that are loaded at a time.
const WINDOW: usize = 1 << 10;

/// The mean length from which on columns are long.
const LONG: usize = 8;

/// Columns up to which a thread remembers how far it has come in each.
const REMEMBERED: usize = 1 << 20;

/// How the rows of a matrix in CSC are divided into slabs.
pub(crate) struct Slabs<'a> {
    x: &'a Compressed<'a>,
    /// Non-zeros in each group of 2^shift rows.
    counts: Vec<u64>,
    shift: u32,
    ranges: Vec<Range<usize>>,
    /// Whether a slab takes runs of columns, and does not read all of them.
    takes_runs: bool,
}

/// Rows in the order of CSR.
#[derive(Default)]
pub(crate) struct Slab<T> {
    rows: Range<usize>,
    /// Where each row begins, and where the last one ends.
    starts: Vec<usize>,
    pairs: Vec<(u32, T)>,
    is_ascending: bool,
    values: Vec<T>,
    /// How many values of each column are in rows above this slab's end.
    passed: Vec<u32>,
}

/// One thread's counts, added to those of all when it ends.
struct Tally<'a> {
    own: Vec<u64>,
    all: &'a Mutex<Vec<u64>>,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if let Ok(mut all) = self.all.lock() {
            for (all, own) in all.iter_mut().zip(&self.own) {
                *all += own;
            }
        }
    }
}

impl<'a> Slabs<'a> {
    /// Divides `x` into slabs for values of `value_bytes` bytes: O(nnz) time, 4 MB a thread.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there are 2³² columns or more; [`Error::OutOfMemory`],
    /// [`Error::Cancelled`].
    pub fn new(x: &'a Compressed<'a>, value_bytes: usize, run: &Run<'_>) -> Result<Self> {
        Self::of_bytes(x, value_bytes, BYTES, GROUPS, run)
    }

    /// As [`Slabs::new`], with slabs of other sizes.
    pub(super) fn of_bytes(
        x: &'a Compressed<'a>,
        value_bytes: usize,
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
        let counts = with_indices!(x.structure(), _p, indices => count(indices, rows, shift, run))?;
        // A row's start takes as much as one more value. Every thread gets as many slabs.
        let pair = size_of::<u32>().max(value_bytes) + value_bytes;
        let all = x.nnz().saturating_add(rows);
        let wanted = all
            .saturating_mul(pair)
            .div_ceil(bytes)
            .next_multiple_of(run.threads.max(1));
        let share = all.div_ceil(wanted.max(1));
        let mut ranges = Vec::new();
        let (mut start, mut size) = (0, 0);
        let grown = |group: usize| {
            counts
                .get(group)
                .map(|count| *count as usize + (1 << shift))
        };
        for group in 0..counts.len() {
            let end = rows.min((group + 1) << shift);
            size += grown(group).unwrap_or(0);
            // A slab ends where it comes nearest to its share.
            if grown(group + 1).is_none_or(|next| size + next / 2 > share) {
                ranges.push(start..end);
                (start, size) = (end, 0);
            }
        }
        Ok(Self {
            x,
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
    pub fn fill<T: Real>(&self, number: usize, slab: &mut Slab<T>, run: &Run<'_>) -> Result<()> {
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

    fn fill_from<I: Index, T: Real>(
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
            values,
            passed,
            ..
        } = slab;
        let rows = &*rows;
        let inside = Inside {
            indptr,
            indices,
            rows,
            run,
        };
        // While values are put, `starts[i + 1]` is where row i goes on: in the end, where the next
        // row starts.
        starts.clear();
        fit(WHAT, starts, rows.len() + 1)?;
        if self.shift == 0 {
            for (start, count) in starts[1..].iter_mut().zip(&self.counts[rows.clone()]) {
                *start = *count as usize;
            }
        } else {
            // A copy, so that the runs are found again.
            let mut passed = copy(passed)?;
            self.visit(&inside, &mut passed, &mut Count { starts })?;
        }
        let mut nnz = 0;
        for start in &mut starts[1..] {
            nnz += std::mem::replace(start, nnz);
        }
        fit(WHAT, pairs, nnz)?;
        fit(WHAT, values, WINDOW)?;
        let mut put = Put {
            from: self.x.values(),
            values,
            loaded: 0,
            starts,
            pairs,
        };
        self.visit(&inside, passed, &mut put)
    }

    /// Shows `visitor` the values that are inside, columns ascending, in the order in which they
    /// are stored.
    fn visit<I: Index>(
        &self,
        inside: &Inside<'_, I>,
        passed: &mut [u32],
        visitor: &mut impl Visitor,
    ) -> Result<()> {
        if self.takes_runs {
            inside.visit_runs(passed, visitor)
        } else {
            inside.visit_all(visitor)
        }
    }
}

/// Who is shown the values of a slab.
trait Visitor {
    /// What follows are values among these, at most [`WINDOW`].
    fn part(&mut self, part: Range<usize>);
    /// Value `at` is in column `column`, and in row `row` of the slab.
    fn value(&mut self, at: usize, column: usize, row: usize);
}

/// Counts the values of every row.
struct Count<'a> {
    starts: &'a mut [usize],
}

impl Visitor for Count<'_> {
    fn part(&mut self, _part: Range<usize>) {}

    #[inline(always)]
    fn value(&mut self, _at: usize, _column: usize, row: usize) {
        self.starts[row + 1] += 1;
    }
}

/// Puts values at the ends of their rows.
struct Put<'a, T> {
    from: &'a Matrix<'a>,
    values: &'a mut [T],
    /// Which value `values` begins with.
    loaded: usize,
    starts: &'a mut [usize],
    pairs: &'a mut [(u32, T)],
}

impl<T: Real> Visitor for Put<'_, T> {
    #[inline]
    fn part(&mut self, part: Range<usize>) {
        self.loaded = part.start;
        self.from
            .load_row(0, part.start, &mut self.values[..part.len()]);
    }

    #[inline(always)]
    fn value(&mut self, at: usize, column: usize, row: usize) {
        let end = &mut self.starts[row + 1];
        self.pairs[*end] = (column as u32, self.values[at - self.loaded]);
        *end += 1;
    }
}

/// The values of a matrix that are in some rows.
struct Inside<'a, I> {
    indptr: &'a [I],
    indices: &'a [I],
    rows: &'a Range<usize>,
    run: &'a Run<'a>,
}

impl<I: Index> Inside<'_, I> {
    /// The number of a row in the slab, if it is there; otherwise a larger number.
    #[inline(always)]
    fn local(&self, index: I) -> usize {
        (index.number() as usize).wrapping_sub(self.rows.start)
    }

    /// Reads all indices.
    fn visit_all(&self, visitor: &mut impl Visitor) -> Result<()> {
        let height = self.rows.len();
        let mut found = [0u16; WINDOW];
        let mut column = 0;
        for (number, part) in self.indices.chunks(WINDOW).enumerate() {
            self.run.control.check()?;
            let first = number * WINDOW;
            // Those inside are found without a branch, which would be wrong every so often.
            let mut len = 0;
            for (i, index) in part.iter().enumerate() {
                found[len] = i as u16;
                len += usize::from(self.local(*index) < height);
            }
            visitor.part(first..first + part.len());
            for i in &found[..len] {
                let at = first + *i as usize;
                while self.indptr[column + 1].number() as usize <= at {
                    column += 1;
                }
                visitor.value(at, column, self.local(part[*i as usize]));
            }
        }
        Ok(())
    }

    /// Reads of every column what is inside; columns ascend. `passed` tells how many values of each
    /// are above these rows, as far as it goes, and after that how many are above their end.
    fn visit_runs(&self, passed: &mut [u32], visitor: &mut impl Visitor) -> Result<()> {
        let above = |row: usize| move |index: &I| index.number() < row as u64;
        for (column, line) in self.indptr.windows(2).enumerate() {
            if column % WINDOW == 0 {
                self.run.control.check()?;
            }
            let start = line[0].number() as usize + passed.get(column).map_or(0, |p| *p as usize);
            let rest = &self.indices[start..line[1].number() as usize];
            let skipped = match rest.first() {
                Some(first) if above(self.rows.start)(first) => {
                    rest.partition_point(above(self.rows.start))
                }
                _ => 0,
            };
            let rest = &rest[skipped..];
            let inside = &rest[..rest.partition_point(above(self.rows.end))];
            let first = start + skipped;
            for (first, part) in (first..).step_by(WINDOW).zip(inside.chunks(WINDOW)) {
                visitor.part(first..first + part.len());
                for (at, index) in (first..).zip(part) {
                    // Not outside, unless the matrix has changed meanwhile.
                    let row = self.local(*index).min(self.rows.len() - 1);
                    visitor.value(at, column, row);
                }
            }
            if let Some(passed) = passed.get_mut(column) {
                // Below 2³²: lines ascend, and one that is longer is not remembered.
                *passed += (skipped + inside.len()) as u32;
            }
        }
        Ok(())
    }
}

/// How many indices there are in each group of 2^shift rows.
fn count<I: Index>(indices: &[I], rows: usize, shift: u32, run: &Run<'_>) -> Result<Vec<u64>> {
    let groups = rows.div_ceil(1 << shift);
    let all = Mutex::new(zeros(WHAT, groups)?);
    let start = || {
        Ok::<_, Error>(Tally {
            own: zeros(WHAT, groups)?,
            all: &all,
        })
    };
    run.share(indices.len().div_ceil(COUNTED), start, |tally, task| {
        let end = indices.len().min((task + 1) * COUNTED);
        for index in &indices[task * COUNTED..end] {
            tally.own[(index.number() >> shift) as usize] += 1;
        }
        Ok(())
    })?;
    Ok(all.into_inner().unwrap_or_default())
}

fn copy(from: &[u32]) -> Result<Vec<u32>> {
    let mut to = Vec::new();
    fit(WHAT, &mut to, from.len())?;
    to.copy_from_slice(from);
    Ok(to)
}

impl<T> Slab<T> {
    /// Which rows of the matrix it has.
    pub fn row_range(&self) -> Range<usize> {
        self.rows.clone()
    }
}

impl<T: Real> Stored<T> for Slab<T> {
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
            *feature = u64::from(pair.0);
        }
        for (value, pair) in values.iter_mut().zip(pairs) {
            *value = pair.1;
        }
    }
}

impl<T: Real> SparseRows<T> for Slab<T> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn row(&self, i: usize, columns: &mut Vec<u64>, values: &mut Vec<T>) {
        ordered_row(self, i, columns, values);
    }
}
