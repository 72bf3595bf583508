//! How a call runs: on how many threads, with which instructions, and who may stop it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use corekit_base::control::Control;
use corekit_base::pool;
use corekit_base::simd::Level;

use crate::error::Result;

/// What a call has from its caller, beside its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The most threads to use.
    pub threads: usize,
    /// The instruction set of the kernels.
    pub level: Level,
    /// Cancelling.
    pub control: &'a Control,
}

impl Run<'_> {
    /// Does `work` for every task below `tasks`, each once, by whichever worker comes first.
    ///
    /// A worker begins with `start`, which makes what it keeps from task to task. After an error no
    /// task is begun; the error of the first task that has one is returned.
    pub(crate) fn share<S>(
        &self,
        tasks: usize,
        start: impl Fn() -> Result<S> + Sync,
        work: impl Fn(&mut S, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let failed = Mutex::new(None);
        // Beside the lock, since one that every task takes wanders from core to core.
        let is_over = AtomicBool::new(false);
        pool::share(self.threads, tasks, &|tasks| {
            let mut kept = None;
            for task in tasks {
                if is_over.load(Relaxed) {
                    break;
                }
                let outcome = self.control.check().map_err(Into::into).and_then(|()| {
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
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn every_task_is_done_once_and_an_error_ends_it() {
        let control = Control::new();
        for threads in [1, 2, 5] {
            let run = Run {
                threads,
                level: Level::Scalar,
                control: &control,
            };
            let done = Mutex::new(vec![0; 100]);
            let work = |(): &mut (), task: usize| {
                done.lock().unwrap()[task] += 1;
                Ok(())
            };
            run.share(100, || Ok(()), work).unwrap();
            assert_eq!(done.into_inner().unwrap(), vec![1; 100]);
            let failed = run.share(
                100,
                || Ok(()),
                |(), task| match task {
                    7 => Err(Error::InvalidArgument("seven".into())),
                    _ => Ok(()),
                },
            );
            assert!(matches!(failed, Err(Error::InvalidArgument(_))));
        }
        control.cancel();
        let run = Run {
            threads: 2,
            level: Level::Scalar,
            control: &control,
        };
        let cancelled = run.share(5, || Ok(()), |(), _| Ok(()));
        assert!(matches!(cancelled, Err(Error::Cancelled)));
    }
}
