//! The blocks of a bucket that is scattered again, handed out to several workers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};

use corekit_base::sync::lock;

use crate::error::Result;
use crate::run::Run;
use crate::store::scratch::Scratch;

/// Blocks in memory and in scratch, each handed out once.
pub(crate) struct BlockQueue {
    state: Mutex<State>,
    found: Condvar,
    scratch: Option<Arc<Scratch>>,
}

struct State {
    resident: Vec<u32>,
    numbers: VecDeque<u32>,
    /// Blocks in scratch that nobody took yet, whether their numbers are known or not.
    unread: u32,
}

/// A block that a worker is to scatter.
pub(crate) enum QueuedBlock {
    Resident(u32),
    Spilled(u32, Arc<Scratch>),
}

impl BlockQueue {
    /// A queue of the blocks that `Store::take` gave, `spilled` of them in scratch.
    pub fn new(
        (resident, numbers): (Vec<u32>, Vec<u32>),
        spilled: u32,
        scratch: Option<Arc<Scratch>>,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                resident,
                numbers: numbers.into(),
                unread: spilled,
            }),
            found: Condvar::new(),
            scratch,
        }
    }

    /// The next block; waits for numbers that are listed in blocks still being read.
    pub fn next(&self, run: &Run) -> Result<Option<QueuedBlock>> {
        let mut state = lock(&self.state);
        loop {
            run.check()?;
            // Those in memory first: their space is wanted.
            if let Some(block) = state.resident.pop() {
                return Ok(Some(QueuedBlock::Resident(block)));
            }
            if state.unread == 0 {
                return Ok(None);
            }
            if let (Some(number), Some(scratch)) = (state.numbers.pop_front(), &self.scratch) {
                state.unread -= 1;
                return Ok(Some(QueuedBlock::Spilled(number, Arc::clone(scratch))));
            }
            state = run.wait(&self.found, state)?;
        }
    }

    /// Numbers that a block's head listed.
    pub fn found(&self, numbers: impl Iterator<Item = u32>) {
        lock(&self.state).numbers.extend(numbers);
        self.found.notify_all();
    }
}
