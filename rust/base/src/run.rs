//! How a call runs: on how many threads, with which instructions, and who may stop it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::control::{Cancelled, Control};
use crate::pool;
use crate::simd::Level;
use crate::sync::{lock, unpoisoned};

/// What a call has from its caller, beside its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The most threads to use.
    pub threads: usize,
    /// The instruction set of the kernels.
    pub level: Level,
    /// Cancelling, and progress where the job tells it.
    pub control: &'a Control,
}

impl Run<'_> {
    /// Does `work` for every task below `tasks`, each once, by whichever worker comes first.
    ///
    /// A worker begins with `start`, which makes what it keeps from task to task. Before each task
    /// the caller may cancel; after an error no task is begun.
    ///
    /// # Errors
    /// That of the first task that has one, or of `start`, and [`Cancelled`].
    pub fn share<S, E: From<Cancelled> + Send>(
        &self,
        tasks: usize,
        start: impl Fn() -> Result<S, E> + Sync,
        work: impl Fn(&mut S, usize) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let failed = Mutex::new(None);
        // Beside the lock, since one that every task takes wanders from core to core.
        let is_over = AtomicBool::new(false);
        pool::share(self.threads, tasks, &|tasks| {
            let mut kept = None;
            for task in tasks {
                if is_over.load(Relaxed) {
                    break;
                }
                let outcome = self.control.check().map_err(E::from).and_then(|()| {
                    let state = match &mut kept {
                        Some(state) => state,
                        none => none.insert(start()?),
                    };
                    work(state, task)
                });
                if let Err(error) = outcome {
                    lock(&failed).get_or_insert(error);
                    is_over.store(true, Relaxed);
                }
            }
        });
        match unpoisoned(failed.into_inner()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Error {
        Cancelled,
        Task(usize),
    }

    impl From<Cancelled> for Error {
        fn from(_: Cancelled) -> Self {
            Self::Cancelled
        }
    }

    fn run(control: &Control, threads: usize) -> Run<'_> {
        Run {
            threads,
            level: Level::Scalar,
            control,
        }
    }

    #[test]
    fn every_task_is_done_once() {
        let control = Control::new();
        for threads in [1, 2, 5] {
            for tasks in [0, 1, 2, 100] {
                let done = Mutex::new(vec![0; tasks]);
                let work = |(): &mut (), task: usize| {
                    lock(&done)[task] += 1;
                    Ok::<_, Error>(())
                };
                run(&control, threads)
                    .share(tasks, || Ok(()), work)
                    .unwrap();
                assert_eq!(*lock(&done), vec![1; tasks]);
            }
        }
    }

    #[test]
    fn an_error_and_a_cancel_end_it() {
        let control = Control::new();
        for threads in [1, 3] {
            let done = Mutex::new(0);
            let failed = run(&control, threads).share(
                100_000,
                || Ok(()),
                |(), task| {
                    *lock(&done) += 1;
                    match task {
                        7 => Err(Error::Task(7)),
                        _ => Ok(()),
                    }
                },
            );
            assert_eq!(failed, Err(Error::Task(7)));
            assert!(*lock(&done) < 100_000);
        }
        let refused = run(&control, 2).share(5, || Err(Error::Task(0)), |(): &mut (), _| Ok(()));
        assert_eq!(refused, Err(Error::Task(0)));
        control.cancel();
        let cancelled = run(&control, 2).share(5, || Ok(()), |(), _| Ok(()));
        assert_eq!(cancelled, Err(Error::Cancelled));
    }
}
