//! The survey: what can be learned about the inputs without consuming any of them.

use std::time::Instant;

use crate::error::Result;
use crate::input::InputFile;
use crate::input::decode::{Decoder, Encoding};
use crate::input::split::Splitter;

/// What was learned about the inputs without consuming any of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survey {
    /// Bytes of all inputs when decoded; `None` when one of them is a stream, which cannot be read
    /// again.
    pub bytes: Option<u64>,
    /// Bytes of all inputs as they are stored.
    pub stored_bytes: u64,
    /// Mean record with its delimiter, from samples.
    pub mean: f64,
    /// Seconds to read a byte, from samples.
    pub read: f64,
    /// Compressed inputs: their decoded sizes are reckoned from samples.
    pub encoded: usize,
    /// Streams that are, or may be, compressed.
    pub unknown: usize,
    /// The largest window that an input is known to need.
    pub window: u64,
    /// Memory of the machine: no limit means more than that.
    pub memory: u64,
}

/// Samples of all inputs together, and the bytes of each.
const SAMPLES: u64 = 16;
const SAMPLE: usize = 64 << 10;

/// What samples told.
#[derive(Default)]
struct Seen {
    stored: u64,
    decoded: u64,
    records: u64,
    seconds: f64,
}

impl Survey {
    /// Looks at sizes, and reads a few spread samples of the regular inputs.
    pub fn of(inputs: &[InputFile], splitter: &Splitter) -> Result<Self> {
        /// Unknown inputs are taken for text.
        const MEAN: f64 = 100.0;
        const READ: f64 = 0.7e-9;
        /// What text compresses to, where nothing better is known.
        const RATIO: f64 = 4.0;
        let rereadable = inputs.iter().all(InputFile::can_be_read_again);
        let is_encoded =
            |input: &&InputFile| input.can_be_read_again() && input.encoding != Some(Encoding::Raw);
        let is_unknown = |input: &&InputFile| {
            !input.can_be_read_again() && input.encoding != Some(Encoding::Raw)
        };
        let total: u64 = inputs.iter().filter_map(InputFile::size).sum();
        let mut buffer = vec![0; SAMPLE];
        let (mut raw, mut encoded) = (Seen::default(), Seen::default());
        let mut next = 0;
        let mut before = 0;
        for input in inputs {
            let size = input.size().unwrap_or(0);
            let wanted = |next: u64| next < SAMPLES && (next * total / SAMPLES) < before + size;
            if input.has_places() {
                let mut file = None;
                while wanted(next) {
                    let offset = (next * total / SAMPLES).saturating_sub(before);
                    let len = (size - offset).min(SAMPLE as u64) as usize;
                    let file = match &file {
                        Some(file) => file,
                        None => file.insert(input.open()?),
                    };
                    let start = Instant::now();
                    input.read_exact_at(file, &mut buffer[..len], offset)?;
                    raw.seconds += start.elapsed().as_secs_f64();
                    raw.records += splitter.scan(&buffer[..len]).records;
                    raw.decoded += len as u64;
                    // Small inputs are read once, not sixteen times.
                    next += 1 + SAMPLES * (len as u64 - 1).min(total) / total.max(1);
                }
            } else if wanted(next) && input.can_be_read_again() {
                // Only its front can be looked at; so the sample is a longer one.
                look_into(input, splitter, &mut buffer, &mut encoded)?;
                while wanted(next) {
                    next += 1;
                }
            }
            before += size;
        }
        let stored: u64 = inputs
            .iter()
            .filter(is_encoded)
            .filter_map(InputFile::size)
            .sum();
        let ratio = match encoded.stored {
            0 => RATIO,
            stored => encoded.decoded as f64 / stored as f64,
        };
        let bytes = (total - stored) + (stored as f64 * ratio) as u64;
        let (read, records) = (raw.decoded + encoded.decoded, raw.records + encoded.records);
        let seconds = raw.seconds + encoded.seconds;
        Ok(Self {
            bytes: rereadable.then_some(bytes),
            stored_bytes: total,
            mean: match (splitter.fixed(), read) {
                (Some(bytes), _) => bytes as f64,
                (None, 0) => MEAN,
                (None, read) => read as f64 / records.max(1) as f64,
            },
            read: match read {
                read if read >= SAMPLE as u64 => seconds / read as f64,
                _ => READ,
            },
            encoded: inputs.iter().filter(is_encoded).count(),
            unknown: inputs.iter().filter(is_unknown).count(),
            window: inputs.iter().map(|input| input.window).max().unwrap_or(0),
            memory: machine_memory(),
        })
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

/// Decodes the front of a compressed input. What is wrong with it is left to the reading.
fn look_into(
    input: &InputFile,
    splitter: &Splitter,
    buffer: &mut [u8],
    seen: &mut Seen,
) -> Result<()> {
    /// Bytes that are decoded of one input.
    const FRONT: u64 = 512 << 10;
    let size = input.size().unwrap_or(0);
    let file = input.open()?;
    let encoding = input.encoding.unwrap_or(Encoding::Raw);
    let mut decoder = Decoder::new(encoding, input.window, None)?;
    decoder.begin(&[]);
    let mut at = 0;
    let mut read = |out: &mut [u8]| {
        let n = (size - at).min(out.len() as u64) as usize;
        input.read_exact_at(&file, &mut out[..n], at)?;
        at += n as u64;
        Ok(n)
    };
    let start = Instant::now();
    let mut decoded = 0;
    while decoded < FRONT {
        let Ok(n) = decoder.decode(buffer, &mut read) else {
            break;
        };
        seen.records += splitter.scan(&buffer[..n]).records;
        decoded += n as u64;
        if n < buffer.len() {
            break;
        }
    }
    seen.seconds += start.elapsed().as_secs_f64();
    seen.decoded += decoded;
    seen.stored += decoder.consumed();
    Ok(())
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
