//! The sizes: how the memory limit is divided.
//!
//! ```text
//! limit = base + threads + tables        what is not in the pool, reckoned
//!       + frames                         the window over the output
//!       + workers * part                 a chunk and its carry, then an index
//!       + blocks                         the records
//! ```

use crate::input::decode::{self, Encoding};
use crate::input::reader::ReaderSizes;
use crate::input::split::Splitter;
use crate::input::survey::Survey;
use crate::levels::gather::index_words;
use crate::levels::scatter::smallest_block;
use crate::options::{Job, Output, Records, Tuning};
use crate::order::sample::Sample;
use crate::output::append::Appender;
use crate::output::encode;
use crate::output::feed::page_bytes;
use crate::store::pool::ALIGN;
use crate::store::spool::LANES;
use crate::store::{BLOCK_HEAD, Store};

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
    /// Pages of a reader's feed, and bytes of each.
    pub pages: usize,
    pub page: usize,
    /// Threads that write frames, each encoding them if that is asked for.
    pub writers: usize,
    /// Bytes of the buffer that a writer encodes into; 0 when nothing is compressed.
    pub encoded: usize,
    /// Bytes of the buffer in which compressed frames are put together.
    pub append: usize,
    /// Most inputs that are decoded, or streamed, at the same time.
    pub lanes: usize,
    /// The largest window that their decoders have room for.
    pub window: u64,
    /// What all decoders take when each has the largest window.
    pub decoders: u64,
    /// Memory beside the pool, decoders counted.
    pub fixed: u64,
}

impl Sizes {
    /// Bytes of the pool.
    pub fn pool(&self) -> usize {
        self.workers * self.part
            + self.frames * self.frame
            + (self.pages * page_bytes(self.page)).next_multiple_of(ALIGN)
            + self.writers * self.encoded
            + self.append
            + self.n_blocks * self.block
    }

    /// Memory that a run held at most: what is beside the pool, and what it touched of the pool.
    /// `index` entries had the longest index, and decoders took `decoders` bytes.
    pub fn peak(
        &self,
        splitter: &Splitter,
        index: usize,
        decoders: u64,
        store: &Store,
        output: u64,
    ) -> u64 {
        let index = index_words(index) * 8;
        let part = self
            .reader
            .buffer(splitter.delimiter().len())
            .max(index)
            .min(self.part);
        let frames = output.min((self.frames * self.frame) as u64);
        let encoded = (self.writers * self.encoded + self.append) as u64;
        let fixed = self.fixed - self.decoders + decoders.min(self.decoders);
        fixed + (self.workers * part) as u64 + frames + encoded + store.touched()
    }
}

/// All sizes for a limit; `None` when it is too small.
pub(crate) fn sizes(job: &Job, survey: &Survey, limit: u64) -> Option<Sizes> {
    let limit = limit.min(survey.memory);
    let Tuning {
        chunk,
        slab,
        blocks,
        entries,
        workers,
        ..
    } = job.tuning;
    let delimiter = job.records.delimiter().len();
    // More workers than chunks, or than the memory can keep busy, are of no use.
    let of_use = (limit / (12 * MIB)).min(survey.bytes.map_or(u64::MAX, |b| b / (256 * KIB)));
    let workers = workers.unwrap_or((job.threads as u64).min(of_use.max(1)) as usize);
    let chunk = chunk.unwrap_or(if is_large(limit) {
        512 << 10
    } else {
        256 << 10
    });
    let output = OutputSizes::of(job, workers, limit);
    let n_threads = workers + SCRATCH_WRITERS + SCRATCH_READERS + output.writers + 1;
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
    let spent = BASE + n_threads as u64 * THREAD + inputs + sample + output.bytes();
    let left = limit.checked_sub(spent)?;
    let (lanes, window, decoders) = decoders(survey, workers, left);
    let left = left.checked_sub(decoders)?;

    let stored = survey.stored(delimiter);
    let (block, bits) = buckets(&job.tuning, stored, survey.mean, workers, left);
    let inline_max = job.tuning.inline_max.unwrap_or(match job.records {
        // Records of one size are better all whole than all long.
        Records::Fixed(bytes) if smallest_block(bytes) <= block => bytes.max(block / 4),
        _ => block / 4,
    });
    let inline_max = inline_max.max(2 * delimiter);
    if block < smallest_block(inline_max) {
        return None;
    }
    let reader = ReaderSizes { chunk, inline_max };

    // An index for a bucket, and some for those that are larger than the mean.
    let n_buckets = 1u64 << bits;
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
        .max(block);
    let part = part.next_multiple_of(ALIGN);
    let tables = n_buckets * (BUCKET + workers as u64 * CURSOR);
    let left = left
        .checked_sub((workers * part) as u64)?
        .checked_sub(tables)?;
    let mut n_blocks = (left / (block as u64 + BLOCK)) as usize;
    if let Some(stored) = stored.filter(|_| survey.encoded == 0) {
        // No more than everything could ever need; of compressed inputs nobody knows.
        let payload = (block - BLOCK_HEAD) as u64;
        n_blocks =
            n_blocks.min((stored * 5 / 4 / payload + 4 * n_buckets + 64 + workers as u64) as usize);
    }
    let n_blocks = blocks.unwrap_or(n_blocks);
    if n_blocks < n_buckets as usize + workers + 4 {
        return None;
    }
    let slab = slab.unwrap_or((block / (2 * workers)).clamp(1 << 10, 16 << 10));
    Some(Sizes {
        workers,
        reader,
        block,
        n_blocks,
        bits,
        slab,
        frame: output.frame,
        frames: output.frames,
        part,
        pages: output.pages,
        page: output.page,
        writers: output.writers,
        encoded: output.encoded,
        append: output.append,
        lanes,
        window,
        decoders,
        fixed: spent - output.pooled() + decoders + tables,
    })
}

/// What the output takes.
struct OutputSizes {
    frame: usize,
    frames: usize,
    pages: usize,
    page: usize,
    writers: usize,
    encoded: usize,
    append: usize,
    /// What the encoders take beside the pool.
    contexts: u64,
}

impl OutputSizes {
    fn of(job: &Job, workers: usize, limit: u64) -> Self {
        let large = is_large(limit);
        let frame = job.tuning.frame.unwrap_or(match job.compression {
            // What a compressed frame holds is part of the output.
            Some(_) => encode::FRAME,
            None if large => 1 << 20,
            None => 256 << 10,
        });
        let encoder = job.compression.map(|compression| {
            let out = compression.bound(frame).next_multiple_of(ALIGN);
            (out, compression.memory())
        });
        // As many encoders as workers, while they leave most of the memory to the records.
        let writers = encoder.map_or(FRAME_WRITERS, |(out, context)| {
            let one = out as u64 + context + frame as u64;
            (limit / 4 / one).clamp(1, workers as u64) as usize
        });
        let (encoded, contexts) =
            encoder.map_or((0, 0), |(out, context)| (out, writers as u64 * context));
        let is_feed = matches!(job.output, Output::Reader(_));
        let (frames, writers) = match is_feed {
            true => (0, 0),
            false => (workers + writers + if encoded > 0 { 1 } else { 4 }, writers),
        };
        let page = job.tuning.page;
        Self {
            frame,
            frames,
            pages: if is_feed { 2 * workers + 2 } else { 0 },
            page: page.unwrap_or(if large { 1 << 20 } else { 256 << 10 }),
            writers,
            encoded,
            append: if encoded > 0 { Appender::BYTES } else { 0 },
            contexts,
        }
    }

    /// Bytes of the pool.
    fn pooled(&self) -> u64 {
        let feed = self.pages * page_bytes(self.page);
        (feed + self.frames * self.frame + self.writers * self.encoded + self.append) as u64
    }

    fn bytes(&self) -> u64 {
        self.pooled() + self.contexts
    }
}

/// Whether memory is there for the larger chunks, frames and pages.
fn is_large(limit: u64) -> bool {
    limit >= 192 * MIB
}

/// Bytes of a block, and the bits of the key that tell buckets apart, when `left` is left for them.
///
/// Buckets are small enough for the cache, as far as their open blocks leave room for anything else.
/// Blocks shrink to what a disk still reads well at random, then buckets become fewer, as long as a
/// few of them fit in memory, then blocks shrink further.
fn buckets(
    tuning: &Tuning,
    stored: Option<u64>,
    mean: f64,
    workers: usize,
    left: u64,
) -> (usize, u32) {
    const DISK_BLOCK: usize = 64 << 10;
    const SMALLEST_BLOCK: usize = 16 << 10;
    let (block, bits) = (tuning.block, tuning.bits);
    let wanted = match stored {
        Some(stored) => ceil_log2(stored.div_ceil(bucket_target(mean))),
        None => 8,
    };
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
    (block_bytes, n_bits)
}

/// How many decoders there are, the window that each has room for, and what they take together.
fn decoders(survey: &Survey, workers: usize, left: u64) -> (usize, u64, u64) {
    /// The window of zstd's higher ordinary levels.
    const USUAL: u64 = 8 * MIB;
    let sequences = survey.encoded + survey.unknown;
    if sequences == 0 {
        return (1, 0, 0);
    }
    // What streams and later frames will need is not known: as much as is not dear.
    let window = survey.window.max(USUAL.min(left / 16)).max(left / 32);
    let one = decode::memory(Encoding::Gzip, window).max(decode::memory(Encoding::Zstd, window));
    // As many as there are workers, while they leave most of the memory to the records.
    let lanes = (left / 4 / one).clamp(1, workers.min(sequences).min(LANES) as u64);
    (lanes as usize, window, lanes * one)
}

fn ceil_log2(n: u64) -> u32 {
    n.max(1).next_power_of_two().ilog2()
}
