//! Rows in the order in which they are summed: features ascending, duplicates summed.

use corekit_base::control::Control;
use corekit_base::real::Real;

use crate::error::Result;
use crate::memory::resize;
use crate::sort::sort;

use super::compressed::Compressed;

const WHAT: &str = "a row of a sparse matrix";

/// Pairs that are added up between two looks at the cancel flag.
const STRETCH: usize = 1 << 16;

/// Rows of (feature, value) pairs, features strictly ascending.
pub(crate) trait SparseRows<T>: Sync {
    /// How many rows there are.
    fn rows(&self) -> usize;
    /// Puts row `i` in place of what the buffers held.
    ///
    /// # Errors
    /// When the system refuses memory for it, or the caller cancels.
    fn row(
        &self,
        i: usize,
        columns: &mut Vec<u64>,
        values: &mut Vec<T>,
        control: &Control,
    ) -> Result<()>;
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
    order: Vec<u64>,
    wide_order: Vec<u128>,
    sorted: Vec<T>,
}

/// A feature and its place in the row as one number, which orders by both: sorting such numbers
/// takes no branches, and less than half the time of pairs.
trait Key: Copy + Default + Ord {
    const HALF: u32 = size_of::<Self>() as u32 * 4;
    fn new(feature: u64, place: usize) -> Self;
    fn feature(self) -> u64;
    fn place(self) -> usize;
}

macro_rules! key {
    ($type:ty) => {
        impl Key for $type {
            fn new(feature: u64, place: usize) -> Self {
                Self::from(feature) << Self::HALF | place as Self
            }
            fn feature(self) -> u64 {
                (self >> Self::HALF) as u64
            }
            fn place(self) -> usize {
                (self & ((1 << Self::HALF) - 1)) as usize
            }
        }
    };
}

key!(u64);
key!(u128);

impl<T: Real> Ordered<T> {
    /// Loads row `row` and puts it in order.
    pub fn load(&mut self, from: &impl Stored<T>, row: usize, control: &Control) -> Result<()> {
        load(from, row, &mut self.features, &mut self.values)?;
        if self.features.is_sorted_by(|a, b| a < b) {
            return Ok(());
        }
        let is_narrow = |number: u64| number >> <u64 as Key>::HALF == 0;
        let widest = self.features.iter().fold(0, |all, feature| all | feature);
        if is_narrow(widest) && is_narrow(self.features.len() as u64) {
            let mut order = std::mem::take(&mut self.order);
            self.put_in_order(&mut order, control)?;
            self.order = order;
        } else {
            let mut order = std::mem::take(&mut self.wide_order);
            self.put_in_order(&mut order, control)?;
            self.wide_order = order;
        }
        Ok(())
    }

    /// Sorts the pairs and adds up those of one feature, in the order in which they came.
    fn put_in_order<K: Key>(&mut self, order: &mut Vec<K>, control: &Control) -> Result<()> {
        // By feature and place, which are no two alike, in the memory that there is: a stable sort
        // would take more.
        resize(WHAT, order, self.features.len(), K::default())?;
        for (place, (key, feature)) in order.iter_mut().zip(&self.features).enumerate() {
            *key = K::new(*feature, place);
        }
        if !self.features.is_sorted() {
            sort(order, control)?;
        }
        self.sorted.clear();
        resize(WHAT, &mut self.sorted, self.values.len(), T::ZERO)?;
        let mut last = None;
        let mut end = 0;
        for (number, key) in order.iter().enumerate() {
            if number % STRETCH == 0 {
                control.check()?;
            }
            if last != Some(key.feature()) {
                last = Some(key.feature());
                self.features[end] = key.feature();
                end += 1;
            }
            // From zero on, as an addition to a matrix of zeros.
            self.sorted[end - 1] += self.values[key.place()];
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
    resize(WHAT, features, len, 0)?;
    resize(WHAT, values, len, T::ZERO)?;
    from.load(begin, features, values);
    Ok(())
}

/// A row for [`SparseRows`].
pub(super) fn ordered_row<T: Real>(
    from: &impl Stored<T>,
    row: usize,
    columns: &mut Vec<u64>,
    values: &mut Vec<T>,
    control: &Control,
) -> Result<()> {
    let mut ordered = Ordered {
        features: std::mem::take(columns),
        values: std::mem::take(values),
        ..Ordered::default()
    };
    let loaded = ordered.load(from, row, control);
    (*columns, *values) = (ordered.features, ordered.values);
    loaded
}

impl<T: Real> SparseRows<T> for Compressed<'_> {
    fn rows(&self) -> usize {
        self.major()
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
