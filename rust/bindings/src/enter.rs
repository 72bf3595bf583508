//! The one way from Python into long work.
//!
//! The work runs on a thread of its own, detached from the interpreter. The calling thread waits in
//! steps, and between them lets Python handle signals and calls the progress callback. If either
//! raises, the work is cancelled, joined, and the exception goes on: nothing is left running and
//! nothing half-written. A panic of the work is a bug; it becomes an ordinary exception.
//!
//! [`run`] is for kernels, which may be done before a thread would have been started.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use corekit_base::control::{Control, POLL, Progress};
use corekit_base::run::Run;
use corekit_base::threads::spawn;
use pyo3::prelude::*;

use crate::environment::{level, threads};
use crate::errors::{Raise, internal, no_thread};

/// Runs `work`, with `each_step` called before it, while it lasts, and when it has succeeded.
pub(crate) fn enter<T: Send>(
    py: Python<'_>,
    control: &Control,
    mut each_step: impl FnMut(Python<'_>) -> PyResult<()> + Send,
    work: impl FnOnce() -> PyResult<T> + Send,
) -> PyResult<T> {
    each_step(py)?;
    py.detach(|| {
        thread::scope(|scope| {
            let (done, waiting) = channel::<()>();
            let worker = spawn(scope, "run", move || {
                let outcome = work();
                drop(done);
                outcome
            })
            .map_err(|_| no_thread())?;
            let mut raised = None;
            while let Err(RecvTimeoutError::Timeout) = waiting.recv_timeout(POLL) {
                if raised.is_none()
                    && let Err(error) = Python::attach(|py| {
                        py.check_signals()?;
                        each_step(py)
                    })
                {
                    raised = Some(error);
                    control.cancel();
                }
            }
            let outcome = worker.join();
            match (raised, outcome) {
                (Some(error), _) => Err(error),
                (None, Ok(Ok(result))) => {
                    Python::attach(&mut each_step)?;
                    Ok(result)
                }
                (None, Ok(Err(error))) => Err(error),
                (None, Err(panic)) => Err(internal(&*panic)),
            }
        })
    })
}

/// Is told how far the work is.
pub(crate) type Tell<'a> = &'a (dyn Fn(Python<'_>, Progress) -> PyResult<()> + Sync);

/// How long work takes, in rising order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Length {
    /// Over before a thread that is parked would have been woken.
    Least,
    /// Over before a thread would have been started.
    Brief,
    /// So long that somebody may want to cancel it.
    Long,
}

impl Length {
    /// That of so much work, where `least` and `brief` are the most of these.
    pub(crate) fn of<T: PartialOrd>(work: T, least: T, brief: T) -> Self {
        if work <= least {
            Self::Least
        } else if work <= brief {
            Self::Brief
        } else {
            Self::Long
        }
    }
}

/// Runs `work` on at most so many threads, with the instructions that the environment says; on the
/// calling thread to begin with, unless it is long or somebody is told how far it is.
pub(crate) fn run<T: Send, E: Raise>(
    py: Python<'_>,
    most_threads: Option<usize>,
    length: Length,
    tell: Option<Tell<'_>>,
    work: impl FnOnce(&Run<'_>) -> Result<T, E> + Send,
) -> PyResult<T> {
    let control = Control::new();
    let run = Run {
        threads: threads(most_threads, length == Length::Least)?,
        level: level()?,
        control: &control,
    };
    let work = || work(&run).map_err(Raise::raise);
    match tell {
        None if length == Length::Long => enter(py, &control, |_| Ok(()), work),
        None => enter_briefly(py, work),
        Some(tell) => enter(py, &control, |py| tell(py, control.progress()), work),
    }
}

/// Runs `work` that is over before a thread would have been started, on the calling thread.
fn enter_briefly<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> PyResult<T> + Send,
) -> PyResult<T> {
    let work = AssertUnwindSafe(work);
    // What a panic leaves behind is dropped with the call.
    match py.detach(|| catch_unwind(work)) {
        Ok(outcome) => outcome,
        Err(panic) => Err(internal(&*panic)),
    }
}
