//! What a caller asks for.

use std::path::PathBuf;
use std::sync::Arc;

use crate::input::Input;
use crate::input::decode::Encoding;
use crate::order::slice::Slice;
use crate::output::encode::Compression;
use crate::output::layout::Shards;

/// Where the records go.
#[derive(Clone, Debug)]
pub enum Output {
    /// A path: a regular file is replaced atomically, a device or FIFO is streamed to. Where the
    /// output is several files, the pattern of their names.
    Path(PathBuf),
    /// An open file that is streamed to, and its name for messages.
    Open(Arc<std::fs::File>, PathBuf),
    /// A reader in this process, which gets a slice of the order.
    Reader(Slice),
}

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// What lies between two delimiters.
    Delimited(Vec<u8>),
    /// So many bytes.
    Fixed(usize),
}

impl Records {
    /// What stands behind each record.
    pub(crate) fn delimiter(&self) -> &[u8] {
        match self {
            Self::Delimited(delimiter) => delimiter,
            Self::Fixed(_) => &[],
        }
    }
}

/// How the inputs' bytes are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputFormat {
    /// Each input tells by its first bytes.
    #[default]
    Auto,
    /// All are stored in this way.
    Is(Encoding),
}

/// Rows of `.npy` files: the inputs' records, and the outputs' header.
#[derive(Clone, Debug, Default)]
pub struct Npy {
    /// Where each input's data begin.
    pub starts: Vec<u64>,
    /// The text of the header before the number of rows, and behind it.
    pub before: Vec<u8>,
    /// See `before`.
    pub after: Vec<u8>,
}

/// A part of the key space: from the end of the split before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What it is called.
    pub name: String,
    /// The first key that is not in it; 2^64 for the last one.
    pub end: u128,
}

/// One shuffle.
#[derive(Clone, Debug)]
pub struct Job {
    /// The inputs; input `j` has stream `j`.
    pub inputs: Vec<Input>,
    /// The destination.
    pub output: Output,
    /// The Philox key.
    pub seed: u128,
    /// The first of the seed's orders that is written.
    pub epoch: u32,
    /// How many of them, one after the other; `None` is one, of which names say nothing.
    pub epochs: Option<u32>,
    /// Most resident memory that the run may add, in bytes.
    pub memory_limit: u64,
    /// Most workers.
    pub threads: usize,
    /// Where scratch may lie; `None` allows none.
    pub scratch: Option<PathBuf>,
    /// What a record is.
    pub records: Records,
    /// How the inputs are stored.
    pub input_format: InputFormat,
    /// Rows of `.npy` files; `records` are then of their size.
    pub npy: Option<Npy>,
    /// The first so many records of every input are a header: equal in all of them, written once at
    /// the top of every output, and not counted.
    pub header: u64,
    /// Compressed inputs may expand as far as they will.
    pub any_expansion: bool,
    /// Only the first so many records of the order.
    pub sample: Option<u64>,
    /// Only the records whose keys are below this, of 2^64.
    pub fraction: Option<u128>,
    /// Parts of the key space that are written apart; none is one part without a name.
    pub splits: Vec<Split>,
    /// How the output, or each split and epoch of it, falls into files.
    pub shards: Shards,
    /// How the output is compressed.
    pub compression: Option<Compression>,
    /// Sizes and switches for tests.
    pub tuning: Tuning,
}

/// Overrides of what the plan would choose: tests shrink sizes so that tiny inputs cross every
/// boundary, and switch off what some file systems lack. The output never depends on any of it,
/// except on `key_mask`, and on `frame` where it is compressed.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// Bytes of a chunk of input.
    pub chunk: Option<usize>,
    /// Bytes of a block; a multiple of 4096.
    pub block: Option<usize>,
    /// Bytes of a slab.
    pub slab: Option<usize>,
    /// Blocks in the pool.
    pub blocks: Option<usize>,
    /// Bits of fan-out a level.
    pub bits: Option<u32>,
    /// The longest record that is scattered whole.
    pub inline_max: Option<usize>,
    /// Bytes of an output frame; a multiple of 4096.
    pub frame: Option<usize>,
    /// Entries of a worker's index.
    pub entries: Option<usize>,
    /// Workers, whatever the limit says.
    pub workers: Option<usize>,
    /// Expansion of a compressed input that is never refused, in bytes.
    pub expansion: Option<u64>,
    /// Bytes of a page of a reader's feed.
    pub page: Option<usize>,
    /// As if this was the number of records that a survey found.
    pub records: Option<u64>,
    /// Clears key bits, to make ties.
    pub key_mask: Option<u64>,
    /// Spill (`Some(true)`) or rescan (`Some(false)`), whatever the cost model says.
    pub spill: Option<bool>,
    /// As if the file system had no direct I/O.
    pub no_direct: bool,
    /// As if it could not make files without a name.
    pub no_tmpfile: bool,
    /// As if it could not reserve space.
    pub no_fallocate: bool,
}
