//! The one door to threads.
//!
//! Threads that read, sort and write live only as long as the call that needs them: they are scoped,
//! named, and joined before the call returns. A forked child inherits none of them, and the
//! interpreter never shuts down around them. Starting a thread costs some 30 microseconds, which is
//! nothing beside the work that asks for one here.
//!
//! Kernels share their work with the threads of [`crate::pool`], which are kept: theirs may be over
//! in less time, and where a scheduler leaves a new thread on its parent's processor for its first
//! milliseconds, a kept one is woken where it last ran.

use std::io;
use std::num::NonZero;
use std::thread::{self, Builder, Scope, ScopedJoinHandle};

/// Stack of a worker: the deepest call chain needs a few tens of KiB, and only touched pages count.
pub const STACK_BYTES: usize = 512 << 10;

/// The CPUs that this process may use: affinity and cgroup quota obeyed.
pub fn available() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Starts one named thread inside `scope`.
///
/// # Errors
/// The system's refusal, when it has no more threads to give.
pub fn spawn<'scope, 'env, T, F>(
    scope: &'scope Scope<'scope, 'env>,
    name: &str,
    work: F,
) -> io::Result<ScopedJoinHandle<'scope, T>>
where
    F: FnOnce() -> T + Send + 'scope,
    T: Send + 'scope,
{
    named(name).spawn_scoped(scope, work)
}

/// What all our threads begin as.
pub(crate) fn named(name: &str) -> Builder {
    Builder::new()
        .name(format!("corekit-{name}"))
        .stack_size(STACK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spawned_threads_are_named_and_joined() {
        let name = thread::scope(|scope| {
            spawn(scope, "test", || {
                thread::current().name().map(str::to_owned)
            })
            .expect("a thread")
            .join()
            .expect("no panic")
        });
        assert_eq!(name.as_deref(), Some("corekit-test"));
        assert!(available() >= 1);
    }
}
