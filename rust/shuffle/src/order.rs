//! The order itself: a published formula.
//!
//! Record `i` of input `j` has as its key word `i` of
//! `numpy.random.Philox(key=seed, counter=[0, 0, j, epoch])`, and the output is all records by
//! (key, input, index). [`Keys`] is that formula; nothing else in this crate draws a random number.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use corekit_base::control::Control;
use corekit_base::philox::Stream;

use crate::error::{Error, Result, try_vec};
use crate::run::{Run, lock};

/// The version of the formula. A change of any output needs a new one.
pub const ALGORITHM: u32 = 1;

/// The domain of the shuffle in the counter's last word.
const DOMAIN: u64 = 0;

/// The keys of all records under one seed and epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    seed: u128,
    epoch: u32,
    /// All ones; tests clear bits to make ties.
    mask: u64,
}

impl Keys {
    pub fn new(seed: u128, epoch: u32, mask: u64) -> Self {
        Self { seed, epoch, mask }
    }

    /// The keys of one input.
    pub fn stream(&self, input: u32) -> KeyStream {
        let last = (DOMAIN << 32) | u64::from(self.epoch);
        KeyStream {
            words: Stream::new(self.seed, u64::from(input), last),
            mask: self.mask,
        }
    }
}

/// The keys of one input's records, by index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyStream {
    words: Stream,
    mask: u64,
}

impl KeyStream {
    /// The keys of the records `first, first + 1, ...`.
    #[inline]
    pub fn fill(&self, first: u64, keys: &mut [u64]) {
        self.words.fill(first, keys);
        if self.mask != u64::MAX {
            keys.iter_mut().for_each(|key| *key &= self.mask);
        }
    }

    /// The key of one record.
    #[inline(always)]
    pub fn at(&self, index: u64) -> u64 {
        self.words.word(index) & self.mask
    }
}

/// The permutation of one input of `n` records: output position `p` holds record `result[p]`.
///
/// Equal to `np.argsort(np.random.Philox(key=seed, counter=[0, 0, stream, epoch]).random_raw(n),
/// kind="stable")`. Keys are spread by their leading bits into cache-sized ranges, which are then
/// sorted one by one. Takes 24 bytes a record while it runs; O(n) work.
///
/// # Errors
/// [`Error::OutOfMemory`] when that is not to be had, [`Error::Cancelled`].
pub fn permutation(
    n: u64,
    seed: u128,
    stream: u32,
    epoch: u32,
    n_threads: usize,
    control: &Control,
) -> Result<Vec<u64>> {
    /// Records a range: 16 bytes each fit the second-level cache.
    const RANGE: u64 = 1 << 15;
    const MAX_BITS: u32 = 12;
    /// Keys computed between two looks at the cancel flag.
    const STEP: usize = 1 << 16;

    let len = usize::try_from(n).map_err(|_| Error::OutOfMemory {
        what: "the permutation",
        bytes: u64::MAX,
    })?;
    let keys = Keys::new(seed, epoch, u64::MAX).stream(stream);
    let bits = (n / RANGE)
        .checked_ilog2()
        .map_or(0, |b| b + 1)
        .min(MAX_BITS);
    let bucket = |key: u64| (key >> 1 >> (63 - bits)) as usize;
    let mut order = try_vec::<u64>(len, "the permutation")?;
    let mut entries = try_vec::<(u64, u64)>(len, "the permutation's keys")?;

    let mut buffer = try_vec::<u64>(STEP.min(len), "a key buffer")?;
    buffer.resize(STEP.min(len), 0);
    let mut counts = vec![0usize; (1 << bits) + 1];
    for_keys(&keys, len, &mut buffer, control, |_, key| {
        counts[bucket(key) + 1] += 1
    })?;
    for b in 0..1 << bits {
        counts[b + 1] += counts[b];
    }
    fill(&mut entries, len, (0, 0), control)?;
    let mut cursors = counts.clone();
    for_keys(&keys, len, &mut buffer, control, |index, key| {
        let at = &mut cursors[bucket(key)];
        entries[*at] = (key, index);
        *at += 1;
    })?;
    fill(&mut order, len, 0, control)?;

    // Ranges are disjoint slices of both arrays; workers take them one by one.
    let mut parts = Vec::with_capacity(1 << bits);
    let (mut rest, mut rest_out) = (&mut entries[..], &mut order[..]);
    for b in 0..1usize << bits {
        let Range { start, end } = counts[b]..counts[b + 1];
        let (part, tail) = rest.split_at_mut(end - start);
        let (out, tail_out) = rest_out.split_at_mut(end - start);
        (rest, rest_out) = (tail, tail_out);
        parts.push(std::sync::Mutex::new((part, out)));
    }
    let (next, run) = (AtomicUsize::new(0), Run::new(control));
    thread::scope(|scope| -> Result<()> {
        for _ in 0..n_threads.clamp(1, 1 << bits) {
            let work = || {
                while let Some(part) = parts.get(next.fetch_add(1, Relaxed)) {
                    run.check()?;
                    let mut part = lock(part);
                    let (entries, out) = &mut *part;
                    entries.sort_unstable();
                    for (to, entry) in out.iter_mut().zip(entries.iter()) {
                        *to = entry.1;
                    }
                }
                Ok(())
            };
            run.spawn(scope, "sort", work)?;
        }
        Ok(())
    })
    .or_else(|_| run.outcome())?;
    run.outcome()?;
    drop(parts);
    Ok(order)
}

/// Fills a vector that has the room to `len`, in steps: touching fresh pages takes its time.
fn fill<T: Copy>(vec: &mut Vec<T>, len: usize, value: T, control: &Control) -> Result<()> {
    const STEP: usize = 1 << 20;
    while vec.len() < len {
        control.check()?;
        vec.resize((vec.len() + STEP).min(len), value);
    }
    Ok(())
}

/// Calls `each(index, key)` for the first `len` records of a stream.
fn for_keys(
    keys: &KeyStream,
    len: usize,
    buffer: &mut [u64],
    control: &Control,
    mut each: impl FnMut(u64, u64),
) -> Result<()> {
    let mut first = 0;
    while first < len {
        control.check()?;
        let part = buffer.len().min(len - first);
        keys.fill(first as u64, &mut buffer[..part]);
        for (i, &key) in buffer[..part].iter().enumerate() {
            each((first + i) as u64, key);
        }
        first += part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(n: u64, seed: u128, stream: u32, epoch: u32) -> Vec<u64> {
        let words = Stream::new(seed, u64::from(stream), u64::from(epoch));
        let mut order: Vec<u64> = (0..n).collect();
        order.sort_by_key(|&i| words.word(i));
        order
    }

    #[test]
    fn permutation_is_the_formula_for_any_number_of_threads() {
        let control = Control::new();
        for n in [0, 1, 2, 5, 1000, 70_000, 200_001] {
            for n_threads in [1, 3] {
                let got = permutation(n, 42, 3, 1, n_threads, &control).expect("fits");
                assert_eq!(got, reference(n, 42, 3, 1), "n {n}, threads {n_threads}");
            }
        }
    }

    #[test]
    fn permutation_refuses_what_cannot_be_allocated_and_obeys_cancel() {
        let control = Control::new();
        assert!(matches!(
            permutation(1 << 60, 0, 0, 0, 1, &control),
            Err(Error::OutOfMemory { .. })
        ));
        control.cancel();
        assert!(matches!(
            permutation(10, 0, 0, 0, 1, &control),
            Err(Error::Cancelled)
        ));
    }
}
