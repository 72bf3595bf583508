//! Columns drawn as they come, in the form in which the table has them.

use crate::draw::{self, Placement, SIGN};
use crate::error::Result;
use crate::law::WIDEST;

use super::Draw;
use super::columns::Entry;
use super::memory::zeros;
use crate::law::SparseLaw;

/// Bytes of drawn blocks that a thread keeps: half of its nearest large cache.
const KEPT: usize = 512 << 10;

/// Draws blocks of columns.
pub(super) struct Draws<'a, E> {
    draw: Draw<'a>,
    words: Vec<u64>,
    placements: Vec<Placement>,
    entries: Vec<E>,
}

impl<'a, E: Entry> Draws<'a, E> {
    pub fn new(draw: Draw<'a>) -> Result<Self> {
        const WHAT: &str = "the draw of a column";
        let law = draw.law;
        let (words, strata, entries) = match law {
            SparseLaw::Stack(strata) => (
                strata.words(),
                strata.column_nnz(),
                strata.column_nnz() * strata.width,
            ),
            SparseLaw::Iid { n_components, .. } => (n_components.div_ceil(2), 0, n_components),
        };
        let nowhere = Placement {
            start: 0,
            lanes: [0; WIDEST],
        };
        Ok(Self {
            draw,
            words: zeros(WHAT, words)?,
            placements: vec![nowhere; strata],
            entries: zeros(WHAT, entries)?,
        })
    }

    /// The columns of block `block` one after the other, outputs ascending in each.
    #[inline]
    pub fn draw(&mut self, block: u64) -> &[E] {
        let Draw { law, seed } = self.draw;
        match law {
            SparseLaw::Stack(strata) => {
                draw::placements(seed, strata, block, &mut self.words, &mut self.placements);
                let s = self.placements.len();
                for (r, placement) in self.placements.iter().enumerate() {
                    for (l, lane) in placement.lanes[..strata.width].iter().enumerate() {
                        let feature = (lane & !SIGN) as usize;
                        self.entries[feature * s + r] =
                            E::new(placement.start as usize + l, lane & SIGN != 0);
                    }
                }
                &self.entries
            }
            SparseLaw::Iid {
                threshold,
                n_components,
            } => {
                let mut len = 0;
                let words = &mut self.words;
                draw::iid_column(
                    seed,
                    threshold,
                    n_components,
                    block,
                    words,
                    |output, sign| {
                        self.entries[len] = E::new(output, sign);
                        len += 1;
                    },
                );
                &self.entries[..len]
            }
        }
    }
}

/// The last blocks drawn, each in the one place where its number puts it.
pub(super) struct Cache<'a, E> {
    draws: Draws<'a, E>,
    slots: Vec<Slot>,
    entries: Vec<E>,
    /// Entries that a slot has room for.
    room: usize,
    /// Features of a block.
    width: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// The number of the block, plus one; zero for none.
    block: u64,
    /// Its entries.
    len: u32,
}

impl<'a, E: Entry> Cache<'a, E> {
    pub fn new(draw: Draw<'a>) -> Result<Self> {
        let mean = draw.law.column_nnz();
        let room = match draw.law {
            SparseLaw::Stack(strata) => strata.column_nnz() * strata.width,
            // Nearly all columns fit; one that does not is drawn whenever it is needed.
            SparseLaw::Iid { n_components, .. } => {
                n_components.min((mean + 6.0 * mean.sqrt() + 6.0) as usize)
            }
        };
        let slots = (KEPT / (room * size_of::<E>() + size_of::<Slot>()) + 1).next_power_of_two();
        Ok(Self {
            draws: Draws::new(draw)?,
            slots: zeros("drawn columns", slots)?,
            entries: zeros("drawn columns", slots * room)?,
            room,
            width: draw.law.width(),
        })
    }

    /// The column of `feature`.
    #[inline]
    pub fn column(&mut self, feature: u64) -> &[E] {
        let block = feature / self.width as u64;
        let number = block as usize & (self.slots.len() - 1);
        let start = number * self.room;
        let slot = &mut self.slots[number];
        let drawn = if slot.block == block + 1 {
            &self.entries[start..start + slot.len as usize]
        } else {
            let drawn = self.draws.draw(block);
            if drawn.len() <= self.room {
                self.entries[start..start + drawn.len()].copy_from_slice(drawn);
                *slot = Slot {
                    block: block + 1,
                    len: drawn.len() as u32,
                };
            }
            drawn
        };
        let each = drawn.len() / self.width;
        let place = (feature % self.width as u64) as usize;
        &drawn[place * each..][..each]
    }
}
