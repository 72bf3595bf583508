//! Decoding of compressed inputs, in bounded memory and straight into the caller's bytes.
//!
//! Members and frames may follow one another, as `cat a.gz b.gz` makes them, and every checksum is
//! verified. How gzip members and zstd frames begin is read here and not left to the libraries: a
//! limit or a fault must not depend on how the bytes happened to arrive, and a gzip decoder that is
//! reset for the next member must not allocate.

mod gzip;
mod source;
#[cfg(test)]
mod tests;
mod zstd;

use corekit_base::memory::try_vec;

use self::gzip::Gzip;
use self::source::{Read, Source};
use self::zstd::Zstd;
use crate::error::{Error, Result};

/// How an input's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// As gzip members.
    Gzip,
    /// As zstd frames.
    Zstd,
}

/// Bytes from an input's start that [`Encoding::recognise`] and [`window`] want to see, if there are
/// as many: the longest header of a zstd frame.
pub(crate) const LOOK: usize = 18;

impl Encoding {
    /// Tells by the first bytes of an input how it is stored.
    pub(crate) fn recognise(head: &[u8]) -> Self {
        if gzip::recognise(head) {
            Self::Gzip
        } else if zstd::recognise(head) {
            Self::Zstd
        } else {
            Self::Raw
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The window that decoding needs, as far as an input's first bytes tell: the first zstd frame's, or
/// none when it is skippable or its header is not complete.
pub(crate) fn window(encoding: Encoding, head: &[u8]) -> Option<u64> {
    match encoding {
        Encoding::Raw => Some(0),
        Encoding::Gzip => Some(gzip::WINDOW),
        Encoding::Zstd => zstd::window(head),
    }
}

/// Bytes of memory that one [`Decoder`] takes at most when no window is larger than `window`.
pub(crate) fn memory(encoding: Encoding, window: u64) -> u64 {
    match encoding {
        Encoding::Raw => LOOK as u64,
        Encoding::Gzip => gzip::memory(),
        Encoding::Zstd => zstd::memory(window),
    }
}

/// Why a decoder stopped.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The source's own error, or memory that the system refused.
    Source(Error),
    /// The input is damaged. `offset` is the byte of the compressed input up to which it could be
    /// taken in; what is wrong begins there or is found soon after.
    Corrupt { offset: u64, how: String },
    /// A zstd frame wants a window that is larger than the limit.
    Window { window: u64 },
    /// The output is out of all proportion to the input.
    Expansion { input: u64, output: u64 },
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Source(error)
    }
}

/// How far an input may expand: output of more than `floor` bytes that is also more than `ratio`
/// times the input is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expansion {
    pub ratio: u64,
    pub floor: u64,
}

/// What one call of a library did.
struct Step {
    taken: usize,
    given: usize,
    /// The member or frame is complete.
    ended: bool,
}

enum Codec {
    Raw,
    Gzip(Gzip),
    Zstd(Zstd),
}

/// Decodes inputs one after another.
pub(crate) struct Decoder {
    codec: Codec,
    source: Source,
    expansion: Option<Expansion>,
    /// Bytes that came out of this input.
    output: u64,
    /// No member or frame of this input was begun yet.
    first: bool,
    /// In the middle of a member or frame.
    inside: bool,
}

impl Decoder {
    /// A decoder that takes no more than [`memory`] of the encoding and the limit.
    pub fn new(
        encoding: Encoding,
        window_limit: u64,
        expansion: Option<Expansion>,
    ) -> Result<Self> {
        let (codec, len) = match encoding {
            Encoding::Raw => (Codec::Raw, LOOK),
            Encoding::Gzip => (Codec::Gzip(Gzip::new()?), gzip::BUFFER),
            Encoding::Zstd => (Codec::Zstd(Zstd::new(window_limit)?), zstd::BUFFER),
        };
        let mut buffer = try_vec("compressed input", len)?;
        buffer.resize(len, 0);
        Ok(Self {
            codec,
            source: Source {
                encoding,
                buffer,
                at: 0,
                filled: 0,
                read: 0,
                ended: false,
            },
            expansion,
            output: 0,
            first: true,
            inside: false,
        })
    }

    /// Makes ready for the next input, whatever became of the one before. `head` is what was already
    /// read of it, at most [`LOOK`] bytes.
    pub fn begin(&mut self, head: &[u8]) {
        assert!(head.len() <= LOOK, "a head is no longer than a look");
        if let Codec::Zstd(zstd) = &mut self.codec {
            zstd.reset();
        }
        self.source.buffer[..head.len()].copy_from_slice(head);
        self.source.at = 0;
        self.source.filled = head.len();
        self.source.read = head.len() as u64;
        self.source.ended = false;
        self.output = 0;
        self.first = true;
        self.inside = false;
    }

    /// Fills `out` from the front; fewer bytes than fit mean that the input is at its end, and only
    /// then is it known to be whole. After a fault there is only [`begin`](Self::begin).
    pub fn decode(
        &mut self,
        out: &mut [u8],
        read: &mut Read<'_>,
    ) -> std::result::Result<usize, Fault> {
        if matches!(self.codec, Codec::Raw) {
            return Ok(self.copy(out, read)?);
        }
        let mut done = 0;
        while done < out.len() {
            if !self.inside && !self.enter(read)? {
                break;
            }
            let step = self.step(&mut out[done..])?;
            self.source.at += step.taken;
            self.output += step.given as u64;
            done += step.given;
            if step.ended {
                self.leave(read)?;
            } else if step.taken == 0 && step.given == 0 {
                if !self.source.unread().is_empty() {
                    return Err(self.source.corrupt(self.consumed(), "it leads nowhere"));
                }
                if !self.source.more(read)? {
                    return Err(self.source.ends_early());
                }
            }
            if let Some(Expansion { ratio, floor }) = self.expansion
                && self.output > floor
                && self.output > self.consumed().saturating_mul(ratio)
            {
                return Err(Fault::Expansion {
                    input: self.consumed(),
                    output: self.output,
                });
            }
        }
        Ok(done)
    }

    /// Compressed bytes of this input that were consumed so far.
    pub fn consumed(&self) -> u64 {
        self.source.offset()
    }

    /// Passes bytes through as they are.
    fn copy(&mut self, out: &mut [u8], read: &mut Read<'_>) -> Result<usize> {
        let source = &mut self.source;
        let mut done = source.unread().len().min(out.len());
        out[..done].copy_from_slice(&source.unread()[..done]);
        source.at += done;
        while done < out.len() && !source.ended {
            let n = read(&mut out[done..])?;
            done += n;
            source.read += n as u64;
            source.ended = n == 0;
        }
        Ok(done)
    }

    /// Goes on to the next member or frame; false at the end of the input.
    fn enter(&mut self, read: &mut Read<'_>) -> std::result::Result<bool, Fault> {
        let source = &mut self.source;
        let more = match &mut self.codec {
            Codec::Raw => unreachable!("raw bytes are copied"),
            Codec::Gzip(gzip) => gzip.enter(source, self.first, read)?,
            Codec::Zstd(zstd) => zstd.enter(source, self.first, read)?,
        };
        if more {
            self.first = false;
            self.inside = true;
        }
        Ok(more)
    }

    /// Decodes some of what is there into `out`, which is not empty.
    fn step(&mut self, out: &mut [u8]) -> std::result::Result<Step, Fault> {
        match &mut self.codec {
            Codec::Raw => unreachable!("raw bytes are copied"),
            Codec::Gzip(gzip) => gzip.step(&self.source, out),
            Codec::Zstd(zstd) => zstd.step(&self.source, out),
        }
    }

    /// Ends a member or frame.
    fn leave(&mut self, read: &mut Read<'_>) -> std::result::Result<(), Fault> {
        self.inside = false;
        // The zstd library has verified its frame.
        if let Codec::Gzip(gzip) = &mut self.codec {
            gzip.leave(&mut self.source, read)?;
        }
        Ok(())
    }
}
