//! Compressed sparse matrices as they come from outside: CSR and CSC are one thing, with rows and
//! columns exchanged.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use corekit_base::array::Matrix;
use corekit_base::real::Real;
use corekit_base::run::Run;

use crate::error::{Error, Result};

use super::rows::Stored;

/// Indices, or pointers, that one task of the check reads: a tenth of a millisecond.
const CHECKED: usize = 1 << 17;

/// An integer type of indices.
pub(crate) trait Index: Copy + Ord + Send + Sync + 'static {
    /// The number; a negative one becomes larger than any size.
    fn number(self) -> u64;
}

macro_rules! index {
    ($($type:ty)*) => {$(
        impl Index for $type {
            #[inline(always)]
            fn number(self) -> u64 {
                self as u64
            }
        }
    )*};
}
index!(i32 i64 u32);

/// The pointers and the indices of a matrix, which have one type.
#[derive(Clone, Copy, Debug)]
pub enum Indices<'a> {
    /// 32 bits.
    I32 {
        /// Where each line of the major axis begins, and where the last one ends.
        indptr: &'a [i32],
        /// The place of every value on the minor axis.
        indices: &'a [i32],
    },
    /// 64 bits.
    I64 {
        /// Where each line of the major axis begins, and where the last one ends.
        indptr: &'a [i64],
        /// The place of every value on the minor axis.
        indices: &'a [i64],
    },
}

/// Calls `$body` with `$indptr` and `$indices` standing for the slices of `$from`.
macro_rules! with_indices {
    ($from:expr, $indptr:ident, $indices:ident => $body:expr) => {
        match $from {
            Indices::I32 {
                indptr: $indptr,
                indices: $indices,
            } => $body,
            Indices::I64 {
                indptr: $indptr,
                indices: $indices,
            } => $body,
        }
    };
}
pub(super) use with_indices;

/// A matrix in CSR (major lines are rows) or CSC (major lines are columns).
///
/// Lines may be in any order and have duplicates, which are summed: the matrix is what SciPy's
/// `toarray()` makes of it, summed in the type that is computed in. For float32 and float64 that is
/// SciPy's own sum; duplicates of float16 are summed in float32, of integers in float64.
///
/// That the structure is sound is checked once, when it is made. Kernels check again what they
/// would otherwise touch beyond its end, so that a caller who breaks the promise not to write to it
/// meanwhile gets a panic or wrong numbers, but no wrong memory access.
#[derive(Clone, Copy, Debug)]
pub struct Compressed<'a> {
    major: usize,
    minor: usize,
    structure: Indices<'a>,
    values: Matrix<'a>,
    is_ascending: bool,
}

impl<'a> Compressed<'a> {
    /// A matrix of `major` x `minor` with the values `values`, a matrix of 1 x nnz.
    ///
    /// Reads every pointer and every index once, on as many threads as `run` has: some 5 % of the
    /// time of a projection.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the pointers do not start at zero, fall, or do not end at the
    /// number of values, when there are not as many as the shape says, or when an index is not
    /// below `minor`; [`Error::Cancelled`].
    pub fn new(
        major: usize,
        minor: usize,
        structure: Indices<'a>,
        values: Matrix<'a>,
        run: &Run<'_>,
    ) -> Result<Self> {
        let nnz = values.columns();
        let is_ascending = with_indices!(structure, indptr, indices => {
            if values.rows() != 1 || indices.len() != nnz {
                return refuse(format!(
                    "indices and data must be of one length, got {} and {}",
                    indices.len(),
                    values.rows().saturating_mul(nnz)
                ));
            }
            check_pointers(indptr, major, nnz)?;
            check_indices(indptr, indices, minor, run)?
        });
        Ok(Self {
            major,
            minor,
            structure,
            values,
            is_ascending,
        })
    }

    /// Lines: rows in CSR, columns in CSC.
    pub fn major(&self) -> usize {
        self.major
    }

    /// The length of a line.
    pub fn minor(&self) -> usize {
        self.minor
    }

    /// Stored values.
    pub fn nnz(&self) -> usize {
        self.values.columns()
    }

    /// Stored values, a matrix of 1 x nnz.
    pub fn values(&self) -> &Matrix<'a> {
        &self.values
    }

    /// Whether every line ascends strictly: it is sorted, and has no duplicates.
    pub fn is_ascending(&self) -> bool {
        self.is_ascending
    }

    pub(super) fn structure(&self) -> &Indices<'a> {
        &self.structure
    }
}

impl<T: Real> Stored<T> for Compressed<'_> {
    #[inline]
    fn begins(&self, row: usize) -> usize {
        with_indices!(&self.structure, indptr, _i => indptr[row].number() as usize)
    }

    fn is_ascending(&self) -> bool {
        self.is_ascending
    }

    fn len(&self) -> usize {
        self.nnz()
    }

    fn load(&self, first: usize, features: &mut [u64], values: &mut [T]) {
        with_indices!(&self.structure, _p, indices => {
            let indices = &indices[first..first + features.len()];
            for (feature, index) in features.iter_mut().zip(indices) {
                *feature = index.number();
            }
        });
        self.values.load_row(0, first, values);
    }
}

fn refuse<T>(what: String) -> Result<T> {
    Err(Error::InvalidArgument(what))
}

fn check_pointers<I: Index>(indptr: &[I], major: usize, nnz: usize) -> Result<()> {
    let (Some(first), Some(last)) = (indptr.first(), indptr.last()) else {
        return refuse(format!("indptr must have {major} + 1 elements, got 0"));
    };
    if indptr.len() - 1 != major {
        return refuse(format!(
            "indptr must have {major} + 1 elements, got {}",
            indptr.len()
        ));
    }
    let signed = |pointer: &I| pointer.number() as i64;
    if first.number() != 0 {
        return refuse(format!("indptr must start at 0, got {}", signed(first)));
    }
    if last.number() != nnz as u64 {
        return refuse(format!(
            "indptr must end at the number of values ({nnz}), got {}",
            signed(last)
        ));
    }
    // Without a branch, which the compiler turns into vectors.
    let falls = indptr
        .iter()
        .zip(&indptr[1..])
        .fold(false, |any, (a, b)| any | (b < a));
    if falls && let Some(line) = indptr.windows(2).position(|pair| pair[1] < pair[0]) {
        return refuse(format!(
            "indptr must not fall, got {} after {} at {}",
            signed(&indptr[line + 1]),
            signed(&indptr[line]),
            line + 1
        ));
    }
    Ok(())
}

/// Whether every line ascends strictly; an error when an index is out of range.
fn check_indices<I: Index>(
    indptr: &[I],
    indices: &[I],
    minor: usize,
    run: &Run<'_>,
) -> Result<bool> {
    let is_inside = AtomicBool::new(true);
    let steps_back = AtomicUsize::new(0);
    let tasks = indices.len().div_ceil(CHECKED);
    let run = &Run {
        threads: if tasks < 4 { 1 } else { run.threads },
        ..*run
    };
    run.share(
        tasks,
        || Ok::<_, Error>(()),
        |(), task| {
            let start = task * CHECKED;
            let end = indices.len().min(start + CHECKED);
            // Both are sums without a branch, which the compiler turns into vectors.
            let outside = indices[start..end]
                .iter()
                .fold(false, |any, i| any | (i.number() >= minor as u64));
            if outside {
                is_inside.store(false, Relaxed);
            }
            let steps = &indices[start.saturating_sub(1)..end];
            let falls = steps
                .iter()
                .zip(&steps[1..])
                .filter(|(a, b)| b <= a)
                .count();
            steps_back.fetch_add(falls, Relaxed);
            Ok(())
        },
    )?;
    if !is_inside.into_inner() {
        let at = indices.iter().position(|i| i.number() >= minor as u64);
        let what = at.map_or(0, |at| indices[at].number() as i64);
        return refuse(format!(
            "indices must be at least 0 and below {minor}, got {what} at {}",
            at.unwrap_or(0)
        ));
    }
    // Lines ascend when all steps back are from one line to the next.
    let steps_between = AtomicUsize::new(0);
    let lines = indptr.len() - 1;
    run.share(
        lines.div_ceil(CHECKED),
        || Ok::<_, Error>(()),
        |(), task| {
            let pointers = &indptr[task * CHECKED..=lines.min((task + 1) * CHECKED)];
            let between = pointers.windows(2).filter(|pair| pair[0] < pair[1]);
            let falls = between.filter(|pair| {
                let start = pair[0].number() as usize;
                start > 0 && indices[start] <= indices[start - 1]
            });
            steps_between.fetch_add(falls.count(), Relaxed);
            Ok(())
        },
    )?;
    Ok(steps_back.into_inner() == steps_between.into_inner())
}
