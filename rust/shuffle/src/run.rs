//! What all threads of one run share: the caller's control and the first failure.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{Scope, ScopedJoinHandle};

use corekit_base::control::{Control, POLL};
use corekit_base::sync::{lock, panic_text, unpoisoned};
use corekit_base::threads;

use crate::error::{Error, Result, no_thread};

pub(crate) struct Run<'a> {
    pub control: &'a Control,
    failed: AtomicBool,
    first: Mutex<Option<Error>>,
}

impl<'a> Run<'a> {
    pub fn new(control: &'a Control) -> Self {
        Self {
            control,
            failed: AtomicBool::new(false),
            first: Mutex::new(None),
        }
    }

    /// An error when the caller cancelled or another thread failed: the signal to return.
    pub fn check(&self) -> Result<()> {
        if self.failed.load(Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(self.control.check()?)
    }

    /// Keeps the first failure and stops everybody.
    pub fn fail(&self, error: Error) {
        let mut first = lock(&self.first);
        // Those that stop because another failed say only that they were cancelled.
        if matches!(*first, None | Some(Error::Cancelled)) {
            *first = Some(error);
        }
        self.failed.store(true, Relaxed);
    }

    /// The first failure, if any.
    pub fn outcome(&self) -> Result<()> {
        match lock(&self.first).take() {
            Some(error) => Err(error),
            None => Ok(self.control.check()?),
        }
    }

    /// Waits on `condvar`, at most one poll step, and looks whether to go on.
    pub fn wait<'g, T>(
        &self,
        condvar: &Condvar,
        guard: MutexGuard<'g, T>,
    ) -> Result<MutexGuard<'g, T>> {
        let (guard, _) = unpoisoned(condvar.wait_timeout(guard, POLL));
        self.check()?;
        Ok(guard)
    }

    /// Starts a thread of this run; a refusal is the run's failure.
    pub fn spawn<'scope, 'env>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        name: &str,
        body: impl FnOnce() -> Result<()> + Send + 'scope,
    ) -> Result<ScopedJoinHandle<'scope, ()>> {
        threads::spawn(scope, name, move || self.guard(body)).map_err(|refused| {
            self.fail(no_thread(refused));
            Error::Cancelled
        })
    }

    /// Runs a thread's body: its error, or its panic, becomes the run's failure.
    pub fn guard(&self, body: impl FnOnce() -> Result<()>) {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(panic) => self.fail(Error::Internal(panic_text(&*panic).to_owned())),
        }
    }
}
