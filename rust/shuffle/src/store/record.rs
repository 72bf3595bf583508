//! How records lie in slabs.
//!
//! A slab begins with a head: its bytes, and the bytes used. Then come records: the distance of the
//! index to that of the record before, the length times two, both as LEB128, and the bytes without
//! delimiter. A distance of 0 cannot be; it stands before a record of another input than the one
//! before, and before a slab's first, and is followed by that input and the index itself. Keys are
//! not stored: input and index give them. An odd length marks a long record: instead of its bytes
//! there are its XXH3-128 and its place.

use crate::error::{Error, Result};
use crate::input::reader::LongRecord;
use crate::store::cache::prefetch;
use crate::store::{BLOCK_HEAD, SLAB_HEAD, used, word};

/// Most bytes of a record's numbers: 0, input, index, length.
pub(crate) const RECORD_HEAD_MAX: usize = 1 + 5 + 10 + 10;

/// Bytes that stand for a long record.
pub(crate) const LONG_BYTES: usize = 24;

/// What stands in a slab for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    Whole(&'a [u8]),
    Long { len: u64, hash: u128, place: u64 },
}

impl Body<'_> {
    /// Bytes of the record.
    pub fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Long { len, .. } => *len,
        }
    }
}

/// The stand-in of a long record.
pub(crate) fn long_bytes(long: &LongRecord) -> [u8; LONG_BYTES] {
    let mut bytes = [0; LONG_BYTES];
    bytes[..16].copy_from_slice(&long.hash.to_le_bytes());
    bytes[16..].copy_from_slice(&long.place.to_le_bytes());
    bytes
}

/// Writes `value` as LEB128; returns the bytes used.
#[inline(always)]
pub(crate) fn put_varint(out: &mut [u8; 10], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

fn corrupt() -> Error {
    Error::Integrity("a block of scratch came back different from what was written".into())
}

/// Reads a LEB128 number at `at`, which moves behind it.
#[inline(always)]
pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = *bytes.get(*at).ok_or_else(corrupt)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
        shift += 7;
        if shift > 63 {
            return Err(corrupt());
        }
    }
}

/// How a record's identity follows from that of the record before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Forward(u64),
    To { input: u32, index: u64 },
}

/// The record whose head begins at `at`: its step, its body, and where the next one begins.
#[inline(always)]
pub(crate) fn record_at(bytes: &[u8], at: usize) -> Result<(Step, Body<'_>, usize)> {
    let mut at = at;
    let step = match varint(bytes, &mut at)? {
        0 => {
            let input = varint(bytes, &mut at)? as u32;
            Step::To {
                input,
                index: varint(bytes, &mut at)?,
            }
        }
        distance => Step::Forward(distance),
    };
    let len = varint(bytes, &mut at)?;
    if len & 1 == 0 {
        let end = (len >> 1).checked_add(at as u64).ok_or_else(corrupt)?;
        let body = bytes
            .get(at..usize::try_from(end).map_err(|_| corrupt())?)
            .ok_or_else(corrupt)?;
        Ok((step, Body::Whole(body), end as usize))
    } else {
        let body = bytes.get(at..at + LONG_BYTES).ok_or_else(corrupt)?;
        let (mut hash, mut place) = ([0; 16], [0; 8]);
        hash.copy_from_slice(&body[..16]);
        place.copy_from_slice(&body[16..]);
        let body = Body::Long {
            len: len >> 1,
            hash: u128::from_le_bytes(hash),
            place: u64::from_le_bytes(place),
        };
        Ok((step, body, at + LONG_BYTES))
    }
}

/// Where a record's input and index stand, and where its head begins in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub input: u32,
    pub index: u64,
    pub at: usize,
}

/// How far ahead of a walk over a block its bytes are fetched into the cache: heads are far apart,
/// and what finds them is a chain of dependent loads, which the hardware does not see coming.
const FETCH_AHEAD: usize = 2048;

/// Calls `each` for every record of a block, in the order in which they lie there. All of the block
/// passes through the cache, bodies too: a walk comes before their use.
#[inline(always)]
pub(crate) fn for_records<'a>(
    block: &'a [u8],
    mut each: impl FnMut(Found, Body<'a>) -> Result<()>,
) -> Result<()> {
    let end = used(block);
    let (mut slab, mut fetched) = (BLOCK_HEAD, 0);
    while slab + SLAB_HEAD <= end {
        let len = word(block, slab) as usize;
        let filled = word(block, slab + 4) as usize;
        if len < SLAB_HEAD || filled < SLAB_HEAD || filled > len || slab + len > end {
            return Err(corrupt());
        }
        let (mut input, mut index) = (0, 0u64);
        let bytes = &block[..slab + filled];
        let mut at = slab + SLAB_HEAD;
        while at < bytes.len() {
            while fetched < at + FETCH_AHEAD {
                prefetch(block, fetched);
                fetched += 64;
            }
            let (step, body, next) = record_at(bytes, at)?;
            match step {
                // Records that were scattered again may step back, which wraps.
                Step::Forward(distance) => index = index.wrapping_add(distance),
                Step::To {
                    input: i,
                    index: to,
                } => (input, index) = (i, to),
            }
            each(Found { input, index, at }, body)?;
            at = next;
        }
        slab += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut out = [0; 10];
            let len = put_varint(&mut out, value);
            let mut at = 0;
            prop_assert_eq!(varint(&out[..len], &mut at).expect("whole"), value);
            prop_assert_eq!(at, len);
            prop_assert!(varint(&out[..len - 1], &mut 0).is_err());
        }

        #[test]
        fn any_block_is_parsed_or_refused(mut block in proptest::collection::vec(any::<u8>(), 256..1024)) {
            // Scratch may come back damaged: that must be an error or nonsense, never a panic.
            let _ = for_records(&block, |_, _| Ok(()));
            let used = block.len() as u32;
            block[..4].copy_from_slice(&used.to_le_bytes());
            block[BLOCK_HEAD..BLOCK_HEAD + 4].copy_from_slice(&100u32.to_le_bytes());
            block[BLOCK_HEAD + 4..BLOCK_HEAD + 8].copy_from_slice(&90u32.to_le_bytes());
            let _ = for_records(&block, |_, _| Ok(()));
        }
    }
}
