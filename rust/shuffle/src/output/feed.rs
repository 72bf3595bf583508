//! The feed: shuffled records on their way to a reader.
//!
//! Records are copied to *pages*: their bytes, one record behind the other without delimiters, and
//! where each of them ends. A page covers a stretch of *positions*, of which every record has one
//! more than it has bytes, so that empty records count too; a page is found by its first position.
//! Workers fill pages of later buckets while the reader is still at earlier ones. The last free page
//! is for the worker whose stretch comes next, so there is always somebody who can go on.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use corekit_base::sync::{lock, unpoisoned};

use crate::error::{Error, Result};
use crate::output::cursor::Cursor;
use crate::run::Run;
use crate::store::pool::Part;

/// Bytes of a page for each of the ends that it has room for.
const BYTES_AN_END: usize = 16;

/// Bytes that a page of `page` bytes takes with its ends.
pub(crate) fn page_bytes(page: usize) -> usize {
    page + page / BYTES_AN_END * size_of::<u32>()
}

/// A window of pages between the workers and one reader.
#[derive(Default)]
pub(crate) struct Feed {
    state: Mutex<State>,
    filled: Condvar,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    memory: Option<Memory>,
    free: Vec<u32>,
    ready: BTreeMap<u64, Page>,
    /// The position that the reader is at, once known.
    next: Option<u64>,
    /// Pages in the reader's hands.
    taken: usize,
    /// The run is over: nothing more will come.
    ended: bool,
    /// Why, if it failed.
    error: Option<Error>,
    /// Records of all inputs, once counted.
    records: Option<u64>,
}

/// Where the pages lie.
#[derive(Clone, Copy)]
struct Memory {
    base: *mut u8,
    page: usize,
}

// SAFETY: a pointer to memory that the run keeps until the reader has given back every page
// (`Feed::drain`); pages have one owner at a time.
unsafe impl Send for Memory {}

/// A page that is filled.
#[derive(Clone, Copy)]
struct Page {
    slot: u32,
    /// The position behind it.
    to: u64,
    len: u32,
    ends: u32,
}

/// A page in the reader's hands.
pub(crate) struct TakenPage {
    slot: u32,
    memory: Memory,
    len: usize,
    ends: usize,
}

/// What the reader finds.
pub(crate) enum Next {
    Page(TakenPage),
    /// Not yet.
    Pending,
    End,
}

impl Memory {
    fn bytes(self, slot: u32) -> *mut u8 {
        // SAFETY: the pages lie one behind the other in the pool's part.
        unsafe { self.base.add(slot as usize * page_bytes(self.page)) }
    }

    fn ends(self, slot: u32) -> *mut u32 {
        // SAFETY: the ends lie behind the page's bytes, whose number is a multiple of 4.
        unsafe { self.bytes(slot).add(self.page).cast() }
    }

    fn most_ends(self) -> usize {
        self.page / BYTES_AN_END
    }
}

impl Feed {
    /// The run has memory for pages of `page` bytes.
    pub fn open(&self, part: &Part, page: usize) {
        let mut state = lock(&self.state);
        state.memory = Some(Memory {
            base: part.at(0),
            page,
        });
        state.free = (0..(part.len() / page_bytes(page)) as u32).collect();
    }

    /// The inputs have `records` records.
    pub fn count(&self, records: u64) {
        lock(&self.state).records = Some(records);
    }

    /// Records of all inputs, once counted.
    pub fn records(&self) -> Option<u64> {
        lock(&self.state).records
    }

    /// The first stretch begins at `position`; only the first call counts.
    pub fn begin(&self, position: u64) {
        lock(&self.state).next.get_or_insert(position);
    }

    /// A cursor for records from `position` on, whose first page begins at position `from`.
    pub fn cursor<'f, 'a>(
        &'f self,
        from: u64,
        position: u64,
        run: &'f Run<'a>,
    ) -> PageCursor<'f, 'a> {
        PageCursor {
            feed: self,
            run,
            page: None,
            from,
            position,
            at: std::ptr::NonNull::dangling().as_ptr(),
            room: 0,
            ends: 0,
        }
    }

    /// All pages are filled; waits until the reader has taken and given back all of them.
    pub fn drain(&self, run: &Run) -> Result<()> {
        let mut state = lock(&self.state);
        state.ended = true;
        self.filled.notify_all();
        while !state.ready.is_empty() || state.taken > 0 {
            state = run.wait(&self.freed, state)?;
        }
        state.memory = None;
        Ok(())
    }

    /// The run is over; waits only for the reader's hands to be off the memory.
    pub fn end(&self, error: Option<Error>) {
        let mut state = lock(&self.state);
        state.ended = true;
        state.ready.clear();
        if state.error.is_none() {
            state.error = error;
        }
        self.filled.notify_all();
        while state.taken > 0 {
            state = unpoisoned(self.freed.wait(state));
        }
        state.memory = None;
    }

    /// The next page, waited for at most `timeout`.
    pub fn take(&self, timeout: Duration) -> Result<Next> {
        let mut state = lock(&self.state);
        let mut waited = false;
        loop {
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            let page = state.next.and_then(|next| state.ready.remove(&next));
            if let (Some(page), Some(memory)) = (page, state.memory) {
                state.next = Some(page.to);
                state.taken += 1;
                return Ok(Next::Page(TakenPage {
                    slot: page.slot,
                    memory,
                    len: page.len as usize,
                    ends: page.ends as usize,
                }));
            }
            if state.ended {
                return Ok(Next::End);
            }
            if waited {
                return Ok(Next::Pending);
            }
            waited = true;
            (state, _) = unpoisoned(self.filled.wait_timeout(state, timeout));
        }
    }

    /// The reader is done with a page.
    pub fn give_back(&self, page: TakenPage) {
        let mut state = lock(&self.state);
        state.taken -= 1;
        state.free.push(page.slot);
        self.freed.notify_all();
    }

    fn acquire(&self, from: u64, run: &Run) -> Result<(u32, Memory)> {
        let mut state = lock(&self.state);
        loop {
            if (state.free.len() > 1 || state.is_next(from))
                && let Some(slot) = state.free.pop()
            {
                let closed = || Error::Internal("a page was asked for after the end".into());
                return Ok((slot, state.memory.ok_or_else(closed)?));
            }
            state = run.wait(&self.freed, state)?;
        }
    }

    fn hand_in(&self, from: u64, page: Page) {
        let mut state = lock(&self.state);
        state.ready.insert(from, page);
        // Who waits for the last page may now be the next one.
        self.freed.notify_all();
        self.filled.notify_one();
    }
}

impl State {
    /// Whether everything before `position` is there already.
    fn is_next(&self, position: u64) -> bool {
        let mut at = self.next.unwrap_or(position);
        while let Some(page) = self.ready.get(&at) {
            at = page.to;
        }
        at == position
    }
}

impl TakenPage {
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the page is this reader's until it is given back, and its first `len` bytes were
        // written before it was handed in.
        unsafe { std::slice::from_raw_parts(self.memory.bytes(self.slot), self.len) }
    }

    /// Where in the page its records end. Bytes behind the last end belong to a record that goes on
    /// in the next page.
    pub fn ends(&self) -> &[u32] {
        // SAFETY: as for `bytes`; the ends begin at a multiple of 4.
        unsafe { std::slice::from_raw_parts(self.memory.ends(self.slot), self.ends) }
    }
}

/// A worker's place in the feed: it writes one stretch, front to back.
pub(crate) struct PageCursor<'f, 'a> {
    feed: &'f Feed,
    run: &'f Run<'a>,
    page: Option<(u32, Memory)>,
    /// The first position of the present page, or of the next one.
    from: u64,
    position: u64,
    at: *mut u8,
    room: usize,
    ends: usize,
}

impl PageCursor<'_, '_> {
    #[cold]
    fn enter(&mut self) -> Result<()> {
        self.leave();
        let (slot, memory) = self.feed.acquire(self.from, self.run)?;
        self.page = Some((slot, memory));
        self.at = memory.bytes(slot);
        self.room = memory.page;
        self.ends = 0;
        Ok(())
    }

    /// Hands the present page in.
    pub fn leave(&mut self) {
        if let Some((slot, memory)) = self.page.take() {
            let page = Page {
                slot,
                to: self.position,
                len: (memory.page - self.room) as u32,
                ends: self.ends as u32,
            };
            self.feed.hand_in(self.from, page);
            self.from = self.position;
        }
        self.room = 0;
    }

    /// The first position behind what was handed in.
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl Cursor for PageCursor<'_, '_> {
    #[inline(always)]
    fn room(&mut self) -> Result<&mut [u8]> {
        if self.room == 0 {
            self.enter()?;
        }
        // SAFETY: `at..at + room` lies in the page, which is this cursor's until it is handed in.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.at, self.room) })
    }

    #[inline(always)]
    fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.room);
        // SAFETY: len <= room, so the result is inside the page or at its end.
        self.at = unsafe { self.at.add(len) };
        self.room -= len;
        self.position += len as u64;
    }

    #[inline(always)]
    fn end_record(&mut self) -> Result<()> {
        let (slot, memory) = match self.page {
            Some((slot, memory)) if self.ends < memory.most_ends() => (slot, memory),
            _ => {
                self.enter()?;
                self.page
                    .ok_or_else(|| Error::Internal("a page was lost".into()))?
            }
        };
        let used = (memory.page - self.room) as u32;
        // SAFETY: fewer than `most_ends` ends are there, and the page is this cursor's.
        unsafe { memory.ends(slot).add(self.ends).write(used) };
        self.ends += 1;
        self.position += 1;
        Ok(())
    }
}
