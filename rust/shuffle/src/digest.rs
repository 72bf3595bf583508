//! The order-free digest that proves that nothing was lost or invented.
//!
//! The digest of a multiset of records is the sum modulo 2^128 of the XXH3-128 of each record
//! without its delimiter. In Python: `sum(xxhash.xxh3_128_intdigest(r) for r in records) % 2**128`.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Count, bytes (delimiters not counted) and digest of a multiset of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Bytes of the records, without their delimiters.
    pub bytes: u64,
    /// Sum modulo 2^128 of the records' XXH3-128.
    pub digest: u128,
}

impl Tally {
    /// Adds one record.
    #[inline(always)]
    pub fn add(&mut self, record: &[u8]) {
        self.add_hashed(record.len() as u64, xxh3_128(record));
    }

    /// Adds one record by its length and hash.
    #[inline(always)]
    pub fn add_hashed(&mut self, len: u64, hash: u128) {
        self.records += 1;
        self.bytes += len;
        self.digest = self.digest.wrapping_add(hash);
    }

    /// Adds all records of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.digest = self.digest.wrapping_add(other.digest);
    }
}

/// The hash of a record that arrives in pieces.
#[derive(Clone)]
pub(crate) struct Pieces {
    state: Box<Xxh3>,
    len: u64,
}

impl Pieces {
    pub fn new() -> Self {
        Self {
            state: Box::new(Xxh3::new()),
            len: 0,
        }
    }

    pub fn update(&mut self, piece: &[u8]) {
        self.state.update(piece);
        self.len += piece.len() as u64;
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn hash(&self) -> u128 {
        self.state.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xxh3_128_is_the_published_function() {
        // XXH3_128bits("", seed 0) of the specification.
        assert_eq!(xxh3_128(b""), 0x99aa06d3014798d86001c324468d497f);
    }

    #[test]
    fn order_does_not_matter_and_content_does() {
        let tally = |records: &[&[u8]]| {
            let mut tally = Tally::default();
            records.iter().for_each(|r| tally.add(r));
            tally
        };
        assert_eq!(tally(&[b"a", b"bc", b""]), tally(&[b"", b"bc", b"a"]));
        assert_ne!(tally(&[b"a", b"bc"]), tally(&[b"ab", b"c"]));
        let mut halves = tally(&[b"a"]);
        halves.merge(&tally(&[b"bc", b""]));
        assert_eq!(halves, tally(&[b"a", b"bc", b""]));
    }

    #[test]
    fn pieces_equal_the_whole() {
        let record: Vec<u8> = (0..5000u32).map(|i| (i * 7) as u8).collect();
        let mut pieces = Pieces::new();
        record.chunks(333).for_each(|piece| pieces.update(piece));
        assert_eq!((pieces.len(), pieces.hash()), (5000, xxh3_128(&record)));
    }
}
