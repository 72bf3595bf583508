//! Scattering: from whole records to blocks, by the leading bits of their keys.
//!
//! Each worker has one [`Cursor`] a bucket: its open slab, and a tally of all it sent there. For a
//! record the key gives the bucket, and the record's head and bytes are appended to that bucket's
//! slab. Keys are computed a few hundred at a time, so that the cache can be told which slabs
//! come next.

#![allow(unsafe_code)]

use xxhash_rust::xxh3::xxh3_128;

use corekit_base::memory::try_vec;

use crate::digest::Tally;
use crate::error::Result;
use crate::input::InputFile;
use crate::input::reader::{Batch, LongRecord, SLACK};
use crate::input::split::Splitter;
use crate::order::sample::Sample;
use crate::order::{KeyStream, Keys, Parts};
use crate::run::Run;
use crate::store::cache::prefetch_at;
use crate::store::record::{LONG_BYTES, RECORD_HEAD_MAX, long_bytes, put_varint};
use crate::store::spool::Spool;
use crate::store::{BLOCK_HEAD, SLAB_HEAD, Store};

/// Keys computed at a time.
const KEYS: usize = 256;

/// Records between the request for a line and its use.
const PREFETCH: usize = 8;

/// The widest copy that ignores a record's real length.
const WIDE: usize = 64;
const _: () = assert!(WIDE <= SLACK);

/// A worker's place in one bucket: all that a record touches, in one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Cursor {
    /// Next byte of the open slab, and the slab's end; equal when there is none.
    at: *mut u8,
    end: *mut u8,
    /// Input and index of the last record in the slab; `NO_INPUT` when there is none.
    last: u64,
    input: u32,
    tally: Tally,
}
const _: () = assert!(size_of::<Cursor>() == 64);

/// Inputs are fewer than this.
const NO_INPUT: u32 = u32::MAX;

const CLOSED: Cursor = Cursor {
    at: std::ptr::null_mut(),
    end: std::ptr::null_mut(),
    last: 0,
    input: NO_INPUT,
    tally: Tally {
        records: 0,
        bytes: 0,
        digest: 0,
    },
};

/// Where an open slab begins, and its block; the beginning is null when there is none.
#[derive(Clone, Copy)]
struct Open {
    start: *mut u8,
    block: u32,
}

const NOT_OPEN: Open = Open {
    start: std::ptr::null_mut(),
    block: 0,
};

/// Which keys a pass takes, and into which bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fan {
    pub prefix: u64,
    pub prefix_bits: u32,
    pub bits: u32,
    /// Buckets below this one are written already.
    pub keep_start: usize,
}

impl Fan {
    /// The bucket of a key; `None` when it does not begin with the prefix.
    #[inline(always)]
    pub fn bucket(&self, key: u64) -> Option<usize> {
        let (inside, bits) = (key.checked_shl(self.prefix_bits).unwrap_or(0), self.bits);
        let outside = self.prefix_bits > 0 && key >> (64 - self.prefix_bits) != self.prefix;
        // Two shifts, for `bits` may be 0.
        (!outside).then_some((inside >> 1 >> (63 - bits)) as usize)
    }
}

/// One worker's half of a scatter pass.
pub(crate) struct Scatter<'a> {
    store: &'a Store,
    run: &'a Run<'a>,
    fan: Fan,
    slab: usize,
    sample: Option<&'a Sample>,
    /// Parts whose records are counted, and their counts.
    parts: Option<&'a Parts>,
    pub counts: Vec<u64>,
    cursors: Vec<Cursor>,
    /// By bucket, like the cursors; looked at only when a slab is opened or closed.
    open: Vec<Open>,
    keys: [u64; KEYS],
    /// Everything seen, inside the prefix or not.
    pub seen: Tally,
    /// Bytes that no block will hold: spent by slabs' heads and ends.
    open_end: usize,
}

/// What a batch's long records need to be placed.
pub(crate) struct Places<'a> {
    pub input: &'a InputFile,
    pub spool: &'a Spool<'a>,
    pub inline_max: usize,
}

impl<'a> Scatter<'a> {
    pub fn new(
        store: &'a Store,
        run: &'a Run<'a>,
        fan: Fan,
        slab: usize,
        sample: Option<&'a Sample>,
        parts: Option<&'a Parts>,
    ) -> Result<Self> {
        let n = 1usize << fan.bits;
        let mut cursors = try_vec("a worker's cursors", n)?;
        cursors.resize(n, CLOSED);
        let mut open = try_vec("a worker's slabs", n)?;
        open.resize(n, NOT_OPEN);
        Ok(Self {
            store,
            run,
            fan,
            slab,
            sample,
            parts,
            counts: vec![0; parts.map_or(0, Parts::len)],
            cursors,
            open,
            keys: [0; KEYS],
            seen: Tally::default(),
            open_end: store.open_end(),
        })
    }

    /// Scatters a batch of records that lie, each with its delimiter, in `buffer`.
    pub fn batch(
        &mut self,
        batch: &Batch,
        buffer: &[u8],
        keys: &Keys,
        splitter: &Splitter,
        places: &Places,
    ) -> Result<()> {
        let stream = keys.stream(batch.input);
        if let Some(long) = &batch.long {
            self.seen.merge(&long.tally());
            self.put_long(batch.input, stream.at(long.index), long)?;
        }
        // Copies may read SLACK bytes past the last record; the buffer has them.
        let bytes = &buffer[batch.bytes.start..batch.bytes.end + SLACK];
        let records = &bytes[..batch.bytes.len()];
        if let Some(size) = splitter.fixed() {
            let ends = (1..=records.len() / size).map(|record| record * size);
            return self.records(batch, bytes, &stream, places, 0, ends);
        }
        match splitter.single() {
            Some(byte) => self.records(
                batch,
                bytes,
                &stream,
                places,
                1,
                memchr::memchr_iter(byte, records),
            ),
            None => {
                let width = splitter.delimiter().len();
                self.records(
                    batch,
                    bytes,
                    &stream,
                    places,
                    width,
                    splitter.multi_ends(records),
                )
            }
        }
    }

    /// The loop over a batch's records; `ends` are the beginnings of their delimiters.
    #[inline(always)]
    fn records(
        &mut self,
        batch: &Batch,
        bytes: &[u8],
        stream: &KeyStream,
        places: &Places,
        width: usize,
        ends: impl Iterator<Item = usize>,
    ) -> Result<()> {
        self.open_end = self.store.open_end();
        let (mut start, mut key_at) = (0, KEYS);
        for (index, end) in (batch.first_index..).zip(ends) {
            if key_at == KEYS {
                stream.fill(index, &mut self.keys);
                key_at = 0;
            }
            let key = self.keys[key_at];
            // A bucket's next line is rarely in the cache: ask for the cursor well before, and
            // for the line that it points to a little before.
            if let Some(&key) = self.keys.get(key_at + 2 * PREFETCH)
                && let Some(bucket) = self.fan.bucket(key)
            {
                prefetch_at(&raw const self.cursors[bucket]);
            }
            if let Some(&key) = self.keys.get(key_at + PREFETCH)
                && let Some(bucket) = self.fan.bucket(key)
            {
                prefetch_at(self.cursors[bucket].at);
            }
            key_at += 1;
            let record = &bytes[start..end];
            let hash = xxh3_128(record);
            self.seen.add_hashed(record.len() as u64, hash);
            if record.len() <= places.inline_max {
                let slack = &bytes[start..];
                self.put(batch.input, index, key, record.len(), hash, slack)?;
            } else if let Some(bucket) = self.wants(key) {
                let kept = bucket >= self.fan.keep_start && bucket < self.open_end;
                let place = if kept && !places.input.has_places() {
                    places.spool.append(bucket, record)?
                } else {
                    batch.offset + start as u64
                };
                let long = LongRecord::whole(index, record, hash, place);
                self.put_long_into(bucket, batch.input, &long)?;
            }
            start = end + width;
        }
        Ok(())
    }

    /// Sends a record that is here whole to its bucket; `bytes` begin with the record and may be
    /// longer, so that the copy can be wide.
    #[inline(always)]
    pub fn put(
        &mut self,
        input: u32,
        index: u64,
        key: u64,
        len: usize,
        hash: u128,
        bytes: &[u8],
    ) -> Result<()> {
        let Some(bucket) = self.wants(key) else {
            return Ok(());
        };
        self.cursors[bucket].tally.add_hashed(len as u64, hash);
        if bucket < self.fan.keep_start || bucket >= self.open_end {
            return Ok(());
        }
        self.append(
            bucket,
            input,
            index,
            (len as u64) << 1,
            &bytes[..len],
            bytes.len(),
        )
    }

    /// Sends a long record's stand-in to its bucket.
    pub fn put_long(&mut self, input: u32, key: u64, long: &LongRecord) -> Result<()> {
        match self.wants(key) {
            Some(bucket) => self.put_long_into(bucket, input, long),
            None => Ok(()),
        }
    }

    fn put_long_into(&mut self, bucket: usize, input: u32, long: &LongRecord) -> Result<()> {
        self.cursors[bucket].tally.add_hashed(long.len, long.hash);
        if bucket < self.fan.keep_start || bucket >= self.open_end {
            return Ok(());
        }
        let bytes = long_bytes(long);
        self.append(
            bucket,
            input,
            long.index,
            long.len << 1 | 1,
            &bytes,
            LONG_BYTES,
        )
    }

    #[inline(always)]
    fn wants(&mut self, key: u64) -> Option<usize> {
        if let Some(parts) = self.parts {
            self.counts[parts.of(key)] += 1;
        }
        if let Some(sample) = self.sample
            && !sample.wants(key)
        {
            return None;
        }
        self.fan.bucket(key)
    }

    /// Appends to the bucket's slab; `readable` bytes may be read from `bytes`' start.
    #[inline(always)]
    fn append(
        &mut self,
        bucket: usize,
        input: u32,
        index: u64,
        len_word: u64,
        bytes: &[u8],
        readable: usize,
    ) -> Result<()> {
        let need = RECORD_HEAD_MAX + bytes.len();
        let cursor = &self.cursors[bucket];
        let room = cursor.end.addr() - cursor.at.addr();
        if room < need && !self.open_slab(bucket, need)? {
            return Ok(());
        }
        let cursor = &mut self.cursors[bucket];
        // Records that are scattered again may step back, which wraps.
        let distance = index.wrapping_sub(cursor.last);
        let same_input = cursor.input == input;
        (cursor.input, cursor.last) = (input, index);
        // SAFETY: the cursor's slab is this worker's alone (Store::acquire), and `need` bytes of
        // it are left: checked above, or open_slab made it so.
        unsafe {
            let mut at = cursor.at;
            if same_input && distance < 0x4000 && len_word < 0x4000 {
                // Both numbers in at most two bytes each: the usual case, without a loop.
                at = put_short(at, distance as u32);
                at = put_short(at, len_word as u32);
            } else {
                let long = [0, u64::from(input), index, len_word];
                let usual = [distance, len_word];
                for &value in if same_input { &usual[..] } else { &long[..] } {
                    let mut head = [0; 10];
                    let n = put_varint(&mut head, value);
                    std::ptr::copy_nonoverlapping(head.as_ptr(), at, n);
                    at = at.add(n);
                }
            }
            let room = cursor.end.addr() - at.addr();
            copy(bytes, readable, at, room);
            cursor.at = at.add(bytes.len());
        }
        Ok(())
    }

    /// Gives the bucket a slab with room for `need` bytes; false when its records are dropped.
    #[cold]
    #[inline(never)]
    fn open_slab(&mut self, bucket: usize, need: usize) -> Result<bool> {
        self.close_slab(bucket);
        let need = need + SLAB_HEAD;
        let (cursors, open) = (&mut self.cursors, &mut self.open);
        let slab = self
            .store
            .acquire(bucket, need, self.slab, self.run, |close| {
                for (cursor, open) in cursors.iter_mut().zip(open.iter_mut()) {
                    if !open.start.is_null() {
                        seal_slab(cursor, open);
                        if close(open.block) {
                            (cursor.at, cursor.end, *open) = (CLOSED.at, CLOSED.end, NOT_OPEN);
                        }
                    }
                }
            })?;
        let Some(slab) = slab else {
            self.open_end = self.store.open_end();
            return Ok(false);
        };
        let mut head = [0; SLAB_HEAD];
        head[..4].copy_from_slice(&(slab.len as u32).to_le_bytes());
        // SAFETY: the slab has `need` >= SLAB_HEAD bytes and is this worker's alone.
        unsafe {
            std::ptr::copy_nonoverlapping(head.as_ptr(), slab.at, SLAB_HEAD);
            let cursor = &mut self.cursors[bucket];
            cursor.at = slab.at.add(SLAB_HEAD);
            cursor.end = slab.at.add(slab.len);
            cursor.input = NO_INPUT;
        }
        self.open[bucket] = Open {
            start: slab.at,
            block: slab.block,
        };
        Ok(true)
    }

    fn close_slab(&mut self, bucket: usize) {
        let (cursor, open) = (&mut self.cursors[bucket], &mut self.open[bucket]);
        if open.start.is_null() {
            return;
        }
        seal_slab(cursor, open);
        let block = open.block;
        (cursor.at, cursor.end, *open) = (CLOSED.at, CLOSED.end, NOT_OPEN);
        self.store.close(block);
    }

    /// Closes all slabs and adds the tallies to the store's buckets.
    pub fn finish(&mut self, count: bool) -> Tally {
        for bucket in 0..self.cursors.len() {
            self.close_slab(bucket);
        }
        if count {
            self.store.level(|level| {
                for (bucket, cursor) in level.buckets.iter_mut().zip(&self.cursors) {
                    bucket.tally.merge(&cursor.tally);
                }
            });
        }
        self.seen
    }
}

/// Writes into a slab's head how much of it is used.
fn seal_slab(cursor: &Cursor, open: &Open) {
    let used = (cursor.at.addr() - open.start.addr()) as u32;
    // SAFETY: the open slab's head is SLAB_HEAD bytes at `start`, this worker's alone.
    unsafe { std::ptr::copy_nonoverlapping(used.to_le_bytes().as_ptr(), open.start.add(4), 4) }
}

/// Writes a number below 2^14 as LEB128.
///
/// # Safety
/// Two bytes at `at` are the caller's.
#[inline(always)]
unsafe fn put_short(at: *mut u8, value: u32) -> *mut u8 {
    // SAFETY: two bytes, by the caller's promise; the second may be overwritten by what follows.
    unsafe {
        let long = value >= 0x80;
        *at = value as u8 & 0x7f | u8::from(long) << 7;
        *at.add(1) = (value >> 7) as u8;
        at.add(1 + usize::from(long))
    }
}

/// Copies `bytes` to `to`; wide when both sides have the room, which saves the call for short ones.
///
/// # Safety
/// `room` bytes at `to` are the caller's, `bytes.len() <= room`, and `readable` bytes can be read
/// from the start of `bytes`.
#[inline(always)]
pub(crate) unsafe fn copy(bytes: &[u8], readable: usize, to: *mut u8, room: usize) {
    // SAFETY: lengths by the caller's promise; source and target are different allocations or
    // different parts of one.
    unsafe {
        let from = bytes.as_ptr();
        if bytes.len() <= WIDE && readable >= WIDE && room >= WIDE {
            std::ptr::copy_nonoverlapping(from.cast::<[u8; WIDE]>(), to.cast::<[u8; WIDE]>(), 1);
        } else {
            std::ptr::copy_nonoverlapping(from, to, bytes.len());
        }
    }
}

/// The smallest block that holds a record of `inline_max` bytes.
pub(crate) fn smallest_block(inline_max: usize) -> usize {
    BLOCK_HEAD + SLAB_HEAD + RECORD_HEAD_MAX + inline_max.max(LONG_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::pool::Pool;
    use crate::store::record::{Body, for_records};
    use crate::store::{Level, OnFull};
    use corekit_base::control::Control;
    use proptest::prelude::*;

    #[test]
    fn copies_are_exact_for_every_length_and_room() {
        let from: Vec<u8> = (1..=200).collect();
        for len in 0..=130usize {
            for spare in [0, 1, 63, 64] {
                for readable in [len, from.len()] {
                    let mut to = vec![0u8; len + spare];
                    // SAFETY: `to` has len + spare bytes, `from` has `readable`.
                    unsafe { copy(&from[..len], readable, to.as_mut_ptr(), to.len()) };
                    assert_eq!(to[..len], from[..len], "len {len}, spare {spare}");
                }
            }
        }
    }

    #[test]
    fn short_numbers_are_leb128() {
        for value in 0..0x4000 {
            let (mut short, mut reference) = ([0; 2], [0; 10]);
            // SAFETY: two bytes.
            let end = unsafe { put_short(short.as_mut_ptr(), value) };
            let len = end.addr() - short.as_ptr().addr();
            assert_eq!(len, put_varint(&mut reference, u64::from(value)));
            assert_eq!(short[..len], reference[..len]);
        }
    }

    #[test]
    fn buckets_are_ranges_of_keys() {
        let fan = |prefix, prefix_bits, bits| Fan {
            prefix,
            prefix_bits,
            bits,
            keep_start: 0,
        };
        assert_eq!(fan(0, 0, 0).bucket(u64::MAX), Some(0));
        assert_eq!(fan(0, 0, 4).bucket(0xA << 60), Some(0xA));
        assert_eq!(fan(0xA, 4, 4).bucket(0xAB << 56), Some(0xB));
        assert_eq!(fan(0xA, 4, 4).bucket(0xBB << 56), None);
    }

    proptest! {
        /// What is scattered lies in its bucket's blocks: the plain reference is a vector a bucket.
        #[test]
        fn blocks_hold_what_was_scattered(
            records in proptest::collection::vec(
                (0u32..3, any::<u64>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..200),
            bits in 0u32..3,
            slab in 1usize..600,
        ) {
            let control = Control::new();
            let run = Run::new(&control);
            let mut pool = Pool::new(200 * 4096).expect("memory");
            let level = Level::new(0, 0, bits, OnFull::Spill).expect("memory");
            let store = Store::new(pool.carve(200 * 4096), 4096, level).expect("memory");
            let fan = Fan { prefix: 0, prefix_bits: 0, bits, keep_start: 0 };
            let mut expected = vec![Vec::new(); 1 << bits];
            let mut scatter = Scatter::new(&store, &run, fan, slab, None, None).expect("memory");
            for (index, (input, key, record)) in records.iter().enumerate() {
                let hash = xxh3_128(record);
                let index = index as u64;
                scatter.put(*input, index, *key, record.len(), hash, record).expect("room");
                expected[fan.bucket(*key).expect("no prefix")].push((*input, index, record.clone()));
            }
            scatter.finish(true);
            store.finish(0);
            for (bucket, expected) in expected.iter_mut().enumerate() {
                let (blocks, numbers) = store.take(bucket);
                prop_assert!(numbers.is_empty());
                let mut found = Vec::new();
                for block in blocks {
                    // SAFETY: nobody writes any more.
                    for_records(unsafe { store.view(block) }, |at, body| {
                        if let Body::Whole(bytes) = body {
                            found.push((at.input, at.index, bytes.to_vec()));
                        }
                        Ok(())
                    }).expect("whole");
                }
                found.sort();
                expected.sort();
                prop_assert_eq!(&found, &*expected);
                let tally = store.level(|level| level.buckets[bucket].tally);
                prop_assert_eq!(tally.records, expected.len() as u64);
            }
        }
    }
}
