//! A slice of the order: what one reader of several gets.

use std::ops::Range;

/// The share of one worker of one rank, and how much of it is already read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Rank `rank` of `world` gets records `[rank * n / world, (rank + 1) * n / world)` of the order.
    pub rank: u64,
    /// How many ranks there are.
    pub world: u64,
    /// Worker `worker` of `workers` gets as much of its rank's share.
    pub worker: u64,
    /// How many workers a rank has.
    pub workers: u64,
    /// Records of the share that are passed over.
    pub start: u64,
}

impl Default for Slice {
    fn default() -> Self {
        Self {
            rank: 0,
            world: 1,
            worker: 0,
            workers: 1,
            start: 0,
        }
    }
}

impl Slice {
    /// The share of `n` records, the start not yet counted.
    pub fn share(&self, n: u64) -> Range<u64> {
        let cut = |n: u64, part: u64, parts: u64| {
            (u128::from(n) * u128::from(part) / u128::from(parts.max(1))) as u64
        };
        let first = cut(n, self.rank, self.world);
        let of_rank = cut(n, self.rank + 1, self.world) - first;
        first + cut(of_rank, self.worker, self.workers)
            ..first + cut(of_rank, self.worker + 1, self.workers)
    }

    /// The part of the key space, of 1, in which the slice lies; `n` is the number of records, about.
    pub fn keys(&self, n: f64) -> Range<f64> {
        let workers = self.workers.max(1) as f64;
        let parts = self.world.max(1) as f64 * workers;
        let first = (self.rank as f64 * workers + self.worker as f64) / parts;
        // The number may be half of what it was taken for. Eight standard deviations, and a few
        // records for rounding.
        let n = (n / 2.0).max(1.0);
        let around = |q: f64| 8.0 * (q * (1.0 - q) / n).sqrt() + 16.0 / n;
        let start = first + (self.start as f64 / (4.0 * n)).min(1.0 / parts);
        let end = first + 1.0 / parts;
        (start - around(start.min(1.0))).max(0.0)..(end + around(end.min(1.0))).min(1.0)
    }

    /// The buckets of `2^bits` that the slice surely or nearly surely lies in.
    pub fn buckets(&self, bits: u32, n: f64) -> Range<usize> {
        let buckets = f64::from(1u32 << bits);
        let keys = self.keys(n);
        let start = (keys.start * buckets).floor() as usize;
        let end = ((keys.end * buckets).ceil() as usize).min(1 << bits);
        start.min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_are_disjoint_complete_and_in_order(n in 0u64..1000, world in 1u64..9, workers in 1u64..5) {
            let mut at = 0;
            for rank in 0..world {
                for worker in 0..workers {
                    let slice = Slice { rank, world, worker, workers, start: 0 };
                    let share = slice.share(n);
                    prop_assert_eq!(share.start, at);
                    at = share.end;
                }
                prop_assert_eq!(at, (rank + 1) * n / world);
            }
        }

        #[test]
        fn buckets_hold_the_share(
            n in 1u64..100_000,
            world in 1u64..9,
            off in 0.5f64..2.0,
            start in 0.0f64..1.0,
        ) {
            // Keys as they would be without any luck: evenly spread.
            for rank in 0..world {
                let slice = Slice { rank, world, ..Slice::default() };
                let share = slice.share(n);
                let start = ((share.end - share.start) as f64 * start) as u64;
                let slice = Slice { start, ..slice };
                let buckets = slice.buckets(8, n as f64 * off);
                for record in share.start + start..share.end {
                    let bucket = (record as f64 / n as f64 * 256.0) as usize;
                    prop_assert!(buckets.contains(&bucket), "{record} of {n}: {buckets:?}");
                }
            }
        }
    }
}
