//! The engine: one run from its inputs to its destination.
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

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use corekit_base::control::Control;
use corekit_base::threads;
use xxhash_rust::xxh3::xxh3_128;

use crate::destination::{Destination, parent};
use crate::digest::Tally;
use crate::emit::{Emission, Progress};
use crate::error::{At, Error, Result};
use crate::frames::Frames;
use crate::gather::Gather;
use crate::input::InputFile;
use crate::options::{Job, Output};
use crate::order::{ALGORITHM, Keys};
use crate::plan::{
    FRAME_WRITERS, Plan, SCRATCH_READERS, SCRATCH_WRITERS, Sizes, Survey, check_space,
};
use crate::pool::{Part, Pool};
use crate::reader::{LongRecord, Reader};
use crate::record::{Body, for_records};
use crate::run::{Run, lock};
use crate::sample::Sample;
use crate::scatter::{Fan, Places, Scatter};
use crate::scratch::Scratch;
use crate::split::Splitter;
use crate::spool::Spool;
use crate::store::{BLOCK_HEAD, Level, OnFull, Store, listed};

/// The phases of a run, in the numbers that progress uses.
pub const PHASES: [&str; 3] = ["scatter", "gather", "publish"];
const SCATTER: u8 = 0;
const GATHER: u8 = 1;
const PUBLISH: u8 = 2;

/// The longest delimiter.
const DELIMITER_MAX: usize = 1024;

/// Seconds that each phase took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seconds {
    /// Reading, splitting, scattering.
    pub scatter: f64,
    /// Sorting, gathering, writing.
    pub gather: f64,
    /// Flushing and renaming.
    pub publish: f64,
}

/// What a run did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Records read.
    pub read: Tally,
    /// Records written: the same, unless a sample was asked for.
    pub written: Tally,
    /// Bytes of output, delimiters counted.
    pub output_bytes: u64,
    /// Bytes of input.
    pub input_bytes: u64,
    /// The version of the order's formula.
    pub algorithm: u32,
    /// The plan that was followed.
    pub plan: Plan,
    /// Time by phase.
    pub seconds: Seconds,
    /// Most memory that the run held, in bytes: the pool's touched pages and what is beside it.
    pub peak_memory: u64,
    /// Bytes written to scratch.
    pub scratch_bytes: u64,
    /// Passes over the inputs.
    pub passes: u32,
}

/// The plan for a job, which is not run; nothing is consumed or created.
///
/// # Errors
/// Those of [`shuffle`] that can be known beforehand.
pub fn plan(job: &Job) -> Result<Plan> {
    let splitter = check(job)?;
    let inputs = look(job)?;
    Plan::make(job, &inputs, &Survey::of(&inputs, &splitter)?)
}

/// Shuffles the records of the job's inputs into its output.
///
/// # Errors
/// [`Error`], one variant for each thing that a caller can do about it. On an error the destination
/// is untouched; a stream ends early.
pub fn shuffle(job: &Job, control: &Control) -> Result<Report> {
    let splitter = check(job)?;
    let inputs = look(job)?;
    let plan = Plan::make(job, &inputs, &Survey::of(&inputs, &splitter)?)?;
    let run = Run::new(control);
    let output_dir = match &job.output {
        Output::Path(path) => Some(parent(path).to_owned()),
        Output::Open(..) => None,
    };
    let destination = Destination::open(&job.output, &job.tuning, &run)?;
    let output_dir = output_dir.filter(|_| !destination.is_stream());
    check_space(&plan, job.scratch.as_deref(), output_dir.as_deref())?;

    let Sizes {
        workers,
        part,
        frame,
        frames,
        block,
        n_blocks,
        ..
    } = plan.sizes;
    let mut pool = Pool::new(plan.sizes.pool())?;
    let parts: Vec<Mutex<Part>> = (0..workers).map(|_| Mutex::new(pool.carve(part))).collect();
    let frames = Frames::new(pool.carve(frames * frame), frame, &run, &destination);
    let first = Level::new(0, 0, plan.sizes.bits, plan.on_full)?;
    let store = Store::new(pool.carve(n_blocks * block), block, first)?;
    let spool = Spool::new(job.scratch.clone(), &run);
    let keys = Keys::new(job.seed, job.epoch, job.tuning.key_mask.unwrap_or(u64::MAX));
    let skips = plan.on_full == OnFull::Spill || inputs.iter().any(|i| i.size().is_none());
    let sample = job.sample.map(|n| Sample::new(n, skips)).transpose()?;
    let gather = Gather {
        keys,
        delimiter: splitter.delimiter(),
        inputs: &inputs,
        spool: &spool,
        frames: &frames,
    };
    let mut engine = Engine {
        job,
        plan: &plan,
        run: &run,
        inputs: &inputs,
        splitter: &splitter,
        keys,
        store: &store,
        spool: &spool,
        sample: sample.as_ref(),
        gather: &gather,
        destination: &destination,
        parts: &parts,
        read: None,
        input_bytes: 0,
        progress: Progress {
            position: 0,
            left: job.sample.unwrap_or(u64::MAX),
            written: Tally::default(),
        },
        reserved: false,
        seconds: Seconds::default(),
        scratch_bytes: 0,
        passes: 0,
    };
    let outcome = thread::scope(|scope| -> Result<Instant> {
        let n_writers = if destination.is_stream() {
            1
        } else {
            FRAME_WRITERS
        };
        for _ in 0..n_writers {
            threads::spawn(scope, "write", || run.guard(|| frames.write()))
                .at("a thread".as_ref())
                .inspect_err(|_| run.fail(Error::Cancelled))?;
        }
        match engine.all_keys() {
            Ok(()) => frames.finish(engine.progress.position),
            Err(error) => run.fail(error),
        }
        Ok(Instant::now())
    });
    engine.seconds.gather += outcome?.elapsed().as_secs_f64();
    run.outcome()?;
    let Engine {
        progress,
        read,
        seconds,
        input_bytes,
        scratch_bytes,
        passes,
        ..
    } = engine;
    let read = read.unwrap_or_default();
    let expected = job.sample.unwrap_or(u64::MAX).min(read.records);
    if progress.written.records != expected
        || (expected == read.records && progress.written != read)
    {
        return Err(Error::Integrity(format!(
            "{} records were read and {} of {expected} written",
            read.records, progress.written.records
        )));
    }
    let mut report = Report {
        read,
        written: progress.written,
        output_bytes: progress.position,
        input_bytes,
        algorithm: ALGORITHM,
        peak_memory: plan.sizes.fixed
            + (plan.sizes.pool() - n_blocks * block) as u64
            + store.touched(),
        plan: plan.clone(),
        seconds,
        scratch_bytes: scratch_bytes + spool.bytes(),
        passes,
    };
    control.start_phase(PUBLISH, None);
    let start = Instant::now();
    destination.publish(progress.position, &run)?;
    report.seconds.publish = start.elapsed().as_secs_f64();
    Ok(report)
}

fn check(job: &Job) -> Result<Splitter> {
    let refuse = |message: String| Err(Error::InvalidArgument(message));
    if job.inputs.is_empty() {
        return refuse("inputs must name at least one input, got none".into());
    }
    if u32::try_from(job.inputs.len()).is_err() {
        return refuse(format!(
            "inputs must be fewer than 2^32, got {}",
            job.inputs.len()
        ));
    }
    match job.delimiter.len() {
        1..=DELIMITER_MAX => {}
        len => {
            return refuse(format!(
                "delimiter must have 1 to {DELIMITER_MAX} bytes, got {len}"
            ));
        }
    }
    if job.threads == 0 {
        return refuse("threads must be at least 1, got 0".into());
    }
    Ok(Splitter::new(&job.delimiter))
}

fn look(job: &Job) -> Result<Vec<InputFile>> {
    job.inputs.iter().cloned().map(InputFile::look).collect()
}

struct Engine<'a> {
    job: &'a Job,
    plan: &'a Plan,
    run: &'a Run<'a>,
    inputs: &'a [InputFile],
    splitter: &'a Splitter,
    keys: Keys,
    store: &'a Store,
    spool: &'a Spool<'a>,
    sample: Option<&'a Sample>,
    gather: &'a Gather<'a>,
    destination: &'a Destination,
    parts: &'a [Mutex<Part>],
    /// What the first scan over the inputs saw; every later one must see the same.
    read: Option<Tally>,
    input_bytes: u64,
    progress: Progress,
    reserved: bool,
    seconds: Seconds,
    scratch_bytes: u64,
    passes: u32,
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
    /// The blocks of a bucket of the level above: in memory, and in its scratch.
    Blocks {
        resident: Vec<u32>,
        numbers: Vec<u32>,
        spilled: u32,
        scratch: Option<Arc<Scratch>>,
    },
}

impl Engine<'_> {
    /// Everything: the first level.
    fn all_keys(&mut self) -> Result<()> {
        let scratch = LazyScratch::default();
        let n = 1usize << self.plan.sizes.bits;
        self.store.begin(0..n, self.plan.resident_end);
        self.scatter(&Source::Inputs, true, &scratch)?;
        self.walk(&scratch)
    }

    /// The keys of one bucket that is too large to be emitted as it is.
    fn part_of_keys(&mut self, bucket: usize, above: &LazyScratch) -> Result<()> {
        let (prefix, prefix_bits, on_full, tally, spilled) = self.store.level(|level| {
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
            OnFull::Drop => Source::Inputs,
            OnFull::Spill => {
                let (resident, numbers) = self.store.take(bucket);
                let scratch = above.made.get().map(Arc::clone);
                Source::Blocks {
                    resident,
                    numbers,
                    spilled,
                    scratch,
                }
            }
        };
        // Parts of half a worker's share of the pool; no more open blocks than a third of what is
        // free.
        let free = self.store.n_free();
        let blocks = self.blocks_of(&tally);
        let share = (self.store.n_blocks() / (2 * (self.parts.len() + 2))).max(1);
        let wanted = blocks.div_ceil(share).next_power_of_two().ilog2() + 1;
        let most = (free / 3).max(2).ilog2();
        let bits = self.job.tuning.bits.unwrap_or(wanted).min(most).max(1);
        if prefix_bits + bits > 60 {
            return Err(Error::MemoryLimit(format!(
                "memory_limit is too small for {} records with one key",
                tally.records
            )));
        }
        if free < (1 << bits) + self.parts.len() {
            return Err(Error::MemoryLimit(format!(
                "memory_limit must be larger than {} bytes: no blocks are left for a part of {} \
                 records",
                self.job.memory_limit, tally.records
            )));
        }
        let level = Level::new(prefix, prefix_bits, bits, on_full)?;
        let above = self.store.swap_level(level);
        let scratch = LazyScratch::default();
        self.store.begin(0..1 << bits, 1 << bits);
        self.scatter(&source, true, &scratch)?;
        drop(source);
        let parts = self.store.level(|level| {
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
        self.store.swap_level(above);
        Ok(())
    }

    /// Emits all buckets of the level, in order.
    fn walk(&mut self, scratch: &LazyScratch) -> Result<()> {
        if !self.reserved {
            // The first level is scattered: what will be written is known.
            self.reserved = true;
            let read = self.read.unwrap_or_default();
            if self.job.sample.is_none_or(|n| n >= read.records) {
                let delimiters = read.records * self.splitter.delimiter().len() as u64;
                self.destination.reserve(read.bytes + delimiters)?;
            }
        }
        let n = self.store.level(|level| level.buckets.len());
        let mut next = 0;
        while next < n && self.progress.left > 0 {
            let ready = self.at_hand(next);
            if !ready.is_empty() {
                next = ready.end;
                self.emit(ready, scratch)?;
                continue;
            }
            let on_full = self.store.level(|level| level.on_full);
            let end = if on_full == OnFull::Drop {
                self.next_pass(next)
            } else {
                next
            };
            if end > next {
                self.store.begin(next..end, end);
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

    /// The longest run of buckets from `next` on that can be emitted now.
    fn at_hand(&self, next: usize) -> Range<usize> {
        let free = self.store.n_free();
        self.store.level(|level| {
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
        let n_blocks = self.store.n_blocks();
        self.store.level(|level| {
            let (mut used, mut end) = (self.parts.len() + 2, next);
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
        let payload = (self.store.block_bytes() - BLOCK_HEAD) as u64;
        ((tally.bytes + tally.records * HEAD) * 103 / 100).div_ceil(payload) as usize
    }

    /// One scatter pass. `first` passes count what goes into each bucket.
    fn scatter(&mut self, source: &Source, first: bool, scratch: &LazyScratch) -> Result<()> {
        let start = Instant::now();
        let (fan, on_full) = self.store.level(|level| {
            let fan = Fan {
                prefix: level.prefix,
                prefix_bits: level.prefix_bits,
                bits: level.bits,
                keep_start: level.keep.start,
            };
            (fan, level.on_full)
        });
        let from_inputs = matches!(source, Source::Inputs);
        // The edge of a sample is found in the first scan over the inputs.
        let sample = self.sample.filter(|_| self.read.is_none());
        let sizes = &self.plan.sizes;
        let reader = Reader::new(
            self.inputs,
            self.splitter,
            self.spool,
            sizes.reader,
            self.run,
        );
        let blocks = BlockQueue::new(source);
        self.run.control.start_phase(
            SCATTER,
            if from_inputs {
                self.plan.input_bytes
            } else {
                None
            },
        );
        let seen = Mutex::new((Tally::default(), 0u64));
        let this = &*self;
        thread::scope(|scope| -> Result<()> {
            let scratch_of = || scratch.get(this.job.scratch.as_deref(), sizes.block, this.job);
            if on_full == OnFull::Spill {
                for _ in 0..SCRATCH_WRITERS {
                    let body = move || {
                        this.run
                            .guard(|| this.store.write_queued(&scratch_of, this.run));
                    };
                    threads::spawn(scope, "spill", body).at("a thread".as_ref())?;
                }
            }
            let (reader, blocks, seen) = (&reader, &blocks, &seen);
            let workers: Vec<_> = this
                .parts
                .iter()
                .map(|part| {
                    let work = move || {
                        this.run.guard(|| {
                            let mut part = lock(part);
                            let scatter =
                                Scatter::new(this.store, this.run, fan, sizes.slab, sample)?;
                            let (tally, bytes) = if from_inputs {
                                this.scatter_inputs(reader, scatter, part.as_mut(), first, sample)?
                            } else {
                                (this.scatter_blocks(blocks, scatter, part.as_mut())?, 0)
                            };
                            let mut seen = lock(seen);
                            seen.0.merge(&tally);
                            seen.1 += bytes;
                            Ok(())
                        });
                    };
                    threads::spawn(scope, "scatter", work).at("a thread".as_ref())
                })
                .collect();
            let mut spawned = Ok(());
            for worker in workers {
                match worker {
                    Ok(worker) => drop(worker.join()),
                    Err(error) => spawned = Err(error),
                }
            }
            let largest = this.store.level(|level| {
                level
                    .buckets
                    .iter()
                    .map(|b| (b.spilled + b.resident) as usize)
                    .max()
            });
            this.store
                .finish(largest.unwrap_or(0) * (this.parts.len() + 2));
            spawned
        })
        .inspect_err(|_| self.run.fail(Error::Cancelled))?;
        self.run.outcome()?;
        let (seen, bytes) = *lock(&seen);
        if from_inputs {
            self.passes += 1;
            match self.read {
                None => (self.read, self.input_bytes) = (Some(seen), bytes),
                Some(read) if read != seen => {
                    return Err(self.inputs[0].changed("an input changed between two passes"));
                }
                Some(_) => {}
            }
            let streams = self.inputs.iter().any(|input| input.size().is_none());
            let evicted = self
                .store
                .level(|level| level.resident_end < level.wanted_end);
            if on_full == OnFull::Drop && streams && evicted {
                return Err(Error::MemoryLimit(format!(
                    "memory_limit of {} bytes does not hold the input, which cannot be read again: \
                     allow scratch on a disk, or give a larger memory_limit",
                    self.job.memory_limit
                )));
            }
        }
        let scratch_blocks = self
            .store
            .level(|level| std::mem::take(&mut level.scratch_blocks));
        self.scratch_bytes += u64::from(scratch_blocks) * sizes.block as u64;
        self.seconds.scatter += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// A worker's part of a pass over the inputs.
    fn scatter_inputs(
        &self,
        reader: &Reader,
        mut scatter: Scatter,
        buffer: &mut [u8],
        first: bool,
        sample: Option<&Sample>,
    ) -> Result<(Tally, u64)> {
        let mut bytes = 0;
        while let Some(batch) = reader.next(buffer)? {
            let places = Places {
                input: &self.inputs[batch.input as usize],
                spool: self.spool,
                inline_max: self.plan.sizes.reader.inline_max,
            };
            let before = scatter.seen.records;
            scatter.batch(&batch, buffer, &self.keys, self.splitter, &places)?;
            bytes += batch.read;
            self.run.control.advance(batch.read);
            if let Some(sample) = sample {
                let last = sample.advance(scatter.seen.records - before);
                if last < u64::MAX {
                    let bits = self.plan.sizes.bits;
                    self.store
                        .want_only((last >> 1 >> (63 - bits)) as usize + 1);
                }
            }
        }
        Ok((scatter.finish(first), bytes))
    }

    /// A worker's part of a pass over a bucket's blocks.
    fn scatter_blocks(
        &self,
        queue: &BlockQueue,
        mut scatter: Scatter,
        buffer: &mut [u8],
    ) -> Result<Tally> {
        let buffer = &mut buffer[..self.store.block_bytes()];
        while let Some(block) = queue.next(self.run)? {
            match block {
                QueuedBlock::Resident(block) => {
                    // SAFETY: the block was taken from the store for this source alone, and the
                    // queue hands it out once.
                    self.scatter_block(&mut scatter, unsafe { self.store.view(block) })?;
                    self.store.release_all(&[block]);
                }
                QueuedBlock::Spilled(number, scratch) => {
                    scratch.read(number, buffer)?;
                    queue.found(listed(buffer));
                    self.scatter_block(&mut scatter, buffer)?;
                }
            }
        }
        Ok(scatter.finish(true))
    }

    fn scatter_block(&self, scatter: &mut Scatter, block: &[u8]) -> Result<()> {
        for_records(block, |found, body| {
            let key = self.keys.stream(found.input).at(found.index);
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
        let total = self
            .read
            .map(|read| read.bytes + read.records * self.splitter.delimiter().len() as u64);
        self.run
            .control
            .start_phase(GATHER, total.filter(|_| self.job.sample.is_none()));
        self.run.control.advance(self.progress.position);
        let emission = Emission::new(
            self.store,
            made.map(|scratch| &**scratch),
            self.gather,
            self.run,
            buckets,
            self.parts.len(),
            self.progress,
        );
        let this = &*self;
        thread::scope(|scope| -> Result<()> {
            let emission = &emission;
            if made.is_some() {
                for _ in 0..SCRATCH_READERS {
                    let body = move || this.run.guard(|| emission.fetch());
                    threads::spawn(scope, "fetch", body).at("a thread".as_ref())?;
                }
            }
            for part in this.parts {
                let body = move || {
                    this.run.guard(|| emission.work(lock(part).as_mut_words()));
                };
                threads::spawn(scope, "gather", body).at("a thread".as_ref())?;
            }
            Ok(())
        })
        .inspect_err(|_| self.run.fail(Error::Cancelled))?;
        self.run.outcome()?;
        self.progress = emission.progress();
        self.seconds.gather += start.elapsed().as_secs_f64();
        Ok(())
    }
}

/// The blocks of a bucket that is scattered again, for several workers.
struct BlockQueue {
    state: Mutex<BlockQueueState>,
    found: Condvar,
    scratch: Option<Arc<Scratch>>,
}

#[derive(Default)]
struct BlockQueueState {
    resident: Vec<u32>,
    numbers: VecDeque<u32>,
    /// Blocks in scratch that nobody took yet.
    unread: u32,
}

enum QueuedBlock {
    Resident(u32),
    Spilled(u32, Arc<Scratch>),
}

impl BlockQueue {
    fn new(source: &Source) -> Self {
        let (state, scratch) = match source {
            Source::Inputs => (BlockQueueState::default(), None),
            Source::Blocks {
                resident,
                numbers,
                spilled,
                scratch,
            } => (
                BlockQueueState {
                    resident: resident.clone(),
                    numbers: numbers.iter().copied().collect(),
                    unread: *spilled,
                },
                scratch.clone(),
            ),
        };
        Self {
            state: Mutex::new(state),
            found: Condvar::new(),
            scratch,
        }
    }

    fn next(&self, run: &Run) -> Result<Option<QueuedBlock>> {
        let mut state = lock(&self.state);
        loop {
            run.check()?;
            // Those in memory first: their space is wanted.
            if let Some(block) = state.resident.pop() {
                return Ok(Some(QueuedBlock::Resident(block)));
            }
            if state.unread == 0 {
                return Ok(None);
            }
            if let (Some(number), Some(scratch)) = (state.numbers.pop_front(), &self.scratch) {
                state.unread -= 1;
                return Ok(Some(QueuedBlock::Spilled(number, Arc::clone(scratch))));
            }
            state = run.wait(&self.found, state)?;
        }
    }

    /// Numbers that a block's head listed.
    fn found(&self, numbers: impl Iterator<Item = u32>) {
        lock(&self.state).numbers.extend(numbers);
        self.found.notify_all();
    }
}
