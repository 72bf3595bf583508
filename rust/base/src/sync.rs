//! Locks where a panic is recorded elsewhere, and what it said.

use std::any::Any;
use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};

/// What a lock holds, whether a thread has panicked with it or not.
///
/// For data that a panic cannot leave half made, or that nobody looks at after one: a panic ends the
/// work by its own way, and a second one in whoever comes next would hide it.
pub fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

/// Locks; see [`unpoisoned`].
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, panic_any};

    use super::*;

    #[test]
    fn a_panic_leaves_its_text_and_the_lock() {
        let mutex = Mutex::new(1);
        let panic = catch_unwind(|| {
            let mut held = mutex.lock().unwrap();
            *held = 2;
            panic!("with {held}");
        });
        assert_eq!(panic_text(&*panic.unwrap_err()), "with 2");
        assert!(mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 2);
        assert_eq!(unpoisoned(mutex.into_inner()), 2);
    }

    #[test]
    fn any_panic_has_a_text() {
        let text = |panic: fn()| panic_text(&*catch_unwind(panic).unwrap_err()).to_owned();
        assert_eq!(text(|| panic!("plain")), "plain");
        assert_eq!(text(|| panic_any(7)), "a panic without a message");
    }
}
