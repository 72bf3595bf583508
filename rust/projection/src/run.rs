//! How a call runs: on how many threads, with which instructions, and who may stop it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use corekit_base::aligned::Aligned;
use corekit_base::control::Control;
use corekit_base::real::Real;
use corekit_base::simd::Level;
use corekit_base::threads;

use crate::error::{Error, Result};

/// What a call has from its caller, beside its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The most threads to use.
    pub threads: usize,
    /// The instruction set of the kernels; the bits do not depend on it.
    pub level: Level,
    /// Cancelling, and progress in rows.
    pub control: &'a Control,
}

impl Run<'_> {
    /// Does `work` for every task below `tasks`, each once, by whichever worker comes first.
    ///
    /// A worker begins with `start`, which makes what it keeps from task to task. One worker is
    /// the calling thread. Between tasks the caller may cancel; after an error no task is begun.
    pub(crate) fn share<S>(
        &self,
        tasks: usize,
        start: impl Fn() -> Result<S> + Sync,
        work: impl Fn(&mut S, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let worker = || {
            let take = || {
                self.control.check()?;
                let task = next.fetch_add(1, Relaxed);
                Ok::<_, Error>((task < tasks).then_some(task))
            };
            let mut state = None;
            while let Some(task) = take()? {
                let state = match &mut state {
                    Some(state) => state,
                    none => none.insert(start()?),
                };
                // What the others would still begin is of no use any more.
                work(state, task).inspect_err(|_| next.store(tasks, Relaxed))?;
            }
            Ok(())
        };
        let others = self.threads.min(tasks).saturating_sub(1);
        thread::scope(|scope| {
            let handles: Vec<_> = (0..others)
                .map_while(|_| threads::spawn(scope, "project", worker).ok())
                .collect();
            let mut outcome = worker();
            for handle in handles {
                let theirs = handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                outcome = outcome.and(theirs);
            }
            outcome
        })
    }
}

/// A buffer of `len` zeros, unless the system refuses it.
pub(crate) fn zeros<T: Real>(what: &'static str, len: usize) -> Result<Aligned<T>> {
    Aligned::zeros(len).map_err(|_| Error::OutOfMemory {
        what,
        bytes: (len as u64).saturating_mul(size_of::<T>() as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn run(control: &Control, threads: usize) -> Run<'_> {
        Run {
            threads,
            level: Level::Scalar,
            control,
        }
    }

    #[test]
    fn every_task_is_done_once() {
        for threads in [1, 2, 5] {
            for tasks in [0, 1, 2, 100] {
                let done = Mutex::new(vec![0; tasks]);
                let control = Control::new();
                run(&control, threads)
                    .share(
                        tasks,
                        || Ok(()),
                        |(), task| {
                            done.lock().unwrap()[task] += 1;
                            Ok(())
                        },
                    )
                    .unwrap();
                assert_eq!(done.into_inner().unwrap(), vec![1; tasks]);
            }
        }
    }

    #[test]
    fn an_error_and_a_cancel_end_it() {
        let control = Control::new();
        let failed = run(&control, 3).share(
            1000,
            || Ok(()),
            |(), task| match task {
                7 => Err(Error::InvalidArgument("seven".into())),
                _ => Ok(()),
            },
        );
        assert!(matches!(failed, Err(Error::InvalidArgument(_))));
        control.cancel();
        let cancelled = run(&control, 2).share(5, || Ok(()), |(), _| Ok(()));
        assert!(matches!(cancelled, Err(Error::Cancelled)));
    }
}
