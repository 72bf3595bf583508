//! Cache lines that are asked for before they are loaded.
#![allow(unsafe_code)]

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// The most lines that are asked for at once.
const MOST: usize = 8;

/// Looks over which lines are spread the first time.
const FIRST_LOOKS: usize = 64;

/// Cache lines that will be loaded, to be asked for a few at a time while something is computed.
///
/// Asked for all at once they fill the processor's list of lines that it waits for, and it waits;
/// early ones are gone again when they are loaded, late ones are not there yet. So they are spread
/// over as many looks as there were last time.
#[derive(Debug)]
pub struct Wanted {
    tiles: Vec<Lines>,
    /// The tile that is being asked for.
    tile: usize,
    /// Rows in all.
    rows: usize,
    looks: usize,
    /// By how many looks all is to have been asked for.
    due: usize,
    /// How much of the next row is due, in parts of `due`.
    credit: usize,
}

/// The same few lines of rows that lie at equal distances.
#[derive(Debug)]
struct Lines {
    /// The first row.
    row: *const u8,
    /// Bytes from one row to the next.
    stride: isize,
    rows: usize,
    /// Lines of a row.
    lines: usize,
}

// SAFETY: addresses are only asked for, which reads nothing that a program sees.
unsafe impl Send for Wanted {}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            tiles: Vec::new(),
            tile: 0,
            rows: 0,
            looks: 0,
            due: FIRST_LOOKS,
            credit: 0,
        }
    }
}

impl Wanted {
    /// Forgets all lines.
    pub fn clear(&mut self) {
        if self.looks > 0 {
            // What is asked for last needs time to come.
            self.due = self.looks - self.looks / 8;
        }
        self.tiles.clear();
        (self.tile, self.rows, self.looks, self.credit) = (0, 0, 0, 0);
    }

    /// Adds `lines` lines of `rows` rows.
    pub(super) fn add(&mut self, row: *const u8, stride: isize, rows: usize, lines: usize) {
        for first in (0..lines).step_by(MOST) {
            self.tiles.push(Lines {
                row: row.wrapping_add(first * LINE),
                stride,
                rows,
                lines: MOST.min(lines - first),
            });
            self.rows += rows;
        }
    }

    /// Asks for the rows that are due, none or a few.
    #[inline(always)]
    pub fn look(&mut self) {
        self.looks += 1;
        self.credit += self.rows;
        while self.credit >= self.due {
            self.credit -= self.due;
            self.ask();
        }
    }

    #[inline(always)]
    fn ask(&mut self) {
        let Some(tile) = self.tiles.get_mut(self.tile) else {
            return;
        };
        for line in 0..tile.lines {
            prefetch(tile.row.wrapping_add(line * LINE), 0);
        }
        tile.row = tile.row.wrapping_offset(tile.stride);
        tile.rows -= 1;
        self.tile += usize::from(tile.rows == 0);
    }
}

/// The cache lines of a tile that will be read ([`Matrix::ahead`]).
///
/// A processor foresees a row that is read from end to end, but not that computing will stop and
/// the next piece of it will be wanted: who computes asks for it meanwhile, line by line.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    pub(super) next: *const u8,
    /// Bytes from a line to the next; nothing when all were asked for.
    pub(super) step: usize,
    /// Lines left in this row, or until the end is noticed again.
    pub(super) left: usize,
    /// Rows left, with this one.
    pub(super) rows: usize,
    /// Lines of a row.
    pub(super) lines: usize,
    /// Bytes from the end of a row's lines to the next row.
    pub(super) to_next_row: isize,
}

impl Ahead {
    /// No lines.
    pub fn none() -> Self {
        // It is asked for all the same, so let it be one that is near.
        static NEAR: u8 = 0;
        Self {
            next: &raw const NEAR,
            step: 0,
            left: usize::MAX,
            rows: 0,
            lines: 0,
            to_next_row: 0,
        }
    }

    /// How many lines are left, those of a row that was begun counted whole.
    pub fn len(&self) -> usize {
        self.lines * self.rows
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Asks for the next line, row after row; when there is none, for the last one again.
    #[inline(always)]
    pub fn ask(&mut self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch reads nothing that a program sees, and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.next.cast()) };
        }
        self.next = self.next.wrapping_add(self.step);
        self.left -= 1;
        if self.left == 0 {
            *self = self.end_row();
        }
    }

    // Apart and by value, so that the loop around `ask` keeps what it needs in registers.
    #[cold]
    #[inline(never)]
    fn end_row(mut self) -> Self {
        self.rows = self.rows.saturating_sub(1);
        if self.rows == 0 {
            self.next = self.next.wrapping_sub(self.step);
            self.step = 0;
            self.left = usize::MAX;
        } else {
            self.next = self.next.wrapping_offset(self.to_next_row);
            self.left = self.lines;
        }
        self
    }
}

/// Asks for the cache lines of `bytes` bytes from `from` on; any address is good.
#[inline(always)]
pub(super) fn prefetch(from: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..=bytes / 64 {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that a program sees, and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line * 64).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Wanted {
        /// Rows that were not asked for.
        fn left(&self) -> usize {
            self.tiles[self.tile..].iter().map(|tile| tile.rows).sum()
        }
    }

    #[test]
    fn rows_are_spread_over_as_many_looks_as_last_time() {
        for (rows, lines, looks) in [(0, 0, 5), (1, 1, 1), (7, 1, 100), (100, 3, 7), (32, 20, 64)] {
            let numbers = vec![0u8; 4096];
            let mut wanted = Wanted::default();
            for time in 0..3 {
                wanted.clear();
                wanted.add(numbers.as_ptr(), 64, rows, lines);
                wanted.add(numbers.as_ptr(), -64, rows, lines);
                let all = wanted.left();
                // Long rows count several times.
                assert_eq!(all, 2 * rows * lines.div_ceil(MOST));
                let mut most = 0;
                for _ in 0..looks {
                    let left = wanted.left();
                    wanted.look();
                    most = most.max(left - wanted.left());
                }
                if time > 0 {
                    assert_eq!(wanted.left(), 0, "{rows} rows, {looks} looks");
                    let least = looks - looks / 8;
                    assert!(most <= all.div_ceil(least), "{most} of {all} at once");
                }
            }
        }
    }
}
