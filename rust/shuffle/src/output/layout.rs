//! The layout: which records of the order go to which file.
//!
//! The output is one stretch of records. It falls into *groups* (an epoch's part of a split), and a
//! group into *sections*, which are files: shards, or the whole group. Sections begin at records, so
//! a layout needs only counts, except where shards are cut by bytes.

use std::ops::Range;

/// How a group falls into sections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shards {
    /// It is one section.
    #[default]
    Whole,
    /// So many; section `i` of `k` holds the group's records `[i * n / k, (i + 1) * n / k)`.
    Count(u64),
    /// Sections of so many records, the last one shorter.
    Records(u64),
    /// Section `i` holds the records whose first byte is one of the bytes `[i * s, (i + 1) * s)` of
    /// the group, delimiters counted and headers not.
    Bytes(u64),
}

/// A stretch of the order that is sharded by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub epoch: u32,
    pub split: usize,
    pub records: u64,
}

/// Where a section begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Its first record in the order.
    pub record: u64,
    pub group: usize,
    /// Its number in the group.
    pub index: u64,
}

/// Groups and sections of one run's output.
pub(crate) struct Layout {
    shards: Shards,
    groups: Vec<Group>,
    /// The groups' first records, and the end of the last one.
    firsts: Vec<u64>,
    /// Bytes of a record with its delimiter, when all have the same.
    record: Option<u64>,
}

impl Layout {
    pub fn new(shards: Shards, groups: Vec<Group>, record: Option<u64>) -> Self {
        let mut firsts = vec![0];
        let mut end = 0;
        for group in &groups {
            end += group.records;
            firsts.push(end);
        }
        Self {
            shards,
            groups,
            firsts,
            record,
        }
    }

    /// Records of the output.
    pub fn total(&self) -> u64 {
        self.firsts[self.groups.len()]
    }

    /// Whether all of the output is one section.
    pub fn is_one(&self) -> bool {
        self.groups.len() == 1 && self.shards == Shards::Whole
    }

    pub fn group(&self, group: usize) -> Group {
        self.groups[group]
    }

    /// Bytes of a section, when shards are cut by bytes.
    pub fn section_bytes(&self) -> Option<u64> {
        match self.shards {
            Shards::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The sections that begin at the records of `range`, in order. Where shards are cut by bytes,
    /// only the first one of each group. Those of empty groups and empty sections at the end begin
    /// at the record behind the last.
    pub fn starts(&self, range: Range<u64>) -> Vec<Start> {
        let mut starts = Vec::new();
        let first_group = self.firsts[1..].partition_point(|&end| end < range.start);
        for group in first_group..self.groups.len() {
            let first = self.firsts[group];
            if first >= range.end {
                break;
            }
            let n = self.groups[group].records;
            let begins = |index: u64| first + self.offset(n, index);
            // The first section that begins in the range, by bisection: beginnings never fall.
            let sections = self.sections(n);
            let (mut below, mut index) = (0, sections);
            while below < index {
                let middle = below + (index - below) / 2;
                if begins(middle) < range.start {
                    below = middle + 1;
                } else {
                    index = middle;
                }
            }
            while index < sections && begins(index) < range.end {
                starts.push(Start {
                    record: begins(index),
                    group,
                    index,
                });
                index += 1;
            }
        }
        starts
    }

    /// Records of a section, when that is known before it is written.
    pub fn records(&self, group: usize, index: u64) -> Option<u64> {
        let n = self.groups[group].records;
        if let Shards::Bytes(bytes) = self.shards {
            let record = self.record?;
            // Records that begin before byte `b`.
            let before = |b: u64| b.div_ceil(record).min(n);
            let end = (index + 1).saturating_mul(bytes);
            return Some(before(end) - before(index.saturating_mul(bytes)));
        }
        let end = if index + 1 < self.sections(n) {
            self.offset(n, index + 1)
        } else {
            n
        };
        Some(end - self.offset(n, index))
    }

    /// Sections of a group of `n` records.
    fn sections(&self, n: u64) -> u64 {
        match self.shards {
            Shards::Whole | Shards::Bytes(_) => 1,
            Shards::Count(k) => k,
            Shards::Records(r) => n.div_ceil(r).max(1),
        }
    }

    /// The record of a group of `n` at which section `index` begins.
    fn offset(&self, n: u64, index: u64) -> u64 {
        match self.shards {
            Shards::Whole | Shards::Bytes(_) => 0,
            Shards::Count(k) => (u128::from(index) * u128::from(n) / u128::from(k)) as u64,
            Shards::Records(r) => index.saturating_mul(r).min(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group(records: u64) -> Group {
        Group {
            epoch: 0,
            split: 0,
            records,
        }
    }

    #[test]
    fn shards_by_count_are_even() {
        let layout = Layout::new(Shards::Count(3), vec![group(10)], None);
        let begins: Vec<u64> = layout.starts(0..11).iter().map(|s| s.record).collect();
        assert_eq!(begins, [0, 3, 6]);
        let sizes: Vec<_> = (0..3)
            .map(|i| layout.records(0, i).expect("known"))
            .collect();
        assert_eq!(sizes, [3, 3, 4]);
    }

    #[test]
    fn sections_of_bytes_count_records_of_one_size() {
        let layout = Layout::new(Shards::Bytes(10), vec![group(7)], Some(4));
        let sizes: Vec<_> = (0..4)
            .map(|i| layout.records(0, i).expect("known"))
            .collect();
        assert_eq!(sizes, [3, 2, 2, 0]);
    }

    proptest! {
        /// Any cut of the records into ranges finds every section once, in order.
        #[test]
        fn ranges_find_every_section_once(
            counts in proptest::collection::vec(0u64..40, 1..4),
            shards in prop_oneof![
                Just(Shards::Whole),
                (1u64..60).prop_map(Shards::Count),
                (1u64..50).prop_map(Shards::Records),
            ],
            step in 1u64..30,
        ) {
            let layout = Layout::new(shards, counts.iter().map(|&n| group(n)).collect(), None);
            let total: u64 = counts.iter().sum();
            prop_assert_eq!(layout.total(), total);
            let mut found = Vec::new();
            let mut at = 0;
            while at < total {
                let end = (at + step).min(total);
                found.extend(layout.starts(at..end));
                at = end;
            }
            found.extend(layout.starts(total..total + 1));
            prop_assert_eq!(&found, &layout.starts(0..total + 1));
            let expected: Vec<(usize, u64)> = counts
                .iter()
                .enumerate()
                .flat_map(|(g, &n)| (0..layout.sections(n)).map(move |i| (g, i)))
                .collect();
            prop_assert_eq!(found.iter().map(|s| (s.group, s.index)).collect::<Vec<_>>(), expected);
            let sizes: Vec<u64> = found
                .iter()
                .map(|s| layout.records(s.group, s.index).expect("known"))
                .collect();
            let ends = found.iter().skip(1).map(|s| s.record).chain([total]);
            for ((start, size), end) in found.iter().zip(sizes).zip(ends) {
                prop_assert_eq!(start.record + size, end);
            }
        }
    }
}
