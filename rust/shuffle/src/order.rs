//! The order itself: a published formula.
//!
//! Record `i` of input `j` has as its key word `i` of
//! `numpy.random.Philox(key=seed, counter=[0, 0, j, epoch])`, and the output is all records by
//! (key, input, index). [`Keys`] is that formula; nothing else in this crate draws a random number.
//!
//! Of the order a run may want only the front, or the records below a cut ([`sample`]); and of that,
//! a reader only its own share ([`slice`](mod@slice)).

pub(crate) mod sample;
pub(crate) mod slice;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use corekit_base::control::Control;
use corekit_base::memory::try_vec;
use corekit_base::philox::Stream;
use corekit_base::sync::lock;

use crate::error::{Error, Result};
use crate::run::Run;

/// The version of the formula. A change of any output needs a new one.
pub const ALGORITHM: u32 = 1;

/// The domain of the shuffle in the counter's last word.
const DOMAIN: u64 = 0;

/// A cut of the key space into parts: part `p` has the keys below `ends[p]` and not below the end
/// before. The last end is 2^64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    ends: Vec<u128>,
}

impl Parts {
    /// Ends rise, and the last is 2^64.
    pub fn new(ends: Vec<u128>) -> Self {
        Self { ends }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The part of a key.
    #[inline(always)]
    pub fn of(&self, key: u64) -> usize {
        self.ends
            .iter()
            .take_while(|&&end| u128::from(key) >= end)
            .count()
    }

    /// `key`, moved into the part of `first`: in the part's range, in the order of the keys.
    #[inline(always)]
    fn place(&self, first: u64, key: u64) -> u64 {
        let part = self.of(first);
        let start = if part == 0 { 0 } else { self.ends[part - 1] };
        let width = self.ends[part] - start;
        (start + ((u128::from(key) * width) >> 64)) as u64
    }
}

/// The keys of all records under one seed and epoch.
///
/// A record's part depends on its key in epoch 0 and on nothing else, so that no epoch moves it to
/// another part. In later epochs the key by which records are ordered is therefore the epoch's,
/// moved into the part's range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys<'a> {
    seed: u128,
    epoch: u32,
    /// All ones; tests clear bits to make ties.
    mask: u64,
    parts: Option<&'a Parts>,
}

impl<'a> Keys<'a> {
    pub fn new(seed: u128, epoch: u32, mask: u64, parts: Option<&'a Parts>) -> Self {
        Self {
            seed,
            epoch,
            mask,
            parts: parts.filter(|_| epoch > 0),
        }
    }

    /// The keys of one input.
    pub fn stream(&self, input: u32) -> KeyStream<'a> {
        let words = |epoch: u32| {
            let last = (DOMAIN << 32) | u64::from(epoch);
            Stream::new(self.seed, u64::from(input), last)
        };
        KeyStream {
            words: words(self.epoch),
            mask: self.mask,
            parts: self.parts.map(|parts| (parts, words(0))),
        }
    }
}

/// The keys of one input's records, by index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyStream<'a> {
    words: Stream,
    mask: u64,
    /// The parts, and the words that they are cut by.
    parts: Option<(&'a Parts, Stream)>,
}

impl KeyStream<'_> {
    /// The keys of the records `first, first + 1, ...`.
    #[inline]
    pub fn fill(&self, first: u64, keys: &mut [u64]) {
        self.words.fill(first, keys);
        if self.mask != u64::MAX || self.parts.is_some() {
            self.adapt(first, keys);
        }
    }

    /// Masks keys and moves them into their parts.
    #[cold]
    fn adapt(&self, first: u64, keys: &mut [u64]) {
        const STEP: usize = 64;
        keys.iter_mut().for_each(|key| *key &= self.mask);
        let Some((parts, words)) = self.parts else {
            return;
        };
        let mut firsts = [0; STEP];
        for (index, keys) in (first..).step_by(STEP).zip(keys.chunks_mut(STEP)) {
            words.fill(index, &mut firsts[..keys.len()]);
            for (key, first) in keys.iter_mut().zip(firsts) {
                *key = parts.place(first & self.mask, *key);
            }
        }
    }

    /// The key of one record.
    #[inline(always)]
    pub fn at(&self, index: u64) -> u64 {
        self.ordered(index).0
    }

    /// The key of one record, and what orders records of the same key before their identity does.
    #[inline(always)]
    pub fn ordered(&self, index: u64) -> (u64, u64) {
        let key = self.words.word(index) & self.mask;
        match self.parts {
            Some((parts, words)) => (parts.place(words.word(index) & self.mask, key), key),
            None => (key, key),
        }
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
    let keys = Keys::new(seed, epoch, u64::MAX, None).stream(stream);
    let bits = (n / RANGE)
        .checked_ilog2()
        .map_or(0, |b| b + 1)
        .min(MAX_BITS);
    let bucket = |key: u64| (key >> 1 >> (63 - bits)) as usize;
    let mut order = try_vec::<u64>("the permutation", len)?;
    let mut entries = try_vec::<(u64, u64)>("the permutation's keys", len)?;

    let mut buffer = try_vec::<u64>("a key buffer", STEP.min(len))?;
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
    fn parts_keep_their_records_and_the_order_of_the_keys() {
        let half = 1u128 << 63;
        let parts = Parts::new(vec![5, half, half, 1 << 64]);
        assert_eq!(
            [0, 4, 5, 1 << 63, u64::MAX].map(|key| parts.of(key)),
            [0, 0, 1, 3, 3]
        );
        for first in [0, 4, 5, 6, (1 << 63) - 1, 1 << 63, u64::MAX] {
            let places = [0, 1, 1 << 40, 1 << 63, u64::MAX].map(|key| parts.place(first, key));
            assert!(places.is_sorted());
            assert!(places.iter().all(|&key| parts.of(key) == parts.of(first)));
        }
        let all = Parts::new(vec![1 << 64]);
        for key in [0, 1, u64::MAX] {
            assert_eq!(all.place(7, key), key, "one part changes nothing");
        }
    }

    #[test]
    fn keys_of_many_and_of_one_are_the_same() {
        let parts = Parts::new(vec![1 << 60, 1 << 63, 1 << 64]);
        for (epoch, mask) in [(0, u64::MAX), (1, u64::MAX), (2, 0xFF << 56)] {
            let stream = Keys::new(5, epoch, mask, Some(&parts)).stream(3);
            let mut keys = [0; 300];
            stream.fill(7, &mut keys);
            for (index, key) in (7..).zip(keys) {
                assert_eq!(key, stream.at(index), "epoch {epoch}, index {index}");
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
