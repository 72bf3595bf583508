//! Columns of A themselves, for those who want to see the matrix.

use corekit_base::run::Run;

use crate::error::Result;
use crate::law::SparseLaw;
use crate::memory::reserve;

use super::columns::Entry;
use super::drawn::Draws;
use super::{Draw, parts};

const WHAT: &str = "columns of the matrix";

/// Some columns of A one after the other, outputs ascending in each.
#[derive(Debug, Default)]
pub struct Entries {
    /// Column i has the entries `starts[i]..starts[i + 1]`.
    pub starts: Vec<u64>,
    /// The output of every entry.
    pub outputs: Vec<u64>,
    /// The value of every entry: plus or minus a weight.
    pub values: Vec<f64>,
}

/// Entries that are drawn between two looks at the caller's wishes.
const STRETCH: usize = 1 << 16;

/// The columns of the features `features` of `law` under `seed`, in their order.
///
/// O(s) time a feature for features that follow each other, O(s w) for others, whose blocks of w
/// are drawn for each of them.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Cancelled`](crate::Error::Cancelled).
pub(crate) fn entries(
    law: SparseLaw<'_>,
    seed: u128,
    features: &[u64],
    run: &Run<'_>,
) -> Result<Entries> {
    let expected = features.len() as f64 * law.column_nnz();
    let mut out = Entries::default();
    reserve(WHAT, &mut out.starts, features.len() + 1)?;
    reserve(WHAT, &mut out.outputs, expected as usize)?;
    reserve(WHAT, &mut out.values, expected as usize)?;
    out.starts.push(0);
    let parts = parts(law);
    let mut column = Column::new(law, seed, 0)?;
    let mut drawn = 0;
    for &feature in features {
        for number in 0..parts.count() {
            if number != column.number {
                column = Column::new(law, seed, number)?;
            }
            drawn += column.append(feature, &mut out)?;
            if drawn >= STRETCH {
                run.control.check()?;
                drawn = 0;
            }
        }
        out.starts.push(out.outputs.len() as u64);
    }
    Ok(out)
}

/// Columns, as far as they are in one part of the outputs.
struct Column<'a> {
    /// Of the part.
    number: usize,
    draw: Draw<'a>,
    draws: Draws<'a, u32>,
    /// The block that was drawn last.
    block: Option<u64>,
}

impl<'a> Column<'a> {
    fn new(law: SparseLaw<'a>, seed: u128, number: usize) -> Result<Self> {
        let part = parts(law).get(number);
        let draw = Draw { law, part, seed };
        Ok(Self {
            number,
            draw,
            draws: Draws::new(draw)?,
            block: None,
        })
    }

    /// Appends column `feature` to the last one of `out`; tells what was drawn for it.
    fn append(&mut self, feature: u64, out: &mut Entries) -> Result<usize> {
        let Draw { law, part, .. } = self.draw;
        let width = law.width() as u64;
        let block = feature / width;
        let is_new = self.block != Some(block);
        if is_new {
            self.draws.draw(block);
            self.block = Some(block);
        }
        let drawn = self.draws.drawn();
        let each = drawn.len() / width as usize;
        reserve(WHAT, &mut out.outputs, each)?;
        reserve(WHAT, &mut out.values, each)?;
        let column = &drawn[(feature % width) as usize * each..][..each];
        for (r, entry) in column.iter().enumerate() {
            let weight = match law {
                SparseLaw::Stack(strata) => strata.weights[part.strata().start + r],
                SparseLaw::Iid { .. } => law.iid_weight(),
            };
            out.outputs.push((part.start + entry.output()) as u64);
            out.values.push([weight, -weight][entry.sign()]);
        }
        let words = match law {
            SparseLaw::Stack(_) => part.strata().len() * width as usize,
            SparseLaw::Iid { .. } => part.len,
        };
        Ok(if is_new { words } else { each })
    }
}
