//! The one way from Python into long work.
//!
//! The work runs on a thread of its own, detached from the interpreter. The calling thread waits in
//! steps, and between them lets Python handle signals and calls the progress callback. If either
//! raises, the work is cancelled, joined, and the exception goes on: nothing is left running and
//! nothing half-written. A panic of the work is a bug; it becomes an ordinary exception.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use corekit_base::control::{Control, POLL};
use corekit_base::threads;
use pyo3::prelude::*;

use crate::errors::{internal, no_thread};

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
            let worker = threads::spawn(scope, "run", move || {
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

/// Runs `work` that is over before a thread would have been started, on the calling thread.
pub(crate) fn enter_briefly<T: Send>(
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
