//! The plan: all sizes of a run, and how it gets by with the memory it may use.
//!
//! Sizes follow from the memory limit; the strategy follows from a cost model. Both are forecasts:
//! the run evicts, recurses or reads again where the forecast was wrong, and its output is the same.
//!
//! The cost model counts, in seconds, what differs between the strategies. Rates are constants of a
//! modest machine, except the input's, which is measured:
//!
//! - every byte that stays in memory costs a fresh page: [`FRESH`]. On virtual machines that is
//!   what an in-memory run spends most of its time on (0.5 to 2.5 s a GB were measured, 0.2 on bare
//!   metal), so two passes over a cached input, with half the memory, can beat one pass;
//! - every byte that goes to scratch and comes back costs [`SCRATCH_WRITE`] and [`SCRATCH_READ`];
//! - every further pass over the input costs its bytes at the measured rate, and [`SCAN_BYTE`] and
//!   [`SCAN_RECORD`] for finding, keying and hashing its records.

use std::path::Path;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::gather::index_words;
use crate::input::{InputFile, Kind};
use crate::options::{Job, Tuning};
use crate::pool::ALIGN;
use crate::reader::ReaderSizes;
use crate::sample::Sample;
use crate::scatter::smallest_block;
use crate::split::Splitter;
use crate::store::{BLOCK_HEAD, OnFull};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What a run takes before its pool: code pages, allocator, tables of fixed size.
const BASE: u64 = 6 * MIB;
/// What a thread takes: its stack's touched pages and its allocator's arena.
const THREAD: u64 = 160 * KIB;
/// Tables for one input.
const INPUT: u64 = 384;
/// Table entries for one bucket, and for one bucket and worker.
const BUCKET: u64 = 256;
const CURSOR: u64 = 96;
/// Table entries for one block.
const BLOCK: u64 = 32;

/// Threads beside the workers.
pub(crate) const SCRATCH_WRITERS: usize = 2;
pub(crate) const SCRATCH_READERS: usize = 4;
pub(crate) const FRAME_WRITERS: usize = 2;

/// Seconds a byte, see the module's text.
const FRESH: f64 = 1.0e-9;
const SCRATCH_WRITE: f64 = 0.4e-9;
const SCRATCH_READ: f64 = 0.8e-9;
const SCAN_BYTE: f64 = 0.2e-9;
const SCAN_RECORD: f64 = 22e-9;
const EMIT_BYTE: f64 = 0.25e-9;
const EMIT_RECORD: f64 = 40e-9;
const OUTPUT_WRITE: f64 = 0.4e-9;

/// Records' bytes that a cache-friendly bucket holds, by the records' mean length.
fn bucket_target(mean: f64) -> u64 {
    match mean {
        m if m < 128.0 => 2 * MIB,
        m if m < 1024.0 => 4 * MIB,
        _ => 16 * MIB,
    }
}

/// How a run gets by with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// All records stay in memory.
    Memory,
    /// What does not fit goes to scratch and comes back.
    Scratch,
    /// What does not fit is read again from the input, in several passes.
    Rescan,
}

impl Strategy {
    /// The strategy's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Scratch => "scratch",
            Self::Rescan => "rescan",
        }
    }
}

/// What a run will do, as far as can be known before it. Unknown sizes are `None`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// How it gets by with its memory.
    pub strategy: Strategy,
    /// Why.
    pub reason: String,
    /// Passes over the input.
    pub passes: Option<u32>,
    /// Buckets of the first fan-out.
    pub buckets: u32,
    /// Workers.
    pub workers: u32,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// Bytes of a chunk of input.
    pub chunk_bytes: u64,
    /// The limit it keeps.
    pub memory_limit: u64,
    /// Bytes of input.
    pub input_bytes: Option<u64>,
    /// Bytes read from the inputs and from scratch.
    pub bytes_read: Option<u64>,
    /// Bytes written to scratch and to the output.
    pub bytes_written: Option<u64>,
    /// Memory that the run will use.
    pub memory_bytes: u64,
    /// Bytes of blocks that stay in memory from the scatter to the gather.
    pub resident_bytes: Option<u64>,
    /// Bytes of scratch.
    pub scratch_bytes: Option<u64>,
    /// Expected time in seconds.
    pub seconds: Option<f64>,
    pub(crate) sizes: Sizes,
    pub(crate) on_full: OnFull,
    /// Buckets from here on are evicted from the start.
    pub(crate) resident_end: usize,
}

/// What was learned about the inputs without consuming any of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survey {
    /// Bytes of all inputs; `None` when one of them is a stream, which cannot be read again.
    pub bytes: Option<u64>,
    /// Mean record with its delimiter, from samples.
    pub mean: f64,
    /// Seconds to read a byte, from samples.
    pub read: f64,
}

impl Survey {
    /// Looks at sizes, and reads a few spread samples of the regular inputs.
    pub fn of(inputs: &[InputFile], splitter: &Splitter) -> Result<Self> {
        const SAMPLES: u64 = 16;
        const SAMPLE: usize = 64 << 10;
        /// Unknown inputs are taken for text.
        const MEAN: f64 = 100.0;
        const READ: f64 = 0.7e-9;
        let rereadable = inputs.iter().all(|input| input.kind != Kind::Stream);
        let total: u64 = inputs.iter().filter_map(InputFile::size).sum();
        let mut survey = Self {
            bytes: rereadable.then_some(total),
            mean: MEAN,
            read: READ,
        };
        let mut buffer = vec![0; SAMPLE];
        let (mut read, mut delimiters, mut seconds) = (0u64, 0u64, 0.0);
        let mut next = 0;
        let mut before = 0;
        for input in inputs {
            let size = input.size().unwrap_or(0);
            let mut file = None;
            while next < SAMPLES && (next * total / SAMPLES) < before + size {
                let offset = (next * total / SAMPLES).saturating_sub(before);
                let len = (size - offset).min(SAMPLE as u64) as usize;
                let file = match &file {
                    Some(file) => file,
                    None => file.insert(input.open()?),
                };
                let start = Instant::now();
                input.read_exact_at(file, &mut buffer[..len], offset)?;
                seconds += start.elapsed().as_secs_f64();
                delimiters += splitter.scan(&buffer[..len]).records;
                read += len as u64;
                // Small inputs are read once, not sixteen times.
                next += 1 + SAMPLES * (len as u64 - 1).min(total) / total.max(1);
            }
            before += size;
        }
        if read > 0 {
            survey.mean = read as f64 / delimiters.max(1) as f64;
        }
        if read >= SAMPLE as u64 {
            survey.read = seconds / read as f64;
        }
        Ok(survey)
    }

    fn records(&self) -> Option<f64> {
        self.bytes.map(|bytes| bytes as f64 / self.mean)
    }

    /// Bytes that the records take in blocks: distance and length instead of a delimiter.
    fn stored(&self, delimiter: usize) -> Option<u64> {
        const HEAD: f64 = 4.0;
        let records = self.records()?;
        let bytes = self.bytes? as f64 + records * (HEAD - delimiter as f64);
        // Slabs' heads and ends, and some caution.
        Some((bytes * 1.04) as u64)
    }
}

/// The sizes of everything that takes memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub workers: usize,
    pub reader: ReaderSizes,
    pub block: usize,
    pub n_blocks: usize,
    pub bits: u32,
    pub slab: usize,
    pub frame: usize,
    pub frames: usize,
    /// Bytes of a worker's private part: its buffer, then its index.
    pub part: usize,
    /// Memory beside the pool.
    pub fixed: u64,
}

impl Sizes {
    /// Bytes of the pool.
    pub fn pool(&self) -> usize {
        self.workers * self.part + self.frames * self.frame + self.n_blocks * self.block
    }
}

impl Plan {
    pub(crate) fn make(job: &Job, inputs: &[InputFile], survey: &Survey) -> Result<Self> {
        let scratch = match &job.scratch {
            None => Scratch::None,
            Some(dir) if crate::scratch::space(dir)?.1 => Scratch::InMemory,
            Some(_) => Scratch::Disk,
        };
        let Some(sizes) = sizes(job, inputs.len(), survey, job.memory_limit) else {
            let mut needed = job.memory_limit.max(MIB).next_multiple_of(MIB);
            while sizes(job, inputs.len(), survey, needed).is_none() && needed < 1 << 40 {
                needed += MIB;
            }
            return Err(Error::MemoryLimit(format!(
                "memory_limit must be at least {needed} bytes for this job, got {}",
                job.memory_limit
            )));
        };
        Ok(choose(job, survey, sizes, scratch))
    }

    /// Takes no more blocks than are of use, and never more than the limit allows.
    fn set_blocks(&mut self, blocks: usize) {
        let least = (1 << self.sizes.bits) + self.sizes.workers + 4;
        self.sizes.n_blocks = blocks.max(least).min(self.sizes.n_blocks);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scratch {
    None,
    InMemory,
    Disk,
}

/// All sizes for a limit; `None` when it is too small.
fn sizes(job: &Job, n_inputs: usize, survey: &Survey, limit: u64) -> Option<Sizes> {
    let Tuning {
        chunk,
        block,
        slab,
        blocks,
        bits,
        inline_max,
        frame,
        entries,
        workers,
        ..
    } = job.tuning;
    let delimiter = job.delimiter.len();
    let large = limit >= 192 * MIB;
    let workers = workers.unwrap_or((job.threads as u64).min((limit / (12 * MIB)).max(1)) as usize);
    let n_threads = workers + SCRATCH_WRITERS + SCRATCH_READERS + FRAME_WRITERS + 1;
    let chunk = chunk.unwrap_or(if large { 512 << 10 } else { 256 << 10 });
    let frame = frame.unwrap_or(if large { 1 << 20 } else { 256 << 10 });
    let frames = workers + FRAME_WRITERS + 4;
    let sample = if job.sample.is_some() {
        Sample::BYTES as u64
    } else {
        0
    };
    let spent = BASE
        + n_threads as u64 * THREAD
        + n_inputs as u64 * INPUT
        + sample
        + (frames * frame) as u64;
    let left = limit.checked_sub(spent)?;

    // Buckets small enough for the cache, as far as their open blocks leave room for anything else.
    let stored = survey.stored(delimiter);
    let wanted = match stored {
        Some(stored) => ceil_log2(stored.div_ceil(bucket_target(survey.mean))),
        None => 8,
    };
    let mut n_bits = bits.unwrap_or(wanted.min(12));
    let mut block_bytes = block.unwrap_or(256 << 10);
    loop {
        let open = (block_bytes as u64) << n_bits;
        let roomy = open <= left / 6 && stored.is_none_or(|stored| open <= stored / 8);
        if roomy || block.is_some() && bits.is_some() {
            break;
        }
        if block.is_none() && block_bytes > 16 << 10 {
            block_bytes /= 2;
        } else if bits.is_none() && n_bits > 0 && open > left / 6 {
            n_bits -= 1;
        } else {
            break;
        }
    }
    let inline_max = inline_max.unwrap_or(block_bytes / 4).max(2 * delimiter);
    if block_bytes < smallest_block(inline_max) {
        return None;
    }
    let reader = ReaderSizes { chunk, inline_max };

    // An index for a bucket, and some for those that are larger than the mean.
    let n_buckets = 1u64 << n_bits;
    let most_entries = left / 5 / workers as u64 / 17;
    let entries = entries.unwrap_or_else(|| {
        let expected = match survey.records() {
            Some(records) => (records / n_buckets as f64 * 1.3) as u64 + 4096,
            None => most_entries,
        };
        expected.min(most_entries) as usize
    });
    let part = reader
        .buffer(delimiter)
        .max(index_words(entries) * 8)
        .max(block_bytes);
    let part = part.next_multiple_of(ALIGN);
    let tables = n_buckets * (BUCKET + workers as u64 * CURSOR);
    let left = left
        .checked_sub((workers * part) as u64)?
        .checked_sub(tables)?;
    let mut n_blocks = (left / (block_bytes as u64 + BLOCK)) as usize;
    if let Some(stored) = stored {
        // No more than everything could ever need.
        let payload = (block_bytes - BLOCK_HEAD) as u64;
        n_blocks = n_blocks.min((stored * 5 / 4 / payload + 4 * n_buckets + 64) as usize);
    }
    let n_blocks = blocks.unwrap_or(n_blocks);
    if n_blocks < n_buckets as usize + workers + 4 {
        return None;
    }
    let slab = slab.unwrap_or((block_bytes / (2 * workers)).clamp(1 << 10, 16 << 10));
    Some(Sizes {
        workers,
        reader,
        block: block_bytes,
        n_blocks,
        bits: n_bits,
        slab,
        frame,
        frames,
        part,
        fixed: BASE + n_threads as u64 * THREAD + n_inputs as u64 * INPUT + sample + tables,
    })
}

fn ceil_log2(n: u64) -> u32 {
    n.max(1).next_power_of_two().ilog2()
}

/// Chooses the strategy.
fn choose(job: &Job, survey: &Survey, sizes: Sizes, scratch: Scratch) -> Plan {
    let n_buckets = 1usize << sizes.bits;
    let block = sizes.block as u64;
    let has_scratch = scratch == Scratch::Disk;
    let mut plan = Plan {
        strategy: Strategy::Memory,
        reason: String::new(),
        passes: Some(1),
        buckets: n_buckets as u32,
        workers: sizes.workers as u32,
        block_bytes: block,
        chunk_bytes: sizes.reader.chunk as u64,
        memory_limit: job.memory_limit,
        input_bytes: survey.bytes,
        bytes_read: None,
        bytes_written: None,
        memory_bytes: sizes.fixed + sizes.pool() as u64,
        resident_bytes: None,
        scratch_bytes: None,
        seconds: None,
        sizes,
        on_full: if has_scratch {
            OnFull::Spill
        } else {
            OnFull::Drop
        },
        resident_end: n_buckets,
    };
    let no_scratch = match scratch {
        Scratch::None => "no scratch is allowed",
        _ => "scratch would lie in memory (tmpfs)",
    };
    let (Some(bytes), Some(records), Some(stored)) = (
        survey.bytes,
        survey.records(),
        survey.stored(job.delimiter.len()),
    ) else {
        (plan.strategy, plan.reason) = if has_scratch {
            plan.passes = None;
            (
                Strategy::Scratch,
                "an input's size is unknown; what does not fit in memory goes to scratch".into(),
            )
        } else {
            (
                Strategy::Memory,
                format!("an input cannot be read again and {no_scratch}: all must fit in memory"),
            )
        };
        if job.tuning.spill == Some(true) {
            plan.resident_end = 0;
        }
        return plan;
    };

    // What a sample wants, with what goes by before its edge is known.
    let part = match job.sample {
        Some(n) if (n as f64) < records => {
            let part = n as f64 / records;
            (part * (1.0 - part.max(1e-9).ln()) + 1.0 / n_buckets as f64).min(1.0)
        }
        _ => 1.0,
    };
    let wanted = stored as f64 * part;
    let output = match job.sample {
        Some(n) if (n as f64) < records => (n as f64 * survey.mean) as u64,
        _ => bytes,
    };
    let workers = sizes.workers as f64;
    // Copies out of the page cache run side by side; a disk does not get faster by that.
    let copies = if survey.read < 0.4e-9 {
        workers.min(4.0)
    } else {
        1.0
    };
    let scan = bytes as f64 * survey.read / copies
        + (bytes as f64 * SCAN_BYTE + records * SCAN_RECORD) / workers;
    let emit = ((bytes as f64 * EMIT_BYTE + records * EMIT_RECORD) / workers * part)
        .max(output as f64 * OUTPUT_WRITE);

    // Blocks of a bucket, its last one half full.
    let bucket_blocks = wanted / n_buckets as f64 / block as f64 + 0.6;
    let all_blocks = bucket_blocks * n_buckets as f64 + sizes.workers as f64 + 4.0;
    let fits = all_blocks <= sizes.n_blocks as f64;
    // In scratch's case: enough blocks are left for those on their way.
    let moving = 64.0 + bucket_blocks.ceil() * (sizes.workers as f64 + 2.0);
    let free = (sizes.n_blocks as f64 - moving - 1.5 * n_buckets as f64).max(0.0);
    let resident_end = ((free / bucket_blocks.max(1.0)) as usize).min(n_buckets);
    let resident = wanted * resident_end as f64 / n_buckets as f64;
    let spilled = wanted - resident;
    // In the case of several passes: their best number.
    let fewest = (all_blocks / (sizes.n_blocks as f64 * 0.97))
        .ceil()
        .max(2.0);
    let rescan_cost = |passes: f64| wanted / passes * FRESH + (passes - 1.0) * scan;
    let best = (wanted * FRESH / scan.max(1e-9)).sqrt().round();
    let passes = best.clamp(fewest, fewest.max(n_buckets as f64));

    let memory_cost = if fits { wanted * FRESH } else { f64::INFINITY };
    let spill_cost = if has_scratch {
        resident * FRESH + spilled * (SCRATCH_WRITE + SCRATCH_READ)
    } else {
        f64::INFINITY
    };
    let rescan_cost = rescan_cost(passes);
    let best = match job.tuning.spill {
        Some(true) if has_scratch => Strategy::Scratch,
        Some(_) => Strategy::Rescan,
        None if memory_cost <= spill_cost.min(rescan_cost) => Strategy::Memory,
        None if spill_cost <= rescan_cost => Strategy::Scratch,
        None => Strategy::Rescan,
    };
    let costs = |cost: f64, what: &str| match cost.is_finite() {
        true => format!(", {what} {cost:.1} s"),
        false => String::new(),
    };
    let mut seconds = scan + emit;
    let (mut read, mut written, mut scratch_bytes) = (bytes, output, 0);
    plan.strategy = best;
    match best {
        Strategy::Memory => {
            plan.reason = "all records fit in memory".into();
            // Samples may mislead: blocks that are not needed are never touched.
            plan.set_blocks((all_blocks * 1.25) as usize);
            plan.resident_bytes = Some(wanted as u64);
            seconds += memory_cost;
        }
        Strategy::Scratch => {
            plan.resident_end = if job.tuning.spill == Some(true) {
                0
            } else {
                resident_end
            };
            plan.resident_bytes = Some(resident as u64);
            scratch_bytes = spilled as u64;
            (read, written) = (read + scratch_bytes, written + scratch_bytes);
            seconds += spill_cost;
            plan.reason = format!("scratch costs about {spill_cost:.1} s")
                + &costs(memory_cost, "memory alone")
                + &costs(rescan_cost, "more passes over the input");
        }
        Strategy::Rescan => {
            plan.on_full = OnFull::Drop;
            plan.passes = Some(passes as u32);
            plan.resident_bytes = Some((wanted / passes) as u64);
            if job.tuning.spill.is_none() {
                let kept = (n_buckets as f64 / passes).ceil();
                plan.resident_end = kept as usize;
                plan.set_blocks((kept * bucket_blocks * 1.08) as usize + sizes.workers + 4);
            }
            read = (bytes as f64 * passes) as u64;
            seconds += rescan_cost;
            plan.reason = format!("{passes} passes over the input cost about {rescan_cost:.1} s")
                + &costs(memory_cost, "fresh memory for all")
                + &costs(spill_cost, "scratch");
            if !has_scratch && !fits {
                plan.reason = format!("it does not fit in memory and {no_scratch}");
            }
        }
    }
    plan.memory_bytes = plan.sizes.fixed + plan.sizes.pool() as u64;
    plan.bytes_read = Some(read);
    plan.bytes_written = Some(written);
    plan.scratch_bytes = Some(scratch_bytes);
    plan.seconds = Some(seconds);
    plan
}

/// Fails when the space that the plan needs is not there.
pub(crate) fn check_space(
    plan: &Plan,
    scratch: Option<&Path>,
    output: Option<&Path>,
) -> Result<()> {
    let needed_out = match (plan.bytes_written, plan.scratch_bytes) {
        (Some(written), Some(scratch)) => written - scratch,
        _ => return Ok(()),
    };
    let needed_scratch = plan.scratch_bytes.unwrap_or(0);
    let full = |dir: &Path| -> Result<()> {
        Err(Error::Io {
            path: dir.to_owned(),
            source: std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()),
        })
    };
    let device = |dir: &Path| rustix::fs::stat(dir).map(|stat| stat.st_dev).ok();
    let same = match (scratch, output) {
        (Some(scratch), Some(output)) => device(scratch) == device(output),
        _ => false,
    };
    if let Some(output) = output {
        let needed = needed_out + if same { needed_scratch } else { 0 };
        if crate::scratch::space(output)?.0 < needed {
            return full(output);
        }
    }
    if let Some(scratch) = scratch
        && !same
        && needed_scratch > 0
        && crate::scratch::space(scratch)?.0 < needed_scratch
    {
        return full(scratch);
    }
    Ok(())
}
