//! Long records in scratch files.
//!
//! In one file, records that came whole are put side by side by any worker; in the other, records
//! that come piece by piece are written in turn, so that each lies in one stretch. Bit 63 of a place
//! tells the two apart.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use crate::error::{At, Error, Result};
use crate::input::read_at;
use crate::run::{Run, lock};
use crate::scratch::unnamed_file;

const SERIAL: u64 = 1 << 63;

/// The files of a run, made when first needed.
pub(crate) struct Files<'a> {
    dir: PathBuf,
    run: &'a Run<'a>,
    whole: Lane,
    serial: Lane,
}

#[derive(Default)]
struct Lane {
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
            whole: Lane::default(),
            serial: Lane::default(),
        }
    }

    /// Bytes that the spool holds.
    pub fn bytes(&self) -> u64 {
        self.whole.len.load(Relaxed) + self.serial.len.load(Relaxed)
    }

    /// Stores a record that is here whole; returns its place.
    pub fn append(&self, record: &[u8]) -> Result<u64> {
        self.write(&self.whole, record)
    }

    /// Begins a record that comes piece by piece; returns its place.
    pub fn begin_serial(&self, piece: &[u8]) -> Result<u64> {
        Ok(self.write(&self.serial, piece)? | SERIAL)
    }

    /// Adds the next piece of the record begun last.
    pub fn append_serial(&self, piece: &[u8]) -> Result<()> {
        self.write(&self.serial, piece).map(drop)
    }

    /// Reads exactly `buf` at `offset` behind `place`.
    pub fn read_exact_at(&self, place: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        let lane = if place & SERIAL == 0 {
            &self.whole
        } else {
            &self.serial
        };
        let file = self.file(lane)?;
        let mut done = 0;
        while done < buf.len() {
            let at = (place & !SERIAL) + offset + done as u64;
            match read_at(file, &mut buf[done..], at).at(&self.dir)? {
                0 => return Err(Error::Integrity("scratch became shorter".into())),
                n => done += n,
            }
        }
        Ok(())
    }

    fn write(&self, lane: &Lane, bytes: &[u8]) -> Result<u64> {
        /// Dirty bytes that may wait for the disk: a flush of so many is short.
        const UNSYNCED: u64 = 32 << 20;
        let file = self.file(lane)?;
        let place = lane.len.fetch_add(bytes.len() as u64, Relaxed);
        for (i, piece) in bytes.chunks(1 << 20).enumerate() {
            self.run.check()?;
            let at = place + ((i as u64) << 20);
            crate::scratch::write_all_at(file, piece, at).at(&self.dir)?;
        }
        let unsynced = lane.unsynced.fetch_add(bytes.len() as u64, Relaxed);
        if unsynced > UNSYNCED {
            lane.unsynced.store(0, Relaxed);
            rustix::io::retry_on_intr(|| rustix::fs::fdatasync(file)).at(&self.dir)?;
        }
        Ok(place)
    }

    fn file<'l>(&self, lane: &'l Lane) -> Result<&'l File> {
        let _creating = lock(&lane.creating);
        if let Some(file) = lane.file.get() {
            return Ok(file);
        }
        let file = unnamed_file(&self.dir, false, true)?;
        Ok(lane.file.get_or_init(|| file))
    }
}
