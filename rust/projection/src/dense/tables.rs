//! Tables of chunks of features: kept whole while that is small, or drawn again where they are used.

use std::sync::OnceLock;

use corekit_base::run::Run;

use crate::error::{Error, Result};

/// The most bytes that tables are kept in, for all calls of an operator and all its threads.
pub(crate) const CAP: usize = 8 << 20;

/// A way to draw the table of any chunk by itself.
pub(crate) trait ChunkDraw: Sync {
    /// What is drawn.
    type Table: Default + Send + Sync;
    /// How many chunks there are.
    fn chunks(&self) -> usize;
    /// About how many bytes the tables of all chunks take.
    fn bytes(&self) -> usize;
    /// Draws the table of one chunk.
    fn draw(&self, chunk: usize, words: &mut Words, table: &mut Self::Table);
}

/// Room for words of a stream, kept from draw to draw.
pub(crate) type Words = Vec<u64>;

/// The tables of an operator, once they were drawn.
pub(crate) type Kept<T> = OnceLock<Vec<T>>;

/// Where a worker takes its tables from.
pub(crate) enum Tables<'a, D: ChunkDraw> {
    Kept(&'a [D::Table]),
    Drawn(&'a D),
}

impl<'a, D: ChunkDraw> Tables<'a, D> {
    /// The tables that `kept` has, which are drawn now if there is room for them.
    pub fn new(draw: &'a D, kept: &'a Kept<D::Table>, run: &Run<'_>) -> Result<Self> {
        if draw.bytes() > CAP {
            return Ok(Self::Drawn(draw));
        }
        if let Some(kept) = kept.get() {
            return Ok(Self::Kept(kept));
        }
        let tables: Vec<OnceLock<D::Table>> = (0..draw.chunks()).map(|_| OnceLock::new()).collect();
        run.share(
            tables.len(),
            || Ok::<_, Error>(Words::new()),
            |words, chunk| {
                tables[chunk].get_or_init(|| {
                    let mut table = D::Table::default();
                    draw.draw(chunk, words, &mut table);
                    table
                });
                Ok(())
            },
        )?;
        let tables = tables
            .into_iter()
            .filter_map(OnceLock::into_inner)
            .collect();
        Ok(Self::Kept(kept.get_or_init(|| tables)))
    }

    /// Whether every use of a table means to draw it again.
    pub fn are_drawn(&self) -> bool {
        matches!(self, Self::Drawn(_))
    }

    /// Draws the table of one chunk into `own`, unless it was kept.
    pub fn prepare(&self, chunk: usize, words: &mut Words, own: &mut D::Table) {
        if let Self::Drawn(draw) = self {
            draw.draw(chunk, words, own);
        }
    }

    /// The table of one chunk, which was prepared in `own` if it was not kept.
    pub fn get<'t>(&'t self, chunk: usize, own: &'t D::Table) -> &'t D::Table {
        match self {
            Self::Kept(tables) => &tables[chunk],
            Self::Drawn(_) => own,
        }
    }
}
