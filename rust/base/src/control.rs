//! How a caller talks to running work: cancel it, and see how far it is.
//!
//! The work runs on threads of its own and polls [`Control::check`]; the caller waits in short
//! steps, reads [`Control::progress`] and may call [`Control::cancel`]. Nothing else passes between
//! the two while the work runs.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The longest time that any blocking wait lasts before it looks at the cancel flag again.
pub const POLL: Duration = Duration::from_millis(50);

/// The work was cancelled by its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// How far the work is: `done` of `total` units (bytes, for the shuffle) in phase `phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The phase, numbered by the job.
    pub phase: u8,
    /// Units done in this phase.
    pub done: u64,
    /// Units in this phase, if known.
    pub total: Option<u64>,
}

/// The cancel flag and the progress counters of one call.
#[derive(Debug, Default)]
pub struct Control {
    cancelled: AtomicBool,
    phase: AtomicU8,
    done: AtomicU64,
    /// The total plus one; zero when unknown.
    total: AtomicU64,
}

impl Control {
    /// A control that is not cancelled, with nothing done.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop; it does so at its next check.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    /// Whether the work was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    /// An error when the work was asked to stop.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }

    /// Starts phase `phase` with nothing done.
    pub fn start_phase(&self, phase: u8, total: Option<u64>) {
        self.done.store(0, Relaxed);
        self.total
            .store(total.map_or(0, |t| t.saturating_add(1)), Relaxed);
        self.phase.store(phase, Relaxed);
    }

    /// Adds `units` to what is done in this phase.
    pub fn advance(&self, units: u64) {
        self.done.fetch_add(units, Relaxed);
    }

    /// How far the work is. The three values are read one after the other, not at one instant.
    pub fn progress(&self) -> Progress {
        Progress {
            phase: self.phase.load(Relaxed),
            done: self.done.load(Relaxed),
            total: self.total.load(Relaxed).checked_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelling_is_seen_and_stays() {
        let control = Control::new();
        assert_eq!(control.check(), Ok(()));
        control.cancel();
        assert_eq!(control.check(), Err(Cancelled));
        assert!(control.is_cancelled());
    }

    #[test]
    fn progress_tells_known_from_unknown_totals() {
        let control = Control::new();
        control.start_phase(1, None);
        control.advance(5);
        assert_eq!(
            control.progress(),
            Progress {
                phase: 1,
                done: 5,
                total: None
            }
        );
        control.start_phase(2, Some(0));
        assert_eq!(
            control.progress(),
            Progress {
                phase: 2,
                done: 0,
                total: Some(0)
            }
        );
    }
}
