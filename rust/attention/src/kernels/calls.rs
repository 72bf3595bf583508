//! The kernels as safe calls. What a kernel relies on is checked here: that tiles and panels have
//! room for the sizes that it is called with.
//!
//! - [`products`]: scores, outputs, states.
//! - [`moves`]: from arrays to tiles and panels, and back.
//! - [`rows`]: arithmetic on rows.
//! - [`decay`]: logarithms of decay, and what they weigh.
//! - [`step`]: one token more.
//! - [`gradient`]: what only gradients need.
#![allow(unsafe_code)]

mod decay;
mod gradient;
mod moves;
mod products;
mod rows;
mod step;

use super::rows::Rows;
use super::{Computed, Kernels};
use crate::tiles::{Panels, Tile};

pub(crate) use products::{Factors, Keep, Out, Weighted};

impl<T: Computed> Kernels<T> {
    /// Columns of a panel.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Room for `depth` rows of `columns` columns.
    pub(crate) fn panels(&self, depth: usize, columns: usize) -> crate::error::Result<Panels<T>> {
        Panels::new(depth, columns, self.width)
    }

    /// Whether rows of so many columns are whole registers.
    pub(crate) fn is_whole(&self, columns: usize) -> bool {
        columns.is_multiple_of(self.width / 2)
    }

    fn assert_fits(&self, panels: &Panels<T>, depth: usize, columns: usize) {
        assert!(
            panels.width() == self.width && depth <= panels.depth() && columns <= panels.columns(),
            "a product beyond its panels"
        );
    }

    fn rows(&self, tile: &mut Tile<T>, rows: usize, columns: usize) -> Rows<T> {
        assert!(rows <= tile.rows() && columns <= tile.columns());
        Rows {
            data: tile.as_mut_ptr(),
            stride: tile.stride(),
            rows,
            columns,
        }
    }

    fn rows_read(&self, tile: &Tile<T>, rows: usize, columns: usize) -> Rows<T> {
        assert!(rows <= tile.rows() && columns <= tile.columns());
        Rows {
            // It is only read through.
            data: tile.as_ptr().cast_mut(),
            stride: tile.stride(),
            rows,
            columns,
        }
    }
}
