//! The loop over the non-zeros of rows.

#![allow(unsafe_code)]

use std::ops::Range;

use corekit_base::array::MatrixMut;
use corekit_base::real::Real;
use corekit_base::run::Run;

use crate::error::Result;
use crate::memory::zeros;

use super::cache::Cache;
use super::columns::{Chunk, Entry, Kinds, Table, is_short};
use super::compressed::Compressed;
use super::rows::{Ordered, Stored};
use super::slabs::{Paired, Slab, Slabs};
use super::{Draw, Source};

/// Non-zeros that are loaded at a time, of however many rows: they stay in the nearest cache.
const WINDOW: usize = 512;

/// How far ahead the table is asked for columns, in non-zeros.
///
/// Measured on 221 non-zeros a row and a table of 16 MB (Zen 5, one thread): 38.4 ms, against 40.7
/// for half as far; twice as far gains nothing more, and costs rows of text a sixth.
const AHEAD: usize = 48;

/// Where columns are found while a thread works.
pub(super) trait Lookup {
    /// Asks for a column that is needed [`AHEAD`] non-zeros later.
    fn prefetch(&self, _feature: u64) {}
    /// Asks for a column that is needed half as much later.
    fn prefetch_again(&self, _feature: u64) {}
    /// Adds column `feature` times `value` to `sums`, whose length is a power of two.
    fn add<T: Real>(&mut self, feature: u64, value: T, sums: &mut [T]);
}

#[inline(always)]
fn add_entries<E: Entry, T: Real>(entries: &[E], value: T, sums: &mut [T]) {
    let signed = [value, -value];
    // Outputs are below the length in any case; the mask lets the compiler know.
    let mask = sums.len() - 1;
    for entry in entries {
        sums[entry.output() & mask] += signed[entry.sign()];
    }
}

/// Asks for the cache line at an address, which may be any.
#[inline(always)]
fn prefetch<E>(address: *const E) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on the cache, wherever it points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch(address.cast(), _MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for all cache lines of `len` elements.
#[inline(always)]
fn prefetch_all<E>(first: *const E, len: usize) {
    const LINE: usize = 64;
    for element in (0..len).step_by(LINE / size_of::<E>()) {
        prefetch(first.wrapping_add(element));
    }
    if len * size_of::<E>() > LINE / 4 {
        prefetch(first.wrapping_add(len - 1));
    }
}

/// A table with `S` entries in every column.
struct Fixed<'a, E, const S: usize>(&'a [[E; S]]);

impl<E: Entry, const S: usize> Lookup for Fixed<'_, E, S> {
    #[inline(always)]
    fn prefetch(&self, feature: u64) {
        prefetch_all::<E>(self.0.as_ptr().wrapping_add(feature as usize).cast(), S);
    }

    #[inline(always)]
    fn add<T: Real>(&mut self, feature: u64, value: T, sums: &mut [T]) {
        if let Some(column) = self.0.get(feature as usize) {
            add_entries(column, value, sums);
        }
    }
}

/// A table with `each` entries in every column.
struct Even<'a, E> {
    entries: &'a [E],
    each: usize,
}

impl<E: Entry> Lookup for Even<'_, E> {
    #[inline(always)]
    fn prefetch(&self, feature: u64) {
        let first = (feature as usize).wrapping_mul(self.each);
        prefetch_all(self.entries.as_ptr().wrapping_add(first), self.each);
    }

    #[inline(always)]
    fn add<T: Real>(&mut self, feature: u64, value: T, sums: &mut [T]) {
        let first = (feature as usize).saturating_mul(self.each);
        let column = self.entries.get(first..first.saturating_add(self.each));
        add_entries(column.unwrap_or_default(), value, sums);
    }
}

/// A table with columns of any length.
struct Ragged<'a, E>(&'a [Chunk<E>]);

impl<E: Entry> Ragged<'_, E> {
    #[inline(always)]
    fn chunk(&self, feature: u64) -> Option<(&Chunk<E>, usize)> {
        let (chunk, place) = Table::<E>::place(feature);
        Some((self.0.get(chunk)?, place))
    }
}

impl<E: Entry> Lookup for Ragged<'_, E> {
    #[inline(always)]
    fn prefetch(&self, feature: u64) {
        if let Some((chunk, place)) = self.chunk(feature) {
            prefetch(chunk.start_address(place));
        }
    }

    #[inline(always)]
    fn prefetch_again(&self, feature: u64) {
        if let Some((chunk, place)) = self.chunk(feature) {
            let column = chunk.column(place);
            prefetch_all(column.as_ptr(), column.len());
        }
    }

    #[inline(always)]
    fn add<T: Real>(&mut self, feature: u64, value: T, sums: &mut [T]) {
        if let Some((chunk, place)) = self.chunk(feature) {
            add_entries(chunk.column(place), value, sums);
        }
    }
}

impl<E: Entry> Lookup for Cache<'_, E> {
    #[inline]
    fn add<T: Real>(&mut self, feature: u64, value: T, sums: &mut [T]) {
        add_entries(self.column(feature), value, sums);
    }
}

/// What is done with a way to find columns.
pub(super) trait Job {
    /// Does it; every thread makes its own look-up with `start`.
    fn run<L: Lookup>(self, start: impl Fn() -> Result<L> + Sync) -> Result<()>;
}

/// Does `job` with the quickest way to find the columns of `source`.
pub(super) fn project(source: &Source<'_>, job: impl Job) -> Result<()> {
    match source.table.map(|columns| &columns.0) {
        Some(Kinds::Short(table)) => with_table(table, job),
        Some(Kinds::Long(table)) => with_table(table, job),
        None if is_short(source.draw.part.len) => with_cache::<u16>(source.draw, job),
        None => with_cache::<u32>(source.draw, job),
    }
}

fn with_cache<E: Entry>(draw: Draw<'_>, job: impl Job) -> Result<()> {
    job.run(|| Cache::<E>::new(draw))
}

fn with_table<E: Entry>(table: &Table<E>, job: impl Job) -> Result<()> {
    match table {
        Table::Ragged(chunks) => job.run(|| Ok(Ragged(chunks))),
        Table::Even { entries, each: 1 } => job.run(|| Ok(Fixed(entries.as_chunks::<1>().0))),
        Table::Even { entries, each: 2 } => job.run(|| Ok(Fixed(entries.as_chunks::<2>().0))),
        Table::Even { entries, each: 4 } => job.run(|| Ok(Fixed(entries.as_chunks::<4>().0))),
        Table::Even { entries, each: 8 } => job.run(|| Ok(Fixed(entries.as_chunks::<8>().0))),
        Table::Even { entries, each } => job.run(|| {
            Ok(Even {
                entries,
                each: *each,
            })
        }),
    }
}

/// Projecting a matrix in CSR.
pub(super) struct Csr<'a, T> {
    x: &'a Compressed<'a>,
    y: &'a MatrixMut<'a>,
    run: Run<'a>,
    scales: Vec<T>,
    /// Whether a row of the result is whole with these outputs.
    is_last: bool,
    /// Nanoseconds that a non-zero and a row take, more or less.
    cost: [f64; 2],
}

impl<'a, T: Real> Csr<'a, T> {
    pub fn new(
        source: &Source<'_>,
        x: &'a Compressed<'a>,
        y: &'a MatrixMut<'a>,
        run: &Run<'a>,
    ) -> Result<Self> {
        let Draw { law, part, .. } = source.draw;
        let column_nnz = source.draw.column_nnz();
        let find = match source.table {
            Some(_) => 4.0,
            None => 50.0 * column_nnz + 20.0,
        };
        let mut scales = Vec::new();
        law.scales(&part, &mut scales)?;
        Ok(Self {
            x,
            y,
            run: *run,
            scales,
            is_last: part.outputs().end == law.n_components(),
            cost: [find + 1.5 * column_nnz, 20.0 + 0.3 * part.len as f64],
        })
    }

    /// Nanoseconds that the first rows take, with so many non-zeros.
    fn nanoseconds(&self, rows: usize, nnz: usize) -> f64 {
        let [by_value, by_row] = self.cost;
        nnz as f64 * by_value + rows as f64 * by_row
    }

    /// The calling thread alone, where starting another takes longer than the work.
    fn run_for(&self, nanoseconds: f64) -> Run<'a> {
        const SMALL: f64 = 50e3;
        Run {
            threads: if nanoseconds < SMALL {
                1
            } else {
                self.run.threads
            },
            ..self.run
        }
    }

    fn worker<L: Lookup>(&self, start: impl Fn() -> Result<L>) -> Result<Worker<T, L>> {
        const WHAT: &str = "sums of a row";
        Ok(Worker {
            lookup: start()?,
            sums: zeros(WHAT, self.scales.len().next_power_of_two())?,
            window: Window {
                features: zeros(WHAT, WINDOW + AHEAD)?,
                values: zeros(WHAT, WINDOW)?,
                at: 0..0,
            },
            ordered: Ordered::default(),
        })
    }

    /// Projects the rows `rows` of `from`; row `first` of it is row 0 of the result.
    fn project_rows<L: Lookup>(
        &self,
        worker: &mut Worker<T, L>,
        from: &impl Stored<T>,
        rows: Range<usize>,
        first: usize,
    ) -> Result<()> {
        worker.window.at = 0..0;
        for row in rows.clone() {
            if from.is_ascending() {
                worker.add_stored(from, row, rows.end, &self.run)?;
            } else {
                worker.add_ordered(from, row, &self.run)?;
            }
            self.y.store_scaled(first + row, &worker.sums, &self.scales);
            worker.sums[..self.scales.len()].fill(T::ZERO);
        }
        if self.is_last {
            self.run.control.advance(rows.len() as u64);
        }
        Ok(())
    }
}

impl<T: Real> Csr<'_, T> {
    /// Projects all rows of `from`, of which the first is row `first` of the result.
    fn project_all<L: Lookup>(
        &self,
        from: &impl Stored<T>,
        rows: usize,
        first: usize,
        start: impl Fn() -> Result<L> + Sync,
    ) -> Result<()> {
        let total = self.nanoseconds(rows, from.begins(rows));
        let run = self.run_for(total);
        let tasks = if run.threads == 1 {
            (total / 5e6) as usize + 1
        } else {
            ((total / 2e6) as usize + 1)
                .max((total / 1e5) as usize)
                .min(rows)
        };
        // The first row that does not end within the first `task` shares of the work.
        let edge = |task: usize| {
            let share = total / tasks as f64 * task as f64;
            let end = |row: usize| self.nanoseconds(row + 1, from.begins(row + 1));
            partition(rows, |row| end(row) <= share)
        };
        run.share(
            tasks,
            || self.worker(&start),
            |worker, task| {
                let end = match task + 1 == tasks {
                    true => rows,
                    false => edge(task + 1),
                };
                self.project_rows(worker, from, edge(task)..end, first)
            },
        )
    }
}

impl<T: Real> Job for Csr<'_, T> {
    fn run<L: Lookup>(self, start: impl Fn() -> Result<L> + Sync) -> Result<()> {
        self.project_all(self.x, self.x.major(), 0, start)
    }
}

/// The first number below `n` that is not `before`, all numbers before it being so; `n` if none.
fn partition(n: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Projecting a matrix in CSC.
pub(super) struct Csc<'a, T>(pub Csr<'a, T>);

impl<T: Paired> Job for Csc<'_, T> {
    fn run<L: Lookup>(self, start: impl Fn() -> Result<L> + Sync) -> Result<()> {
        let csr = &self.0;
        let run = csr.run_for(csr.nanoseconds(csr.x.minor(), csr.x.nnz()));
        let slabs = Slabs::new::<T>(csr.x, &run)?;
        let mut slab = Slab::default();
        for number in 0..slabs.len() {
            slabs.fill(number, &mut slab, &run)?;
            let rows = slab.row_range();
            csr.project_all(&slab, rows.len(), rows.start, &start)?;
        }
        Ok(())
    }
}

/// What a thread keeps from row to row.
struct Worker<T, L> {
    lookup: L,
    /// The sums of the row, and zeros up to a power of two; all zeros between rows.
    sums: Vec<T>,
    window: Window<T>,
    ordered: Ordered<T>,
}

/// Some non-zeros, and the features of some more.
struct Window<T> {
    features: Vec<u64>,
    values: Vec<T>,
    /// Which they are.
    at: Range<usize>,
}

impl<T: Real, L: Lookup> Worker<T, L> {
    /// Adds a row that is in order; what is loaded with it are rows before row `last`.
    fn add_stored(
        &mut self,
        from: &impl Stored<T>,
        row: usize,
        last: usize,
        run: &Run<'_>,
    ) -> Result<()> {
        let (mut at, end) = (from.begins(row), from.begins(row + 1));
        while at < end {
            let window = &mut self.window;
            if !window.at.contains(&at) {
                let len = WINDOW.min(from.begins(last).saturating_sub(at)).max(1);
                let ahead = (len + AHEAD).min(from.len().saturating_sub(at));
                window.features.resize(ahead, 0);
                from.load(at, &mut window.features, &mut window.values[..len]);
                window.at = at..at + len;
                run.control.check()?;
            }
            let until = end.min(window.at.end);
            let [first, len] = [at - window.at.start, until - at];
            add(
                &mut self.lookup,
                &window.features[first..],
                &window.values[first..first + len],
                &mut self.sums,
            );
            at = until;
        }
        Ok(())
    }

    /// Adds a row that may have to be put in order.
    fn add_ordered(&mut self, from: &impl Stored<T>, row: usize, run: &Run<'_>) -> Result<()> {
        self.ordered.load(from, row, run.control)?;
        let Ordered {
            features, values, ..
        } = &self.ordered;
        for (start, some) in (0..).step_by(WINDOW).zip(values.chunks(WINDOW)) {
            run.control.check()?;
            add(&mut self.lookup, &features[start..], some, &mut self.sums);
        }
        Ok(())
    }
}

/// Adds a row's non-zeros; `features` has those of `values`, and what comes after them.
#[inline]
fn add<T: Real, L: Lookup>(lookup: &mut L, features: &[u64], values: &[T], sums: &mut [T]) {
    for (i, (&feature, &value)) in features.iter().zip(values).enumerate() {
        if let Some(&later) = features.get(i + AHEAD) {
            lookup.prefetch(later);
        }
        if let Some(&sooner) = features.get(i + AHEAD / 2) {
            lookup.prefetch_again(sooner);
        }
        lookup.add(feature, value, sums);
    }
}
