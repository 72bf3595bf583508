//! Long records in scratch files.
//!
//! In one file, records that came whole are put side by side by any worker. Records that come piece
//! by piece have a file for each input that is being read, so that each lies in one stretch. The
//! highest bits of a place tell the file.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use corekit_base::sync::lock;

use crate::error::{At, Error, Result};
use crate::input::read_at;
use crate::run::Run;
use crate::store::scratch::unnamed_file;
use crate::store::spool::LANES;

/// The file's number in a place stands above this bit.
const FILE_SHIFT: u32 = 56;
const OFFSET: u64 = (1 << FILE_SHIFT) - 1;

/// The files of a run, made when first needed.
pub(crate) struct Files<'a> {
    dir: PathBuf,
    run: &'a Run<'a>,
    /// The file of whole records, then those of the lanes.
    files: [Appended; 1 + LANES],
}

#[derive(Default)]
struct Appended {
    file: OnceLock<File>,
    creating: Mutex<()>,
    len: AtomicU64,
    unsynced: AtomicU64,
}

impl<'a> Files<'a> {
    pub fn new(dir: PathBuf, run: &'a Run<'a>) -> Self {
        Self {
            dir,
            run,
            files: std::array::from_fn(|_| Appended::default()),
        }
    }

    /// Bytes that the spool holds.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len.load(Relaxed)).sum()
    }

    /// Stores a record that is here whole; returns its place.
    pub fn append(&self, record: &[u8]) -> Result<u64> {
        self.write(0, record)
    }

    /// Begins a record that comes piece by piece; returns its place.
    pub fn begin_serial(&self, lane: usize, piece: &[u8]) -> Result<u64> {
        self.write(1 + lane, piece)
    }

    /// Adds the next piece of the record begun last in its lane, which is at `place`.
    pub fn append_serial(&self, place: u64, piece: &[u8]) -> Result<()> {
        self.write((place >> FILE_SHIFT) as usize, piece).map(drop)
    }

    /// Reads exactly `buf` at `offset` behind `place`.
    pub fn read_exact_at(&self, place: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        let file = self.files.get((place >> FILE_SHIFT) as usize);
        let file = file.ok_or_else(|| Error::Integrity("a long record lost its place".into()))?;
        let file = self.open(file)?;
        let mut done = 0;
        while done < buf.len() {
            let at = (place & OFFSET) + offset + done as u64;
            match read_at(file, &mut buf[done..], at).at(&self.dir)? {
                0 => return Err(Error::Integrity("scratch became shorter".into())),
                n => done += n,
            }
        }
        Ok(())
    }

    fn write(&self, number: usize, bytes: &[u8]) -> Result<u64> {
        /// Dirty bytes that may wait for the disk: a flush of so many is short.
        const UNSYNCED: u64 = 32 << 20;
        let appended = &self.files[number];
        let file = self.open(appended)?;
        let place = appended.len.fetch_add(bytes.len() as u64, Relaxed);
        for (i, piece) in bytes.chunks(1 << 20).enumerate() {
            self.run.check()?;
            let at = place + ((i as u64) << 20);
            crate::store::scratch::write_all_at(file, piece, at).at(&self.dir)?;
        }
        let unsynced = appended.unsynced.fetch_add(bytes.len() as u64, Relaxed);
        if unsynced > UNSYNCED {
            appended.unsynced.store(0, Relaxed);
            rustix::io::retry_on_intr(|| rustix::fs::fdatasync(file)).at(&self.dir)?;
        }
        Ok((number as u64) << FILE_SHIFT | place)
    }

    fn open<'l>(&self, appended: &'l Appended) -> Result<&'l File> {
        let _creating = lock(&appended.creating);
        if let Some(file) = appended.file.get() {
            return Ok(file);
        }
        let file = unnamed_file(&self.dir, false, true)?;
        Ok(appended.file.get_or_init(|| file))
    }
}
