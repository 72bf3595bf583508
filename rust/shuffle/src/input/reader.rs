//! Reading the inputs: chunks in order, cut into whole records, by any number of workers at once.
//!
//! A worker takes the next chunk, reads it, and looks for its delimiters; all that runs beside the
//! other workers. Then it waits for its *turn*. Turns come in the order of the chunks and hand on
//! what a chunk cannot know by itself: the index of its first record, and the carry, which is the
//! bytes behind the last delimiter seen so far. The worker puts the carry in front of its chunk (the
//! buffer has room there), leaves a new carry, and goes on to scatter its whole records while the
//! next turn begins.
//!
//! Each input has turns of its own. Inputs that lie in regular files as they are have *places*: any
//! part can be read at any time, so their chunks are read side by side, one input after the other.
//! Streams and compressed inputs are *sequences*: one worker at a time reads or decodes the next
//! chunk, and as many of them as memory has room for are read side by side.
//!
//! - A single byte is looked for before the turn. A longer delimiter may overlap itself or lie
//!   across an edge, so it is looked for within the turn: one scan from left to right.
//! - A record longer than `inline_max` is not carried whole. Where it has a place it is left there
//!   and known by it; of a sequence it goes to the [`Spool`].

use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use corekit_base::sync::lock;

use crate::digest::{Pieces, Tally};
use crate::error::Result;
use crate::input::header::Header;
use crate::input::sequence::{Decoders, Sequence};
use crate::input::split::{Scan, Splitter};
use crate::input::{InputFile, Kind};
use crate::run::Run;
use crate::store::pool::ALIGN;
use crate::store::spool::Spool;

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
    lane: Arc<Lane>,
    seq: u64,
    offset: u64,
    len: usize,
    /// Bytes of the input, as it is stored, that were read for it.
    read: u64,
    last: bool,
}

/// One input that is being read: where its next chunk comes from, and its chain of turns.
struct Lane {
    input: usize,
    /// Which of the spool's lanes is its.
    spool_lane: usize,
    next: Mutex<Next>,
    chain: Mutex<Chain>,
    turned: Condvar,
}

/// What is to be read next of an input.
struct Next {
    seq: u64,
    offset: u64,
    source: Source,
}

enum Source {
    /// Any worker reads any part.
    Places(Arc<File>),
    /// One worker at a time.
    Sequence(Box<Sequence>),
    /// A sequence that was read to its end.
    Ended,
}

/// The inputs that are being read, and the number of the first that is not.
struct Lanes {
    open: Vec<Open>,
    /// The spool's lanes that no sequence has: so many more may be opened.
    spool_lanes: Vec<usize>,
    next_input: usize,
}

struct Open {
    lane: Arc<Lane>,
    /// A worker reads its next chunk right now.
    busy: bool,
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

/// What all scans over the inputs have in common.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub inputs: &'a [InputFile],
    pub splitter: &'a Splitter,
    pub header: &'a Header,
    pub spool: &'a Spool<'a>,
    pub sizes: ReaderSizes,
    pub decoders: &'a Decoders,
    /// Most inputs that are read front to back at the same time.
    pub lanes: usize,
    /// One worker at a time reads: from a disk that is as fast, and the system sees by itself what
    /// comes next. Copies out of the page cache run side by side.
    pub in_turn: bool,
    pub run: &'a Run<'a>,
}

/// One scan over all inputs.
pub(crate) struct Reader<'a> {
    cx: Reading<'a>,
    /// The bucket of the record with an input and an index; `None` when it is not kept.
    bucket: &'a (dyn Fn(u32, u64) -> Option<usize> + Sync),
    lanes: Mutex<Lanes>,
    freed: Condvar,
}

impl<'a> Reader<'a> {
    pub fn new(cx: Reading<'a>, bucket: &'a (dyn Fn(u32, u64) -> Option<usize> + Sync)) -> Self {
        Self {
            cx,
            bucket,
            lanes: Mutex::new(Lanes {
                open: Vec::new(),
                spool_lanes: (0..cx.lanes).collect(),
                next_input: 0,
            }),
            freed: Condvar::new(),
        }
    }

    /// The next chunk's records, in `buffer`; `None` when all inputs have been handed out.
    pub fn next(&self, buffer: &mut [u8]) -> Result<Option<Batch>> {
        self.cx.run.check()?;
        let headroom = self.cx.sizes.headroom(self.cx.splitter.delimiter().len());
        let Some((task, file)) = self.take(&mut buffer[headroom..][..self.cx.sizes.chunk])? else {
            return Ok(None);
        };
        let lane = &*task.lane;
        let input = &self.cx.inputs[lane.input];
        let chunk = headroom..headroom + task.len;
        if let Some(file) = file {
            input.read_exact_at(&file, &mut buffer[chunk.clone()], task.offset)?;
            if task.last {
                input.unchanged(&file)?;
            }
        }
        let scan = self
            .cx
            .splitter
            .single()
            .map(|_| self.cx.splitter.scan(&buffer[chunk.clone()]));
        let mut chain = lock(&lane.chain);
        while chain.turn != task.seq {
            chain = self.cx.run.wait(&lane.turned, chain)?;
        }
        let batch = self.turn(&mut chain, &task, buffer, chunk, scan)?;
        chain.turn += 1;
        drop(chain);
        lane.turned.notify_all();
        if task.last && !input.has_places() {
            lock(&self.lanes).spool_lanes.push(lane.spool_lane);
            self.freed.notify_all();
        }
        Ok(Some(batch))
    }

    /// Takes the next chunk of some input. A sequence is read here, into `chunk`; of a file that
    /// has places only the part is decided, and the file is returned.
    fn take(&self, chunk: &mut [u8]) -> Result<Option<(Task, Option<Arc<File>>)>> {
        let mut lanes = lock(&self.lanes);
        loop {
            self.cx.run.check()?;
            if let Some(at) = lanes.open.iter().position(|open| !open.busy) {
                let lane = Arc::clone(&lanes.open[at].lane);
                let mut next = lock(&lane.next);
                if let Source::Places(file) = &next.source {
                    let file = Arc::clone(file);
                    let task = self.take_part(&lane, &mut next, &file);
                    if task.last {
                        lanes.open.swap_remove(at);
                    }
                    if !self.cx.in_turn {
                        return Ok(Some((task, Some(file))));
                    }
                    let input = &self.cx.inputs[lane.input];
                    input.read_exact_at(&file, &mut chunk[..task.len], task.offset)?;
                    if task.last {
                        input.unchanged(&file)?;
                    }
                    return Ok(Some((task, None)));
                }
                lanes.open[at].busy = true;
                drop(lanes);
                let task = self.read_part(&lane, &mut next, chunk)?;
                drop(next);
                self.leave(&lane, task.last);
                return Ok(Some((task, None)));
            }
            let Some(input) = self.cx.inputs.get(lanes.next_input) else {
                if lanes.open.is_empty() {
                    return Ok(None);
                }
                lanes = self.cx.run.wait(&self.freed, lanes)?;
                continue;
            };
            if input.has_places() {
                let source = Source::Places(input.open()?);
                let lane = Lane::new(lanes.next_input, 0, source);
                lanes.open.push(Open { lane, busy: false });
                lanes.next_input += 1;
            } else if let Some(spool_lane) = lanes.spool_lanes.pop() {
                let number = lanes.next_input;
                lanes.next_input += 1;
                drop(lanes);
                let Reading {
                    decoders,
                    header,
                    splitter,
                    run,
                    ..
                } = self.cx;
                let sequence = Sequence::open(input, decoders, header, splitter, run)?;
                let source = Source::Sequence(Box::new(sequence));
                let lane = Lane::new(number, spool_lane, source);
                lanes = lock(&self.lanes);
                lanes.open.push(Open { lane, busy: false });
                self.freed.notify_all();
            } else {
                lanes = self.cx.run.wait(&self.freed, lanes)?;
            }
        }
    }

    /// The next part of a file that has places.
    fn take_part(&self, lane: &Arc<Lane>, next: &mut Next, file: &File) -> Task {
        let input = &self.cx.inputs[lane.input];
        let left = input.size().unwrap_or(0) - next.offset;
        let len = left.min(self.cx.sizes.chunk as u64) as usize;
        if !self.cx.in_turn {
            self.read_ahead(file, input, next.offset + len as u64);
        }
        self.task(lane, next, len, len as u64, len as u64 == left)
    }

    /// Reads the next part of a sequence.
    fn read_part(&self, lane: &Arc<Lane>, next: &mut Next, chunk: &mut [u8]) -> Result<Task> {
        let input = &self.cx.inputs[lane.input];
        let Source::Sequence(sequence) = &mut next.source else {
            unreachable!("parts of a file that has places are not read here");
        };
        let before = sequence.read();
        // A header's bytes count with the first chunk.
        let before = if next.seq == 0 { 0 } else { before };
        let len = sequence.fill(input, chunk, self.cx.run)?;
        let last = len < chunk.len();
        if last {
            input.unchanged(sequence.file())?;
        }
        let read = sequence.read() - before;
        if last && let Source::Sequence(ended) = std::mem::replace(&mut next.source, Source::Ended)
        {
            ended.end(self.cx.decoders);
        }
        Ok(self.task(lane, next, len, read, last))
    }

    fn task(&self, lane: &Arc<Lane>, next: &mut Next, len: usize, read: u64, last: bool) -> Task {
        let task = Task {
            lane: Arc::clone(lane),
            seq: next.seq,
            offset: next.offset,
            len,
            read,
            last,
        };
        next.seq += 1;
        next.offset += len as u64;
        task
    }

    /// A sequence's chunk was read: another worker may read the next one.
    fn leave(&self, lane: &Arc<Lane>, last: bool) {
        let mut lanes = lock(&self.lanes);
        if let Some(at) = lanes
            .open
            .iter()
            .position(|open| Arc::ptr_eq(&open.lane, lane))
        {
            lanes.open[at].busy = false;
            if last {
                lanes.open.swap_remove(at);
            }
        }
        self.freed.notify_all();
    }

    /// Asks the system to begin reading what comes next; advice, so a refusal does not matter.
    fn read_ahead(&self, file: &File, input: &InputFile, offset: u64) {
        /// Enough to keep a disk busy while a chunk is worked on.
        const AHEAD: u64 = 8 << 20;
        let Kind::Regular { start, size, .. } = input.kind else {
            return;
        };
        // One call for each half of the window, not for each chunk.
        let (before, now) = (offset.saturating_sub(self.cx.sizes.chunk as u64), offset);
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
        let splitter = self.cx.splitter;
        let mut start = chunk.start - chain.carry.len();
        let mut end = chunk.end;
        buffer[start..chunk.start].copy_from_slice(&chain.carry);
        chain.carry.clear();
        let mut batch = Batch {
            input: task.lane.input as u32,
            first_index: chain.index,
            bytes: start..start,
            offset: chain.carry_offset,
            long: None,
            read: task.read,
        };
        if let Some(long) = chain.long.take() {
            let Some((long, past)) = self.continue_long(chain, task, long, &buffer[start..end])?
            else {
                return Ok(batch);
            };
            start += past;
            batch.long = Some(long);
            batch.first_index = chain.index;
            batch.offset = chain.carry_offset;
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
            _ => splitter.scan(&buffer[start..end]),
        };
        let mut whole = start + scanned;
        if task.last && whole < end {
            end = self.close_last(task, buffer, whole..end)?;
            whole = end;
            records += 1;
        }
        batch.bytes = start..whole;
        chain.index += records;
        chain.carry_offset += (whole - start) as u64;

        let rest = &buffer[whole..end];
        if rest.len() > self.cx.sizes.inline_max {
            self.begin_long(chain, task, rest)?;
        } else {
            chain.carry.extend_from_slice(rest);
        }
        Ok(batch)
    }

    /// A long record goes on: up to its delimiter, if that is in `bytes`. Then it is returned, and
    /// how many bytes it and its delimiter took; else it goes on in the next turn.
    fn continue_long(
        &self,
        chain: &mut Chain,
        task: &Task,
        mut long: Long,
        bytes: &[u8],
    ) -> Result<Option<(LongRecord, usize)>> {
        let splitter = self.cx.splitter;
        let (piece, past) = match splitter.first(bytes, long.pieces.len()) {
            Some(at) => (at, Some(at + splitter.delimiter().len())),
            None if task.last => {
                self.may_end(task)?;
                (bytes.len() - splitter.unfinished(bytes), Some(bytes.len()))
            }
            None => (bytes.len().saturating_sub(splitter.begun_max()), None),
        };
        long.pieces.update(&bytes[..piece]);
        if long.spooled {
            self.cx.spool.append_serial(long.place, &bytes[..piece])?;
        }
        let Some(past) = past else {
            chain.carry.extend_from_slice(&bytes[piece..]);
            chain.carry_offset += piece as u64;
            chain.long = Some(long);
            return Ok(None);
        };
        let record = LongRecord {
            index: chain.index,
            len: long.pieces.len(),
            hash: long.pieces.hash(),
            place: long.place,
        };
        chain.index += 1;
        chain.carry_offset += past as u64;
        Ok(Some((record, past)))
    }

    /// The input's end closes its last record: only what is missing of the delimiter is added. The
    /// record lies in `last`; its new end is returned.
    fn close_last(&self, task: &Task, buffer: &mut [u8], last: Range<usize>) -> Result<usize> {
        self.may_end(task)?;
        let begun = self.cx.splitter.unfinished(&buffer[last.clone()]);
        let missing = &self.cx.splitter.delimiter()[begun..];
        let end = last.end + missing.len();
        buffer[last.end..end].copy_from_slice(missing);
        Ok(end)
    }

    /// Refuses an input that ends within a record, where records have one size.
    fn may_end(&self, task: &Task) -> Result<()> {
        match self.cx.splitter.fixed() {
            Some(record) => {
                let input = &self.cx.inputs[task.lane.input];
                Err(input.not_whole(record, task.offset + task.len as u64))
            }
            None => Ok(()),
        }
    }

    /// `rest` has no delimiter and is surely a long record's: leaves all of it but a delimiter that
    /// may have begun.
    fn begin_long(&self, chain: &mut Chain, task: &Task, rest: &[u8]) -> Result<()> {
        let (bytes, begun) = rest.split_at(rest.len() - self.cx.splitter.begun_max());
        let mut pieces = Pieces::new();
        pieces.update(bytes);
        let mut place = chain.carry_offset;
        let mut spooled = false;
        // One that is not kept is only hashed; its place is never asked for.
        let number = task.lane.input;
        if !self.cx.inputs[number].has_places()
            && let Some(bucket) = (self.bucket)(number as u32, chain.index)
        {
            let lane = task.lane.spool_lane;
            place = self.cx.spool.begin_serial(lane, bucket, bytes)?;
            spooled = true;
        }
        chain.long = Some(Long {
            pieces,
            place,
            spooled,
        });
        chain.carry.extend_from_slice(begun);
        chain.carry_offset += bytes.len() as u64;
        Ok(())
    }
}

impl Lane {
    fn new(input: usize, spool_lane: usize, source: Source) -> Arc<Self> {
        Arc::new(Self {
            input,
            spool_lane,
            next: Mutex::new(Next {
                seq: 0,
                offset: 0,
                source,
            }),
            chain: Mutex::new(Chain {
                turn: 0,
                index: 0,
                carry: Vec::new(),
                carry_offset: 0,
                long: None,
            }),
            turned: Condvar::new(),
        })
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
    use crate::input::split::reference_records;
    use crate::input::{Input, Look};
    use crate::options::{InputFormat, Records};
    use crate::store::pool::Pool;
    use crate::store::{Level, OnFull, Store};
    use corekit_base::control::Control;
    use proptest::prelude::*;

    /// All records of one input as a reader gives them: index, bytes or place.
    fn read_all(bytes: &[u8], delimiter: &[u8], chunk: usize, inline_max: usize) -> Vec<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        let splitter = Splitter::new(&Records::Delimited(delimiter.to_vec()));
        let header = Header::new(0);
        let look = Look {
            format: InputFormat::Auto,
            splitter: &splitter,
            header: &header,
        };
        let input = Input::Path(file.path().into());
        let inputs = [InputFile::look(input, 0, &look).expect("readable")];
        let control = Control::new();
        let run = Run::new(&control);
        let mut pool = Pool::new(ALIGN).expect("memory");
        let level = Level::new(0, 0, 0, OnFull::Drop).expect("memory");
        let store = Store::new(pool.carve(ALIGN), ALIGN, level).expect("memory");
        let spool = Spool::new(None, &store, 0, &run);
        let sizes = ReaderSizes { chunk, inline_max };
        let reading = Reading {
            inputs: &inputs,
            splitter: &splitter,
            header: &header,
            spool: &spool,
            sizes,
            decoders: &Decoders::new(0, None),
            lanes: 1,
            in_turn: chunk.is_multiple_of(2),
            run: &run,
        };
        let reader = Reader::new(reading, &|_, _| Some(0));
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
