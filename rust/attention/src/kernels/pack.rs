//! From tiles to panels.
#![allow(unsafe_code)]

use crate::simd::Simd;

/// A tile of `rows` x `columns` and the panels that it is packed into.
pub(crate) struct Pack<T> {
    pub(super) from: *const T,
    pub(super) stride: isize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) to: *mut T,
    pub(super) panel_len: usize,
}

/// Columns to panels: rows of the panels are rows of the tile.
///
/// # Safety
/// The machine has the instruction set, and the pointers are good for the tile and the panels with
/// their room.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn spread<S: Simd>(x: &Pack<S::T>) {
    let width = 2 * S::LANES;
    for row in 0..x.rows {
        for column in (0..x.columns).step_by(width) {
            // SAFETY: inside of tile and panels, or of their room.
            unsafe {
                let from = x.from.offset(row as isize * x.stride + column as isize);
                let to = x.to.add(column / width * x.panel_len + row * width);
                S::store(to, S::load(from));
                if column + S::LANES < x.columns {
                    S::store(to.add(S::LANES), S::load(from.add(S::LANES)));
                }
            }
        }
    }
}

/// Rows to panels: rows of the panels are columns of the tile.
///
/// # Safety
/// As of [`spread`]; the stride is not negative.
#[inline(always)]
// SAFETY: that is all it needs.
pub(super) unsafe fn turn<S: Simd>(x: &Pack<S::T>) {
    let width = 2 * S::LANES;
    for row in (0..x.rows).step_by(S::LANES) {
        let panel = x.to.wrapping_add(row / width * x.panel_len + row % width);
        for column in (0..x.columns).step_by(S::LANES) {
            // SAFETY: inside of tile and panels, or of their room; the last square of a panel's
            // depth is done number by number, for it may end beyond the room.
            unsafe {
                let from = x.from.offset(row as isize * x.stride + column as isize);
                let to = panel.add(column * width);
                if column + S::LANES <= x.columns {
                    S::transpose(from, x.stride as usize, to, width);
                } else {
                    for c in 0..x.columns - column {
                        for r in 0..S::LANES {
                            *to.add(c * width + r) =
                                *from.offset(r as isize * x.stride + c as isize);
                        }
                    }
                }
            }
        }
    }
}
