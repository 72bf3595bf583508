//! Panels of the matrix, drawn ahead of their use.
//!
//! A panel is a few pieces of the matrix, which all workers share. Two are kept: while one is
//! multiplied by, the next is drawn. Both are tasks of one round, taken by whichever worker is
//! free, so that no worker waits for another but at the end of a round, and a round takes
//! milliseconds. When one panel holds all there is, it is drawn once, for all rounds.

use std::ops::Range;
use std::sync::RwLock;

use corekit_base::aligned::{self, Aligned};
use corekit_base::memory::try_vec;
use corekit_base::real::Real;
use corekit_base::run::Run;
use corekit_base::sync::unpoisoned;

use crate::error::Result;

/// Memory for two panels, and who fills it.
pub(super) struct Ahead<'a, T> {
    run: &'a Run<'a>,
    panels: [Vec<RwLock<Aligned<T>>>; 2],
    /// How many pieces there are in all.
    total: usize,
}

/// A panel that is there to be multiplied by.
pub(super) struct Panel<'a, T> {
    buffers: &'a [RwLock<Aligned<T>>],
    /// Its pieces.
    pub pieces: Range<usize>,
    /// How many pieces there are in all.
    total: usize,
}

impl<T> Panel<'_, T> {
    /// Whether sums begin with it.
    pub fn is_first(&self) -> bool {
        self.pieces.start == 0
    }

    /// Whether sums are whole after it.
    pub fn is_last(&self) -> bool {
        self.pieces.end == self.total
    }

    /// Calls `f` with piece `piece` of the matrix.
    pub fn with<R>(&self, piece: usize, f: impl FnOnce(&[T]) -> R) -> R {
        let buffer = &self.buffers[piece - self.pieces.start];
        f(&unpoisoned(buffer.read()))
    }
}

impl<'a, T: Real> Ahead<'a, T> {
    /// Panels of up to `together` pieces of `len` elements: both, unless `total` pieces fit in one.
    pub fn new(run: &'a Run, together: usize, total: usize, len: usize) -> Result<Self> {
        const WHAT: &str = "a panel of the matrix";
        let panel = |pieces: usize| -> Result<Vec<_>> {
            let mut panel = try_vec(WHAT, pieces)?;
            for _ in 0..pieces {
                panel.push(RwLock::new(aligned::zeros(WHAT, len)?));
            }
            Ok(panel)
        };
        let second = if total > together { together } else { 0 };
        Ok(Self {
            run,
            total,
            panels: [panel(together.min(total))?, panel(second)?],
        })
    }

    /// Goes `rounds` times through the pieces of the matrix, which `draw` makes.
    ///
    /// With every panel, `work` is done for each of the `tasks` of the round. `start` makes what a
    /// worker keeps from task to task.
    pub fn sweep<S>(
        &self,
        rounds: usize,
        start: impl Fn() -> Result<S> + Sync,
        draw: impl Fn(&mut S, usize, &mut [T]) + Sync,
        tasks: impl Fn(usize) -> usize,
        work: impl Fn(&mut S, usize, &Panel<T>, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let (run, total) = (self.run, self.total);
        let together = self.panels[0].len().max(1);
        let panels = total.div_ceil(together).max(1);
        let pieces = |panel: usize| panel * together..((panel + 1) * together).min(total);
        let fill = |state: &mut S, buffers: &[RwLock<Aligned<T>>], panel: usize, task: usize| {
            let mut buffer = unpoisoned(buffers[task].write());
            draw(state, pieces(panel).start + task, &mut buffer);
        };
        let [mut current, mut next] = self.panels.each_ref();
        run.share(pieces(0).len(), &start, |state, task| {
            fill(state, current, 0, task);
            Ok(())
        })?;
        for step in 0..rounds * panels {
            let (round, panel) = (step / panels, step % panels);
            let following = (step + 1) % panels;
            let draws = if panels > 1 && step + 1 < rounds * panels {
                pieces(following).len()
            } else {
                0
            };
            let ready = Panel {
                buffers: current,
                pieces: pieces(panel),
                total,
            };
            run.share(draws + tasks(round), &start, |state, task| {
                if task < draws {
                    fill(state, next, following, task);
                    return Ok(());
                }
                work(state, round, &ready, task - draws)
            })?;
            if panels > 1 {
                (current, next) = (next, current);
            }
        }
        Ok(())
    }
}
