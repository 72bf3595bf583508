//! Inputs that are read from front to back: streams, and whatever is compressed.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use corekit_base::sync::lock;

use crate::error::{At, Error, Result};
use crate::input::decode::{self, Decoder, Encoding, Expansion, Fault, LOOK};
use crate::input::header::Header;
use crate::input::split::Splitter;
use crate::input::{InputFile, Kind, read_at};
use crate::run::Run;

/// The decoders of a run. They are used again: the memory of those that were given up would stay
/// with the allocator, in some arena or other, and count on.
pub(crate) struct Decoders {
    /// The largest window that memory was set aside for.
    window: u64,
    expansion: Option<Expansion>,
    spare: Mutex<Vec<(Encoding, Decoder)>>,
    bytes: AtomicU64,
}

impl Decoders {
    pub fn new(window: u64, expansion: Option<Expansion>) -> Self {
        Self {
            window,
            expansion,
            spare: Mutex::new(Vec::new()),
            bytes: AtomicU64::new(0),
        }
    }

    /// Bytes that all decoders may have taken.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    fn take(&self, encoding: Encoding) -> Result<Decoder> {
        let mut spare = lock(&self.spare);
        if let Some(at) = spare.iter().position(|(kind, _)| *kind == encoding) {
            return Ok(spare.swap_remove(at).1);
        }
        // No more of them than there is memory for.
        if let Some((kind, _)) = spare.pop() {
            self.bytes
                .fetch_sub(decode::memory(kind, self.window), Relaxed);
        }
        self.bytes
            .fetch_add(decode::memory(encoding, self.window), Relaxed);
        Decoder::new(encoding, self.window, self.expansion)
    }
}

/// One input, on its way from front to back.
pub(crate) struct Sequence {
    source: Source,
    encoding: Encoding,
    decoder: Decoder,
    /// Bytes behind the header that were read with it.
    rest: Vec<u8>,
}

/// The input's bytes as they are stored.
struct Source {
    file: Arc<File>,
    at: u64,
}

impl Sequence {
    /// Opens an input and takes its header off.
    pub fn open(
        input: &InputFile,
        decoders: &Decoders,
        header: &Header,
        splitter: &Splitter,
        run: &Run,
    ) -> Result<Self> {
        let mut source = Source {
            file: input.open()?,
            at: 0,
        };
        let mut head = [0; LOOK];
        let mut looked = 0;
        let encoding = match input.encoding {
            Some(encoding) => encoding,
            None => {
                looked = source.read(input, &mut head, run)?;
                Encoding::recognise(&head[..looked])
            }
        };
        let mut decoder = decoders.take(encoding)?;
        decoder.begin(&head[..looked]);
        let mut sequence = Self {
            source,
            encoding,
            decoder,
            rest: Vec::new(),
        };
        if header.is_wanted() {
            let taken = header.take(input.path(), splitter, &mut |out| {
                sequence.fill(input, out, run)
            })?;
            sequence.rest = taken.rest;
        }
        Ok(sequence)
    }

    /// Fills `out` with what comes next; returns fewer bytes only at the input's end.
    pub fn fill(&mut self, input: &InputFile, out: &mut [u8], run: &Run) -> Result<usize> {
        let first = self.rest.len().min(out.len());
        out[..first].copy_from_slice(&self.rest[..first]);
        self.rest.drain(..first);
        let source = &mut self.source;
        let filled = self
            .decoder
            .decode(&mut out[first..], &mut |buf| source.read(input, buf, run));
        filled.map(|n| first + n).map_err(|fault| match fault {
            Fault::Source(error) => error,
            Fault::Corrupt { offset, how } => Error::Format {
                path: input.path().to_owned(),
                how: format!("{how}, at byte {offset}"),
            },
            Fault::Window { window } => Error::Window {
                path: input.path().to_owned(),
                window,
            },
            Fault::Expansion {
                input: from,
                output,
            } => Error::Format {
                path: input.path().to_owned(),
                how: format!(
                    "expands from {from} bytes to more than {output}; any_expansion allows it"
                ),
            },
        })
    }

    /// The input is at its end: its decoder is free for another one.
    pub fn end(self, decoders: &Decoders) {
        lock(&decoders.spare).push((self.encoding, self.decoder));
    }

    /// Bytes of the input, as it is stored, that were read so far.
    pub fn read(&self) -> u64 {
        self.source.at
    }

    /// The open input.
    pub fn file(&self) -> &File {
        &self.source.file
    }
}

impl Source {
    fn read(&mut self, input: &InputFile, buf: &mut [u8], run: &Run) -> Result<usize> {
        run.check()?;
        let n = match input.kind {
            Kind::Regular { start, size, .. } => {
                let left = size - self.at;
                let len = left.min(buf.len() as u64) as usize;
                let n = read_at(&self.file, &mut buf[..len], start + self.at).at(input.path())?;
                if n == 0 && len > 0 {
                    return Err(input.changed("became shorter while it was read"));
                }
                n
            }
            Kind::Stream => input.read_stream(&self.file, buf, run)?,
        };
        self.at += n as u64;
        Ok(n)
    }
}
