//! Cache lines that are asked for before they are loaded.
#![allow(unsafe_code)]

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Cache lines that will be loaded, to be asked for a few at a time while something is computed.
///
/// Asked for all at once they fill the processor's list of lines that it waits for, and it waits.
#[derive(Debug, Default)]
pub struct Wanted {
    tiles: Vec<Lines>,
    /// The tile that is being asked for.
    tile: usize,
    /// The line of its first row.
    line: usize,
}

/// The same lines of rows that lie at equal distances.
#[derive(Debug)]
pub(super) struct Lines {
    /// The first row.
    pub(super) row: *const u8,
    /// Bytes from one row to the next.
    pub(super) stride: isize,
    pub(super) rows: usize,
    /// Lines of a row.
    pub(super) lines: usize,
}

// SAFETY: addresses are only asked for, which reads nothing that a program sees.
unsafe impl Send for Wanted {}

impl Wanted {
    /// Forgets all lines.
    pub fn clear(&mut self) {
        self.tiles.clear();
        (self.tile, self.line) = (0, 0);
    }

    pub(super) fn add(&mut self, lines: Lines) {
        if lines.rows > 0 && lines.lines > 0 {
            self.tiles.push(lines);
        }
    }

    /// Asks for the next `count` lines, or all that are left.
    #[inline(always)]
    pub fn ask(&mut self, count: usize) {
        for _ in 0..count {
            let Some(tile) = self.tiles.get_mut(self.tile) else {
                return;
            };
            prefetch(tile.row.wrapping_add(self.line * LINE), 0);
            self.line += 1;
            if self.line == tile.lines {
                self.line = 0;
                tile.row = tile.row.wrapping_offset(tile.stride);
                tile.rows -= 1;
                self.tile += usize::from(tile.rows == 0);
            }
        }
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
