//! Blocks and buckets: where scattered records stay until they are written.
//!
//! The pool is cut into fixed-size blocks. A *bucket* is a range of keys; its records lie in blocks.
//! Workers do not write into blocks directly: a worker takes a *slab*, a stretch of its bucket's
//! current block, writes records into it without any lock, and closes it. A block whose space is
//! used up is *sealed*; sealed and with no slab open it is *complete*.
//!
//! When no block is free, the highest resident bucket is evicted: its complete blocks go to scratch
//! and come back later (`OnFull::Spill`), or are dropped, to be read again from the input
//! (`OnFull::Drop`). Buckets are evicted from the highest down, so the resident ones are always a
//! range, which ends at `resident_end`.
//!
//! A worker that has to wait first closes its slabs in sealed blocks. Then blocks that are not free
//! are current (one a bucket) or complete (being written, or evictable), so with more blocks than
//! buckets somebody can always go on.
//!
//! Where a bucket's blocks lie in scratch is a list that would grow with the input; so each bucket
//! keeps only the last few numbers, and when those are too many they move into the head of the next
//! block written, whose number then stands for them all.
//!
//! Below it lie the [`pool`], which all memory comes from, and [`scratch`]. How records lie in a slab
//! is told in [`record`]; long records of sequences wait in the [`spool`]; and a bucket that is too
//! large is given back block by block ([`block_queue`]).

#![allow(unsafe_code)]

pub(crate) mod block_queue;
pub(crate) mod cache;
pub(crate) mod pool;
pub(crate) mod record;
pub(crate) mod scratch;
pub(crate) mod spool;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};

use corekit_base::memory::try_vec;
use corekit_base::sync::lock;

use self::pool::{ALIGN, Part};
use self::scratch::Scratch;
use crate::digest::Tally;
use crate::error::Result;
use crate::run::Run;

/// Head of a block: bytes used, number of listed block numbers, the numbers.
pub(crate) const BLOCK_HEAD: usize = 128;
const LISTED: usize = BLOCK_HEAD / 4 - 2;

/// Head of a slab: its bytes, and the bytes used.
pub(crate) const SLAB_HEAD: usize = 8;

/// Most blocks written by one system call.
const WRITE_BATCH: usize = 16;

const NONE: u32 = u32::MAX;

/// What happens to evicted records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFull {
    /// They go to scratch.
    Spill,
    /// They are dropped, to be read again.
    Drop,
}

/// A range of keys and where its records are.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// All records of the bucket, resident or not.
    pub tally: Tally,
    /// The block that slabs are cut from.
    current: u32,
    /// Complete blocks in memory: a list through `Meta::next`.
    head: u32,
    /// Blocks in memory.
    pub resident: u32,
    /// Blocks in scratch.
    pub spilled: u32,
    listed: [u32; LISTED],
    n_listed: usize,
}

/// One fan-out: the buckets of all keys that begin with `prefix`.
#[derive(Debug)]
pub(crate) struct Level {
    pub prefix: u64,
    pub prefix_bits: u32,
    pub bits: u32,
    pub on_full: OnFull,
    pub buckets: Vec<Bucket>,
    /// Buckets that are scattered in this pass; the others are only counted.
    pub keep: Range<usize>,
    /// Buckets of `keep` from here on are evicted.
    pub resident_end: usize,
    /// Buckets from here on are not wanted at all: they lie beyond a sample.
    pub wanted_end: usize,
    /// Blocks written to this level's scratch file.
    pub scratch_blocks: u32,
}

impl Level {
    pub fn new(prefix: u64, prefix_bits: u32, bits: u32, on_full: OnFull) -> Result<Self> {
        let n = 1usize << bits;
        let mut buckets = try_vec("the bucket table", n)?;
        buckets.resize(
            n,
            Bucket {
                tally: Tally::default(),
                current: NONE,
                head: NONE,
                resident: 0,
                spilled: 0,
                listed: [NONE; LISTED],
                n_listed: 0,
            },
        );
        Ok(Self {
            prefix,
            prefix_bits,
            bits,
            on_full,
            buckets,
            keep: 0..n,
            resident_end: n,
            wanted_end: n,
            scratch_blocks: 0,
        })
    }

    /// Buckets from here on take no records.
    fn open_end(&self) -> usize {
        match self.on_full {
            OnFull::Drop => self.resident_end.min(self.wanted_end),
            OnFull::Spill => self.wanted_end,
        }
    }

    /// The bits of a key that this level and those above it have used.
    pub fn used_bits(&self) -> u32 {
        self.prefix_bits + self.bits
    }

    /// The prefix of bucket `bucket`'s keys.
    pub fn prefix_of(&self, bucket: usize) -> u64 {
        (self.prefix << self.bits) | bucket as u64
    }
}

#[derive(Clone, Copy)]
struct Meta {
    bucket: u32,
    next: u32,
    used: u32,
    /// The most bytes of the block that were ever used: what of it is resident.
    most: u32,
    open: u16,
    sealed: bool,
}

impl Meta {
    fn most_used(&self) -> u32 {
        self.most.max(self.used)
    }
}

struct State {
    level: Level,
    free: Vec<u32>,
    /// Blocks from here on have never been used.
    fresh: u32,
    metas: Vec<Meta>,
    queue: VecDeque<u32>,
    writing: usize,
    /// No more blocks will be queued.
    drained: bool,
}

/// A stretch of a block that one worker writes to.
pub(crate) struct Slab {
    pub at: *mut u8,
    pub len: usize,
    pub block: u32,
}

/// All blocks, and the level that is being scattered or written.
pub(crate) struct Store {
    memory: Part,
    block: usize,
    n_blocks: u32,
    state: Mutex<State>,
    freed: Condvar,
    queued: Condvar,
    /// `Level::open_end`, for workers that must not lock to learn that records are dropped.
    open_end: AtomicUsize,
}

impl Store {
    pub fn new(memory: Part, block: usize, level: Level) -> Result<Self> {
        let n_blocks = memory.len() / block;
        let free = try_vec("the block table", n_blocks)?;
        let mut metas = try_vec("the block table", n_blocks)?;
        metas.resize(
            n_blocks,
            Meta {
                bucket: 0,
                next: NONE,
                used: 0,
                most: 0,
                open: 0,
                sealed: false,
            },
        );
        let store = Self {
            memory,
            block,
            n_blocks: n_blocks as u32,
            open_end: AtomicUsize::new(usize::MAX),
            state: Mutex::new(State {
                level,
                free,
                fresh: 0,
                metas,
                queue: VecDeque::new(),
                writing: 0,
                drained: false,
            }),
            freed: Condvar::new(),
            queued: Condvar::new(),
        };
        Ok(store)
    }

    pub fn block_bytes(&self) -> usize {
        self.block
    }

    pub fn n_blocks(&self) -> usize {
        self.n_blocks as usize
    }

    /// Bytes of blocks that were ever used: the resident ones.
    pub fn touched(&self) -> u64 {
        let state = lock(&self.state);
        let page = |bytes: u32| u64::from(bytes).next_multiple_of(ALIGN as u64);
        state.metas.iter().map(|meta| page(meta.most_used())).sum()
    }

    /// Begins to scatter a pass: which buckets are kept, which of these are evicted from the start.
    pub fn begin(&self, keep: Range<usize>, resident_end: usize) {
        let mut state = lock(&self.state);
        state.level.keep = keep;
        state.level.resident_end = resident_end;
        state.drained = false;
        self.open_end.store(state.level.open_end(), Relaxed);
    }

    /// Gives up all records: every block is free, and `level` takes the present one's place. Nobody
    /// holds a block.
    pub fn restart(&self, level: Level) {
        let mut state = lock(&self.state);
        let s = &mut *state;
        s.level = level;
        s.free.clear();
        s.free.extend(0..s.fresh);
    }

    /// Puts `level` in place of the present one, which is returned.
    pub fn swap_level(&self, level: Level) -> Level {
        std::mem::replace(&mut lock(&self.state).level, level)
    }

    /// The level, while nobody scatters.
    pub fn level<T>(&self, look: impl FnOnce(&mut Level) -> T) -> T {
        look(&mut lock(&self.state).level)
    }

    /// Buckets from here on take no records, as far as is known without a lock.
    pub fn open_end(&self) -> usize {
        self.open_end.load(Relaxed)
    }

    /// A slab for `bucket` with room for `need` bytes, and for `want` if that can be had in the
    /// same block; `None` when the bucket's records are dropped. `close_sealed` must close the
    /// worker's slabs that lie in sealed blocks; it is called before the worker waits.
    pub fn acquire(
        &self,
        bucket: usize,
        need: usize,
        want: usize,
        run: &Run,
        mut close_sealed: impl FnMut(&mut dyn FnMut(u32) -> bool),
    ) -> Result<Option<Slab>> {
        debug_assert!(need <= self.block - BLOCK_HEAD);
        let mut state = lock(&self.state);
        let mut closed = false;
        loop {
            let s = &mut *state;
            if bucket >= s.level.open_end() {
                return Ok(None);
            }
            let current = s.level.buckets[bucket].current;
            if current != NONE {
                let meta = &mut s.metas[current as usize];
                let room = self.block - meta.used as usize;
                if room >= need {
                    // A remainder that is too small to be a slab goes with this one.
                    let len = if room < want + need.min(want) {
                        room
                    } else {
                        want.max(need)
                    };
                    let at = self
                        .memory
                        .at(current as usize * self.block + meta.used as usize);
                    meta.used += len as u32;
                    meta.open += 1;
                    return Ok(Some(Slab {
                        at,
                        len,
                        block: current,
                    }));
                }
                s.level.buckets[bucket].current = NONE;
                s.metas[current as usize].sealed = true;
                if s.metas[current as usize].open == 0 {
                    self.complete(s, current);
                }
            }
            if let Some(block) = self.allocate(s) {
                s.metas[block as usize] = Meta {
                    bucket: bucket as u32,
                    next: NONE,
                    used: BLOCK_HEAD as u32,
                    most: s.metas[block as usize].most_used(),
                    open: 0,
                    sealed: false,
                };
                s.level.buckets[bucket].current = block;
                s.level.buckets[bucket].resident += 1;
                continue;
            }
            // While blocks are on their way to scratch some will be free soon.
            if s.queue.is_empty() && s.writing == 0 && self.evict(s) {
                continue;
            }
            if !closed {
                closed = true;
                close_sealed(&mut |block| {
                    let sealed = s.metas[block as usize].sealed;
                    if sealed {
                        self.close_locked(s, block);
                    }
                    sealed
                });
                continue;
            }
            state = run.wait(&self.freed, state)?;
            // Blocks may have been sealed meanwhile.
            closed = false;
        }
    }

    /// Closes a slab of `block`.
    pub fn close(&self, block: u32) {
        self.close_locked(&mut lock(&self.state), block);
    }

    fn close_locked(&self, state: &mut State, block: u32) {
        let meta = &mut state.metas[block as usize];
        meta.open -= 1;
        if meta.sealed && meta.open == 0 {
            self.complete(state, block);
        }
    }

    fn allocate(&self, state: &mut State) -> Option<u32> {
        state.free.pop().or_else(|| {
            (state.fresh < self.n_blocks).then(|| {
                state.fresh += 1;
                state.fresh - 1
            })
        })
    }

    fn release(&self, state: &mut State, block: u32) {
        state.free.push(block);
        self.freed.notify_all();
    }

    /// A block came to its end: it stays, is queued for scratch, or is dropped.
    fn complete(&self, state: &mut State, block: u32) {
        let meta = state.metas[block as usize];
        let bucket = meta.bucket as usize;
        if bucket < state.level.resident_end {
            self.write_head(block, meta.used, &[]);
            state.metas[block as usize].next = state.level.buckets[bucket].head;
            state.level.buckets[bucket].head = block;
        } else {
            self.leave(state, block);
        }
    }

    /// A complete block leaves memory.
    fn leave(&self, state: &mut State, block: u32) {
        let bucket = state.metas[block as usize].bucket as usize;
        state.level.buckets[bucket].resident -= 1;
        if bucket >= state.level.open_end() {
            self.release(state, block);
        } else {
            state.queue.push_back(block);
            self.queued.notify_one();
        }
    }

    /// Evicts the highest resident bucket; false when there is none.
    fn evict(&self, state: &mut State) -> bool {
        if state.level.resident_end == state.level.keep.start {
            return false;
        }
        state.level.resident_end -= 1;
        self.empty(state, state.level.resident_end);
        true
    }

    /// Drops the highest resident bucket of a level that drops; false when there is none.
    pub fn drop_highest(&self) -> bool {
        let mut state = lock(&self.state);
        state.level.on_full == OnFull::Drop && self.evict(&mut state)
    }

    /// The records beyond `bucket` are not wanted: what memory they have is given back.
    pub fn want_only(&self, bucket: usize) {
        let mut state = lock(&self.state);
        while state.level.wanted_end > bucket {
            state.level.wanted_end -= 1;
            state.level.resident_end = state.level.resident_end.min(state.level.wanted_end);
            let last = state.level.wanted_end;
            self.empty(&mut state, last);
        }
    }

    /// Takes what blocks it can from a bucket that is not resident any more; the others follow
    /// when they are complete.
    fn empty(&self, state: &mut State, bucket: usize) {
        self.open_end.store(state.level.open_end(), Relaxed);
        if bucket >= state.level.open_end() {
            // The current block will take no more slabs.
            let current = std::mem::replace(&mut state.level.buckets[bucket].current, NONE);
            if current != NONE {
                state.metas[current as usize].sealed = true;
                if state.metas[current as usize].open == 0 {
                    self.leave(state, current);
                }
            }
        }
        let mut block = std::mem::replace(&mut state.level.buckets[bucket].head, NONE);
        while block != NONE {
            let next = state.metas[block as usize].next;
            self.leave(state, block);
            block = next;
        }
    }

    /// All slabs are closed: every bucket's last block becomes complete. When fewer than `spare`
    /// blocks would be free, last blocks of evicted buckets go to scratch too.
    pub fn finish(&self, spare: usize) {
        let mut state = lock(&self.state);
        let s = &mut *state;
        for bucket in (0..s.level.buckets.len()).rev() {
            let current = std::mem::replace(&mut s.level.buckets[bucket].current, NONE);
            if current == NONE {
                continue;
            }
            let free =
                s.free.len() + (self.n_blocks - s.fresh) as usize + s.queue.len() + s.writing;
            if bucket >= s.level.resident_end && bucket < s.level.open_end() && free < spare {
                self.leave(s, current);
            } else {
                self.write_head(current, s.metas[current as usize].used, &[]);
                s.metas[current as usize].next = s.level.buckets[bucket].head;
                s.level.buckets[bucket].head = current;
            }
        }
        s.drained = true;
        self.queued.notify_all();
    }

    /// Writes queued blocks to scratch until the pass is finished: the body of a writer thread.
    pub fn write_queued(
        &self,
        scratch: &(dyn Fn() -> Result<std::sync::Arc<Scratch>> + Sync),
        run: &Run,
    ) -> Result<()> {
        let mut state = lock(&self.state);
        loop {
            if state.queue.is_empty() {
                if state.drained {
                    return Ok(());
                }
                state = run.wait(&self.queued, state)?;
                continue;
            }
            run.check()?;
            let n = state.queue.len().min(WRITE_BATCH);
            let batch: Vec<u32> = state.queue.drain(..n).collect();
            let first = state.level.scratch_blocks;
            for (i, &block) in batch.iter().enumerate() {
                self.number(&mut state, block, first + i as u32);
            }
            state.level.scratch_blocks += n as u32;
            state.writing += n;
            drop(state);
            // SAFETY: the blocks are complete and in no list: no other thread touches them until
            // they are released below.
            let views: Vec<&[u8]> = batch
                .iter()
                .map(|&block| unsafe { self.view(block) })
                .collect();
            scratch()?.write(first, &views)?;
            state = lock(&self.state);
            state.writing -= n;
            for &block in &batch {
                self.release(&mut state, block);
            }
        }
    }

    /// Gives a block its number in scratch; when the bucket's list is full, the list moves into
    /// the block's head.
    fn number(&self, state: &mut State, block: u32, number: u32) {
        let meta = state.metas[block as usize];
        let bucket = &mut state.level.buckets[meta.bucket as usize];
        let moved = if bucket.n_listed == LISTED { LISTED } else { 0 };
        self.write_head(block, meta.used, &bucket.listed[..moved]);
        bucket.n_listed -= moved;
        bucket.listed[bucket.n_listed] = number;
        bucket.n_listed += 1;
        bucket.spilled += 1;
    }

    fn write_head(&self, block: u32, used: u32, listed: &[u32]) {
        let head = self.memory.at(block as usize * self.block);
        // SAFETY: the block is complete, so no worker writes to it, and it is in no reader's hands
        // yet; its head is BLOCK_HEAD bytes inside the pool.
        let head = unsafe { std::slice::from_raw_parts_mut(head, BLOCK_HEAD) };
        head[..4].copy_from_slice(&used.to_le_bytes());
        head[4..8].copy_from_slice(&(listed.len() as u32).to_le_bytes());
        for (to, number) in head[8..].chunks_exact_mut(4).zip(listed) {
            to.copy_from_slice(&number.to_le_bytes());
        }
    }

    /// The bytes of a block.
    ///
    /// # Safety
    /// Nobody writes to the block while the view lives: it is complete, and is in the hands of the
    /// caller alone.
    pub unsafe fn view(&self, block: u32) -> &[u8] {
        // SAFETY: inside the pool; not written to, by the caller's promise.
        unsafe {
            std::slice::from_raw_parts(self.memory.at(block as usize * self.block), self.block)
        }
    }

    /// The bytes of a block, to be overwritten.
    ///
    /// # Safety
    /// The block is in the hands of the caller alone.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn view_mut(&self, block: u32) -> &mut [u8] {
        let at = self.memory.at(block as usize * self.block);
        // SAFETY: inside the pool; the caller's alone, by its promise.
        unsafe { std::slice::from_raw_parts_mut(at, self.block) }
    }

    /// Takes a bucket's blocks: those in memory, and the numbers of those in scratch as far as
    /// they are not listed in the heads of others.
    pub fn take(&self, bucket: usize) -> (Vec<u32>, Vec<u32>) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let entry = &mut state.level.buckets[bucket];
        let mut resident = Vec::with_capacity(entry.resident as usize);
        let mut block = std::mem::replace(&mut entry.head, NONE);
        while block != NONE {
            resident.push(block);
            block = state.metas[block as usize].next;
        }
        entry.resident = 0;
        let listed = entry.listed[..std::mem::take(&mut entry.n_listed)].to_vec();
        (resident, listed)
    }

    /// A free block, for reading scratch back into.
    pub fn try_allocate(&self) -> Option<u32> {
        let mut state = lock(&self.state);
        let block = self.allocate(&mut state)?;
        state.metas[block as usize].most = self.block as u32;
        Some(block)
    }

    /// Gives blocks back.
    pub fn release_all(&self, blocks: &[u32]) {
        let mut state = lock(&self.state);
        for &block in blocks {
            self.release(&mut state, block);
        }
    }

    /// Blocks that are free now.
    pub fn n_free(&self) -> usize {
        let state = lock(&self.state);
        state.free.len() + (self.n_blocks - state.fresh) as usize
    }
}

/// Numbers listed in a block's head.
pub(crate) fn listed(block: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let n = (word(block, 4) as usize).min(LISTED);
    (0..n).map(|i| word(block, 8 + 4 * i))
}

/// Bytes used of a block.
pub(crate) fn used(block: &[u8]) -> usize {
    (word(block, 0) as usize).clamp(BLOCK_HEAD, block.len())
}

/// The little-endian word at `at`.
#[inline(always)]
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}
