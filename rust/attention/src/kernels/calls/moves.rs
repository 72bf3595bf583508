//! From arrays to tiles, from tiles to panels, and back; and maps, which are taken on the way.
#![allow(unsafe_code)]

use std::ops::Range;

use corekit_base::array::{Block, BlockMut, Matrix, MatrixMut};
use half::bf16;

use super::super::gradient::Flip;
use super::super::pack::Pack;
use super::super::rows::{From, Map, Rows};
use super::super::{Computed, Kernels};
use crate::tiles::{Panels, Tile};

impl<T> Rows<T> {
    /// Those of a block, if they do not lie backwards.
    fn of_block(block: &BlockMut<T>) -> Option<Self> {
        Some(Self {
            data: block.data,
            stride: usize::try_from(block.stride).ok()?,
            rows: block.rows,
            columns: block.columns,
        })
    }
}

impl<T: Computed> Kernels<T> {
    /// Maps rows in place and multiplies them by `scale`.
    pub(crate) fn map(
        &self,
        tile: &mut Tile<T>,
        (rows, columns): (usize, usize),
        map: Map,
        scale: T,
    ) {
        let rows = self.rows(tile, rows, columns);
        let from = From {
            data: rows.data,
            stride: rows.stride as isize,
        };
        // SAFETY: sizes as checked; tiles have room for whole registers.
        unsafe { (self.map)(&rows, &from, map, scale) }
    }

    /// Maps a block of whole registers into a tile.
    pub(crate) fn map_block(&self, from: &Block<T>, tile: &mut Tile<T>, map: Map, scale: T) {
        assert!(self.is_whole(from.columns));
        let rows = self.rows(tile, from.rows, from.columns);
        let from = From {
            data: from.data,
            stride: from.stride,
        };
        // SAFETY: as in `map`; the block has whole registers.
        unsafe { (self.map)(&rows, &from, map, scale) }
    }

    /// Loads rows and columns of a matrix to the first ones of a tile.
    pub(crate) fn load(
        &self,
        from: &Matrix,
        rows: Range<usize>,
        columns: Range<usize>,
        tile: &mut Tile<T>,
    ) {
        if let Some(block) = from.block::<T>(rows.clone(), columns.clone())
            && self.is_whole(columns.len())
        {
            self.map_block(&block, tile, Map::Identity, T::ONE);
        } else if let Some(block) = from.block::<bf16>(rows.clone(), columns.clone()) {
            let to = self.rows(tile, rows.len(), columns.len());
            let from = From {
                data: block.data,
                stride: block.stride,
            };
            // SAFETY: sizes as checked, and those of the block.
            unsafe { (self.widen)(&to, &from) }
        } else {
            tile.load(from, rows, columns);
        }
    }

    /// Stores the first rows and columns of a tile as those of a matrix.
    pub(crate) fn store(
        &self,
        tile: &Tile<T>,
        rows: Range<usize>,
        columns: Range<usize>,
        to: &MatrixMut,
    ) {
        let source = self.rows_read(tile, rows.len(), columns.len());
        let from = From {
            data: source.data.cast_const(),
            stride: source.stride as isize,
        };
        if let Some(block) = to.block::<T>(rows.clone(), columns.clone())
            && let Some(to) = Rows::of_block(&block)
            && self.is_whole(columns.len())
        {
            // SAFETY: as in `map_block`.
            unsafe { (self.map)(&to, &from, Map::Identity, T::ONE) }
        } else if let Some(block) = to.block::<bf16>(rows.clone(), columns.clone())
            && let Some(to) = Rows::of_block(&block)
        {
            // SAFETY: as in `load`.
            unsafe { (self.narrow)(&to, &from) }
        } else {
            for (row, t) in rows.enumerate() {
                to.store_row(t, columns.start, &tile.row(row)[..columns.len()]);
            }
        }
    }

    fn pack(&self, tile: &Tile<T>, rows: usize, columns: usize, to: &mut Panels<T>) -> Pack<T> {
        assert!(rows <= tile.rows() && columns <= tile.columns() && tile.has_room());
        Pack {
            from: tile.as_ptr(),
            stride: tile.stride() as isize,
            rows,
            columns,
            to: to.as_mut_ptr(),
            panel_len: to.panel_len(),
        }
    }

    /// Packs rows of a tile as rows of panels.
    pub(crate) fn spread(&self, tile: &Tile<T>, rows: usize, columns: usize, to: &mut Panels<T>) {
        self.assert_fits(to, rows, columns);
        // SAFETY: sizes as checked; tile and panels have room for whole registers.
        unsafe { (self.spread)(&self.pack(tile, rows, columns, to)) }
    }

    /// Packs rows of a block of whole registers as rows of panels.
    pub(crate) fn spread_block(&self, from: &Block<T>, to: &mut Panels<T>) {
        self.assert_fits(to, from.rows, from.columns);
        assert!(self.is_whole(from.columns));
        let pack = Pack {
            from: from.data,
            stride: from.stride,
            rows: from.rows,
            columns: from.columns,
            to: to.as_mut_ptr(),
            panel_len: to.panel_len(),
        };
        // SAFETY: as in `spread`; the block has whole registers.
        unsafe { (self.spread)(&pack) }
    }

    /// Packs columns of a tile as rows of panels.
    pub(crate) fn turn(&self, tile: &Tile<T>, rows: usize, columns: usize, to: &mut Panels<T>) {
        self.assert_fits(to, columns, rows);
        // SAFETY: as in `spread`; a panel holds whole registers of a tile's rows.
        unsafe { (self.turn)(&self.pack(tile, rows, columns, to)) }
    }

    /// to = the transpose of `from`, which has `rows` x `columns`.
    pub(crate) fn flip(
        &self,
        from: &Panels<T>,
        (rows, columns): (usize, usize),
        to: &mut Panels<T>,
    ) {
        self.assert_fits(from, rows, columns);
        self.assert_fits(to, columns, rows);
        let x = Flip {
            from: from.as_ptr(),
            from_panel_len: from.panel_len(),
            rows,
            columns,
            to: to.as_mut_ptr(),
            to_panel_len: to.panel_len(),
        };
        // SAFETY: sizes as checked.
        unsafe { (self.flip)(&x) }
    }
}
