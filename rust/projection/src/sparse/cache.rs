//! The last columns that were drawn, for features that come again.

use crate::error::Result;
use crate::law::SparseLaw;
use crate::memory::zeros;

use super::Draw;
use super::columns::Entry;
use super::drawn::Draws;

/// Bytes of drawn blocks that a thread keeps: half of its nearest large cache.
const KEPT: usize = 512 << 10;

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
        let mean = draw.column_nnz();
        let room = match draw.law {
            SparseLaw::Stack(strata) => draw.part.strata().len() * strata.width,
            // Nearly all columns fit; one that does not is drawn whenever it is needed.
            SparseLaw::Iid { .. } => draw.part.len.min((mean + 6.0 * mean.sqrt() + 6.0) as usize),
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
