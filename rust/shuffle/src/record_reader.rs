//! A reader of shuffled records: the engine runs beside it and keeps a few pages ahead.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corekit_base::control::Control;
use corekit_base::threads::STACK_BYTES;

use crate::engine;
use crate::error::{Error, Result, no_thread};
use crate::options::Job;
use crate::output::feed::{Feed, Next, TakenPage};

/// Records one behind the other, without delimiters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The records' bytes.
    pub data: Vec<u8>,
    /// Record `i` is `data[offsets[i]..offsets[i + 1]]`; one more than there are records.
    pub offsets: Vec<i64>,
}

/// What came of waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait<T> {
    /// It is here.
    Ready(T),
    /// Not yet; what has arrived is kept for the next call.
    Pending,
    /// There is nothing more.
    End,
}

/// The records of a slice of the order, in order.
pub struct RecordReader {
    shared: Arc<Shared>,
    engine: Option<JoinHandle<()>>,
    page: Option<Present>,
    /// What has arrived of the next batch.
    batch: Batch,
    /// Records that were collected and are handed out one by one, and the next of them.
    front: (Batch, usize),
    ended: bool,
    /// The process that it was made in: threads do not follow a fork.
    process: u32,
}

#[derive(Default)]
struct Shared {
    control: Control,
    feed: Feed,
}

/// The page that is being read.
struct Present {
    page: TakenPage,
    /// Its next end, and the byte at which that record, or its rest, begins.
    record: usize,
    byte: usize,
}

impl RecordReader {
    /// Starts the engine on a job whose output is a reader.
    ///
    /// # Errors
    /// Those of the job's arguments come from the first wait; here the system may refuse a thread.
    pub fn start(job: Job) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let engine = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("corekit-read".into())
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    let Shared { control, feed } = &*shared;
                    let work = || engine::feed(&job, control, feed);
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => feed.end(Some(error)),
                        Err(_) => feed.end(Some(Error::Internal("a panic".into()))),
                    }
                })
                .map_err(no_thread)?
        };
        Ok(Self {
            shared,
            engine: Some(engine),
            page: None,
            batch: Batch::default(),
            front: (Batch::default(), 0),
            ended: false,
            process: std::process::id(),
        })
    }

    /// Whether this is the process that the reader was started in.
    pub fn is_at_home(&self) -> bool {
        self.process == std::process::id()
    }

    /// Records of all inputs, once they are counted.
    pub fn records(&self) -> Option<u64> {
        self.shared.feed.records()
    }

    /// The next `n` records, fewer only at the end; waits about `timeout`.
    ///
    /// # Errors
    /// Those of [`crate::shuffle`], once; then the end.
    pub fn batch(&mut self, n: usize, timeout: Duration) -> Result<Wait<Batch>> {
        self.unfront();
        match self.collect(n, timeout)? {
            Wait::Pending => Ok(Wait::Pending),
            Wait::End => Ok(Wait::End),
            Wait::Ready(()) => Ok(Wait::Ready(self.finished_batch())),
        }
    }

    /// Waits about `timeout` until [`Self::record`] has one.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn wait_for_record(&mut self, timeout: Duration) -> Result<Wait<()>> {
        if self.has_record() {
            return Ok(Wait::Ready(()));
        }
        if self.batch.data.is_empty() && self.batch.offsets.len() <= 1 && self.page.is_none() {
            match self.next_page(timeout)? {
                Wait::Ready(()) if self.has_record() => return Ok(Wait::Ready(())),
                Wait::Ready(()) => {}
                other => return Ok(other),
            }
        }
        // A record that lies across pages, or what a batch had begun with.
        let collected = self.collect(1, timeout)?;
        if collected == Wait::Ready(()) {
            self.front = (self.finished_batch(), 0);
        }
        Ok(collected)
    }

    /// The next record, if it is at hand.
    pub fn record(&mut self) -> Option<&[u8]> {
        let next = self.front.1;
        if next + 1 < self.front.0.offsets.len() {
            self.front.1 += 1;
            let Batch { data, offsets } = &self.front.0;
            return Some(&data[offsets[next] as usize..offsets[next + 1] as usize]);
        }
        if !self.has_record() {
            return None;
        }
        let present = self.page.as_mut()?;
        let end = present.page.ends()[present.record] as usize;
        let start = std::mem::replace(&mut present.byte, end);
        present.record += 1;
        self.page.as_ref().map(|p| &p.page.bytes()[start..end])
    }

    /// Whether a record is at hand.
    fn has_record(&mut self) -> bool {
        if self.front.1 + 1 < self.front.0.offsets.len() {
            return true;
        }
        if !self.batch.data.is_empty() || self.batch.offsets.len() > 1 {
            return false;
        }
        let left = self.page.as_ref().map(|present| {
            let ends = present.page.ends().len();
            (
                present.record < ends,
                present.byte < present.page.bytes().len(),
            )
        });
        if left == Some((false, false)) {
            self.leave_page();
        }
        left.is_some_and(|(records, _)| records)
    }

    /// Puts what was to be handed out one by one back into the batch.
    fn unfront(&mut self) {
        let (front, next) = std::mem::take(&mut self.front);
        if next + 1 >= front.offsets.len() {
            return;
        }
        let start = front.offsets[next];
        let mut batch = Batch {
            data: front.data[start as usize..].to_vec(),
            offsets: front.offsets[next..]
                .iter()
                .map(|end| end - start)
                .collect(),
        };
        let behind = batch.data.len() as i64;
        batch.data.extend_from_slice(&self.batch.data);
        let offsets = self.batch.offsets.iter().skip(1);
        batch.offsets.extend(offsets.map(|end| end + behind));
        self.batch = batch;
    }

    /// Collects records until the batch has `n` of them; at the end fewer.
    fn collect(&mut self, n: usize, timeout: Duration) -> Result<Wait<()>> {
        let start = Instant::now();
        if self.batch.offsets.is_empty() {
            self.batch.offsets.push(0);
        }
        while self.batch.offsets.len() <= n && !self.ended {
            let Some(present) = &mut self.page else {
                match self.next_page(timeout)? {
                    Wait::Ready(()) if start.elapsed() < timeout => continue,
                    Wait::End => break,
                    _ => return Ok(Wait::Pending),
                }
            };
            let (bytes, ends) = (present.page.bytes(), present.page.ends());
            let wanted = n + 1 - self.batch.offsets.len();
            let last = (present.record + wanted).min(ends.len());
            let base = self.batch.data.len() as i64 - present.byte as i64;
            let exhausted = last == ends.len();
            let ends = &ends[present.record..last];
            let to = if exhausted {
                // With what goes on in the next page.
                bytes.len()
            } else {
                ends.last().map_or(present.byte, |&end| end as usize)
            };
            self.batch.data.extend_from_slice(&bytes[present.byte..to]);
            let offsets = ends.iter().map(|&end| base + i64::from(end));
            self.batch.offsets.extend(offsets);
            (present.record, present.byte) = (last, to);
            if exhausted {
                self.leave_page();
            }
        }
        match self.batch.offsets.len() {
            1 => Ok(Wait::End),
            _ => Ok(Wait::Ready(())),
        }
    }

    /// Takes the whole records of the batch that has arrived; a begun one stays.
    fn finished_batch(&mut self) -> Batch {
        let end = self.batch.offsets.last().map_or(0, |&end| end as usize);
        let mut next = Batch {
            data: self.batch.data.split_off(end),
            offsets: Vec::new(),
        };
        // The next batch will need about as much room; growing it would copy all of it.
        next.data.reserve(end + end / 16 + 4096);
        next.offsets.reserve(self.batch.offsets.len());
        std::mem::replace(&mut self.batch, next)
    }

    /// Takes a batch back, which is then the next to come.
    pub fn put_back(&mut self, batch: Batch) {
        self.unfront();
        self.front = (batch, 0);
    }

    fn next_page(&mut self, timeout: Duration) -> Result<Wait<()>> {
        match self.shared.feed.take(timeout) {
            Ok(Next::Page(page)) => {
                self.page = Some(Present {
                    page,
                    record: 0,
                    byte: 0,
                });
                Ok(Wait::Ready(()))
            }
            Ok(Next::Pending) => Ok(Wait::Pending),
            // Closed, perhaps while it was waited for.
            Ok(Next::End) | Err(Error::Cancelled) => {
                self.ended = true;
                Ok(Wait::End)
            }
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }

    fn leave_page(&mut self) {
        if let Some(present) = self.page.take() {
            self.shared.feed.give_back(present.page);
        }
    }

    /// Stops the engine and gives back all that it holds.
    pub fn close(&mut self) {
        self.ended = true;
        if !self.is_at_home() {
            // A forked child has the parent's locks as they were, and none of its threads.
            std::mem::forget(std::mem::take(&mut self.shared));
            self.page = None;
            std::mem::forget(self.engine.take());
            return;
        }
        self.leave_page();
        self.shared.control.cancel();
        if let Some(engine) = self.engine.take() {
            let _ = engine.join();
        }
    }
}

impl Drop for RecordReader {
    fn drop(&mut self) {
        self.close();
    }
}
