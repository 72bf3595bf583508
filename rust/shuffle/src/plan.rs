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
//!
//! How a limit is divided is told in [`sizes`](mod@sizes); whether the disk has room for it all, in
//! [`space`](mod@space).

pub(crate) mod sizes;
pub(crate) mod space;

use std::ops::Range;

use self::sizes::{MIB, Sizes, sizes};
use self::space::space;
use crate::error::{Error, Result};
use crate::input::survey::Survey;
use crate::options::{Job, Output};
use crate::store::OnFull;

/// Seconds a byte, see the module's text.
const FRESH: f64 = 1.0e-9;
const SCRATCH_WRITE: f64 = 0.4e-9;
const SCRATCH_READ: f64 = 0.8e-9;
const SCAN_BYTE: f64 = 0.2e-9;
const SCAN_RECORD: f64 = 22e-9;
/// Copies out of the page cache take less than this.
const CACHED: f64 = 0.4e-9;
const EMIT_BYTE: f64 = 0.25e-9;
const EMIT_RECORD: f64 = 40e-9;
const OUTPUT_WRITE: f64 = 0.4e-9;

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
    /// Bytes of input, as it is stored.
    pub input_bytes: Option<u64>,
    /// Sizes are reckoned from samples of compressed inputs.
    pub estimated: bool,
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
    /// The inputs come from a disk, not from the page cache.
    pub(crate) is_cold: bool,
    /// Scratch is allowed and is not memory.
    pub(crate) scratch_on_disk: bool,
    /// Buckets from here on are evicted from the start.
    pub(crate) resident_end: usize,
    /// The buckets that hold what is wanted, as far as can be told.
    pub(crate) expected: Range<usize>,
}

impl Plan {
    pub(crate) fn make(job: &Job, survey: &Survey) -> Result<Self> {
        let scratch = match &job.scratch {
            None => Scratch::None,
            Some(dir) if space(dir)?.1 => Scratch::InMemory,
            Some(_) => Scratch::Disk,
        };
        let Some(sizes) = sizes(job, survey, job.memory_limit) else {
            let needed = smallest_limit(job, survey, 0);
            return Err(Error::MemoryLimit(format!(
                "memory_limit must be at least {needed} bytes ({} MiB) for this job, got {}",
                needed / MIB,
                job.memory_limit
            )));
        };
        Ok(choose(job, survey, sizes, scratch))
    }

    /// Takes no more blocks than are of use, and never more than the limit allows.
    fn set_blocks(&mut self, blocks: usize) {
        // A long record of a compressed input must fit into the pool, however long it is.
        if self.estimated {
            return;
        }
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

/// The smallest limit that has room for the job and for decoders with such a window, in bytes; whole
/// MiB.
pub(crate) fn smallest_limit(job: &Job, survey: &Survey, window: u64) -> u64 {
    // A limit that the machine does not have is named all the same.
    let survey = Survey {
        memory: u64::MAX,
        ..*survey
    };
    let fits =
        |mib: u64| sizes(job, &survey, mib * MIB).is_some_and(|sizes| sizes.window >= window);
    let enough = (0..30)
        .map(|bit| 1 << bit)
        .find(|&mib| fits(mib))
        .unwrap_or(1 << 30);
    let (mut below, mut enough) = (enough / 2, enough);
    while enough - below > 1 {
        let middle = below + (enough - below) / 2;
        *(if fits(middle) {
            &mut enough
        } else {
            &mut below
        }) = middle;
    }
    enough * MIB
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
        input_bytes: survey.bytes.map(|_| survey.stored_bytes),
        estimated: survey.encoded > 0,
        bytes_read: None,
        bytes_written: None,
        memory_bytes: sizes.fixed + sizes.pool() as u64,
        resident_bytes: None,
        scratch_bytes: None,
        seconds: None,
        sizes,
        is_cold: survey.read >= CACHED,
        scratch_on_disk: has_scratch,
        on_full: if has_scratch {
            OnFull::Spill
        } else {
            OnFull::Drop
        },
        resident_end: n_buckets,
        expected: 0..n_buckets,
    };
    let no_scratch = match scratch {
        Scratch::None => "no scratch is allowed",
        _ => "scratch would lie in memory (tmpfs)",
    };
    let (Some(bytes), Some(records), Some(stored)) = (
        survey.bytes,
        survey.records(),
        survey.stored(job.records.delimiter().len()),
    ) else {
        (plan.strategy, plan.reason) = if has_scratch {
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

    if let Output::Reader(slice) = job.output {
        plan.expected = slice.buckets(sizes.bits, job.tuning.records.map_or(records, |n| n as f64));
    }
    let expected = plan.expected.len() as f64 / n_buckets as f64;
    // What a sample wants, with what goes by before its edge is known.
    let part = match job.sample {
        _ if expected < 1.0 => expected,
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
    // Decoders, and copies out of the page cache, run side by side; a disk does not get faster by
    // that.
    let copies = match survey.read {
        _ if survey.encoded > 0 => sizes.lanes as f64,
        read if read < CACHED => workers.min(4.0),
        _ => 1.0,
    };
    let scan = bytes as f64 * survey.read / copies
        + (bytes as f64 * SCAN_BYTE + records * SCAN_RECORD) / workers;
    let emit = ((bytes as f64 * EMIT_BYTE + records * EMIT_RECORD) / workers * part)
        .max(output as f64 * OUTPUT_WRITE);

    // Blocks of a bucket, its last one half full.
    let n_wanted = plan.expected.len() as f64;
    let bucket_blocks = wanted / n_wanted / block as f64 + 0.6;
    let all_blocks = bucket_blocks * n_wanted + sizes.workers as f64 + 4.0;
    let fits = all_blocks <= sizes.n_blocks as f64;
    // In scratch's case: enough blocks are left for those on their way.
    let moving = 64.0 + bucket_blocks.ceil() * (sizes.workers as f64 + 2.0);
    let free = (sizes.n_blocks as f64 - moving - 1.5 * n_buckets as f64).max(0.0);
    let n_resident = (free / bucket_blocks.max(1.0)).floor().min(n_wanted);
    let resident = wanted * n_resident / n_wanted;
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
                plan.expected.start + n_resident as usize
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
                let kept = (n_wanted / passes).ceil();
                plan.resident_end = plan.expected.start + kept as usize;
                plan.set_blocks((kept * bucket_blocks * 1.08) as usize + sizes.workers + 4);
            }
            read = (survey.stored_bytes as f64 * passes) as u64;
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
