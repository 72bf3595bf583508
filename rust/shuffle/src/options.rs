//! What a caller asks for.

use std::path::PathBuf;
use std::sync::Arc;

use crate::input::Input;

/// Where the records go.
#[derive(Clone, Debug)]
pub enum Output {
    /// A path: a regular file is replaced atomically, a device or FIFO is streamed to.
    Path(PathBuf),
    /// An open file that is streamed to, and its name for messages.
    Open(Arc<std::fs::File>, PathBuf),
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
    /// Which of the seed's orders.
    pub epoch: u32,
    /// Most resident memory that the run may add, in bytes.
    pub memory_limit: u64,
    /// Most workers.
    pub threads: usize,
    /// Where scratch may lie; `None` allows none.
    pub scratch: Option<PathBuf>,
    /// What ends a record.
    pub delimiter: Vec<u8>,
    /// Only the first so many records of the order.
    pub sample: Option<u64>,
    /// Sizes and switches for tests.
    pub tuning: Tuning,
}

/// Overrides of what the plan would choose: tests shrink sizes so that tiny inputs cross every
/// boundary, and switch off what some file systems lack. The output never depends on any of it,
/// except on `key_mask`.
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
