//! What one part of the columns puts into a slab.

use std::ops::Range;

use corekit_base::array::{Matrix, Rows};
use corekit_base::run::Run;

use crate::error::Result;

use super::super::compressed::Index;
use super::Paired;

/// Values that are loaded at a time.
pub(super) const WINDOW: usize = 1 << 10;

/// Some of the columns, and the rows of them that are looked for.
pub(super) struct Columns<'a, I> {
    pub columns: Range<usize>,
    pub indptr: &'a [I],
    pub indices: &'a [I],
    pub rows: Range<usize>,
    pub takes_runs: bool,
    pub run: &'a Run<'a>,
}

/// Who is shown the values that are inside.
pub(super) trait Visitor {
    /// What follows are values among these, at most [`WINDOW`].
    fn part(&mut self, part: Range<usize>);
    /// Value `at` is in column `column`, and in row `row` of the slab.
    fn value(&mut self, at: usize, column: usize, row: usize);
}

/// Counts the values of every row.
pub(super) struct Count<'a> {
    pub rows: &'a mut [u64],
}

impl Visitor for Count<'_> {
    fn part(&mut self, _part: Range<usize>) {}

    #[inline(always)]
    fn value(&mut self, _at: usize, _column: usize, row: usize) {
        self.rows[row] += 1;
    }
}

/// Puts values at the ends of their rows.
pub(super) struct Put<'a, T: Paired> {
    from: &'a Matrix<'a>,
    /// All values, if they lie as they are needed; otherwise some are loaded to `values`.
    in_place: Option<Rows<'a, T>>,
    values: &'a mut [T],
    /// Which value `values` begins with.
    loaded: usize,
    /// Where each row goes on.
    ends: &'a mut [usize],
    pairs: &'a [T::Pair],
}

impl<'a, T: Paired> Put<'a, T> {
    pub fn new(
        from: &'a Matrix<'a>,
        values: &'a mut [T],
        ends: &'a mut [usize],
        pairs: &'a [T::Pair],
    ) -> Self {
        Self {
            from,
            in_place: from.in_place(0..1, 0..from.columns()),
            values,
            loaded: 0,
            ends,
            pairs,
        }
    }
}

impl<T: Paired> Visitor for Put<'_, T> {
    #[inline]
    fn part(&mut self, part: Range<usize>) {
        if self.in_place.is_none() {
            self.loaded = part.start;
            let values = &mut self.values[..part.len()];
            self.from.load_row(0, part.start, values);
        }
    }

    #[inline(always)]
    fn value(&mut self, at: usize, column: usize, row: usize) {
        let value = match &self.in_place {
            Some(values) => values.get(0, at),
            None => self.values[at - self.loaded],
        };
        let end = &mut self.ends[row];
        T::put(&self.pairs[*end], column as u32, value);
        *end += 1;
    }
}

impl<I: Index> Columns<'_, I> {
    /// Shows `visitor` the values that are inside, columns ascending, in the order in which they
    /// are stored. `passed` tells how many values of each column are above these rows, as far as it
    /// goes, and after that how many are above their end.
    pub fn visit(&self, passed: &mut [u32], visitor: &mut impl Visitor) -> Result<()> {
        if self.takes_runs {
            self.visit_runs(passed, visitor)
        } else {
            self.visit_all(visitor)
        }
    }

    /// The number of a row in the slab, if it is there; otherwise a larger number.
    #[inline(always)]
    fn local(&self, index: I) -> usize {
        (index.number() as usize).wrapping_sub(self.rows.start)
    }

    /// Where a column begins.
    #[inline(always)]
    fn place(&self, column: usize) -> usize {
        self.indptr[column].number() as usize
    }

    /// Reads all indices.
    fn visit_all(&self, visitor: &mut impl Visitor) -> Result<()> {
        let height = self.rows.len();
        let mut found = [0u16; WINDOW];
        let Range { start, end } = self.columns;
        let (all, mut column) = (self.place(start)..self.place(end), start);
        for (first, part) in all
            .clone()
            .step_by(WINDOW)
            .zip(self.indices[all].chunks(WINDOW))
        {
            self.run.control.check()?;
            // Those inside are found without a branch, which would be wrong every so often.
            let mut len = 0;
            for (i, index) in part.iter().enumerate() {
                found[len] = i as u16;
                len += usize::from(self.local(*index) < height);
            }
            visitor.part(first..first + part.len());
            for i in &found[..len] {
                let at = first + *i as usize;
                while self.place(column + 1) <= at {
                    column += 1;
                }
                visitor.value(at, column, self.local(part[*i as usize]));
            }
        }
        Ok(())
    }

    /// Reads of every column what is inside; columns ascend.
    fn visit_runs(&self, passed: &mut [u32], visitor: &mut impl Visitor) -> Result<()> {
        let above = |row: usize| move |index: &I| index.number() < row as u64;
        for (number, column) in self.columns.clone().enumerate() {
            if number % WINDOW == 0 {
                self.run.control.check()?;
            }
            let start = self.place(column) + passed.get(number).map_or(0, |p| *p as usize);
            let rest = &self.indices[start..self.place(column + 1)];
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
            if let Some(passed) = passed.get_mut(number) {
                // Below 2³²: lines ascend, and one that is longer is not remembered.
                *passed += (skipped + inside.len()) as u32;
            }
        }
        Ok(())
    }
}
