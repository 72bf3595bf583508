//! A reader of shuffled records: the engine runs beside it and keeps a few pages ahead.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use corekit_base::control::Control;
use corekit_base::threads::STACK_BYTES;

use crate::engine;
use crate::error::{Result, no_thread};
use crate::feed::{Feed, Next, TakenPage};
use crate::options::Job;

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
                        Err(_) => feed.end(Some(crate::Error::Internal("a panic".into()))),
                    }
                })
                .map_err(no_thread)?
        };
        Ok(Self {
            shared,
            engine: Some(engine),
            page: None,
            batch: Batch::default(),
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

    /// The next `n` records, fewer only at the end; waits about `timeout` for each page.
    ///
    /// # Errors
    /// Those of [`crate::shuffle`], once; then the end.
    pub fn batch(&mut self, n: usize, timeout: Duration) -> Result<Wait<Batch>> {
        if self.batch.offsets.is_empty() {
            self.batch.offsets.push(0);
        }
        while self.batch.offsets.len() <= n && !self.ended {
            let Some(present) = &mut self.page else {
                match self.next_page(timeout)? {
                    Wait::Ready(()) => continue,
                    Wait::Pending => return Ok(Wait::Pending),
                    Wait::End => break,
                }
            };
            let (bytes, ends) = (present.page.bytes(), present.page.ends());
            let wanted = n + 1 - self.batch.offsets.len();
            let last = (present.record + wanted).min(ends.len());
            let base = self.batch.data.len() as i64 - present.byte as i64;
            let ends = &ends[present.record..last];
            let exhausted = last == present.page.ends().len();
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
        if self.batch.offsets.len() == 1 && self.ended {
            return Ok(Wait::End);
        }
        Ok(Wait::Ready(self.finished_batch(n)))
    }

    /// Takes the whole records of the batch that has arrived; a begun one stays.
    fn finished_batch(&mut self, n: usize) -> Batch {
        let end = self.batch.offsets.last().map_or(0, |&end| end as usize);
        let begun = self.batch.data.split_off(end);
        let mut next = Batch {
            data: Vec::new(),
            offsets: Vec::new(),
        };
        if !begun.is_empty() {
            next.data = begun;
        }
        // The next batch will need about as much room.
        next.data.reserve(end);
        next.offsets.reserve(n + 1);
        std::mem::replace(&mut self.batch, next)
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
            Ok(Next::End) => {
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
