//! Gathering: from a bucket's blocks to its stretch of the output, in the order of the keys.
//!
//! The index of a bucket is one word a record: the key's bits behind the bucket's prefix on top,
//! the record's place below. Words are sorted; then the records are copied, one after the other, to
//! the output frames, with the next ones' cache lines already on their way. What lands in the frames
//! is hashed there, so the digest proves the copies too.
//!
//! 1. A bucket with more records than the index has room for is done in several rounds, each taking
//!    the records of one more slice of its keys.
//! 2. The key bits that a word has no room for matter only where words tie. Tied records are looked
//!    up again and ordered by (key, input, index).

#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use xxhash_rust::xxh3::xxh3_128;

use corekit_base::memory::try_vec;

use crate::digest::{Pieces, Tally};
use crate::error::{Error, Result};
use crate::input::InputFile;
use crate::levels::scatter::copy;
use crate::levels::sort;
use crate::order::Keys;
use crate::output::cursor::Cursor;
use crate::output::feed::Feed;
use crate::output::frames::Frames;
use crate::output::sections::Sections;
use crate::run::Run;
use crate::store::cache::prefetch;
use crate::store::record::{Body, for_records, record_at};
use crate::store::spool::Spool;

/// How far ahead of the copy records are fetched into the cache.
const PREFETCH: usize = 12;

/// Records between two looks at the cancel flag.
const CHECKED: usize = 4096;

/// What gathering needs to know about the run.
pub(crate) struct Gather<'a> {
    pub run: &'a Run<'a>,
    /// The longest index that a worker had, in entries.
    pub longest_index: AtomicUsize,
    pub keys: Keys<'a>,
    pub delimiter: &'a [u8],
    pub inputs: &'a [InputFile],
    pub spool: &'a Spool<'a>,
    pub sink: Sink<'a>,
}

/// Where gathered records go.
#[derive(Clone, Copy)]
pub(crate) enum Sink<'a> {
    Files {
        frames: &'a Frames<'a>,
        sections: &'a Sections<'a>,
    },
    Feed(&'a Feed),
}

/// One bucket, all of it in memory.
pub(crate) struct Loaded<'b> {
    pub blocks: Vec<&'b [u8]>,
    /// Its keys' leading bits, which all of them share.
    pub prefix_bits: u32,
    /// What was scattered into it.
    pub tally: Tally,
    /// Where its stretch of the output begins, in bytes and in records.
    pub position: u64,
    pub record: u64,
    /// Its first records that are passed over, and the end of those that are written.
    pub skip: u64,
    pub limit: u64,
}

/// Room for a worker's index, in words: entries, as many spare ones, counters.
pub(crate) fn index_words(entries: usize) -> usize {
    2 * entries + sort::counters(entries) / 2 + 1
}

/// The most entries that `words` have room for.
fn entries_of(words: usize) -> usize {
    // Counters are never more than a quarter of the entries, two to a word, and one word.
    words.saturating_sub(1) * 8 / 17
}

/// A place in the bucket: block number and offset, in as few bits as that takes.
#[derive(Clone, Copy)]
struct PlaceBits {
    block_shift: u32,
    bits: u32,
}

impl PlaceBits {
    fn of(blocks: &[&[u8]]) -> Self {
        let block_shift = blocks
            .first()
            .map_or(0, |b| b.len().next_power_of_two().ilog2());
        let bits = block_shift + blocks.len().next_power_of_two().ilog2();
        Self { block_shift, bits }
    }

    #[inline(always)]
    fn split(self, entry: u64) -> (usize, usize) {
        let place = entry & ((1 << self.bits) - 1);
        (
            (place >> self.block_shift) as usize,
            (place & ((1 << self.block_shift) - 1)) as usize,
        )
    }

    #[inline(always)]
    fn same_key(self, a: u64, b: u64) -> bool {
        a >> self.bits == b >> self.bits
    }
}

/// A slice of a bucket's keys: those whose `bits` bits behind the prefix are `value`.
#[derive(Clone, Copy)]
struct Slice {
    bits: u32,
    value: u64,
}

impl<'a> Gather<'a> {
    /// Writes a bucket; returns the tally of what was written and where the output ends now.
    pub fn bucket(&self, loaded: &Loaded, index: &mut [u64]) -> Result<(Tally, u64)> {
        let n = loaded.tally.records;
        let capacity = entries_of(index.len());
        // What was written, and all that was passed before the present slice.
        let (mut written, mut passed) = (Tally::default(), Tally::default());
        let mut reached = Tally::default();
        let mut from = loaded.position + loaded.record;
        let places = PlaceBits::of(&loaded.blocks);
        // Slices small enough that one that is a little larger than the mean still fits.
        let mut slice = Slice { bits: 0, value: 0 };
        if n > capacity as u64 {
            slice.bits = (n / (capacity as u64 * 3 / 4).max(1)).max(1).ilog2() + 1;
        }
        while slice.value < 1 << slice.bits {
            let Some(len) = self.index(loaded, places, slice, capacity, index)? else {
                if loaded.prefix_bits + slice.bits >= 63 {
                    return Err(Error::MemoryLimit(format!(
                        "memory_limit has no room for an index of {n} records with one key"
                    )));
                }
                slice = Slice {
                    bits: slice.bits + 1,
                    value: slice.value * 2,
                };
                continue;
            };
            self.longest_index.fetch_max(len, Relaxed);
            let (entries, rest) = index.split_at_mut(capacity);
            let (sorted, counters) = rest.split_at_mut(capacity);
            let (entries, sorted) = (&entries[..len], &mut sorted[..len]);
            sort::sort(entries, sorted, words_as_counters(counters));
            self.order_ties(loaded, places, sorted)?;
            let inside = |record: u64| record.saturating_sub(passed.records).min(len as u64);
            let (skip, limit) = (inside(loaded.skip) as usize, inside(loaded.limit) as usize);
            let (before, rest) = sorted.split_at(skip);
            let (wanted, beyond) = rest.split_at(limit.saturating_sub(skip));
            self.pass(loaded, places, before, &mut passed)?;
            let tally = self.copy(loaded, places, wanted, &passed, &mut from)?;
            written.merge(&tally);
            passed.merge(&tally);
            if !wanted.is_empty() {
                reached = passed;
            }
            self.pass(loaded, places, beyond, &mut passed)?;
            slice.value += 1;
        }
        if passed != loaded.tally {
            return Err(Error::Integrity(format!(
                "{} records ({} bytes) were scattered to a bucket and {} ({} bytes) came out of it",
                loaded.tally.records, loaded.tally.bytes, passed.records, passed.bytes
            )));
        }
        Ok((written, loaded.position + self.output_bytes(&reached)))
    }

    /// Bytes that so many records take in the output.
    fn output_bytes(&self, tally: &Tally) -> u64 {
        tally.bytes + tally.records * self.delimiter.len() as u64
    }

    /// Fills the index with the bucket's records whose keys are in `slice`; `None` when there are
    /// more than `capacity`.
    fn index(
        &self,
        loaded: &Loaded,
        places: PlaceBits,
        slice: Slice,
        capacity: usize,
        index: &mut [u64],
    ) -> Result<Option<usize>> {
        let entries = &mut index[..capacity];
        let mut len = 0;
        let mut fits = true;
        let mut put = |key: u64, place: u64| {
            let key = key.checked_shl(loaded.prefix_bits).unwrap_or(0);
            // Two shifts, for `slice.bits` may be 0.
            if key >> 1 >> (63 - slice.bits) != slice.value {
                return;
            }
            let key = key.checked_shl(slice.bits).unwrap_or(0);
            match entries.get_mut(len) {
                Some(entry) => *entry = key >> places.bits << places.bits | place,
                None => fits = false,
            }
            len += 1;
        };
        let (mut input, mut stream) = (0, self.keys.stream(0));
        for (number, block) in loaded.blocks.iter().enumerate() {
            self.run.check()?;
            let base = (number as u64) << places.block_shift;
            for_records(block, |found, _| {
                if found.input != input {
                    (input, stream) = (found.input, self.keys.stream(found.input));
                }
                put(stream.at(found.index), base | found.at as u64);
                Ok(())
            })?;
        }
        Ok(fits.then_some(len))
    }

    /// Puts entries whose key bits are equal in the order of (key, input, index).
    fn order_ties(&self, loaded: &Loaded, places: PlaceBits, sorted: &mut [u64]) -> Result<()> {
        let tied = |pair: &[u64]| places.same_key(pair[0], pair[1]);
        if !sorted.windows(2).any(tied) {
            return Ok(());
        }
        let mut groups: Vec<(usize, usize)> = Vec::new();
        let mut at = 0;
        while at < sorted.len() {
            let run = 1 + sorted[at..]
                .windows(2)
                .take_while(|pair| tied(pair))
                .count();
            if run > 1 {
                groups.push((at, at + run));
            }
            at += run;
        }
        // Identities of the tied records, found by going through the bucket once more.
        let n: usize = groups.iter().map(|(from, to)| to - from).sum();
        let mut places_of = try_vec::<u64>("tied records", n)?;
        let place_mask = (1u64 << places.bits) - 1;
        for &(from, to) in &groups {
            places_of.extend(sorted[from..to].iter().map(|entry| entry & place_mask));
        }
        places_of.sort_unstable();
        let mut identities = try_vec::<(u64, ((u64, u64), u32, u64))>("tied records", n)?;
        for (number, block) in loaded.blocks.iter().enumerate() {
            self.run.check()?;
            for_records(block, |found, _| {
                let place = (number as u64) << places.block_shift | found.at as u64;
                if places_of.binary_search(&place).is_ok() {
                    let key = self.keys.stream(found.input).ordered(found.index);
                    identities.push((place, (key, found.input, found.index)));
                }
                Ok(())
            })?;
        }
        identities.sort_unstable();
        for (from, to) in groups {
            sorted[from..to].sort_unstable_by_key(|entry| {
                let place = entry & place_mask;
                identities
                    .binary_search_by_key(&place, |i| i.0)
                    .map(|at| identities[at].1)
                    .ok()
            });
        }
        Ok(())
    }

    /// Copies the records of a sorted index, which follow on those of the bucket that are `passed`.
    /// A feed's page that begins with them begins at position `from`, which moves behind them.
    fn copy(
        &self,
        loaded: &Loaded,
        places: PlaceBits,
        sorted: &[u64],
        passed: &Tally,
        from: &mut u64,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        if sorted.is_empty() {
            return Ok(tally);
        }
        let first = loaded.record + passed.records;
        let byte = loaded.position + self.output_bytes(passed);
        let (frames, sections) = match self.sink {
            Sink::Files { frames, sections } => (frames, sections),
            Sink::Feed(feed) => {
                let cursor = feed.cursor(*from, byte + first, self.run);
                let mut out = Writer::new(self, cursor);
                self.copy_range(loaded, places, sorted, 0..sorted.len(), &mut out)?;
                out.cursor.leave();
                *from = out.cursor.position();
                return Ok(out.tally);
            }
        };
        let length = |i: usize| {
            if let Some(&ahead) = sorted.get(i + PREFETCH) {
                let (number, at) = places.split(ahead);
                prefetch(loaded.blocks[number], at);
            }
            let (number, at) = places.split(sorted[i]);
            let (_, body, _) = record_at(loaded.blocks[number], at)?;
            Ok(body.len() + self.delimiter.len() as u64)
        };
        let segments = sections.segments(first, byte, sorted.len(), length)?;
        let bucket_end = loaded.position + self.output_bytes(&loaded.tally);
        for (number, segment) in segments.iter().enumerate() {
            if segment.begins {
                sections.write_prefix(segment)?;
            }
            let start = byte + self.output_bytes(&tally);
            let end = segments
                .get(number + 1)
                .map_or(bucket_end, |next| next.section.start());
            let mut out = Writer::new(self, frames.cursor(segment.section, start, end));
            self.copy_range(loaded, places, sorted, segment.records.clone(), &mut out)?;
            out.cursor.leave();
            sections.add(segment.section, &out.tally);
            tally.merge(&out.tally);
        }
        Ok(tally)
    }

    /// Copies the records of a range of the sorted index.
    fn copy_range<C: Cursor>(
        &self,
        loaded: &Loaded,
        places: PlaceBits,
        sorted: &[u64],
        range: Range<usize>,
        out: &mut Writer<C>,
    ) -> Result<()> {
        for i in range {
            if i % CHECKED == 0 {
                self.run.check()?;
            }
            if let Some(&ahead) = sorted.get(i + PREFETCH) {
                let (number, at) = places.split(ahead);
                // The first two lines; the others follow by themselves.
                prefetch(loaded.blocks[number], at);
                prefetch(loaded.blocks[number], at + 64);
            }
            let (number, at) = places.split(sorted[i]);
            let block = loaded.blocks[number];
            let (_, body, end) = record_at(block, at)?;
            match body {
                Body::Whole(record) => {
                    let start = end - record.len();
                    out.whole(record, block.len() - start)?;
                }
                Body::Long { len, hash, place } => {
                    // Its input stands at the head of its slab, which only a walk finds.
                    let input = self.input_of(block, at)?;
                    out.long(input, len, hash, place)?;
                }
            }
        }
        Ok(())
    }

    /// Accounts for records that are not wanted.
    fn pass(
        &self,
        loaded: &Loaded,
        places: PlaceBits,
        entries: &[u64],
        passed: &mut Tally,
    ) -> Result<()> {
        for &entry in entries {
            let (number, at) = places.split(entry);
            match record_at(loaded.blocks[number], at)?.1 {
                Body::Whole(record) => passed.add(record),
                Body::Long { len, hash, .. } => passed.add_hashed(len, hash),
            }
        }
        Ok(())
    }

    fn input_of(&self, block: &[u8], at: usize) -> Result<usize> {
        let mut input = None;
        for_records(block, |found, _| {
            if found.at == at {
                input = Some(found.input as usize);
            }
            Ok(())
        })?;
        input
            .filter(|&input| input < self.inputs.len())
            .ok_or_else(|| Error::Integrity("a long record lost its input".into()))
    }
}

/// One stretch's way to where it goes.
struct Writer<'g, 'a, C> {
    gather: &'g Gather<'a>,
    cursor: C,
    tally: Tally,
    /// The input that the last long record came from.
    open: Option<(usize, std::sync::Arc<std::fs::File>)>,
}

impl<'g, 'a, C: Cursor> Writer<'g, 'a, C> {
    fn new(gather: &'g Gather<'a>, cursor: C) -> Self {
        Self {
            gather,
            cursor,
            tally: Tally::default(),
            open: None,
        }
    }

    /// Writes a record that is in memory; `readable` bytes can be read from its start.
    #[inline(always)]
    fn whole(&mut self, record: &[u8], readable: usize) -> Result<()> {
        let delimiter = self.gather.delimiter;
        let room = self.cursor.room()?;
        let whole = record.len() + delimiter.len();
        if room.len() < whole {
            return self.pieces(record);
        }
        // SAFETY: `room` has at least record.len() bytes, and `readable` bytes follow the record's
        // start in its block.
        unsafe { copy(record, readable, room.as_mut_ptr(), room.len()) };
        if let &[byte] = delimiter {
            room[record.len()] = byte;
        } else {
            room[record.len()..whole].copy_from_slice(delimiter);
        }
        let hash = xxh3_128(&room[..record.len()]);
        self.tally.add_hashed(record.len() as u64, hash);
        self.cursor.advance(whole);
        self.cursor.end_record()
    }

    /// Writes a record that lies across frames.
    #[cold]
    #[inline(never)]
    fn pieces(&mut self, record: &[u8]) -> Result<()> {
        let mut pieces = Pieces::new();
        self.put(record, Some(&mut pieces))?;
        self.tally.add_hashed(pieces.len(), pieces.hash());
        self.put(self.gather.delimiter, None)?;
        self.cursor.end_record()
    }

    /// Writes bytes across frames and hashes what landed there.
    fn put(&mut self, mut bytes: &[u8], mut pieces: Option<&mut Pieces>) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.cursor.room()?;
            let n = room.len().min(bytes.len());
            if n == 0 {
                return Err(Error::Integrity(
                    "a bucket's records do not fit its output".into(),
                ));
            }
            room[..n].copy_from_slice(&bytes[..n]);
            if let Some(pieces) = &mut pieces {
                pieces.update(&room[..n]);
            }
            self.cursor.advance(n);
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Writes a long record from where it lies.
    fn long(&mut self, input: usize, len: u64, hash: u128, place: u64) -> Result<()> {
        let file = &self.gather.inputs[input];
        let regular = file.has_places();
        if regular && self.open.as_ref().is_none_or(|open| open.0 != input) {
            self.open = Some((input, file.open()?));
        }
        let mut pieces = Pieces::new();
        while pieces.len() < len {
            let room = self.cursor.room()?;
            let n = (room.len() as u64).min(len - pieces.len()) as usize;
            if n == 0 {
                return Err(Error::Integrity(
                    "a bucket's records do not fit its output".into(),
                ));
            }
            match &self.open {
                Some((_, open)) if regular => {
                    file.read_exact_at(open, &mut room[..n], place + pieces.len())?;
                }
                _ => self
                    .gather
                    .spool
                    .read_exact_at(place, pieces.len(), &mut room[..n])?,
            }
            pieces.update(&room[..n]);
            self.cursor.advance(n);
        }
        if pieces.hash() != hash {
            return Err(file.changed("changed while it was read"));
        }
        self.tally.add_hashed(len, hash);
        self.put(self.gather.delimiter, None)?;
        self.cursor.end_record()
    }
}

/// The tail of the index, as the counters of the sort.
fn words_as_counters(words: &mut [u64]) -> &mut [u32] {
    let len = words.len() * 2;
    // SAFETY: the same bytes; a u32 needs less alignment and takes any bits.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) }
}
