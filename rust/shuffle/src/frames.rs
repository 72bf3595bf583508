//! Output frames: a window of fixed-size pieces that slides over the output.
//!
//! Frame `i` is the output's bytes `[i * F, (i + 1) * F)`. Workers know where in the output their
//! records go and write them into frames directly; whoever fills the last gap of a frame hands it
//! to the writers. So every write is whole and aligned, whichever workers filled it, and no worker
//! waits for another to write first.
//!
//! The window is the frames that are not yet written, from the lowest one on. A worker that is ahead
//! of the window waits. The worker with the lowest range never waits for itself: its first byte lies
//! in the lowest unwritten frame, and everything before that byte is there.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};

use crate::destination::Destination;
use crate::error::Result;
use crate::pool::Part;
use crate::run::{Run, lock};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// So many bytes are there.
    Filling(usize),
    Writing,
    /// Written, but a lower frame is not.
    Written,
}

struct State {
    /// The lowest frame that is not written; it has slot `lowest % slots`.
    lowest: u64,
    slots: Vec<Slot>,
    /// Full frames that no writer took yet.
    full: Vec<u64>,
    /// Bytes of the whole output, once known.
    total: Option<u64>,
}

/// The window and what is behind it.
pub(crate) struct Frames<'a> {
    memory: Part,
    frame: usize,
    run: &'a Run<'a>,
    destination: &'a Destination,
    state: Mutex<State>,
    moved: Condvar,
    filled: Condvar,
    written: AtomicU64,
}

/// A worker's place in the output: it writes one range, front to back.
pub(crate) struct FrameCursor<'f, 'a> {
    frames: &'f Frames<'a>,
    /// Where in the output the next byte goes, and where the range ends.
    position: u64,
    end: u64,
    at: *mut u8,
    room: usize,
    /// Bytes written to the present frame.
    here: usize,
}

impl<'a> Frames<'a> {
    pub fn new(memory: Part, frame: usize, run: &'a Run<'a>, destination: &'a Destination) -> Self {
        let n = memory.len() / frame;
        Self {
            memory,
            frame,
            run,
            destination,
            state: Mutex::new(State {
                lowest: 0,
                slots: vec![Slot::Filling(0); n],
                full: Vec::with_capacity(n),
                total: None,
            }),
            moved: Condvar::new(),
            filled: Condvar::new(),
            written: AtomicU64::new(0),
        }
    }

    /// A cursor for the output's bytes from `position` to `end`. No two cursors' ranges overlap.
    pub fn cursor<'f>(&'f self, position: u64, end: u64) -> FrameCursor<'f, 'a> {
        FrameCursor {
            frames: self,
            position,
            end,
            at: std::ptr::NonNull::dangling().as_ptr(),
            room: 0,
            here: 0,
        }
    }

    /// Bytes that the destination has.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// The output is `total` bytes long and all of them are in frames: the last frame may go.
    pub fn finish(&self, total: u64) {
        let mut state = lock(&self.state);
        state.total = Some(total);
        let last = total / self.frame as u64;
        if !total.is_multiple_of(self.frame as u64) {
            let n = state.slots.len() as u64;
            state.slots[(last % n) as usize] = Slot::Writing;
            state.full.push(last);
        }
        self.filled.notify_all();
    }

    /// Writes full frames until the output is finished: the body of a writer thread.
    pub fn write(&self) -> Result<()> {
        let in_order = self.destination.is_stream();
        let mut state = lock(&self.state);
        loop {
            let done = |s: &State| {
                s.total
                    .is_some_and(|total| s.lowest * self.frame as u64 >= total)
            };
            if done(&state) {
                self.filled.notify_all();
                return Ok(());
            }
            let lowest = state.lowest;
            let next = (0..state.full.len())
                .filter(|&i| !in_order || state.full[i] == lowest)
                .min_by_key(|&i| state.full[i]);
            let Some(next) = next else {
                state = self.run.wait(&self.filled, state)?;
                continue;
            };
            let frame = state.full.swap_remove(next);
            let total = state.total;
            drop(state);
            self.run.check()?;
            let offset = frame * self.frame as u64;
            let len = total.map_or(self.frame, |t| (t - offset).min(self.frame as u64) as usize);
            // SAFETY: the frame is full and no cursor is in it any more; its slot is not used
            // again before it is marked written below.
            let bytes = unsafe {
                std::slice::from_raw_parts_mut(self.memory.at(self.slot_offset(frame)), self.frame)
            };
            self.destination.write(bytes, len, offset, self.run)?;
            self.written.fetch_add(len as u64, Relaxed);
            self.run.control.advance(len as u64);
            state = lock(&self.state);
            let n = state.slots.len() as u64;
            state.slots[(frame % n) as usize] = Slot::Written;
            while state.slots[(state.lowest % n) as usize] == Slot::Written {
                let at = (state.lowest % n) as usize;
                state.slots[at] = Slot::Filling(0);
                state.lowest += 1;
            }
            self.moved.notify_all();
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
        let slot = &mut state.slots[(frame % n) as usize];
        if let Slot::Filling(filled) = slot {
            *filled += bytes;
            if *filled == self.frame {
                *slot = Slot::Writing;
                state.full.push(frame);
                self.filled.notify_one();
            }
        }
    }
}

impl FrameCursor<'_, '_> {
    /// Where in the output the next byte goes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes of the range that lie in one frame, to be filled from the front; at least
    /// one, unless the range is at its end. `advance` tells how many were filled.
    #[inline(always)]
    pub fn room(&mut self) -> Result<&mut [u8]> {
        if self.room == 0 && self.position < self.end {
            self.enter()?;
        }
        // SAFETY: `at..at + room` lies in a frame of the window and in this cursor's range, which
        // is nobody else's until `leave` has handed it in.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.at, self.room) })
    }

    /// The next `len` bytes of the output were filled.
    #[inline(always)]
    pub fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.room);
        // SAFETY: len <= room, so the result is inside the frame or at its end.
        self.at = unsafe { self.at.add(len) };
        self.room -= len;
        self.here += len;
        self.position += len as u64;
    }

    /// Leaves the present frame and goes to the one of `position`, when the window has it.
    #[cold]
    fn enter(&mut self) -> Result<()> {
        self.leave();
        let frames = self.frames;
        let frame = self.position / frames.frame as u64;
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
            let frame = (self.position - 1) / self.frames.frame as u64;
            self.frames.add(frame, std::mem::take(&mut self.here));
        }
        self.room = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Output, Tuning};
    use crate::pool::{ALIGN, Pool};
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
                let destination = Destination::open(&output, &tuning, &run).expect("made");
                let mut pool = Pool::new(3 * ALIGN).expect("memory");
                let frames = Frames::new(pool.carve(3 * ALIGN), ALIGN, &run, &destination);
                let bytes: Vec<u8> = (0..total).map(|i| (i * 7 + i / 251) as u8).collect();
                let ranges: Vec<_> = (0..total)
                    .step_by(999)
                    .map(|at| at..total.min(at + 999))
                    .collect();
                let next = std::sync::atomic::AtomicUsize::new(0);
                std::thread::scope(|scope| {
                    scope.spawn(|| run.guard(|| frames.write()));
                    let workers: Vec<_> = (0..3)
                        .map(|_| {
                            scope.spawn(|| {
                                run.guard(|| {
                                    while let Some(range) = ranges.get(next.fetch_add(1, Relaxed)) {
                                        let mut cursor =
                                            frames.cursor(range.start as u64, range.end as u64);
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
                destination.publish(total as u64, &run).expect("published");
                assert_eq!(std::fs::read(&path).expect("there"), bytes, "{total} bytes");
            }
        }
    }
}
