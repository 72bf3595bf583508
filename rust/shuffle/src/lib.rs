//! Exactly uniform shuffling of the records of files far larger than memory.
//!
//! The order is a formula ([`order`]): every record has a 64-bit key that depends on nothing but the
//! seed, the input's number and the record's index, and the output is all records by key. What this
//! crate does is to bring the records into that order within a memory limit.
//!
//! 1. *Scatter*: workers read chunks of input ([`reader`]), decoded if need be ([`sequence`],
//!    [`decode`]), cut them into records ([`split`]), and send each record to a bucket by the leading
//!    bits of its key ([`scatter`], [`store`]).
//! 2. What does not fit in memory is evicted, from the highest keys down: to scratch ([`scratch`]),
//!    or away, to be read again from the input.
//! 3. *Emit*: bucket by bucket, records are brought back ([`emit`]), sorted and copied
//!    ([`gather`], [`sort`]) into output frames ([`frames`]), which go, encoded if need be
//!    ([`encode`]), to the destination ([`destination`]): a file, a stream, or a set of files
//!    ([`shard_set`]). Which record goes to which file is the layout's ([`layout`], [`sections`]). Or
//!    they go to a reader in this process ([`feed`], [`record_reader`]).
//!
//! The plan ([`plan`]) chooses all sizes from the memory limit; the engine ([`engine`]) runs it. The
//! output is the same for every plan.

mod append;
mod block_queue;
mod cache;
mod check;
mod cursor;
mod decode;
mod destination;
mod digest;
mod emit;
mod encode;
mod engine;
mod error;
mod feed;
mod frames;
mod gather;
mod header;
mod input;
mod layout;
mod levels;
mod npy;
mod options;
mod order;
mod outcome;
mod pattern;
mod plan;
mod pool;
mod reader;
mod record;
mod record_reader;
mod report;
mod run;
mod sample;
mod scatter;
mod scratch;
mod sections;
mod sequence;
mod shard_set;
mod sizes;
mod slice;
mod sort;
mod space;
mod split;
mod spool;
mod store;
mod stream;
mod survey;
mod work;

pub use decode::Encoding;
pub use digest::Tally;
pub use encode::Compression;
pub use engine::{plan, shuffle, shuffle_aligned};
pub use error::{Error, Result};
pub use input::Input;
pub use layout::Shards;
pub use options::{InputFormat, Job, Npy, Output, Records, Split, Tuning};
pub use order::{ALGORITHM, permutation};
pub use plan::{Plan, Strategy};
pub use record_reader::{Batch, RecordReader, Wait};
pub use report::{FileReport, PHASES, Report, Seconds};
pub use slice::Slice;
