//! Splitting bytes into records: by a delimiter, as Python's `bytes.split(delimiter)` does, or by a
//! fixed size.
//!
//! Delimiters are found leftmost first and do not overlap. A record is what lies between two of
//! them; the empty tail behind the last one is no record. When an input ends without a delimiter
//! its tail is a record, and if that tail ends in a proper prefix of the delimiter, the longest such
//! prefix counts as a delimiter begun: the record ends before it and only the rest is added. Either
//! way the output, split again, gives the same records.
//!
//! Records of a fixed size have an empty delimiter; an input that is not a whole number of them is
//! an error.

use memchr::memmem;

use crate::options::Records;

/// How bytes fall into records, with what it takes to find their ends.
pub(crate) struct Splitter {
    delimiter: Vec<u8>,
    finder: memmem::Finder<'static>,
    /// Bytes of a record; `None` when records end with the delimiter.
    fixed: Option<usize>,
}

/// What one scan over bytes that begin at a record start found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Whole records.
    pub records: u64,
    /// Just past the last of them; 0 when there is none.
    pub end: usize,
}

impl Splitter {
    pub fn new(records: &Records) -> Self {
        let (delimiter, fixed) = match records {
            Records::Delimited(delimiter) => (delimiter.clone(), None),
            Records::Fixed(bytes) => (Vec::new(), Some(*bytes)),
        };
        Self {
            finder: memmem::Finder::new(&delimiter).into_owned(),
            delimiter,
            fixed,
        }
    }

    /// What stands behind each record in the output.
    pub fn delimiter(&self) -> &[u8] {
        &self.delimiter
    }

    /// The delimiter's byte, when it is only one: its positions need no left-to-right scan.
    pub fn single(&self) -> Option<u8> {
        match self.delimiter[..] {
            [byte] => Some(byte),
            _ => None,
        }
    }

    /// Bytes of a record, when all have the same.
    pub fn fixed(&self) -> Option<usize> {
        self.fixed
    }

    /// Counts the records of `bytes`, which begin at a record start.
    pub fn scan(&self, bytes: &[u8]) -> Scan {
        if let Some(size) = self.fixed {
            let records = bytes.len() / size;
            return Scan {
                records: records as u64,
                end: records * size,
            };
        }
        if let Some(byte) = self.single() {
            return Scan {
                records: memchr::memchr_iter(byte, bytes).count() as u64,
                end: memchr::memrchr(byte, bytes).map_or(0, |at| at + 1),
            };
        }
        let mut scan = Scan { records: 0, end: 0 };
        for at in self.finder.find_iter(bytes) {
            scan.records += 1;
            scan.end = at + self.delimiter.len();
        }
        scan
    }

    /// Where in `bytes` the record ends that has `before` bytes already.
    pub fn first(&self, bytes: &[u8], before: u64) -> Option<usize> {
        match (self.fixed, self.single()) {
            (Some(size), _) => {
                Some((size as u64 - before) as usize).filter(|&left| left <= bytes.len())
            }
            (None, Some(byte)) => memchr::memchr(byte, bytes),
            (None, None) => self.finder.find(bytes),
        }
    }

    /// Where the delimiters of `bytes`, which begin at a record start, begin.
    pub fn multi_ends<'a>(&'a self, bytes: &'a [u8]) -> memmem::FindIter<'a, 'a> {
        self.finder.find_iter(bytes)
    }

    /// The most bytes at the end of anything that may be a delimiter begun.
    pub fn begun_max(&self) -> usize {
        self.delimiter.len().saturating_sub(1)
    }

    /// Length of the longest suffix of `tail` that is a proper prefix of the delimiter.
    pub fn unfinished(&self, tail: &[u8]) -> usize {
        (1..self.delimiter.len().min(tail.len() + 1))
            .rev()
            .find(|&len| tail.ends_with(&self.delimiter[..len]))
            .unwrap_or(0)
    }
}

/// The obvious splitter: the reference that every other path is held to.
#[cfg(test)]
pub(crate) fn reference_records(bytes: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at + delimiter.len() <= bytes.len() {
        if &bytes[at..at + delimiter.len()] == delimiter {
            records.push(bytes[start..at].to_vec());
            at += delimiter.len();
            start = at;
        } else {
            at += 1;
        }
    }
    if start < bytes.len() {
        let tail = &bytes[start..];
        let begun = (0..delimiter.len())
            .rev()
            .find(|&len| tail.ends_with(&delimiter[..len]))
            .unwrap_or(0);
        records.push(tail[..tail.len() - begun].to_vec());
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_delimiters_are_found_by_one_scan_from_the_left() {
        let splitter = Splitter::new(&Records::Delimited(b"aa".to_vec()));
        assert_eq!(splitter.scan(b"aaaaab"), Scan { records: 2, end: 4 });
        assert_eq!(splitter.scan(b"xyz"), Scan { records: 0, end: 0 });
        assert_eq!(splitter.multi_ends(b"aaaaab").collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn unfinished_takes_the_longest_proper_prefix() {
        let splitter = Splitter::new(&Records::Delimited(b"abab".to_vec()));
        assert_eq!(splitter.unfinished(b"xaba"), 3);
        assert_eq!(splitter.unfinished(b"ab"), 2);
        assert_eq!(splitter.unfinished(b"xabb"), 0);
        assert_eq!(splitter.unfinished(b""), 0);
        assert_eq!(
            Splitter::new(&Records::Delimited(b"\n".to_vec())).unfinished(b"abc"),
            0
        );
    }

    #[test]
    fn fixed_sizes_need_no_search() {
        let splitter = Splitter::new(&Records::Fixed(4));
        assert_eq!(splitter.scan(b"aaaabbbbc"), Scan { records: 2, end: 8 });
        assert_eq!(splitter.first(b"abc", 1), Some(3));
        assert_eq!(splitter.first(b"ab", 1), None);
        assert_eq!((splitter.begun_max(), splitter.unfinished(b"ab")), (0, 0));
    }

    #[test]
    fn reference_has_no_empty_tail() {
        assert_eq!(
            reference_records(b"a\n\nb\n", b"\n"),
            [&b"a"[..], b"", b"b"]
        );
        assert_eq!(reference_records(b"a\r\nb\r", b"\r\n"), [&b"a"[..], b"b"]);
        assert!(reference_records(b"", b"\n").is_empty());
    }
}
