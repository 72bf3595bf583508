//! Sections: the files of the output, begun in order while workers write out of order.
//!
//! Where a section's records begin in the output is known when the bucket that they begin in is
//! sorted. So workers take turns, in the order of the records: each tells which sections begin in
//! its stretch, which takes no time beside the copying, and then all of them copy at once.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Condvar, Mutex, OnceLock};

use corekit_base::sync::lock;

use crate::digest::Tally;
use crate::error::{Error, Result};
use crate::options::Npy;
use crate::output::frames::{Frames, Section};
use crate::output::layout::{Group, Layout};
use crate::output::npy;
use crate::run::Run;

/// What stands at the top of every file.
pub(crate) enum Prefix {
    /// The same bytes; perhaps none.
    Bytes(Vec<u8>),
    /// The header of an array of as many rows as the file has records.
    Npy(Npy),
}

/// A stretch of sorted records that go to one section.
pub(crate) struct Segment {
    pub section: Section,
    pub group: usize,
    pub index: u64,
    /// Which of the sorted records.
    pub records: Range<usize>,
    /// The section begins here: its prefix is to be written.
    pub begins: bool,
}

/// One file of the output.
#[derive(Clone, Debug)]
pub(crate) struct OutputFile {
    pub group: Group,
    pub index: u64,
    /// What was written to it.
    pub tally: Tally,
}

/// All sections of a run's output.
pub(crate) struct Sections<'a> {
    frames: &'a Frames<'a>,
    run: &'a Run<'a>,
    fixed: OnceLock<(Layout, Prefix)>,
    chain: Mutex<Chain>,
    moved: Condvar,
    files: Mutex<Vec<OutputFile>>,
}

/// How far the sections are known.
struct Chain {
    /// All sections that begin before this record are begun.
    known: u64,
    current: Option<Current>,
}

#[derive(Clone, Copy)]
struct Current {
    section: Section,
    group: usize,
    index: u64,
    /// Where the group begins in the output.
    group_start: u64,
}

impl<'a> Sections<'a> {
    pub fn new(frames: &'a Frames<'a>, run: &'a Run<'a>) -> Self {
        Self {
            frames,
            run,
            fixed: OnceLock::new(),
            chain: Mutex::new(Chain {
                known: 0,
                current: None,
            }),
            moved: Condvar::new(),
            files: Mutex::new(Vec::new()),
        }
    }

    /// The layout is known now, before anything is written.
    pub fn fix(&self, layout: Layout, prefix: Prefix) -> Result<()> {
        let (layout, _) = self.fixed.get_or_init(|| (layout, prefix));
        if layout.is_one() {
            let current = self.begin(&mut lock(&self.chain), 0, 0, 0)?;
            self.write_prefix(&self.segment(current, true))?;
        }
        Ok(())
    }

    fn fixed(&self) -> Result<&(Layout, Prefix)> {
        let early = || Error::Internal("records came before their layout".into());
        self.fixed.get().ok_or_else(early)
    }

    /// The segments of `len` sorted records, of which the first is record `first` of the output, at
    /// byte `byte` of it. `length` tells how many bytes each of them takes.
    pub fn segments(
        &self,
        first: u64,
        byte: u64,
        len: usize,
        length: impl Fn(usize) -> Result<u64>,
    ) -> Result<Vec<Segment>> {
        let (layout, _) = self.fixed()?;
        if layout.is_one() {
            let current = lock(&self.chain).current;
            let mut segment = self.segment(current.ok_or_else(no_section)?, false);
            segment.records = 0..len;
            return Ok(vec![segment]);
        }
        let end = first + len as u64;
        let starts = layout.starts(first..end);
        // Beginnings that follow from counts are found before the turn.
        let mut begins = Vec::with_capacity(starts.len());
        if layout.section_bytes().is_none() {
            let (mut at, mut byte) = (0, byte);
            for start in &starts {
                let record = (start.record - first) as usize;
                while at < record {
                    byte += length(at)?;
                    at += 1;
                }
                begins.push((record, byte, start.group, start.index));
            }
        }
        let mut chain = lock(&self.chain);
        while chain.known != first {
            chain = self.run.wait(&self.moved, chain)?;
        }
        let mut segments = Vec::new();
        segments.extend(chain.current.map(|current| self.segment(current, false)));
        let begin = |chain: &mut Chain, segments: &mut Vec<Segment>, record, byte, group, index| {
            if let Some(before) = segments.last_mut() {
                before.records.end = record;
            }
            let current = self.begin(chain, byte, group, index)?;
            let mut segment = self.segment(current, true);
            segment.records = record..record;
            segments.push(segment);
            Ok::<_, Error>(())
        };
        for (record, byte, group, index) in begins {
            begin(&mut chain, &mut segments, record, byte, group, index)?;
        }
        if let Some(size) = layout.section_bytes() {
            let (mut byte, mut starts) = (byte, starts.into_iter().peekable());
            for record in 0..len {
                while let Some(start) = starts.next_if(|s| s.record == first + record as u64) {
                    begin(&mut chain, &mut segments, record, byte, start.group, 0)?;
                }
                while let Some(Current {
                    group,
                    index,
                    group_start,
                    ..
                }) = chain.current
                    && index < (byte - group_start) / size
                {
                    begin(&mut chain, &mut segments, record, byte, group, index + 1)?;
                }
                byte += length(record)?;
            }
        }
        if let Some(last) = segments.last_mut() {
            last.records.end = len;
        }
        chain.known = end;
        self.moved.notify_all();
        segments.retain(|segment| segment.begins || !segment.records.is_empty());
        Ok(segments)
    }

    /// All records are copied and `total` bytes long: what sections are left begin and end here.
    pub fn finish(&self, total: u64) -> Result<()> {
        let (layout, _) = self.fixed()?;
        if !layout.is_one() {
            let end = layout.total();
            for start in layout.starts(end..end + 1) {
                let mut chain = lock(&self.chain);
                let current = self.begin(&mut chain, total, start.group, start.index)?;
                drop(chain);
                self.write_prefix(&self.segment(current, true))?;
            }
        }
        self.frames.finish(total);
        Ok(())
    }

    /// Begins a section whose records begin at `byte`.
    fn begin(&self, chain: &mut Chain, byte: u64, group: usize, index: u64) -> Result<Current> {
        let (layout, prefix) = self.fixed()?;
        let mut files = lock(&self.files);
        let section = self.frames.begin(files.len() as u64, byte, prefix.len());
        files.push(OutputFile {
            group: layout.group(group),
            index,
            tally: Tally::default(),
        });
        let group_start = match chain.current {
            Some(current) if current.group == group => current.group_start,
            _ => byte,
        };
        let current = Current {
            section,
            group,
            index,
            group_start,
        };
        chain.current = Some(current);
        Ok(current)
    }

    fn segment(&self, current: Current, begins: bool) -> Segment {
        Segment {
            section: current.section,
            group: current.group,
            index: current.index,
            records: 0..0,
            begins,
        }
    }

    /// Writes what stands before the section's records.
    pub fn write_prefix(&self, segment: &Segment) -> Result<()> {
        let (layout, prefix) = self.fixed()?;
        let records = layout.records(segment.group, segment.index);
        let bytes = prefix.bytes(records)?;
        let mut cursor = self.frames.prefix_cursor(segment.section);
        cursor.put(&bytes)?;
        cursor.leave();
        Ok(())
    }

    /// `tally` more was written to a section.
    pub fn add(&self, section: Section, tally: &Tally) {
        if let Some(file) = lock(&self.files).get_mut(section.number as usize) {
            file.tally.merge(tally);
        }
    }

    /// Bytes before the records of every file.
    pub fn prefix_len(&self) -> u64 {
        self.fixed.get().map_or(0, |(_, prefix)| prefix.len())
    }

    /// The files, in order.
    pub fn files(&self) -> Vec<OutputFile> {
        lock(&self.files).clone()
    }
}

fn no_section() -> Error {
    Error::Internal("records came before their section".into())
}

impl Prefix {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Npy(header) => npy::header_len(header),
        }
    }

    fn bytes(&self, records: Option<u64>) -> Result<Cow<'_, [u8]>> {
        Ok(match (self, records) {
            (Self::Bytes(bytes), _) => Cow::Borrowed(bytes),
            (Self::Npy(header), Some(rows)) => Cow::Owned(npy::header(header, rows)),
            (Self::Npy(_), None) => {
                return Err(Error::Internal("rows of unknown number".into()));
            }
        })
    }
}
