//! Columns drawn as they come, in the form in which the table has them.

use crate::draw::{self, Placement, SIGN};
use crate::error::Result;
use crate::law::SparseLaw;
use crate::memory::{resize, zeros};

use super::Draw;
use super::columns::Entry;

/// Draws blocks of columns.
pub(super) struct Draws<'a, E> {
    draw: Draw<'a>,
    words: Vec<u64>,
    placements: Vec<Placement>,
    entries: Vec<E>,
    /// How many entries the last block has.
    len: usize,
}

impl<'a, E: Entry> Draws<'a, E> {
    pub fn new(draw: Draw<'a>) -> Result<Self> {
        const WHAT: &str = "the draw of a column";
        let (s, outputs) = (draw.part.strata().len(), draw.part.len);
        let (words, entries) = match draw.law {
            SparseLaw::Stack(strata) => (s * strata.words_per_stratum(), s * strata.width),
            SparseLaw::Iid { .. } => (outputs.div_ceil(2), outputs),
        };
        let mut placements = Vec::new();
        resize(WHAT, &mut placements, s, Placement::NOWHERE)?;
        Ok(Self {
            draw,
            words: zeros(WHAT, words)?,
            placements,
            entries: zeros(WHAT, entries)?,
            len: 0,
        })
    }

    /// The columns of block `block` one after the other, outputs ascending in each.
    #[inline]
    pub fn draw(&mut self, block: u64) -> &[E] {
        let Draw { law, part, seed } = self.draw;
        match law {
            SparseLaw::Stack(strata) => {
                let (words, placements) = (&mut self.words, &mut self.placements);
                draw::placements(seed, strata, part.strata(), block, words, placements);
                let s = placements.len();
                self.len = s * strata.width;
                for (r, placement) in placements.iter().enumerate() {
                    if part.cuts && !part.has(placement.start) {
                        // The only stratum: the block has no entries here, or each column one.
                        self.len = 0;
                        break;
                    }
                    let start = placement.start as usize - part.start;
                    for (l, lane) in placement.lanes[..strata.width].iter().enumerate() {
                        let feature = (lane & !SIGN) as usize;
                        self.entries[feature * s + r] = E::new(start + l, lane & SIGN != 0);
                    }
                }
            }
            SparseLaw::Iid { threshold, .. } => {
                let (words, entries, len) = (&mut self.words, &mut self.entries, &mut self.len);
                *len = 0;
                draw::iid_column(
                    seed,
                    threshold,
                    part.outputs(),
                    block,
                    words,
                    |output, sign| {
                        entries[*len] = E::new(output, sign);
                        *len += 1;
                    },
                );
            }
        }
        self.drawn()
    }

    /// The columns of the block that was drawn last.
    #[inline]
    pub fn drawn(&self) -> &[E] {
        &self.entries[..self.len]
    }
}
