//! The sizes: how the memory limit is divided.
//!
//! ```text
//! limit = base + threads + tables        what is not in the pool, reckoned
//!       + frames                         the window over the output
//!       + workers * part                 a chunk and its carry, then an index
//!       + blocks                         the records
//! ```

use std::sync::atomic::Ordering::Relaxed;

use crate::gather::{Gather, index_words};
use crate::options::{Job, Tuning};
use crate::pool::ALIGN;
use crate::reader::ReaderSizes;
use crate::sample::Sample;
use crate::scatter::smallest_block;
use crate::split::Splitter;
use crate::store::{BLOCK_HEAD, Store};
use crate::survey::Survey;

const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// What a run takes before its pool: code pages, allocator, tables of fixed size.
const BASE: u64 = 6 * MIB;
/// What a thread takes: its stack's touched pages and its allocator's arena.
const THREAD: u64 = 160 * KIB;
/// Tables for one input, and how often its name is held: by the caller's list and by the job.
const INPUT: u64 = 384;
const NAMES: u64 = 2;
/// Table entries for one bucket, and for one bucket and worker.
const BUCKET: u64 = 256;
const CURSOR: u64 = 96;
/// Table entries for one block.
const BLOCK: u64 = 32;

/// Threads beside the workers.
pub(crate) const SCRATCH_WRITERS: usize = 2;
pub(crate) const SCRATCH_READERS: usize = 8;
pub(crate) const FRAME_WRITERS: usize = 2;

/// Records' bytes that a cache-friendly bucket holds, by the records' mean length.
fn bucket_target(mean: f64) -> u64 {
    match mean {
        m if m < 128.0 => 2 * MIB,
        m if m < 1024.0 => 4 * MIB,
        _ => 16 * MIB,
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

    /// Memory that a run held at most: what is beside the pool, and what it touched of the pool.
    pub fn peak(&self, splitter: &Splitter, gather: &Gather, store: &Store, output: u64) -> u64 {
        let index = index_words(gather.longest_index.load(Relaxed)) * 8;
        let part = self
            .reader
            .buffer(splitter.delimiter().len())
            .max(index)
            .min(self.part);
        let frames = output.min((self.frames * self.frame) as u64);
        self.fixed + (self.workers * part) as u64 + frames + store.touched()
    }
}

/// All sizes for a limit; `None` when it is too small.
pub(crate) fn sizes(job: &Job, survey: &Survey, limit: u64) -> Option<Sizes> {
    let limit = limit.min(survey.memory);
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
    // More workers than chunks, or than the memory can keep busy, are of no use.
    let of_use = (limit / (12 * MIB)).min(survey.bytes.map_or(u64::MAX, |b| b / (256 * KIB)));
    let workers = workers.unwrap_or((job.threads as u64).min(of_use.max(1)) as usize);
    let n_threads = workers + SCRATCH_WRITERS + SCRATCH_READERS + FRAME_WRITERS + 1;
    let chunk = chunk.unwrap_or(if large { 512 << 10 } else { 256 << 10 });
    let frame = frame.unwrap_or(if large { 1 << 20 } else { 256 << 10 });
    let frames = workers + FRAME_WRITERS + 4;
    let sample = if job.sample.is_some() {
        Sample::BYTES as u64
    } else {
        0
    };
    let names: usize = job
        .inputs
        .iter()
        .map(|input| input.path().as_os_str().len())
        .sum();
    let inputs = job.inputs.len() as u64 * INPUT + names as u64 * NAMES;
    let spent = BASE + n_threads as u64 * THREAD + inputs + sample + (frames * frame) as u64;
    let left = limit.checked_sub(spent)?;

    // Buckets small enough for the cache, as far as their open blocks leave room for anything else.
    let stored = survey.stored(delimiter);
    let wanted = match stored {
        Some(stored) => ceil_log2(stored.div_ceil(bucket_target(survey.mean))),
        None => 8,
    };
    // Blocks shrink to what a disk still reads well at random, then buckets become fewer, as long
    // as a few of them fit in memory, then blocks shrink further.
    const DISK_BLOCK: usize = 64 << 10;
    const SMALLEST_BLOCK: usize = 16 << 10;
    let most_bucket = left / (3 * (workers as u64 + 2));
    let fewest = stored.map_or(wanted, |stored| {
        ceil_log2(stored.div_ceil(most_bucket.max(1)))
    });
    let mut n_bits = bits.unwrap_or(wanted.min(12));
    let mut block_bytes = block.unwrap_or(256 << 10);
    loop {
        let open = (block_bytes as u64) << n_bits;
        let roomy = open <= left / 6 && stored.is_none_or(|stored| open <= stored / 8);
        if roomy {
            break;
        }
        if block.is_none() && block_bytes > DISK_BLOCK {
            block_bytes /= 2;
        } else if bits.is_none() && n_bits > fewest && open > left / 6 {
            n_bits -= 1;
        } else if block.is_none() && block_bytes > SMALLEST_BLOCK {
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
        n_blocks =
            n_blocks.min((stored * 5 / 4 / payload + 4 * n_buckets + 64 + workers as u64) as usize);
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
        fixed: BASE + n_threads as u64 * THREAD + inputs + sample + tables,
    })
}

fn ceil_log2(n: u64) -> u32 {
    n.max(1).next_power_of_two().ilog2()
}
