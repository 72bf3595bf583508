//! Columns of A themselves, for those who want to see the matrix.

use crate::error::Result;

use super::Draw;
use super::columns::Entry;
use super::drawn::Draws;
use super::memory::reserve;

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

/// The columns of the features `features`, in their order.
///
/// O(s) time a feature for features that follow each other, O(s w) for others.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn entries(draw: &Draw<'_>, features: &[u64]) -> Result<Entries> {
    let scales = draw.law.scales();
    let width = draw.law.width() as u64;
    let expected = features.len() as f64 * draw.law.column_nnz();
    let mut out = Entries::default();
    reserve(WHAT, &mut out.starts, features.len() + 1)?;
    reserve(WHAT, &mut out.outputs, expected as usize)?;
    reserve(WHAT, &mut out.values, expected as usize)?;
    out.starts.push(0);
    let mut draws = Draws::<u32>::new(*draw)?;
    let mut drawn: Vec<u32> = Vec::new();
    let mut last = None;
    for &feature in features {
        let block = feature / width;
        if last != Some(block) {
            drawn.clear();
            drawn.extend_from_slice(draws.draw(block));
            last = Some(block);
        }
        let each = drawn.len() / width as usize;
        let column = &drawn[(feature % width) as usize * each..][..each];
        reserve(WHAT, &mut out.outputs, each)?;
        reserve(WHAT, &mut out.values, each)?;
        for entry in column {
            let scale = scales[entry.output()];
            out.outputs.push(entry.output() as u64);
            out.values.push([scale, -scale][entry.sign()]);
        }
        out.starts.push(out.outputs.len() as u64);
    }
    Ok(out)
}
