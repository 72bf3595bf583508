//! Exactly uniform shuffling of the records of files far larger than memory.
//!
//! The order is a formula ([`order`]): every record has a 64-bit key that depends on nothing but the
//! seed, the input's number and the record's index, and the output is all records by key. What this
//! crate does is to bring the records into that order within a memory limit: a sort by keys that are
//! perfectly even and that nobody has to store.
//!
//! # A run
//!
//! A caller fills in a [`Job`] ([`options`]) and calls [`shuffle`], [`shuffle_aligned`] or
//! [`RecordReader`] ([`record_reader`]). The [`engine`] checks the job ([`check`]), looks at the
//! inputs, makes the [plan](mod@plan), which divides the memory limit, and allocates the one region
//! that all large buffers come from ([`store::pool`]). Then each epoch of [`work`] goes through
//! [`levels`]:
//!
//! 1. *Scatter*: workers read chunks of input ([`input::reader`]), decoded if need be
//!    ([`input::sequence`], [`input::decode`]), cut them into records ([`input::split`]), and send
//!    each record to a bucket by the leading bits of its key ([`levels::scatter`], [`store`]).
//! 2. What does not fit in memory is evicted, from the highest keys down: to scratch
//!    ([`store::scratch`]), or away, to be read again from the input.
//! 3. *Emit*: bucket by bucket, records are brought back ([`levels::emit`]), sorted and copied
//!    ([`levels::gather`], [`levels::sort`]) to the output ([`output`]): through frames to a file, a
//!    stream or a set of files, or through pages to a reader in this process.
//!
//! A bucket that is too large is a level of its own, with the next bits of the key. The output is the
//! same for every plan, and a run proves it: the [`digest`] of what was read must be that of what was
//! written, or nothing is published. What the run did is in its [`report`].
//!
//! # Where to look
//!
//! - [`input`]: from files, pipes and archives to whole records.
//! - [`order`]: the keys, and which part of the order is wanted.
//! - [`plan`](mod@plan): how much memory everything gets, and what is evicted where to.
//! - [`store`]: memory and scratch, in blocks; how records lie in them.
//! - [`levels`]: the passes: scatter, emit, gather, sort.
//! - [`output`]: frames, encoders, and what it takes to publish all or nothing.
//!
//! Beside these folders stand the caller's side ([`options`], [`report`], [`error`]) and what holds a
//! run together: [`engine`], [`work`], and [`run`], by which its threads stop when one of them fails.
//!
//! To read it all, begin with [`engine`] and [`levels`]; to change a format, with [`input`] or
//! [`output`]; the order itself is short, and fixed.

mod check;
mod digest;
mod engine;
mod error;
mod input;
mod levels;
mod options;
mod order;
mod output;
mod plan;
mod record_reader;
mod report;
mod run;
mod store;
mod work;

pub use digest::Tally;
pub use engine::{plan, shuffle, shuffle_aligned};
pub use error::{Error, Result};
pub use input::Input;
pub use input::decode::Encoding;
pub use options::{InputFormat, Job, Npy, Output, Records, Split, Tuning};
pub use order::slice::Slice;
pub use order::{ALGORITHM, permutation};
pub use output::encode::Compression;
pub use output::layout::Shards;
pub use plan::{Plan, Strategy};
pub use record_reader::{Batch, RecordReader, Wait};
pub use report::{FileReport, PHASES, Report, Seconds};
