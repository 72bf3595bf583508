//! Rows in the order in which they are summed: features ascending, duplicates summed.

use corekit_base::real::Real;

use crate::error::Result;

use super::compressed::Compressed;
use super::memory::reserve;

/// Rows of (feature, value) pairs, features strictly ascending.
pub(crate) trait SparseRows<T>: Sync {
    /// How many rows there are.
    fn rows(&self) -> usize;
    /// Puts row `i` in place of what the buffers held.
    fn row(&self, i: usize, columns: &mut Vec<u64>, values: &mut Vec<T>);
}

/// Rows one after the other in memory, each in any order.
pub(super) trait Stored<T>: Sync {
    /// Where row `row` begins; with the number of rows, where the last one ends.
    fn begins(&self, row: usize) -> usize;
    /// Whether features ascend strictly in every row.
    fn is_ascending(&self) -> bool;
    /// How many pairs there are.
    fn len(&self) -> usize;
    /// Loads pairs from the `first` on. There may be more features than values.
    fn load(&self, first: usize, features: &mut [u64], values: &mut [T]);
}

/// One row that was not in order, and what it takes to bring it there.
#[derive(Default)]
pub(super) struct Ordered<T> {
    pub features: Vec<u64>,
    pub values: Vec<T>,
    order: Vec<(u64, usize)>,
    sorted: Vec<T>,
}

impl<T: Real> Ordered<T> {
    /// Loads row `row` and puts it in order.
    pub fn load(&mut self, from: &impl Stored<T>, row: usize) -> Result<()> {
        load(from, row, &mut self.features, &mut self.values)?;
        if self.features.is_sorted_by(|a, b| a < b) {
            return Ok(());
        }
        // Sorted by feature and place, which are no two alike, in the memory that there is: a
        // stable sort would take more.
        resize(&mut self.order, self.features.len())?;
        for (place, (pair, feature)) in self.order.iter_mut().zip(&self.features).enumerate() {
            *pair = (*feature, place);
        }
        if !self.features.is_sorted() {
            self.order.sort_unstable();
        }
        resize(&mut self.sorted, 0)?;
        resize(&mut self.sorted, self.values.len())?;
        let mut last = None;
        let mut end = 0;
        for &(feature, place) in &self.order {
            if last != Some(feature) {
                last = Some(feature);
                self.features[end] = feature;
                end += 1;
            }
            // From zero on, as an addition to a matrix of zeros.
            self.sorted[end - 1] += self.values[place];
        }
        self.features.truncate(end);
        self.sorted.truncate(end);
        std::mem::swap(&mut self.values, &mut self.sorted);
        Ok(())
    }
}

/// Loads row `row` as it is stored.
fn load<T: Real>(
    from: &impl Stored<T>,
    row: usize,
    features: &mut Vec<u64>,
    values: &mut Vec<T>,
) -> Result<()> {
    let (begin, end) = (from.begins(row), from.begins(row + 1));
    let len = end.saturating_sub(begin);
    resize(features, len)?;
    resize(values, len)?;
    from.load(begin, features, values);
    Ok(())
}

fn resize<E: Copy + Default>(buffer: &mut Vec<E>, len: usize) -> Result<()> {
    reserve(
        "a row of a sparse matrix",
        buffer,
        len.saturating_sub(buffer.len()),
    )?;
    buffer.resize(len, E::default());
    Ok(())
}

/// A row for [`SparseRows`], which has no way to tell that there is no memory.
pub(super) fn ordered_row<T: Real>(
    from: &impl Stored<T>,
    row: usize,
    columns: &mut Vec<u64>,
    values: &mut Vec<T>,
) {
    let mut ordered = Ordered {
        features: std::mem::take(columns),
        values: std::mem::take(values),
        order: Vec::new(),
        sorted: Vec::new(),
    };
    let loaded = ordered.load(from, row);
    (*columns, *values) = (ordered.features, ordered.values);
    if loaded.is_err() {
        std::alloc::handle_alloc_error(std::alloc::Layout::new::<T>());
    }
}

impl<T: Real> SparseRows<T> for Compressed<'_> {
    fn rows(&self) -> usize {
        self.major()
    }

    fn row(&self, i: usize, columns: &mut Vec<u64>, values: &mut Vec<T>) {
        ordered_row(self, i, columns, values);
    }
}
