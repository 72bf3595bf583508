//! Levels: the passes of a run, and what each of them leaves to the next.
//!
//! ```text
//! level(all keys):
//!   scatter the inputs into the level's buckets
//!   from the first bucket on:
//!     emit the buckets that are at hand, in memory or in scratch
//!     if the next one was dropped:    scatter the inputs again, keeping from that bucket on
//!     if the next one is too large:   level(its keys), from its blocks or from the inputs
//! ```
//!
//! What is at hand when is the plan's choice and the pool's fullness; the order in which buckets are
//! emitted is always the same.
//!
//! The two halves of a level are [`scatter`] and [`emit`]; the latter hands each bucket to
//! [`gather`], which orders its records ([`sort`]) and copies them to the output.

#![allow(unsafe_code)]

pub(crate) mod emit;
pub(crate) mod gather;
pub(crate) mod scatter;
pub(crate) mod sort;

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_128;

use corekit_base::sync::lock;

use self::emit::{Emission, Progress};
use self::gather::{Gather, Sink};
use self::scatter::{Fan, Places, Scatter};
use crate::digest::Tally;
use crate::error::{Error, Result};
use crate::input::InputFile;
use crate::input::reader::{LongRecord, Reader, Reading};
use crate::input::split::Splitter;
use crate::options::Job;
use crate::order::sample::Sample;
use crate::order::{Keys, Parts};
use crate::plan::Plan;
use crate::plan::sizes::{SCRATCH_READERS, SCRATCH_WRITERS};
use crate::report::{GATHER, SCATTER, Seconds};
use crate::run::Run;
use crate::store::block_queue::{BlockQueue, QueuedBlock};
use crate::store::pool::Part;
use crate::store::record::{Body, for_records};
use crate::store::scratch::Scratch;
use crate::store::spool::{Spool, does_not_fit};
use crate::store::{BLOCK_HEAD, Level, OnFull, Store, listed};

/// From what was read, and the counts of the parts, to the records of the order that are written.
pub(crate) type Counted<'a> = dyn Fn(&Tally, &[u64]) -> Result<Range<u64>> + Sync + 'a;

/// What all levels of a run use.
#[derive(Clone)]
pub(crate) struct Context<'a> {
    pub job: &'a Job,
    pub plan: &'a Plan,
    pub run: &'a Run<'a>,
    pub inputs: &'a [InputFile],
    pub splitter: &'a Splitter,
    pub keys: Keys<'a>,
    /// Parts of the key space whose records are counted.
    pub parts: Option<&'a Parts>,
    /// Called when all is read and nothing is written.
    pub counted: &'a Counted<'a>,
    /// The buckets that these surely or nearly surely lie in.
    pub expected: Range<usize>,
    pub store: &'a Store,
    pub spool: &'a Spool<'a>,
    pub reading: Reading<'a>,
    pub sample: Option<&'a Sample>,
    pub gather: &'a Gather<'a>,
    /// The workers' private memory.
    pub parts_of_workers: &'a [Mutex<Part>],
}

/// The run so far, all epochs together.
#[derive(Default)]
pub(crate) struct Totals {
    /// What the first scan over the inputs saw; every later one must see the same.
    pub read: Option<Tally>,
    pub input_bytes: u64,
    pub progress: Progress,
    pub seconds: Seconds,
    pub scratch_bytes: u64,
    pub passes: u32,
}

/// One epoch of the run.
pub(crate) struct Levels<'a> {
    cx: Context<'a>,
    pub totals: Totals,
    /// The epoch's first scan over the inputs is done.
    scanned: bool,
    /// Records of the parts, from that scan.
    counts: Vec<u64>,
}

/// A level's scratch file, made when the first block is written.
#[derive(Default)]
struct LazyScratch {
    made: OnceLock<Arc<Scratch>>,
    making: Mutex<()>,
}

impl LazyScratch {
    fn get(&self, dir: Option<&Path>, block: usize, job: &Job) -> Result<Arc<Scratch>> {
        let _making = lock(&self.making);
        if let Some(scratch) = self.made.get() {
            return Ok(Arc::clone(scratch));
        }
        let dir =
            dir.ok_or_else(|| Error::Integrity("a block was spilled without scratch".into()))?;
        let scratch = Arc::new(Scratch::new(dir, block, &job.tuning)?);
        Ok(Arc::clone(self.made.get_or_init(|| scratch)))
    }
}

/// Where a level's records come from.
enum Source {
    Inputs,
    /// The blocks of a bucket of the level above.
    Blocks(BlockQueue),
}

/// What the workers of one scatter pass share.
struct Pass<'p> {
    source: &'p Source,
    /// What goes into each bucket is counted.
    first: bool,
    fan: Fan,
    /// In the first scan over the inputs: its edge is found there.
    sample: Option<&'p Sample>,
    /// In the first scan over the inputs: their records are counted there.
    parts: Option<&'p Parts>,
    reader: Reader<'p>,
}

/// What a scatter pass saw.
#[derive(Default)]
struct Seen {
    tally: Tally,
    /// Read from the inputs.
    bytes: u64,
    /// Records of the parts, where these are counted.
    counts: Vec<u64>,
}

impl Seen {
    fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.bytes += other.bytes;
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
    }
}

impl<'a> Levels<'a> {
    pub fn new(cx: Context<'a>, totals: Totals) -> Self {
        Self {
            counts: vec![0; cx.parts.map_or(0, Parts::len)],
            cx,
            totals,
            scanned: false,
        }
    }

    /// Everything: the first level.
    pub fn all_keys(&mut self) -> Result<()> {
        let mut scratch = LazyScratch::default();
        let expected = self.cx.expected.clone();
        self.begin(expected.clone());
        self.scatter(&Source::Inputs, true, &scratch)?;
        let read = self.totals.read.unwrap_or_default();
        let wanted = (self.cx.counted)(&read, &self.counts)?;
        self.totals.progress.skip = wanted.start;
        self.totals.progress.left = wanted.end - wanted.start;
        let buckets = self.buckets_of(&wanted);
        if buckets.start < expected.start || buckets.end > expected.end {
            // What was expected was wrong; now it is known.
            scratch = LazyScratch::default();
            let tallies = self.cx.store.level(|level| {
                let tallies = level.buckets.iter().map(|bucket| bucket.tally);
                tallies.collect::<Vec<_>>()
            });
            let plan = self.cx.plan;
            self.cx.spool.clear();
            let level = Level::new(0, 0, plan.sizes.bits, plan.on_full)?;
            self.cx.store.restart(level);
            self.cx.store.level(|level| {
                for (bucket, tally) in level.buckets.iter_mut().zip(tallies) {
                    bucket.tally = tally;
                }
            });
            self.begin(buckets);
            self.scatter(&Source::Inputs, false, &scratch)?;
        }
        self.walk(&scratch)
    }

    /// Begins a first pass that keeps some buckets and drops the others.
    fn begin(&self, buckets: Range<usize>) {
        let end = self.cx.plan.resident_end.clamp(buckets.start, buckets.end);
        self.cx.store.level(|level| level.wanted_end = buckets.end);
        self.cx.store.begin(buckets, end);
    }

    /// The buckets that hold a range of the order's records.
    fn buckets_of(&self, records: &Range<u64>) -> Range<usize> {
        self.cx.store.level(|level| {
            let mut range = 0..0;
            let mut before = 0;
            for (number, bucket) in level.buckets.iter().enumerate() {
                let behind = before + bucket.tally.records;
                if before < records.end && behind > records.start {
                    if range.is_empty() {
                        range.start = number;
                    }
                    range.end = number + 1;
                }
                before = behind;
            }
            range
        })
    }

    /// The keys of one bucket that is too large to be emitted as it is.
    fn part_of_keys(&mut self, bucket: usize, above: &LazyScratch) -> Result<()> {
        let (prefix, prefix_bits, on_full, tally, spilled) = self.cx.store.level(|level| {
            let b = &level.buckets[bucket];
            (
                level.prefix_of(bucket),
                level.used_bits(),
                level.on_full,
                b.tally,
                b.spilled,
            )
        });
        let source = match on_full {
            OnFull::Drop => {
                self.cx.spool.clear();
                Source::Inputs
            }
            OnFull::Spill => {
                let scratch = above.made.get().map(Arc::clone);
                Source::Blocks(BlockQueue::new(
                    self.cx.store.take(bucket),
                    spilled,
                    scratch,
                ))
            }
        };
        // Parts of half a worker's share of the pool; no more open blocks than a third of what is
        // free.
        let free = self.cx.store.n_free();
        let blocks = self.blocks_of(&tally);
        let share = (self.cx.store.n_blocks() / (2 * (self.cx.parts_of_workers.len() + 2))).max(1);
        let wanted = blocks.div_ceil(share).next_power_of_two().ilog2() + 1;
        let most = (free / 3).max(2).ilog2();
        let bits = self.cx.job.tuning.bits.unwrap_or(wanted).min(most).max(1);
        if prefix_bits + bits > 60 {
            if tally.records == 1 {
                return Err(does_not_fit(self.cx.job.memory_limit));
            }
            return Err(Error::MemoryLimit(format!(
                "memory_limit is too small for {} records with one key",
                tally.records
            )));
        }
        if free < (1 << bits) + self.cx.parts_of_workers.len() {
            return Err(Error::MemoryLimit(format!(
                "memory_limit must be larger than {} bytes: no blocks are left for a part of {} \
                 records",
                self.cx.job.memory_limit, tally.records
            )));
        }
        let level = Level::new(prefix, prefix_bits, bits, on_full)?;
        let above = self.cx.store.swap_level(level);
        let scratch = LazyScratch::default();
        self.cx.store.begin(0..1 << bits, 1 << bits);
        self.scatter(&source, true, &scratch)?;
        drop(source);
        let parts = self.cx.store.level(|level| {
            level.buckets.iter().fold(Tally::default(), |mut sum, b| {
                sum.merge(&b.tally);
                sum
            })
        });
        if parts != tally {
            return Err(Error::Integrity(format!(
                "a bucket of {} records fell into parts of {}",
                tally.records, parts.records
            )));
        }
        self.walk(&scratch)?;
        self.cx.store.swap_level(above);
        Ok(())
    }

    /// Emits all buckets of the level, in order.
    fn walk(&mut self, scratch: &LazyScratch) -> Result<()> {
        let n = self.cx.store.level(|level| level.buckets.len());
        let mut next = 0;
        while next < n && self.totals.progress.left > 0 {
            if self.pass_over(next) {
                next += 1;
                continue;
            }
            let ready = self.at_hand(next);
            if !ready.is_empty() {
                next = ready.end;
                self.emit(ready, scratch)?;
                continue;
            }
            let on_full = self.cx.store.level(|level| level.on_full);
            let end = if on_full == OnFull::Drop {
                self.next_pass(next)
            } else {
                next
            };
            if end > next {
                self.cx.store.begin(next..end, end);
                self.scatter(&Source::Inputs, false, scratch)?;
                if !self.at_hand(next).is_empty() {
                    continue;
                }
            }
            self.part_of_keys(next, scratch)?;
            next += 1;
        }
        Ok(())
    }

    /// Passes over a bucket of which nothing is to be written; false when something is.
    fn pass_over(&mut self, bucket: usize) -> bool {
        let tally = self.cx.store.level(|level| level.buckets[bucket].tally);
        let progress = &mut self.totals.progress;
        if tally.records == 0 || tally.records > progress.skip {
            return false;
        }
        progress.skip -= tally.records;
        progress.record += tally.records;
        progress.position += tally.bytes + tally.records * self.cx.gather.delimiter.len() as u64;
        let (resident, _) = self.cx.store.take(bucket);
        self.cx.store.release_all(&resident);
        true
    }

    /// The longest run of buckets from `next` on that can be emitted now.
    fn at_hand(&self, next: usize) -> Range<usize> {
        let free = self.cx.store.n_free();
        self.cx.store.level(|level| {
            let mut end = next;
            match level.on_full {
                OnFull::Drop => {
                    // Those that the last pass kept; empty ones need no keeping.
                    let kept = level.keep.start..level.resident_end;
                    while end < level.buckets.len()
                        && (kept.contains(&end) || level.buckets[end].tally.records == 0)
                    {
                        end += 1;
                    }
                }
                OnFull::Spill => {
                    // Blocks that are free when a bucket's turn comes: all that earlier ones had.
                    let mut free = free;
                    while end < level.buckets.len() && level.buckets[end].spilled as usize <= free {
                        free += level.buckets[end].resident as usize;
                        end += 1;
                    }
                }
            }
            next..end
        })
    }

    /// The end of the buckets that the next pass over the inputs can keep.
    fn next_pass(&self, next: usize) -> usize {
        let n_blocks = self.cx.store.n_blocks();
        self.cx.store.level(|level| {
            let (mut used, mut end) = (self.cx.parts_of_workers.len() + 2, next);
            while let Some(bucket) = level.buckets.get(end) {
                used += self.blocks_of(&bucket.tally) + 1;
                if used > n_blocks {
                    break;
                }
                end += 1;
            }
            end
        })
    }

    /// Blocks that so many records take, about.
    fn blocks_of(&self, tally: &Tally) -> usize {
        const HEAD: u64 = 4;
        let payload = (self.cx.store.block_bytes() - BLOCK_HEAD) as u64;
        ((tally.bytes + tally.records * HEAD) * 103 / 100).div_ceil(payload) as usize
    }

    /// One scatter pass. `first` passes count what goes into each bucket.
    fn scatter(&mut self, source: &Source, first: bool, scratch: &LazyScratch) -> Result<()> {
        let start = Instant::now();
        let from_inputs = matches!(source, Source::Inputs);
        let total = self.cx.plan.input_bytes.filter(|_| from_inputs);
        self.cx.run.control.start_phase(SCATTER, total);
        if from_inputs {
            self.cx.spool.clear();
        }
        let seen = self.scatter_on_threads(source, first, scratch)?;
        if from_inputs {
            self.scanned_inputs(seen)?;
        }
        let scratch_blocks = self
            .cx
            .store
            .level(|level| std::mem::take(&mut level.scratch_blocks));
        self.totals.scratch_bytes += u64::from(scratch_blocks) * self.cx.plan.sizes.block as u64;
        self.totals.seconds.scatter += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// The threads of a scatter pass, from their start to their end.
    fn scatter_on_threads(
        &self,
        source: &Source,
        first: bool,
        scratch: &LazyScratch,
    ) -> Result<Seen> {
        let (fan, on_full) = self.cx.store.level(|level| {
            let fan = Fan {
                prefix: level.prefix,
                prefix_bits: level.prefix_bits,
                bits: level.bits,
                keep_start: level.keep.start,
            };
            (fan, level.on_full)
        });
        let sample = self.cx.sample.filter(|_| !self.scanned);
        let parts = self.cx.parts.filter(|_| !self.scanned);
        let bucket = |input, index| {
            let key = self.cx.keys.stream(input).at(index);
            let wanted = sample.is_none_or(|sample| sample.may_want(key));
            let kept =
                |&bucket: &usize| bucket >= fan.keep_start && bucket < self.cx.store.open_end();
            fan.bucket(key).filter(|_| wanted).filter(kept)
        };
        let pass = Pass {
            source,
            first,
            fan,
            sample,
            parts,
            reader: Reader::new(self.cx.reading, &bucket),
        };
        let seen = Mutex::new(Seen {
            counts: vec![0; parts.map_or(0, Parts::len)],
            ..Seen::default()
        });
        thread::scope(|scope| -> Result<()> {
            let scratch_of = || {
                let (dir, job) = (self.cx.job.scratch.as_deref(), self.cx.job);
                scratch.get(dir, self.cx.plan.sizes.block, job)
            };
            if on_full == OnFull::Spill {
                for _ in 0..SCRATCH_WRITERS {
                    let body = move || self.cx.store.write_queued(&scratch_of, self.cx.run);
                    self.cx.run.spawn(scope, "spill", body)?;
                }
            }
            let (pass, seen) = (&pass, &seen);
            let start = |part: &'a Mutex<Part>| {
                let work = move || {
                    let by_worker = self.scatter_worker(pass, lock(part).as_mut())?;
                    lock(seen).merge(&by_worker);
                    Ok(())
                };
                self.cx.run.spawn(scope, "scatter", work)
            };
            let workers: Vec<_> = self.cx.parts_of_workers.iter().map(start).collect();
            let mut spawned = Ok(());
            for worker in workers {
                match worker {
                    Ok(worker) => drop(worker.join()),
                    Err(error) => spawned = Err(error),
                }
            }
            let largest = self.cx.store.level(|level| {
                level
                    .buckets
                    .iter()
                    .map(|b| (b.spilled + b.resident) as usize)
                    .max()
            });
            self.cx
                .store
                .finish(largest.unwrap_or(0) * (self.cx.parts_of_workers.len() + 2));
            spawned
        })
        .or_else(|_| self.cx.run.outcome())?;
        self.cx.run.outcome()?;
        Ok(std::mem::take(&mut *lock(&seen)))
    }

    /// Takes note of what a pass over the inputs saw, which must be what the first one saw.
    fn scanned_inputs(&mut self, seen: Seen) -> Result<()> {
        if !self.scanned {
            self.counts = seen.counts;
        }
        self.scanned = true;
        self.totals.passes += 1;
        match self.totals.read {
            None => (self.totals.read, self.totals.input_bytes) = (Some(seen.tally), seen.bytes),
            Some(read) if read != seen.tally => return Err(self.differs(read, seen.tally)),
            Some(_) => {}
        }
        let streams = !self.cx.inputs.iter().all(InputFile::can_be_read_again);
        let dropped = self
            .cx
            .store
            .level(|level| level.on_full == OnFull::Drop && level.resident_end < level.wanted_end);
        if streams && dropped {
            return Err(does_not_fit(self.cx.job.memory_limit));
        }
        Ok(())
    }

    /// The error of a pass that saw other records than the first one.
    fn differs(&self, first: Tally, now: Tally) -> Error {
        match self.cx.inputs {
            [input] => input.changed("changed between two passes over it"),
            inputs => Error::Integrity(format!(
                "one of {} inputs changed between two passes: {} records, then {}",
                inputs.len(),
                first.records,
                now.records
            )),
        }
    }

    /// A worker's part of a pass.
    fn scatter_worker(&self, pass: &Pass, buffer: &mut [u8]) -> Result<Seen> {
        let mut scatter = Scatter::new(
            self.cx.store,
            self.cx.run,
            pass.fan,
            self.cx.plan.sizes.slab,
            pass.sample,
            pass.parts,
        )?;
        let bytes = match pass.source {
            Source::Inputs => self.scatter_inputs(pass, &mut scatter, buffer)?,
            Source::Blocks(blocks) => self.scatter_blocks(blocks, &mut scatter, buffer)?,
        };
        Ok(Seen {
            tally: scatter.finish(pass.first),
            bytes,
            counts: scatter.counts,
        })
    }

    /// A worker's part of a pass over the inputs.
    fn scatter_inputs(&self, pass: &Pass, scatter: &mut Scatter, buffer: &mut [u8]) -> Result<u64> {
        let mut bytes = 0;
        while let Some(batch) = pass.reader.next(buffer)? {
            let places = Places {
                input: &self.cx.inputs[batch.input as usize],
                spool: self.cx.spool,
                inline_max: self.cx.plan.sizes.reader.inline_max,
            };
            let before = scatter.seen.records;
            scatter.batch(&batch, buffer, &self.cx.keys, self.cx.splitter, &places)?;
            bytes += batch.read;
            self.cx.run.control.advance(batch.read);
            if let Some(sample) = pass.sample {
                let last = sample.advance(scatter.seen.records - before);
                if last < u64::MAX {
                    let bits = self.cx.plan.sizes.bits;
                    self.cx
                        .store
                        .want_only((last >> 1 >> (63 - bits)) as usize + 1);
                }
            }
        }
        Ok(bytes)
    }

    /// A worker's part of a pass over a bucket's blocks, which are none of the input's bytes.
    fn scatter_blocks(
        &self,
        queue: &BlockQueue,
        scatter: &mut Scatter,
        buffer: &mut [u8],
    ) -> Result<u64> {
        let buffer = &mut buffer[..self.cx.store.block_bytes()];
        while let Some(block) = queue.next(self.cx.run)? {
            match block {
                QueuedBlock::Resident(block) => {
                    // SAFETY: the block was taken from the store for this source alone, and the
                    // queue hands it out once.
                    self.scatter_block(scatter, unsafe { self.cx.store.view(block) })?;
                    self.cx.store.release_all(&[block]);
                }
                QueuedBlock::Spilled(number, scratch) => {
                    scratch.read(number, buffer)?;
                    queue.found(listed(buffer));
                    self.scatter_block(scatter, buffer)?;
                }
            }
        }
        Ok(0)
    }

    fn scatter_block(&self, scatter: &mut Scatter, block: &[u8]) -> Result<()> {
        for_records(block, |found, body| {
            let key = self.cx.keys.stream(found.input).at(found.index);
            match body {
                Body::Whole(record) => {
                    let hash = xxh3_128(record);
                    scatter.put(found.input, found.index, key, record.len(), hash, record)
                }
                Body::Long { len, hash, place } => {
                    let long = LongRecord {
                        index: found.index,
                        len,
                        hash,
                        place,
                    };
                    scatter.put_long(found.input, key, &long)
                }
            }
        })
    }

    /// Emits a run of buckets.
    fn emit(&mut self, buckets: Range<usize>, scratch: &LazyScratch) -> Result<()> {
        let start = Instant::now();
        let made = scratch.made.get();
        let all = self.totals.read.map(|read| {
            let delimiters = read.records * self.cx.splitter.delimiter().len() as u64;
            (read.bytes + delimiters) * u64::from(self.cx.job.epochs.unwrap_or(1))
        });
        let total = all.filter(|_| self.cx.sample.is_none());
        self.cx.run.control.start_phase(GATHER, total);
        if let Sink::Files { frames, .. } = self.cx.gather.sink {
            self.cx.run.control.advance(frames.written());
        }
        let emission = Emission::new(
            self.cx.store,
            made.map(|scratch| &**scratch),
            self.cx.gather,
            self.cx.run,
            buckets,
            self.cx.parts_of_workers.len(),
            self.totals.progress,
        );
        let this = &*self;
        thread::scope(|scope| -> Result<()> {
            let emission = &emission;
            if made.is_some() {
                for _ in 0..SCRATCH_READERS {
                    this.cx
                        .run
                        .spawn(scope, "fetch", move || emission.fetch())?;
                }
            }
            for part in this.cx.parts_of_workers {
                let body = move || emission.work(lock(part).as_mut_words());
                this.cx.run.spawn(scope, "gather", body)?;
            }
            Ok(())
        })
        .or_else(|_| self.cx.run.outcome())?;
        self.cx.run.outcome()?;
        self.totals.progress = emission.progress();
        self.totals.seconds.gather += start.elapsed().as_secs_f64();
        Ok(())
    }
}
