//! Output frames: a window of fixed-size pieces that slides over the output.
//!
//! The output is a row of sections, each a file of its own or the only one, and frame `i` of a
//! section is its bytes `[i * F, (i + 1) * F)`, the section's prefix (a header) counted. Frames are
//! numbered through all sections. Workers know where in the output their records go and write them
//! into frames directly; whoever fills the last gap of a frame hands it to the writers. So every
//! write is whole and aligned, whichever workers filled it, no worker waits for another to write
//! first, and what a frame holds depends on nothing but the output.
//!
//! The window is the frames that are not yet written, from the lowest one on. A worker that is ahead
//! of the window waits. The worker with the lowest range never waits for itself: its first byte lies
//! in the lowest unwritten frame, and everything before that byte is there.
//!
//! Where the output is compressed, a writer encodes a frame beside the others, and appends it when
//! all lower ones are.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};

use corekit_base::sync::lock;

use crate::error::Result;
use crate::output::append::Appender;
use crate::output::cursor::Cursor;
use crate::output::destination::Destination;
use crate::output::encode::Encoder;
use crate::run::Run;
use crate::store::pool::Part;

/// A section of the output: where its frames and its records begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// Which file it is.
    pub number: u64,
    /// Its first frame.
    frame: u64,
    /// The byte of the output, prefixes not counted, that follows its prefix.
    start: u64,
    /// Bytes before its records.
    prefix: u64,
}

impl Section {
    /// The byte of the output at which its records begin.
    pub fn start(&self) -> u64 {
        self.start
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// So many bytes are there.
    Filling(usize),
    Writing,
    /// Written, but a lower frame is not.
    Written,
}

/// A section with frames that are not written.
struct Span {
    section: Section,
    /// Its bytes, once known.
    len: Option<u64>,
}

struct State {
    /// The lowest frame that is not written; it has slot `lowest % slots`.
    lowest: u64,
    slots: Vec<Slot>,
    /// Full frames that no writer took yet, and those that writers have.
    full: Vec<u64>,
    taken: Vec<u64>,
    spans: VecDeque<Span>,
    /// The output is complete.
    finished: bool,
}

/// The window and what is behind it.
pub(crate) struct Frames<'a> {
    memory: Part,
    frame: usize,
    run: &'a Run<'a>,
    destination: &'a Destination,
    /// Where compressed frames are put together.
    appender: Option<Mutex<Appender>>,
    /// How many threads write.
    writers: usize,
    state: Mutex<State>,
    moved: Condvar,
    filled: Condvar,
    written: AtomicU64,
    stored: AtomicU64,
}

/// A worker's place in a section: it writes one range, front to back.
pub(crate) struct FrameCursor<'f, 'a> {
    frames: &'f Frames<'a>,
    section: Section,
    /// Where in the section the next byte goes, and where the range ends.
    position: u64,
    end: u64,
    at: *mut u8,
    room: usize,
    /// Bytes written to the present frame.
    here: usize,
}

/// A full frame that a writer took.
struct Taken {
    frame: u64,
    section: u64,
    offset: u64,
    len: usize,
    /// It is the last one of its section.
    last: bool,
}

impl<'a> Frames<'a> {
    pub fn new(
        memory: Part,
        frame: usize,
        appender: Option<Appender>,
        writers: usize,
        run: &'a Run<'a>,
        destination: &'a Destination,
    ) -> Self {
        let n = memory.len() / frame;
        Self {
            memory,
            frame,
            run,
            destination,
            appender: appender.map(Mutex::new),
            writers,
            state: Mutex::new(State {
                lowest: 0,
                slots: vec![Slot::Filling(0); n],
                full: Vec::with_capacity(n),
                taken: Vec::new(),
                spans: VecDeque::new(),
                finished: false,
            }),
            moved: Condvar::new(),
            filled: Condvar::new(),
            written: AtomicU64::new(0),
            stored: AtomicU64::new(0),
        }
    }

    /// Begins section `number`, whose records begin at byte `start` of the output; the section
    /// before it ends there.
    pub fn begin(&self, number: u64, start: u64, prefix: u64) -> Section {
        let mut state = lock(&self.state);
        let frame = self.end_section(&mut state, start);
        let section = Section {
            number,
            frame,
            start,
            prefix,
        };
        state.spans.push_back(Span { section, len: None });
        section
    }

    /// A cursor for the bytes from `start` to `end` of the output, which lie in `section`. No two
    /// cursors' ranges overlap.
    pub fn cursor<'f>(&'f self, section: Section, start: u64, end: u64) -> FrameCursor<'f, 'a> {
        let inside = |position: u64| section.prefix + position - section.start;
        self.cursor_at(section, inside(start), inside(end))
    }

    /// A cursor for a section's prefix.
    pub fn prefix_cursor<'f>(&'f self, section: Section) -> FrameCursor<'f, 'a> {
        self.cursor_at(section, 0, section.prefix)
    }

    fn cursor_at<'f>(&'f self, section: Section, position: u64, end: u64) -> FrameCursor<'f, 'a> {
        FrameCursor {
            frames: self,
            section,
            position,
            end,
            at: std::ptr::NonNull::dangling().as_ptr(),
            room: 0,
            here: 0,
        }
    }

    /// Bytes of the output, prefixes counted, that the destination has.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// The same as they are stored there.
    pub fn stored(&self) -> u64 {
        self.stored.load(Relaxed)
    }

    /// The output's records are `total` bytes long and all of them are in frames: the last frame may
    /// go.
    pub fn finish(&self, total: u64) {
        let mut state = lock(&self.state);
        self.end_section(&mut state, total);
        state.finished = true;
        self.filled.notify_all();
    }

    /// The last section ends at byte `end` of the output; returns the first frame behind it.
    fn end_section(&self, state: &mut State, end: u64) -> u64 {
        let Some(span) = state.spans.back_mut() else {
            return 0;
        };
        let Section {
            frame,
            start,
            prefix,
            ..
        } = span.section;
        let len = prefix + end - start;
        span.len = Some(len);
        let behind = frame + self.frames_of(len);
        self.settle(state, behind - 1);
        behind
    }

    /// Frames of a section of `len` bytes: an empty one has an empty frame.
    fn frames_of(&self, len: u64) -> u64 {
        len.div_ceil(self.frame as u64).max(1)
    }

    /// Writes full frames until the output is finished: the body of a writer thread. `encoder` comes
    /// with room for an encoded frame.
    pub fn write(&self, mut encoder: Option<(&mut Encoder, &mut [u8])>) -> Result<()> {
        let in_order = self.destination.is_stream() && encoder.is_none();
        loop {
            let Some(taken) = self.take(in_order)? else {
                return Ok(());
            };
            self.run.check()?;
            // SAFETY: the frame is full and no cursor is in it any more; its slot is not used
            // again before it is marked written below.
            let bytes = unsafe {
                let at = self.memory.at(self.slot_offset(taken.frame));
                std::slice::from_raw_parts_mut(at, self.frame)
            };
            let stored = match (&mut encoder, &self.appender) {
                (Some((encoder, out)), Some(appender)) => {
                    let n = encoder.encode(&bytes[..taken.len], out)?;
                    self.wait_for_turn(taken.frame)?;
                    let mut appender = lock(appender);
                    appender.append(&out[..n], self.destination, taken.section, self.run)?;
                    if taken.last {
                        appender.end(self.destination, taken.section, self.run)?;
                    }
                    n
                }
                _ => {
                    let Taken {
                        section,
                        offset,
                        len,
                        ..
                    } = taken;
                    self.destination
                        .write(section, bytes, len, offset, self.run)?;
                    len
                }
            };
            self.stored.fetch_add(stored as u64, Relaxed);
            self.written.fetch_add(taken.len as u64, Relaxed);
            self.run.control.advance(taken.len as u64);
            self.mark_written(taken.frame);
        }
    }

    /// The next full frame; `None` when all are written.
    fn take(&self, in_order: bool) -> Result<Option<Taken>> {
        let mut state = lock(&self.state);
        loop {
            let complete = self.complete(&mut state);
            // Of a compressed section the appender knows the end.
            if !complete.is_empty() && self.appender.is_none() {
                drop(state);
                for (section, len) in complete {
                    self.destination.finish(section, len)?;
                }
                state = lock(&self.state);
                continue;
            }
            if state.finished && state.spans.is_empty() {
                self.filled.notify_all();
                return Ok(None);
            }
            let lowest = state.lowest;
            // Who encodes a higher frame waits for the lowest to be appended: one writer must be
            // left for that.
            let is_last = self.appender.is_some()
                && !state.taken.contains(&lowest)
                && state.taken.len() + 1 >= self.writers;
            let next = (0..state.full.len())
                .filter(|&i| state.full[i] == lowest || !(in_order || is_last))
                .min_by_key(|&i| state.full[i]);
            if let Some(next) = next {
                let frame = state.full.swap_remove(next);
                state.taken.push(frame);
                let (span, capacity) = self.span_of(&state, frame);
                let section = span.section;
                return Ok(Some(Taken {
                    frame,
                    section: section.number,
                    offset: (frame - section.frame) * self.frame as u64,
                    len: capacity,
                    last: span
                        .len
                        .is_some_and(|len| frame + 1 == section.frame + self.frames_of(len)),
                }));
            }
            state = self.run.wait(&self.filled, state)?;
        }
    }

    /// Waits until all frames below `frame` are written.
    fn wait_for_turn(&self, frame: u64) -> Result<()> {
        let mut state = lock(&self.state);
        while state.lowest != frame {
            state = self.run.wait(&self.moved, state)?;
        }
        Ok(())
    }

    /// The window moves over what is written.
    fn mark_written(&self, frame: u64) {
        let mut state = lock(&self.state);
        let n = state.slots.len() as u64;
        state.taken.retain(|&taken| taken != frame);
        state.slots[(frame % n) as usize] = Slot::Written;
        while state.slots[(state.lowest % n) as usize] == Slot::Written {
            let at = (state.lowest % n) as usize;
            state.slots[at] = Slot::Filling(0);
            state.lowest += 1;
            let entered = state.lowest + n - 1;
            self.settle(&mut state, entered);
        }
        self.moved.notify_all();
        self.filled.notify_all();
    }

    /// Takes out the sections whose frames are all written: their numbers and lengths.
    fn complete(&self, state: &mut State) -> Vec<(u64, u64)> {
        let mut complete = Vec::new();
        while let Some(Span {
            section,
            len: Some(len),
        }) = state.spans.front()
            && section.frame + self.frames_of(*len) <= state.lowest
        {
            complete.push((section.number, *len));
            state.spans.pop_front();
        }
        complete
    }

    /// The span of a frame in the window, and how many bytes fill the frame as far as is known.
    fn span_of<'s>(&self, state: &'s State, frame: u64) -> (&'s Span, usize) {
        let at = state
            .spans
            .partition_point(|span| span.section.frame <= frame);
        let span = &state.spans[at - 1];
        let capacity = span.len.map_or(self.frame, |len| {
            let offset = (frame - span.section.frame) * self.frame as u64;
            len.saturating_sub(offset).min(self.frame as u64) as usize
        });
        (span, capacity)
    }

    /// Hands a frame to the writers if it is in the window and full.
    fn settle(&self, state: &mut State, frame: u64) {
        let n = state.slots.len() as u64;
        let known = state
            .spans
            .front()
            .is_some_and(|span| span.section.frame <= frame);
        if !known || frame < state.lowest || frame >= state.lowest + n {
            return;
        }
        let (span, capacity) = self.span_of(state, frame);
        // A frame behind the last known section's end is nobody's yet.
        let inside = span
            .len
            .is_none_or(|len| frame < span.section.frame + self.frames_of(len));
        let slot = &mut state.slots[(frame % n) as usize];
        let full = match *slot {
            // An empty frame is full only when its section is known to end there.
            Slot::Filling(filled) => filled == capacity && (filled > 0 || inside),
            _ => false,
        };
        if full && inside {
            *slot = Slot::Writing;
            state.full.push(frame);
            self.filled.notify_one();
        }
    }

    fn slot_offset(&self, frame: u64) -> usize {
        let n = (self.memory.len() / self.frame) as u64;
        (frame % n) as usize * self.frame
    }

    /// `bytes` more of `frame` are there.
    fn add(&self, frame: u64, bytes: usize) {
        let mut state = lock(&self.state);
        let n = state.slots.len() as u64;
        if let Slot::Filling(filled) = &mut state.slots[(frame % n) as usize] {
            *filled += bytes;
        }
        self.settle(&mut state, frame);
    }
}

impl Cursor for FrameCursor<'_, '_> {
    #[inline(always)]
    fn room(&mut self) -> Result<&mut [u8]> {
        if self.room == 0 && self.position < self.end {
            self.enter()?;
        }
        // SAFETY: `at..at + room` lies in a frame of the window and in this cursor's range, which
        // is nobody else's until `leave` has handed it in.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.at, self.room) })
    }

    #[inline(always)]
    fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.room);
        // SAFETY: len <= room, so the result is inside the frame or at its end.
        self.at = unsafe { self.at.add(len) };
        self.room -= len;
        self.here += len;
        self.position += len as u64;
    }

    #[inline(always)]
    fn end_record(&mut self) -> Result<()> {
        Ok(())
    }
}

impl FrameCursor<'_, '_> {
    /// Writes all of `bytes`.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let n = room.len().min(bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
            self.advance(n);
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Leaves the present frame and goes to the one of `position`, when the window has it.
    #[cold]
    fn enter(&mut self) -> Result<()> {
        self.leave();
        let frames = self.frames;
        let frame = self.section.frame + self.position / frames.frame as u64;
        let mut state = lock(&frames.state);
        while frame >= state.lowest + state.slots.len() as u64 {
            state = frames.run.wait(&frames.moved, state)?;
        }
        drop(state);
        frames.run.check()?;
        let inside = (self.position % frames.frame as u64) as usize;
        self.at = frames.memory.at(frames.slot_offset(frame) + inside);
        let left = self.end - self.position;
        self.room = left.min((frames.frame - inside) as u64) as usize;
        Ok(())
    }

    /// Hands in what was written to the present frame.
    pub fn leave(&mut self) {
        if self.here > 0 {
            let frame = self.section.frame + (self.position - 1) / self.frames.frame as u64;
            self.frames.add(frame, std::mem::take(&mut self.here));
        }
        self.room = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Output, Tuning};
    use crate::output::shard_set::Manifest;
    use crate::store::pool::{ALIGN, Pool};
    use corekit_base::control::Control;

    /// Ranges of many sizes, written by several threads in any order, come out as one stretch.
    #[test]
    fn ranges_of_all_sizes_make_one_output() {
        for no_direct in [false, true] {
            for total in [
                0usize,
                1,
                ALIGN - 1,
                ALIGN,
                10 * ALIGN,
                10 * ALIGN + 5,
                77_777,
            ] {
                let dir = tempfile::tempdir().expect("a directory");
                let path = dir.path().join("out");
                let control = Control::new();
                let run = Run::new(&control);
                let tuning = Tuning {
                    no_direct,
                    ..Tuning::default()
                };
                let output = Output::Path(path.clone());
                let destination = Destination::open(&output, None, &tuning, &run).expect("made");
                let mut pool = Pool::new(3 * ALIGN).expect("memory");
                let frames = Frames::new(pool.carve(3 * ALIGN), ALIGN, None, 1, &run, &destination);
                let section = frames.begin(0, 0, 0);
                let bytes: Vec<u8> = (0..total).map(|i| (i * 7 + i / 251) as u8).collect();
                let ranges: Vec<_> = (0..total)
                    .step_by(999)
                    .map(|at| at..total.min(at + 999))
                    .collect();
                let next = std::sync::atomic::AtomicUsize::new(0);
                std::thread::scope(|scope| {
                    scope.spawn(|| run.guard(|| frames.write(None)));
                    let workers: Vec<_> = (0..3)
                        .map(|_| {
                            scope.spawn(|| {
                                run.guard(|| {
                                    while let Some(range) = ranges.get(next.fetch_add(1, Relaxed)) {
                                        let mut cursor = frames.cursor(
                                            section,
                                            range.start as u64,
                                            range.end as u64,
                                        );
                                        let mut rest = &bytes[range.clone()];
                                        while !rest.is_empty() {
                                            let room = cursor.room()?;
                                            let n = room.len().min(rest.len());
                                            room[..n].copy_from_slice(&rest[..n]);
                                            cursor.advance(n);
                                            rest = &rest[n..];
                                        }
                                        assert!(cursor.room()?.is_empty(), "a range has an end");
                                        cursor.leave();
                                    }
                                    Ok(())
                                })
                            })
                        })
                        .collect();
                    workers
                        .into_iter()
                        .for_each(|worker| worker.join().expect("no panic"));
                    frames.finish(total as u64);
                });
                run.outcome().expect("written");
                destination
                    .publish(&Manifest::default(), &run)
                    .expect("published");
                assert_eq!(std::fs::read(&path).expect("there"), bytes, "{total} bytes");
            }
        }
    }
}
