//! A sample: only the first `count` records of the order are wanted, or those with keys below a cut.
//!
//! A cut is known beforehand. Of a count, nobody knows at the start which keys these are. While
//! records go by, a histogram of their keys' leading bits is kept, and as soon as the ranges below
//! some edge hold `count` records, keys from that edge on are not wanted any more. The edge only
//! moves down; it ends near the sample's last key, so what is scattered is little more than the
//! sample.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use corekit_base::memory::try_vec;

use crate::error::Result;

const BITS: u32 = 16;
const SHIFT: u32 = 64 - BITS;

pub(crate) struct Sample {
    count: u64,
    /// Whether unwanted records are skipped one by one, or only counted, for a later pass that
    /// must find what the first one counted.
    skips: bool,
    /// Keys above this one are not wanted.
    last_wanted: AtomicU64,
    /// Records with wanted keys, by the keys' leading bits.
    histogram: Vec<AtomicU32>,
    /// Wanted records seen since the edge was last moved.
    since: AtomicU64,
    moving: Mutex<()>,
}

impl Sample {
    pub fn new(count: u64, skips: bool) -> Result<Self> {
        let mut histogram = try_vec("the sample's histogram", 1 << BITS)?;
        histogram.resize_with(1 << BITS, || AtomicU32::new(0));
        Ok(Self {
            count,
            skips,
            last_wanted: AtomicU64::new(if count == 0 { 0 } else { u64::MAX }),
            histogram,
            since: AtomicU64::new(0),
            moving: Mutex::new(()),
        })
    }

    /// The records with keys below `cut`, at most 2^64.
    pub fn below(cut: u128, skips: bool) -> Self {
        Self {
            count: u64::MAX,
            skips,
            last_wanted: AtomicU64::new(cut.saturating_sub(1) as u64),
            histogram: Vec::new(),
            since: AtomicU64::new(0),
            moving: Mutex::new(()),
        }
    }

    /// Bytes that a sample's tables take.
    pub const BYTES: usize = 4 << BITS;

    /// Whether a key is to be scattered. Once it is not, it never will be.
    #[inline(always)]
    pub fn may_want(&self, key: u64) -> bool {
        key <= self.last_wanted.load(Relaxed) || !self.skips
    }

    /// Whether a key is to be scattered; if it may still be in the sample it is counted.
    #[inline(always)]
    pub fn wants(&self, key: u64) -> bool {
        let wanted = key <= self.last_wanted.load(Relaxed);
        if wanted && let Some(bin) = self.histogram.get((key >> SHIFT) as usize) {
            // Saturation would need 2^32 records in 2^-16 of all keys: then the count is far
            // above any edge that matters, and wrapping could only keep the edge too high.
            bin.fetch_add(1, Relaxed);
        }
        wanted || !self.skips
    }

    /// Moves the edge down if that is worth a look; returns the last key that is wanted.
    pub fn advance(&self, seen: u64) -> u64 {
        if self.histogram.is_empty() {
            return self.last_wanted.load(Relaxed);
        }
        let since = self.since.fetch_add(seen, Relaxed) + seen;
        if since >= self.count / 4
            && let Ok(_moving) = self.moving.try_lock()
        {
            self.since.store(0, Relaxed);
            let mut below = 0u64;
            for (bin, n) in self.histogram.iter().enumerate() {
                below += u64::from(n.load(Relaxed));
                if below >= self.count {
                    let edge = ((bin as u64) << SHIFT) | ((1 << SHIFT) - 1);
                    self.last_wanted.fetch_min(edge, Relaxed);
                    break;
                }
            }
        }
        self.last_wanted.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corekit_base::philox::Stream;

    #[test]
    fn the_edge_falls_and_never_below_the_sample() {
        for count in [1u64, 10, 1000] {
            let sample = Sample::new(count, true).expect("memory");
            let words = Stream::new(1, 0, 0);
            let mut keys: Vec<u64> = (0..100_000).map(|i| words.word(i)).collect();
            let mut wanted = 0u64;
            for (i, &key) in keys.iter().enumerate() {
                wanted += u64::from(sample.wants(key));
                if i % 100 == 0 {
                    sample.advance(100);
                }
            }
            let edge = sample.advance(count);
            keys.sort_unstable();
            assert!(edge >= keys[count as usize - 1]);
            assert!(edge < u64::MAX >> 4, "the edge fell");
            assert!(
                wanted < 20 * count + 1000,
                "few were scattered: {wanted} for {count}"
            );
        }
    }
}
