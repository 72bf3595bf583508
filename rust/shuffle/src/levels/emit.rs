//! Emission: a run of buckets goes to the output, in order.
//!
//! Buckets are admitted to a short window in order. Readers fetch the blocks of admitted buckets
//! back from scratch into free blocks, several requests in flight; workers take the first bucket of
//! the window as soon as it is all in memory, gather it, and free its blocks. A bucket's blocks are
//! all assigned before the next bucket gets any, so the first one can always be completed.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Condvar, Mutex};

use corekit_base::sync::lock;

use crate::digest::Tally;
use crate::error::Result;
use crate::levels::gather::{Gather, Loaded, Sink};
use crate::run::Run;
use crate::store::scratch::Scratch;
use crate::store::{Store, listed};

/// A bucket that is being fetched, or waits for a worker.
struct Admitted {
    bucket: usize,
    blocks: Vec<u32>,
    /// Scratch numbers that are known and not yet being read.
    numbers: Vec<u32>,
    /// Blocks in scratch that nobody is reading yet, whether their numbers are known or not.
    unread: u32,
    reading: u32,
    tally: Tally,
    position: u64,
    record: u64,
    skip: u64,
    limit: u64,
}

impl Admitted {
    fn is_ready(&self) -> bool {
        self.unread == 0 && self.reading == 0
    }
}

struct State {
    buckets: Range<usize>,
    window: VecDeque<Admitted>,
    /// Where the next bucket to be admitted begins in the output, in bytes and in records.
    position: u64,
    record: u64,
    /// Records that are to be passed over before that.
    skip: u64,
    /// Records that may still be written.
    left: u64,
    written: Tally,
    /// Where the output ends so far.
    end: u64,
}

pub(crate) struct Emission<'a> {
    store: &'a Store,
    scratch: Option<&'a Scratch>,
    gather: &'a Gather<'a>,
    run: &'a Run<'a>,
    prefix_bits: u32,
    ahead: usize,
    state: Mutex<State>,
    changed: Condvar,
}

/// Where the output stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Bytes of output, prefixes not counted, and records.
    pub position: u64,
    pub record: u64,
    /// Records that are to be passed over before any is written.
    pub skip: u64,
    /// Records that may still be written.
    pub left: u64,
    /// What was written.
    pub written: Tally,
}

impl<'a> Emission<'a> {
    pub fn new(
        store: &'a Store,
        scratch: Option<&'a Scratch>,
        gather: &'a Gather<'a>,
        run: &'a Run<'a>,
        buckets: Range<usize>,
        workers: usize,
        from: Progress,
    ) -> Self {
        Self {
            store,
            scratch,
            gather,
            run,
            prefix_bits: store.level(|level| level.used_bits()),
            ahead: workers + 2,
            state: Mutex::new(State {
                buckets,
                window: VecDeque::new(),
                position: from.position,
                record: from.record,
                skip: from.skip,
                left: from.left,
                written: from.written,
                end: from.position,
            }),
            changed: Condvar::new(),
        }
    }

    /// Where the output stands when all workers are done.
    pub fn progress(&self) -> Progress {
        let state = lock(&self.state);
        Progress {
            position: state.end,
            record: state.record,
            skip: state.skip,
            left: state.left,
            written: state.written,
        }
    }

    /// Admits buckets as far as the window and the order of assignment allow.
    fn admit(&self, state: &mut State) {
        while state.window.len() < self.ahead
            && !state.buckets.is_empty()
            && state.left > 0
            && state.window.iter().all(|admitted| admitted.unread == 0)
        {
            let bucket = state.buckets.start;
            state.buckets.start += 1;
            let (tally, spilled) = self
                .store
                .level(|level| (level.buckets[bucket].tally, level.buckets[bucket].spilled));
            if tally.records == 0 {
                continue;
            }
            let (blocks, numbers) = self.store.take(bucket);
            let bytes = tally.bytes + tally.records * self.gather.delimiter.len() as u64;
            if tally.records <= state.skip {
                state.skip -= tally.records;
                state.record += tally.records;
                state.position += bytes;
                self.store.release_all(&blocks);
                continue;
            }
            if let Sink::Feed(feed) = self.gather.sink {
                feed.begin(state.position + state.record);
            }
            let skip = std::mem::take(&mut state.skip);
            let limit = (skip + state.left).min(tally.records);
            state.window.push_back(Admitted {
                bucket,
                blocks,
                numbers,
                unread: spilled,
                reading: 0,
                tally,
                position: state.position,
                record: state.record,
                skip,
                limit,
            });
            state.left -= limit - skip;
            state.record += limit;
            state.position += bytes;
            self.changed.notify_all();
        }
    }

    fn is_done(&self, state: &State) -> bool {
        state.window.is_empty() && (state.buckets.is_empty() || state.left == 0)
    }

    /// Gathers one bucket after the other: the body of a worker.
    pub fn work(&self, index: &mut [u64]) -> Result<()> {
        let mut state = lock(&self.state);
        loop {
            self.admit(&mut state);
            if self.is_done(&state) {
                self.changed.notify_all();
                return Ok(());
            }
            if !state.window.front().is_some_and(Admitted::is_ready) {
                state = self.run.wait(&self.changed, state)?;
                continue;
            }
            let Some(admitted) = state.window.pop_front() else {
                continue;
            };
            self.admit(&mut state);
            drop(state);
            // SAFETY: the blocks were taken from the store or read back for this bucket; they are
            // this worker's alone until they are released.
            let blocks = admitted
                .blocks
                .iter()
                .map(|&b| unsafe { self.store.view(b) })
                .collect();
            let loaded = Loaded {
                blocks,
                prefix_bits: self.prefix_bits,
                tally: admitted.tally,
                position: admitted.position,
                record: admitted.record,
                skip: admitted.skip,
                limit: admitted.limit,
            };
            let (written, end) = self.gather.bucket(&loaded, index)?;
            drop(loaded);
            self.store.release_all(&admitted.blocks);
            state = lock(&self.state);
            state.written.merge(&written);
            state.end = state.end.max(end);
            self.changed.notify_all();
        }
    }

    /// Fetches blocks from scratch: the body of a reader thread.
    pub fn fetch(&self) -> Result<()> {
        let Some(scratch) = self.scratch else {
            return Ok(());
        };
        let mut state = lock(&self.state);
        loop {
            self.admit(&mut state);
            if self.is_done(&state) {
                return Ok(());
            }
            let wanted = state
                .window
                .iter_mut()
                .find(|admitted| !admitted.numbers.is_empty());
            let Some((admitted, block)) =
                wanted.and_then(|admitted| Some((admitted, self.store.try_allocate()?)))
            else {
                state = self.run.wait(&self.changed, state)?;
                continue;
            };
            let Some(number) = admitted.numbers.pop() else {
                continue;
            };
            let bucket = admitted.bucket;
            admitted.unread -= 1;
            admitted.reading += 1;
            drop(state);
            self.run.check()?;
            // SAFETY: the block was free and is this reader's alone until it is handed on below.
            let bytes = unsafe { self.store.view_mut(block) };
            scratch.read(number, bytes)?;
            let more: Vec<u32> = listed(bytes).collect();
            state = lock(&self.state);
            if let Some(admitted) = state.window.iter_mut().find(|a| a.bucket == bucket) {
                admitted.blocks.push(block);
                admitted.numbers.extend(more);
                admitted.reading -= 1;
            }
            self.changed.notify_all();
        }
    }
}
