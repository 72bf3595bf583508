//! Reading the inputs: chunks in order, cut into whole records, by any number of workers at once.
//!
//! A worker takes the next chunk, reads it, and looks for its delimiters; all that runs beside the
//! other workers. Then it waits for its *turn*. Turns come in the order of the chunks and hand on
//! what a chunk cannot know by itself: the index of its first record, and the carry, which is the
//! bytes behind the last delimiter seen so far. The worker puts the carry in front of its chunk (the
//! buffer has room there), leaves a new carry, and goes on to scatter its whole records while the
//! next turn begins.
//!
//! - A single byte is looked for before the turn. A longer delimiter may overlap itself or lie
//!   across an edge, so it is looked for within the turn: one scan from left to right.
//! - A record longer than `inline_max` is not carried whole. In a regular file it is left where it
//!   lies and known by its place; of a stream it goes to the [`Spool`].

use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use crate::digest::{Pieces, Tally};
use crate::error::Result;
use crate::input::{InputFile, Kind};
use crate::pool::ALIGN;
use crate::run::{Run, lock};
use crate::split::{Scan, Splitter};
use crate::spool::Spool;

/// Bytes that may be read behind the last record of a batch: copies go in whole vectors.
pub(crate) const SLACK: usize = 64;

/// Sizes of a reader's buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReaderSizes {
    /// Bytes of a chunk.
    pub chunk: usize,
    /// The longest record that is carried and scattered whole.
    pub inline_max: usize,
}

impl ReaderSizes {
    /// Bytes of a worker's buffer: carry, chunk, a delimiter added at the end, slack.
    pub fn buffer(&self, delimiter: usize) -> usize {
        self.headroom(delimiter) + self.chunk + delimiter + SLACK
    }

    /// The longest carry: a record that may still be whole, and a delimiter begun. Chunks begin at
    /// a page: the system's copy into a buffer that does not takes four times as long.
    fn headroom(&self, delimiter: usize) -> usize {
        (self.inline_max + delimiter).next_multiple_of(ALIGN)
    }
}

/// Whole records of one input, and perhaps a long one before them.
#[derive(Debug)]
pub(crate) struct Batch {
    pub input: u32,
    /// Index of the first record in `bytes`.
    pub first_index: u64,
    /// Where the records lie in the worker's buffer; each ends with its delimiter.
    pub bytes: Range<usize>,
    /// Where the first of them lies in the input.
    pub offset: u64,
    /// A long record that ended in this chunk; it comes before `bytes`.
    pub long: Option<LongRecord>,
    /// Bytes read for this batch.
    pub read: u64,
}

/// A record that is known by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LongRecord {
    pub index: u64,
    pub len: u64,
    pub hash: u128,
    /// Offset in the input, or in the spool.
    pub place: u64,
}

/// The chunk that a worker took.
struct Task {
    seq: u64,
    input: usize,
    offset: u64,
    len: usize,
    last: bool,
    file: Arc<File>,
}

/// What is to be read next.
struct Next {
    seq: u64,
    input: usize,
    offset: u64,
    file: Option<Arc<File>>,
}

/// What one turn hands to the next.
struct Chain {
    turn: u64,
    index: u64,
    carry: Vec<u8>,
    /// Where the carry lies in the input.
    carry_offset: u64,
    long: Option<Long>,
}

/// A long record whose end was not yet seen.
struct Long {
    pieces: Pieces,
    place: u64,
    spooled: bool,
}

/// One scan over all inputs.
pub(crate) struct Reader<'a> {
    inputs: &'a [InputFile],
    splitter: &'a Splitter,
    spool: &'a Spool<'a>,
    sizes: ReaderSizes,
    /// Whether the record with an input and an index may be written.
    wanted: &'a (dyn Fn(u32, u64) -> bool + Sync),
    run: &'a Run<'a>,
    next: Mutex<Next>,
    chain: Mutex<Chain>,
    turned: Condvar,
}

impl<'a> Reader<'a> {
    pub fn new(
        inputs: &'a [InputFile],
        splitter: &'a Splitter,
        spool: &'a Spool<'a>,
        sizes: ReaderSizes,
        wanted: &'a (dyn Fn(u32, u64) -> bool + Sync),
        run: &'a Run<'a>,
    ) -> Self {
        Self {
            inputs,
            splitter,
            spool,
            sizes,
            wanted,
            run,
            next: Mutex::new(Next {
                seq: 0,
                input: 0,
                offset: 0,
                file: None,
            }),
            chain: Mutex::new(Chain {
                turn: 0,
                index: 0,
                carry: Vec::new(),
                carry_offset: 0,
                long: None,
            }),
            turned: Condvar::new(),
        }
    }

    /// The next chunk's records, in `buffer`; `None` when all inputs have been handed out.
    pub fn next(&self, buffer: &mut [u8]) -> Result<Option<Batch>> {
        self.run.check()?;
        let headroom = self.sizes.headroom(self.splitter.delimiter().len());
        let Some(task) = self.take(&mut buffer[headroom..][..self.sizes.chunk])? else {
            return Ok(None);
        };
        let input = &self.inputs[task.input];
        let chunk = headroom..headroom + task.len;
        if let Kind::Regular { .. } = input.kind {
            input.read_exact_at(&task.file, &mut buffer[chunk.clone()], task.offset)?;
        }
        if task.last {
            input.unchanged(&task.file)?;
        }
        let scan = self
            .splitter
            .single()
            .map(|_| self.splitter.scan(&buffer[chunk.clone()]));
        let mut chain = lock(&self.chain);
        while chain.turn != task.seq {
            chain = self.run.wait(&self.turned, chain)?;
        }
        let batch = self.turn(&mut chain, &task, buffer, chunk, scan)?;
        chain.turn += 1;
        drop(chain);
        self.turned.notify_all();
        Ok(Some(batch))
    }

    /// Takes the next chunk; a stream is read here, into `chunk`, for it has only one reader.
    fn take(&self, chunk: &mut [u8]) -> Result<Option<Task>> {
        let mut next = lock(&self.next);
        self.run.check()?;
        let Some(input) = self.inputs.get(next.input) else {
            return Ok(None);
        };
        let file = match next.file.take() {
            Some(file) => file,
            None => input.open()?,
        };
        let (len, last) = match input.kind {
            Kind::Regular { size, .. } => {
                let left = size - next.offset;
                let len = left.min(self.sizes.chunk as u64) as usize;
                self.read_ahead(&file, input, next.offset + len as u64);
                (len, len as u64 == left)
            }
            Kind::Stream => {
                let len = input.read_stream(&file, chunk, self.run)?;
                (len, len < chunk.len())
            }
        };
        let task = Task {
            seq: next.seq,
            input: next.input,
            offset: next.offset,
            len,
            last,
            file: Arc::clone(&file),
        };
        next.seq += 1;
        if last {
            next.input += 1;
            next.offset = 0;
        } else {
            next.offset += len as u64;
            next.file = Some(file);
        }
        Ok(Some(task))
    }

    /// Asks the system to begin reading what comes next; advice, so a refusal does not matter.
    fn read_ahead(&self, file: &File, input: &InputFile, offset: u64) {
        /// Enough to keep a disk busy while a chunk is worked on.
        const AHEAD: u64 = 8 << 20;
        let Kind::Regular { start, size, .. } = input.kind else {
            return;
        };
        // One call for each half of the window, not for each chunk.
        let (before, now) = (offset.saturating_sub(self.sizes.chunk as u64), offset);
        if size > AHEAD && (before == 0 || before / (AHEAD / 2) != now / (AHEAD / 2)) {
            let _ = rustix::fs::fadvise(
                file,
                start + now,
                std::num::NonZero::new(AHEAD.min(size.saturating_sub(now))),
                rustix::fs::Advice::WillNeed,
            );
        }
    }

    /// One turn: takes the carry, decides which records are whole, leaves the new carry.
    fn turn(
        &self,
        chain: &mut Chain,
        task: &Task,
        buffer: &mut [u8],
        chunk: Range<usize>,
        scan: Option<Scan>,
    ) -> Result<Batch> {
        let input = &self.inputs[task.input];
        let stream = input.kind == Kind::Stream;
        if task.offset == 0 {
            chain.index = 0;
            chain.carry_offset = 0;
        }
        let mut start = chunk.start - chain.carry.len();
        buffer[start..chunk.start].copy_from_slice(&chain.carry);
        let mut end = chunk.end;
        let mut batch = Batch {
            input: task.input as u32,
            first_index: chain.index,
            bytes: start..start,
            offset: chain.carry_offset,
            long: None,
            read: task.len as u64,
        };
        chain.carry.clear();

        // A long record goes on: up to its delimiter, if that is here.
        if let Some(mut long) = chain.long.take() {
            let found = self.splitter.first(&buffer[start..end]);
            let (piece, ended) = match found {
                Some(at) => (at, true),
                None if task.last => (
                    end - start - self.splitter.unfinished(&buffer[start..end]),
                    true,
                ),
                None => (
                    (end - start).saturating_sub(self.splitter.delimiter().len() - 1),
                    false,
                ),
            };
            let bytes = &buffer[start..start + piece];
            long.pieces.update(bytes);
            if long.spooled {
                self.spool.append_serial(long.place, bytes)?;
            }
            chain.carry_offset += piece as u64;
            start += piece;
            if !ended {
                chain.carry.extend_from_slice(&buffer[start..end]);
                chain.long = Some(long);
                return Ok(batch);
            }
            batch.long = Some(LongRecord {
                index: chain.index,
                len: long.pieces.len(),
                hash: long.pieces.hash(),
                place: long.place,
            });
            chain.index += 1;
            let past = if found.is_some() {
                self.splitter.delimiter().len()
            } else {
                end - start
            };
            start += past;
            chain.carry_offset += past as u64;
            batch.first_index = chain.index;
            batch.offset = chain.carry_offset;
            batch.bytes = start..start;
        }

        // Whole records: all up to the last delimiter. The early scan covered the chunk alone,
        // which for a single byte is the same unless part of the chunk went to a long record.
        let Scan {
            mut records,
            end: scanned,
        } = match scan {
            Some(scan) if batch.long.is_none() => Scan {
                records: scan.records,
                end: if scan.records > 0 {
                    scan.end + (chunk.start - start)
                } else {
                    0
                },
            },
            _ => self.splitter.scan(&buffer[start..end]),
        };
        let mut whole = start + scanned;
        if task.last && whole < end {
            // The input's end closes its last record; only what is missing is added.
            let delimiter = self.splitter.delimiter();
            let begun = self.splitter.unfinished(&buffer[whole..end]);
            buffer[end..end + delimiter.len() - begun].copy_from_slice(&delimiter[begun..]);
            end += delimiter.len() - begun;
            whole = end;
            records += 1;
        }
        batch.bytes = start..whole;
        chain.index += records;
        chain.carry_offset += (whole - start) as u64;

        let rest = &buffer[whole..end];
        if rest.len() > self.sizes.inline_max {
            // Surely long: leave all but a delimiter that may have begun.
            let keep = self.splitter.delimiter().len() - 1;
            let (bytes, begun) = rest.split_at(rest.len() - keep);
            let mut pieces = Pieces::new();
            pieces.update(bytes);
            // One that no sample wants is only hashed; its place is never asked for.
            let spooled = stream && (self.wanted)(batch.input, chain.index);
            let place = if spooled {
                self.spool.begin_serial(bytes)?
            } else {
                chain.carry_offset
            };
            chain.long = Some(Long {
                pieces,
                place,
                spooled,
            });
            chain.carry.extend_from_slice(begun);
            chain.carry_offset += bytes.len() as u64;
        } else {
            chain.carry.extend_from_slice(rest);
        }
        Ok(batch)
    }
}

impl LongRecord {
    /// A long record that lay whole in a worker's buffer.
    pub fn whole(index: u64, record: &[u8], hash: u128, place: u64) -> Self {
        Self {
            index,
            len: record.len() as u64,
            hash,
            place,
        }
    }

    pub fn tally(&self) -> Tally {
        Tally {
            records: 1,
            bytes: self.len,
            digest: self.hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Input;
    use crate::pool::Pool;
    use crate::split::reference_records;
    use crate::store::{Level, OnFull, Store};
    use corekit_base::control::Control;
    use proptest::prelude::*;

    /// All records of one input as a reader gives them: index, bytes or place.
    fn read_all(bytes: &[u8], delimiter: &[u8], chunk: usize, inline_max: usize) -> Vec<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        let inputs = [InputFile::look(Input::Path(file.path().into())).expect("readable")];
        let control = Control::new();
        let run = Run::new(&control);
        let mut pool = Pool::new(ALIGN).expect("memory");
        let level = Level::new(0, 0, 0, OnFull::Drop).expect("memory");
        let store = Store::new(pool.carve(ALIGN), ALIGN, level).expect("memory");
        let spool = Spool::new(None, &store, 0, &run);
        let splitter = Splitter::new(delimiter);
        let sizes = ReaderSizes { chunk, inline_max };
        let reader = Reader::new(&inputs, &splitter, &spool, sizes, &|_, _| true, &run);
        let mut buffer = vec![0; sizes.buffer(delimiter.len())];
        let mut records: Vec<Vec<u8>> = Vec::new();
        while let Some(batch) = reader.next(&mut buffer).expect("read") {
            if let Some(long) = batch.long {
                assert_eq!(long.index, records.len() as u64);
                let from = long.place as usize;
                let record = &bytes[from..from + long.len as usize];
                assert_eq!(long.hash, xxhash_rust::xxh3::xxh3_128(record));
                records.push(record.to_vec());
            }
            assert_eq!(batch.first_index, records.len() as u64);
            let whole = &buffer[batch.bytes.clone()];
            assert!(whole.is_empty() || whole.ends_with(delimiter));
            // What was added at the end of the input is not in it.
            let same = whole.len().min(bytes.len() - batch.offset as usize);
            assert_eq!(&bytes[batch.offset as usize..][..same], &whole[..same]);
            records.extend(reference_records(whole, delimiter));
        }
        records
    }

    #[test]
    fn a_record_may_be_longer_than_many_chunks() {
        let bytes = [b"a\n".to_vec(), vec![b'x'; 1000], b"\nb\n\n".to_vec()].concat();
        for chunk in [1, 2, 3, 7, 64, 2000] {
            let records = read_all(&bytes, b"\n", chunk, 8);
            assert_eq!(records, reference_records(&bytes, b"\n"), "chunk {chunk}");
        }
    }

    proptest! {
        #[test]
        fn chunks_never_change_the_records(
            bytes in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), any::<u8>()], 0..400),
            delimiter in prop_oneof![
                Just(b"a".to_vec()), Just(b"aa".to_vec()), Just(b"aba".to_vec()), Just(b"ab".to_vec()),
                Just(b"abab".to_vec()),
            ],
            chunk in 1usize..100,
            inline_max in 8usize..60,
        ) {
            let records = read_all(&bytes, &delimiter, chunk, inline_max);
            prop_assert_eq!(records, reference_records(&bytes, &delimiter));
        }
    }
}
