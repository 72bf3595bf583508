//! Sorting a range's index.
//!
//! An entry is a word: the bits of the key that follow the range's prefix on top, the place of the
//! record below. Keys are uniform, so one counting scatter on the leading bits leaves groups of a
//! few entries in nearly the right place, and an insertion sort over the whole array, in which no
//! entry moves further than its group, does the rest. Both arrays stay in the second-level cache.

/// Entries a group, on average.
const GROUP_BITS: u32 = 2;

/// Most groups: their counters stay in the first-level cache beside the stream of entries.
const MAX_BITS: u32 = 14;

/// Counters that [`sort`] needs for `len` entries.
pub(crate) fn counters(len: usize) -> usize {
    1 << bits(len)
}

fn bits(len: usize) -> u32 {
    len.checked_ilog2()
        .unwrap_or(0)
        .saturating_sub(GROUP_BITS)
        .min(MAX_BITS)
}

/// Sorts `entries`; `spare` is as long, `counts` has [`counters`] of them. The result is in
/// `spare`. Takes O(n) on uniform leading bits, O(n log n) at worst.
pub(crate) fn sort(entries: &[u64], spare: &mut [u64], counts: &mut [u32]) {
    let bits = bits(entries.len());
    let group = |entry: u64| (entry >> 1 >> (63 - bits)) as usize;
    let counts = &mut counts[..1 << bits];
    counts.fill(0);
    for &entry in entries {
        counts[group(entry)] += 1;
    }
    let mut sum = 0;
    let mut largest = 0;
    for count in counts.iter_mut() {
        largest = largest.max(*count);
        sum += std::mem::replace(count, sum);
    }
    let spare = &mut spare[..entries.len()];
    for &entry in entries {
        let at = &mut counts[group(entry)];
        spare[*at as usize] = entry;
        *at += 1;
    }
    // Uniform keys make small groups. Others (the tests' masked ones) would make the insertion
    // sort quadratic.
    if largest > 64 + (8 << GROUP_BITS) + (entries.len() >> MAX_BITS) as u32 * 4 {
        spare.sort_unstable();
    } else {
        insertion_sort(spare);
    }
}

fn insertion_sort(entries: &mut [u64]) {
    for i in 1..entries.len() {
        let entry = entries[i];
        let mut at = i;
        while at > 0 && entries[at - 1] > entry {
            entries[at] = entries[at - 1];
            at -= 1;
        }
        entries[at] = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corekit_base::philox::Stream;
    use proptest::prelude::*;

    fn check(entries: &[u64]) {
        let mut spare = vec![0; entries.len()];
        sort(entries, &mut spare, &mut vec![7; counters(entries.len())]);
        let mut expected = entries.to_vec();
        expected.sort_unstable();
        assert_eq!(spare, expected);
    }

    #[test]
    fn sorts_uniform_entries_of_every_size() {
        let words = Stream::new(7, 0, 0);
        for len in (0..70).chain([1000, 4095, 4096, 4097, 300_000]) {
            check(&(0..len).map(|i| words.word(i)).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn sorts_anything(entries: Vec<u64>, shift in 0u32..64) {
            check(&entries.iter().map(|e| e >> shift).collect::<Vec<_>>());
        }
    }
}
