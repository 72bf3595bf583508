//! Tables of chunks of features: kept whole while that is small, or drawn again where they are used.

use std::sync::OnceLock;

use corekit_base::memory::try_vec;
use corekit_base::run::Run;

use crate::draw::Placement;
use crate::error::{Error, Result};
use crate::law::Parts;

/// The most bytes that tables are kept in, for all calls of an operator and all its threads.
pub(crate) const CAP: usize = 8 << 20;

/// A way to draw the table of any chunk of features, for any part of the outputs, by itself.
pub(crate) trait ChunkDraw: Sync {
    /// What is drawn.
    type Table: Default + Send + Sync;
    /// How outputs are divided.
    fn parts(&self) -> &Parts<'_>;
    /// How many chunks there are.
    fn chunks(&self) -> usize;
    /// About how many bytes all tables take.
    fn bytes(&self) -> usize;
    /// Draws the table of one chunk for part `part`.
    fn draw(
        &self,
        part: usize,
        chunk: usize,
        room: &mut Room,
        table: &mut Self::Table,
    ) -> Result<()>;
}

/// Room for what tables are made of, kept from draw to draw.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Words of a stream.
    pub words: Vec<u64>,
    pub placements: Vec<Placement>,
    pub counts: Vec<u32>,
    pub starts: Vec<u32>,
}

/// What memory for tables is asked for.
pub(crate) const WHAT: &str = "a table of features";

/// The tables of an operator, once they were drawn: those of a part one after the other.
pub(crate) type Kept<T> = OnceLock<Vec<T>>;

/// Where a worker takes its tables from.
pub(crate) enum Tables<'a, D: ChunkDraw> {
    Kept {
        tables: &'a [D::Table],
        chunks: usize,
    },
    Drawn(&'a D),
}

impl<'a, D: ChunkDraw> Tables<'a, D> {
    /// The tables that `kept` has, which are drawn now if there is room for them.
    pub fn new(draw: &'a D, kept: &'a Kept<D::Table>, run: &Run<'_>) -> Result<Self> {
        if draw.bytes() > CAP {
            return Ok(Self::Drawn(draw));
        }
        let chunks = draw.chunks();
        if let Some(tables) = kept.get() {
            return Ok(Self::Kept { tables, chunks });
        }
        let all = draw.parts().count().saturating_mul(chunks);
        let mut tables = try_vec(WHAT, all)?;
        tables.extend((0..all).map(|_| OnceLock::<D::Table>::new()));
        let start = || Ok::<_, Error>(Room::default());
        run.share(all, start, |room, number| {
            let mut table = D::Table::default();
            draw.draw(number / chunks, number % chunks, room, &mut table)?;
            // Each is drawn once.
            let _ = tables[number].set(table);
            Ok(())
        })?;
        let mut drawn = try_vec(WHAT, all)?;
        drawn.extend(tables.into_iter().filter_map(OnceLock::into_inner));
        let tables = kept.get_or_init(|| drawn);
        Ok(Self::Kept { tables, chunks })
    }

    /// Whether every use of a table means to draw it again.
    pub fn are_drawn(&self) -> bool {
        matches!(self, Self::Drawn(_))
    }

    /// Draws the table of one chunk for part `part` into `own`, unless it was kept.
    pub fn prepare(
        &self,
        part: usize,
        chunk: usize,
        room: &mut Room,
        own: &mut D::Table,
    ) -> Result<()> {
        match self {
            Self::Kept { .. } => Ok(()),
            Self::Drawn(draw) => draw.draw(part, chunk, room, own),
        }
    }

    /// The table of one chunk for part `part`, which was prepared in `own` if it was not kept.
    pub fn get<'t>(&'t self, part: usize, chunk: usize, own: &'t D::Table) -> &'t D::Table {
        match self {
            Self::Kept { tables, chunks } => &tables[part * chunks + chunk],
            Self::Drawn(_) => own,
        }
    }
}
