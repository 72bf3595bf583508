//! The survey: what can be learned about the inputs without consuming any of them.

use std::time::Instant;

use crate::error::Result;
use crate::input::{InputFile, Kind};
use crate::split::Splitter;

/// What was learned about the inputs without consuming any of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survey {
    /// Bytes of all inputs; `None` when one of them is a stream, which cannot be read again.
    pub bytes: Option<u64>,
    /// Mean record with its delimiter, from samples.
    pub mean: f64,
    /// Seconds to read a byte, from samples.
    pub read: f64,
    /// Memory of the machine: no limit means more than that.
    pub memory: u64,
}

impl Survey {
    /// Looks at sizes, and reads a few spread samples of the regular inputs.
    pub fn of(inputs: &[InputFile], splitter: &Splitter) -> Result<Self> {
        const SAMPLES: u64 = 16;
        const SAMPLE: usize = 64 << 10;
        /// Unknown inputs are taken for text.
        const MEAN: f64 = 100.0;
        const READ: f64 = 0.7e-9;
        let rereadable = inputs.iter().all(|input| input.kind != Kind::Stream);
        let total: u64 = inputs.iter().filter_map(InputFile::size).sum();
        let mut survey = Self {
            bytes: rereadable.then_some(total),
            mean: MEAN,
            read: READ,
            memory: machine_memory(),
        };
        let mut buffer = vec![0; SAMPLE];
        let (mut read, mut delimiters, mut seconds) = (0u64, 0u64, 0.0);
        let mut next = 0;
        let mut before = 0;
        for input in inputs {
            let size = input.size().unwrap_or(0);
            let mut file = None;
            while next < SAMPLES && (next * total / SAMPLES) < before + size {
                let offset = (next * total / SAMPLES).saturating_sub(before);
                let len = (size - offset).min(SAMPLE as u64) as usize;
                let file = match &file {
                    Some(file) => file,
                    None => file.insert(input.open()?),
                };
                let start = Instant::now();
                input.read_exact_at(file, &mut buffer[..len], offset)?;
                seconds += start.elapsed().as_secs_f64();
                delimiters += splitter.scan(&buffer[..len]).records;
                read += len as u64;
                // Small inputs are read once, not sixteen times.
                next += 1 + SAMPLES * (len as u64 - 1).min(total) / total.max(1);
            }
            before += size;
        }
        if read > 0 {
            survey.mean = read as f64 / delimiters.max(1) as f64;
        }
        if read >= SAMPLE as u64 {
            survey.read = seconds / read as f64;
        }
        Ok(survey)
    }

    /// Records, about.
    pub fn records(&self) -> Option<f64> {
        self.bytes.map(|bytes| bytes as f64 / self.mean)
    }

    /// Bytes that the records take in blocks: distance and length instead of a delimiter.
    pub fn stored(&self, delimiter: usize) -> Option<u64> {
        const HEAD: f64 = 4.0;
        let records = self.records()?;
        let bytes = self.bytes? as f64 + records * (HEAD - delimiter as f64);
        // Slabs' heads and ends, and some caution.
        Some((bytes * 1.04) as u64)
    }
}

/// Bytes of memory that the machine has.
#[cfg(target_os = "linux")]
fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// Bytes of memory that any machine may have.
#[cfg(not(target_os = "linux"))]
fn machine_memory() -> u64 {
    1 << 40
}
