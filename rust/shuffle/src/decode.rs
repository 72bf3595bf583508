//! Decoding of compressed inputs, in bounded memory and straight into the caller's bytes.
//!
//! Members and frames may follow one another, as `cat a.gz b.gz` makes them, and every checksum is
//! verified. How gzip members and zstd frames begin is read here and not left to the libraries: a
//! limit or a fault must not depend on how the bytes happened to arrive, and a gzip decoder that is
//! reset for the next member must not allocate.

use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_memory_allocation;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use crate::error::{Error, Result, try_vec};

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

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The only method there is.
const DEFLATE: u8 = 8;

const GZIP_WINDOW: u64 = 32 << 10;

/// Flags of a gzip header.
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const FRESERVED: u8 = 0b111 << 5;

const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// The first of the 16 magic numbers of skippable frames.
const SKIPPABLE_MAGIC: [u8; 4] = 0x184d_2a50_u32.to_le_bytes();

/// The smallest and the largest window of the zstd library, as powers of two.
const WINDOW_LOG_MIN: u32 = 10;
const WINDOW_LOG_MAX: u32 = if cfg!(target_pointer_width = "64") {
    31
} else {
    30
};

/// Most bytes of a zstd block.
const ZSTD_BLOCK: u64 = 128 << 10;

const GZIP_BUFFER: usize = 64 << 10;
const ZSTD_BUFFER: usize = 128 << 10;

/// Bounds of what the libraries allocate besides windows, with what the allocator adds.
const INFLATE_STATE: usize = 24 << 10;
const ZSTD_STATE: usize = 192 << 10;

/// Most bytes decoded before their checksum is taken, so that they are still in the cache.
const CHECK: usize = 256 << 10;

impl Encoding {
    /// Tells by the first bytes of an input how it is stored.
    pub(crate) fn recognise(head: &[u8]) -> Self {
        if head.starts_with(&GZIP_MAGIC) && head.get(2) == Some(&DEFLATE) {
            Self::Gzip
        } else if head.len() >= 4 && Frame::of(head).is_some() {
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
        Encoding::Gzip => Some(GZIP_WINDOW),
        Encoding::Zstd if head.len() >= 4 && Frame::of(head) == Some(Frame::Data) => {
            Some(FrameHeader::of(head)?.window)
        }
        Encoding::Zstd => None,
    }
}

/// Bytes of memory that one [`Decoder`] takes at most when no window is larger than `window`.
pub(crate) fn memory(encoding: Encoding, window: u64) -> u64 {
    match encoding {
        Encoding::Raw => LOOK as u64,
        Encoding::Gzip => GZIP_WINDOW + (INFLATE_STATE + GZIP_BUFFER) as u64,
        // The library's own sum: a block of input; the window, two blocks, and 64 bytes for copies
        // that overshoot.
        Encoding::Zstd => {
            let window = window.clamp(1 << WINDOW_LOG_MIN, 1 << WINDOW_LOG_MAX);
            window + 3 * window.min(ZSTD_BLOCK) + 64 + (ZSTD_STATE + ZSTD_BUFFER) as u64
        }
    }
}

/// What the first bytes of something in a zstd file say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Data,
    Skippable,
}

impl Frame {
    /// Looks at the magic number, or at what there is of it.
    fn of(head: &[u8]) -> Option<Self> {
        let head = &head[..head.len().min(4)];
        if ZSTD_MAGIC.starts_with(head) {
            return Some(Self::Data);
        }
        let (first, rest) = head.split_first()?;
        (first & 0xf0 == SKIPPABLE_MAGIC[0] && SKIPPABLE_MAGIC[1..].starts_with(rest))
            .then_some(Self::Skippable)
    }
}

/// What the header of a zstd frame says (RFC 8878, 3.1.1.1).
struct FrameHeader {
    window: u64,
    /// 0 for none.
    dictionary: u64,
}

impl FrameHeader {
    /// Reads the header at the start of `head`, which begins with the magic number; nothing when it
    /// is not complete.
    fn of(head: &[u8]) -> Option<Self> {
        let mut rest = head.get(ZSTD_MAGIC.len()..)?;
        let mut field = |len: usize| {
            let (bytes, behind) = rest.split_at_checked(len)?;
            rest = behind;
            let mut value = [0; 8];
            value[..len].copy_from_slice(bytes);
            Some(u64::from_le_bytes(value))
        };
        let descriptor = field(1)?;
        let single_segment = descriptor & 0x20 != 0;
        let exponent_mantissa = if single_segment { 0 } else { field(1)? };
        let dictionary = field([0, 1, 2, 4][(descriptor & 3) as usize])?;
        let content = match descriptor >> 6 {
            0 => field(usize::from(single_segment))?,
            1 => field(2)? + 256,
            2 => field(4)?,
            _ => field(8)?,
        };
        let window = if single_segment {
            content
        } else {
            let base = 1 << (WINDOW_LOG_MIN as u64 + (exponent_mantissa >> 3));
            base + base / 8 * (exponent_mantissa & 7)
        };
        Some(Self { window, dictionary })
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

/// Gives the next compressed bytes; none at the end of the input, after which it is not called again.
type Read<'a> = dyn FnMut(&mut [u8]) -> Result<usize> + 'a;

/// The compressed bytes, and where in the input they are.
struct Source {
    encoding: Encoding,
    buffer: Vec<u8>,
    /// Of the buffer, `at..filled` was read and not yet consumed.
    at: usize,
    filled: usize,
    /// Bytes read of the input.
    read: u64,
    ended: bool,
}

impl Source {
    fn unread(&self) -> &[u8] {
        &self.buffer[self.at..self.filled]
    }

    fn offset(&self) -> u64 {
        self.read - (self.filled - self.at) as u64
    }

    /// Reads more behind what is there; false at the end of the input. The buffer must not be full.
    fn more(&mut self, read: &mut Read<'_>) -> Result<bool> {
        if !self.ended {
            self.buffer.copy_within(self.at..self.filled, 0);
            self.filled -= self.at;
            self.at = 0;
            let n = read(&mut self.buffer[self.filled..])?;
            self.filled += n;
            self.read += n as u64;
            self.ended = n == 0;
        }
        Ok(!self.ended)
    }

    /// Has at least `len` bytes ready, or all there are.
    fn want(&mut self, len: usize, read: &mut Read<'_>) -> Result<&[u8]> {
        while self.filled - self.at < len && self.more(read)? {}
        Ok(self.unread())
    }

    /// At least one byte, or the fault that there is none.
    fn some(&mut self, read: &mut Read<'_>) -> std::result::Result<&[u8], Fault> {
        if self.want(1, read)?.is_empty() {
            return Err(self.ends_early());
        }
        Ok(self.unread())
    }

    /// Consumes exactly `N` bytes, or fails because they are not there.
    fn array<const N: usize>(
        &mut self,
        read: &mut Read<'_>,
    ) -> std::result::Result<[u8; N], Fault> {
        match self.want(N, read)?.first_chunk() {
            Some(&bytes) => {
                self.at += N;
                Ok(bytes)
            }
            None => Err(self.ends_early()),
        }
    }

    fn ends_early(&self) -> Fault {
        Fault::Corrupt {
            offset: self.read,
            how: format!("{} data ends early", self.encoding.name()),
        }
    }

    fn corrupt(&self, offset: u64, why: &str) -> Fault {
        Fault::Corrupt {
            offset,
            how: format!("{} data is corrupt: {why}", self.encoding.name()),
        }
    }

    /// What stands here is neither a member nor a frame.
    fn foreign(&self, first: bool) -> Fault {
        let name = self.encoding.name();
        Fault::Corrupt {
            offset: self.offset(),
            how: match (first, self.unread().is_empty()) {
                (true, true) => format!("holds no {name} data"),
                (true, false) => format!("is not {name} data"),
                (false, _) => format!("is followed by bytes that are not {name}"),
            },
        }
    }
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
    Gzip { inflate: Decompress, crc: Crc },
    Zstd { context: DCtx<'static>, window: u64 },
}

/// Decodes inputs one after another.
pub(crate) struct Decoder {
    codec: Codec,
    source: Source,
    window_limit: u64,
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
            Encoding::Gzip => {
                // The library panics when it is refused memory, so that is asked for before.
                drop(try_vec::<u8>(
                    INFLATE_STATE + GZIP_WINDOW as usize,
                    "a gzip decoder",
                )?);
                let codec = Codec::Gzip {
                    inflate: Decompress::new(false),
                    crc: Crc::new(),
                };
                (codec, GZIP_BUFFER)
            }
            Encoding::Zstd => {
                let mut context = DCtx::try_create().ok_or(Error::OutOfMemory {
                    what: "a zstd decoder",
                    bytes: ZSTD_STATE as u64,
                })?;
                let log = window_limit
                    .checked_next_power_of_two()
                    .map_or(WINDOW_LOG_MAX, u64::ilog2)
                    .clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
                context
                    .set_parameter(DParameter::WindowLogMax(log))
                    .map_err(|code| {
                        let why = zstd_safe::get_error_name(code);
                        Error::Internal(format!("zstd takes no window of 2^{log} bytes: {why}"))
                    })?;
                (Codec::Zstd { context, window: 0 }, ZSTD_BUFFER)
            }
        };
        let mut buffer = try_vec(len, "compressed input")?;
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
            window_limit: window_limit.min(1 << WINDOW_LOG_MAX),
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
        if let Codec::Zstd { context, .. } = &mut self.codec {
            // Should it fail, then so does decoding.
            let _ = context.reset(ResetDirective::SessionOnly);
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
        match &mut self.codec {
            Codec::Raw => unreachable!("raw bytes are copied"),
            Codec::Gzip { inflate, crc } => {
                let head = source.want(GZIP_MAGIC.len(), read)?;
                if head.is_empty() && !self.first {
                    return Ok(false);
                }
                if head.is_empty() || !GZIP_MAGIC.starts_with(&head[..head.len().min(2)]) {
                    // Archives on tape are padded with zeros.
                    while !self.first && !source.want(1, read)?.is_empty() {
                        match source.unread().iter().position(|&byte| byte != 0) {
                            Some(zeros) => {
                                source.at += zeros;
                                return Err(source.foreign(false));
                            }
                            None => source.at = source.filled,
                        }
                    }
                    if self.first {
                        return Err(source.foreign(true));
                    }
                    return Ok(false);
                }
                gzip_header(source, crc, read)?;
                crc.reset();
                inflate.reset(false);
            }
            Codec::Zstd { window, .. } => {
                let head = source.want(LOOK, read)?;
                if head.is_empty() && !self.first {
                    return Ok(false);
                }
                match Frame::of(head) {
                    Some(Frame::Data) if !head.is_empty() => {
                        let Some(header) = FrameHeader::of(head) else {
                            return Err(source.ends_early());
                        };
                        if header.dictionary != 0 {
                            return Err(Fault::Corrupt {
                                offset: source.offset(),
                                how: "needs a dictionary, which is not supported".into(),
                            });
                        }
                        *window = header.window;
                        if header.window > self.window_limit {
                            return Err(Fault::Window {
                                window: header.window,
                            });
                        }
                    }
                    Some(Frame::Skippable) => {}
                    _ => return Err(source.foreign(self.first)),
                }
            }
        }
        self.first = false;
        self.inside = true;
        Ok(true)
    }

    /// Decodes some of what is there into `out`, which is not empty.
    fn step(&mut self, out: &mut [u8]) -> std::result::Result<Step, Fault> {
        match &mut self.codec {
            Codec::Raw => unreachable!("raw bytes are copied"),
            Codec::Gzip { inflate, crc } => {
                let (taken, given) = (inflate.total_in(), inflate.total_out());
                let room = out.len().min(CHECK);
                let status = inflate.decompress(
                    self.source.unread(),
                    &mut out[..room],
                    FlushDecompress::None,
                );
                let taken = (inflate.total_in() - taken) as usize;
                let given = (inflate.total_out() - given) as usize;
                let ended = match status {
                    Ok(status) => status == Status::StreamEnd,
                    Err(error) => {
                        let offset = self.source.offset() + taken as u64;
                        let why = error.message().unwrap_or("invalid deflate data");
                        return Err(self.source.corrupt(offset, why));
                    }
                };
                crc.update(&out[..given]);
                Ok(Step {
                    taken,
                    given,
                    ended,
                })
            }
            Codec::Zstd { context, window } => {
                let mut input = InBuffer::around(self.source.unread());
                let mut output = OutBuffer::around(out);
                match context.decompress_stream(&mut output, &mut input) {
                    Ok(hint) => Ok(Step {
                        taken: input.pos(),
                        given: output.pos(),
                        ended: hint == 0,
                    }),
                    Err(code) if zstd_safe::is_error_kind(code, ZSTD_error_memory_allocation) => {
                        Err(Fault::Source(Error::OutOfMemory {
                            what: "a zstd window",
                            bytes: *window,
                        }))
                    }
                    Err(code) => {
                        let why = zstd_safe::get_error_name(code);
                        Err(self.source.corrupt(self.source.offset(), why))
                    }
                }
            }
        }
    }

    /// Ends a member or frame.
    fn leave(&mut self, read: &mut Read<'_>) -> std::result::Result<(), Fault> {
        self.inside = false;
        // The zstd library has verified its frame.
        if let Codec::Gzip { crc, .. } = &self.codec {
            let trailer = self.source.offset();
            let sum = u32::from_le_bytes(self.source.array(read)?);
            let len = u32::from_le_bytes(self.source.array(read)?);
            if sum != crc.sum() {
                return Err(self.source.corrupt(trailer, "the checksum differs"));
            }
            if len != crc.amount() {
                return Err(self.source.corrupt(trailer, "the length differs"));
            }
        }
        Ok(())
    }
}

/// Consumes the header of a gzip member (RFC 1952, 2.3), for which `crc` is used up.
fn gzip_header(
    source: &mut Source,
    crc: &mut Crc,
    read: &mut Read<'_>,
) -> std::result::Result<(), Fault> {
    let start = source.offset();
    let fixed: [u8; 10] = source.array(read)?;
    let (method, flags) = (fixed[2], fixed[3]);
    if method != DEFLATE {
        return Err(source.corrupt(start, "unknown compression method"));
    }
    if flags & FRESERVED != 0 {
        return Err(source.corrupt(start, "unknown header flags"));
    }
    crc.reset();
    crc.update(&fixed);
    if flags & FEXTRA != 0 {
        let len: [u8; 2] = source.array(read)?;
        crc.update(&len);
        let mut left = usize::from(u16::from_le_bytes(len));
        while left > 0 {
            let bytes = source.some(read)?;
            let bytes = &bytes[..bytes.len().min(left)];
            let n = bytes.len();
            crc.update(bytes);
            source.at += n;
            left -= n;
        }
    }
    for text in [FNAME, FCOMMENT] {
        let mut open = flags & text != 0;
        while open {
            let bytes = source.some(read)?;
            let end = memchr::memchr(0, bytes);
            let n = end.map_or(bytes.len(), |at| at + 1);
            crc.update(&bytes[..n]);
            source.at += n;
            open = end.is_none();
        }
    }
    if flags & FHCRC != 0 {
        let sum = crc.sum() as u16;
        if u16::from_le_bytes(source.array(read)?) != sum {
            return Err(source.corrupt(start, "the header's checksum differs"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;
    use zstd_safe::{CCtx, CParameter};

    use super::*;

    const LIMIT: u64 = 8 << 20;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    /// A frame with a checksum, and with its length or without.
    fn zstd(bytes: &[u8], sized: bool) -> Vec<u8> {
        let mut context = CCtx::create();
        for parameter in [
            CParameter::ChecksumFlag(true),
            CParameter::ContentSizeFlag(sized),
        ] {
            context.set_parameter(parameter).expect("known");
        }
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
        context.compress2(&mut out, bytes).expect("room");
        out
    }

    fn skippable(len: usize) -> Vec<u8> {
        let mut frame = 0x184d_2a5d_u32.to_le_bytes().to_vec();
        frame.extend((len as u32).to_le_bytes());
        frame.resize(8 + len, 0x28);
        frame
    }

    /// A frame of one block that is not compressed, with this window descriptor.
    fn windowed(descriptor: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = ZSTD_MAGIC.to_vec();
        frame.extend([0, descriptor]);
        frame.extend(&((content.len() as u32) << 3 | 1).to_le_bytes()[..3]);
        frame.extend(content);
        frame
    }

    fn descriptor_window(descriptor: u8) -> u64 {
        let base = 1u64 << (10 + (descriptor >> 3));
        base + base / 8 * u64::from(descriptor & 7)
    }

    fn decoder(encoding: Encoding) -> Decoder {
        Decoder::new(encoding, LIMIT, None).expect("memory")
    }

    /// Decodes all of `bytes`; reads and writes take turns in the sizes given.
    fn decode_by(
        decoder: &mut Decoder,
        bytes: &[u8],
        head: usize,
        reads: &[usize],
        outs: &[usize],
    ) -> std::result::Result<Vec<u8>, Fault> {
        let head = head.min(bytes.len());
        decoder.begin(&bytes[..head]);
        let (mut at, mut turn, mut over) = (head, 0, false);
        let mut read = |buf: &mut [u8]| {
            assert!(!buf.is_empty() && !over, "a read for something");
            let n = reads[turn % reads.len()]
                .min(buf.len())
                .min(bytes.len() - at);
            buf[..n].copy_from_slice(&bytes[at..at + n]);
            (at, turn, over) = (at + n, turn + 1, n == 0);
            Ok(n)
        };
        let mut all = Vec::new();
        for out in outs.iter().cycle() {
            let start = all.len();
            all.resize(start + out, 0xee);
            let n = decoder.decode(&mut all[start..], &mut read)?;
            all.truncate(start + n);
            if n < *out {
                break;
            }
        }
        assert_eq!(decoder.consumed(), bytes.len() as u64);
        Ok(all)
    }

    fn decode(encoding: Encoding, bytes: &[u8]) -> std::result::Result<Vec<u8>, Fault> {
        decode_by(&mut decoder(encoding), bytes, 0, &[usize::MAX], &[1 << 16])
    }

    /// Offset and reason of the damage that must be found, however the bytes come.
    fn damage(encoding: Encoding, bytes: &[u8]) -> (u64, String) {
        let mut decoder = decoder(encoding);
        let mut found = Vec::new();
        for (reads, out) in [(usize::MAX, 1 << 16), (1, 1), (3, 7)] {
            match decode_by(&mut decoder, bytes, 0, &[reads], &[out]) {
                Err(Fault::Corrupt { offset, how }) => {
                    assert!(offset <= bytes.len() as u64);
                    found.push((offset, how));
                }
                other => panic!("damage is found, not {other:?}"),
            }
        }
        found.swap_remove(0)
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn encodings_are_recognised_by_content() {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let bytes = match encoding {
                Encoding::Gzip => gzip(b""),
                _ => zstd(b"", true),
            };
            let magic = if encoding == Encoding::Gzip { 3 } else { 4 };
            for len in 0..bytes.len() {
                let expected = if len < magic { Encoding::Raw } else { encoding };
                assert_eq!(Encoding::recognise(&bytes[..len]), expected);
            }
        }
        for last in 0x4f..=0x60 {
            let skippable = (0x50..0x60).contains(&last);
            assert_eq!(
                Encoding::recognise(&[last, 0x2a, 0x4d, 0x18]) == Encoding::Zstd,
                skippable
            );
        }
        for raw in [
            &b""[..],
            b"{}",
            b"\x1f\x8b\x07",
            b"\x28\xb5\x2f\xfe",
            b"\0\0\0\0",
        ] {
            assert_eq!(Encoding::recognise(raw), Encoding::Raw);
        }
    }

    #[test]
    fn raw_bytes_pass() {
        let bytes = noise(1000);
        let mut decoder = decoder(Encoding::Raw);
        for (head, reads, outs) in [(0, 1, 1), (18, 1, 1001), (18, 300, 7), (5, 2000, 1000)] {
            let all = decode_by(&mut decoder, &bytes, head, &[reads], &[outs]).expect("whole");
            assert_eq!(all, bytes);
        }
        assert_eq!(decode(Encoding::Raw, b"").expect("whole"), b"");
    }

    #[test]
    fn buffers_are_refilled() {
        let mut bytes = noise(1 << 20);
        bytes.extend(b"some text".repeat(200_000));
        for (encoding, archive) in [
            (Encoding::Gzip, gzip(&bytes)),
            (Encoding::Zstd, zstd(&bytes, true)),
            (Encoding::Zstd, zstd(&bytes, false)),
        ] {
            let archive = archive.repeat(2);
            let mut decoder = decoder(encoding);
            for out in [100_000, 4 << 20, bytes.len(), bytes.len() * 2] {
                let all = decode_by(&mut decoder, &archive, LOOK, &[usize::MAX], &[out]);
                assert!(all.expect("whole") == bytes.repeat(2));
            }
        }
    }

    #[test]
    fn gzip_headers_of_every_kind_are_read() {
        let extra = noise(65_535);
        for fields in 0..16 {
            let mut header = vec![0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 0, 255];
            for (bit, flag) in [1, FHCRC, FEXTRA, FNAME].into_iter().enumerate() {
                header[3] |= if fields >> bit & 1 != 0 { flag } else { 0 };
            }
            if header[3] & FEXTRA != 0 {
                header.extend([255, 255]);
                header.extend(&extra);
            }
            if header[3] & FNAME != 0 {
                header[3] |= FCOMMENT;
                header.extend(b"name".repeat(20_000));
                header.extend(b"\0\0");
            }
            if header[3] & FHCRC != 0 {
                let mut crc = Crc::new();
                crc.update(&header);
                header.extend((crc.sum() as u16).to_le_bytes());
            }
            let plain = gzip(b"content");
            let archive = [&plain, &header[..], &plain[10..]].concat();
            let mut decoder = decoder(Encoding::Gzip);
            for reads in [1, 1000, usize::MAX] {
                let all = decode_by(&mut decoder, &archive, 0, &[reads], &[5]).expect("whole");
                assert_eq!(all, b"contentcontent");
            }
            if header[3] & FHCRC != 0 {
                let mut archive = archive.clone();
                archive[plain.len() + 4] ^= 1;
                let (offset, how) = damage(Encoding::Gzip, &archive);
                assert_eq!(offset, plain.len() as u64);
                assert_eq!(how, "gzip data is corrupt: the header's checksum differs");
            }
        }
    }

    #[test]
    fn members_of_every_level_with_flushes_are_read() {
        // As BGZF has them: many, with an extra field, and an empty one at the end.
        for level in [0, 1, 6, 9] {
            let bytes = [noise(70_000), b"{\"a\": 1}\n".repeat(30_000)].concat();
            let mut archive = Vec::new();
            for part in bytes.chunks(65_280) {
                let mut encoder = GzBuilder::new()
                    .extra(b"BC\x02\0\0\0".to_vec())
                    .write(Vec::new(), Compression::new(level));
                for piece in part.chunks(20_000) {
                    encoder.write_all(piece).expect("memory");
                    encoder.flush().expect("memory");
                }
                archive.extend(encoder.finish().expect("memory"));
            }
            archive.extend(gzip(b""));
            let mut theirs = Vec::new();
            std::io::Read::read_to_end(
                &mut flate2::read::MultiGzDecoder::new(&archive[..]),
                &mut theirs,
            )
            .expect("whole");
            assert!(theirs == bytes);
            assert!(decode(Encoding::Gzip, &archive).expect("whole") == bytes);
        }
    }

    /// An encoding, an archive, its content, and where it may be cut.
    type Archive = (Encoding, Vec<u8>, Vec<u8>, Vec<usize>);

    /// Small archives of several members or frames.
    fn archives() -> Vec<Archive> {
        let parts = [&b"a first part, a first part, a first part\n"[..], b"{}\n"];
        let content = parts.concat();
        let zip = parts.map(gzip);
        let sized = parts.map(|part| zstd(part, true));
        // Nothing protects this length: made longer by just the next frame, it would hide that frame
        // from any decoder. No flip of one bit makes this one so.
        let skip = skippable(21);
        let open = parts.map(|part| zstd(part, false));
        let mixed = [&open[0], &skip[..], &open[1]].concat();
        let cut = open[0].len();
        vec![
            (
                Encoding::Gzip,
                zip.concat(),
                content.clone(),
                vec![zip[0].len()],
            ),
            (
                Encoding::Zstd,
                sized.concat(),
                content.clone(),
                vec![sized[0].len()],
            ),
            (Encoding::Zstd, mixed, content, vec![cut, cut + skip.len()]),
        ]
    }

    #[test]
    fn truncation_anywhere_is_found() {
        for (encoding, archive, content, cuts) in archives() {
            assert_eq!(decode(encoding, &archive).expect("whole"), content);
            for len in 0..archive.len() {
                let archive = &archive[..len];
                if cuts.contains(&len) {
                    let all = decode(encoding, archive).expect("whole");
                    assert!(content.starts_with(&all) && all.len() > 4);
                    continue;
                }
                let (offset, how) = damage(encoding, archive);
                assert_eq!(offset, len as u64);
                let name = encoding.name();
                let expected = if len == 0 {
                    format!("holds no {name} data")
                } else {
                    format!("{name} data ends early")
                };
                assert_eq!(how, expected);
            }
        }
    }

    #[test]
    fn no_flipped_bit_passes_for_other_content() {
        for (encoding, archive, content, _) in archives() {
            let mut decoder = decoder(encoding);
            for bit in 0..archive.len() * 8 {
                let mut archive = archive.clone();
                archive[bit / 8] ^= 1 << (bit % 8);
                for (reads, out) in [(usize::MAX, 1 << 16), (1, 1), (5, 3)] {
                    match decode_by(&mut decoder, &archive, 0, &[reads], &[out]) {
                        Ok(all) => assert_eq!(all, content, "bit {bit}"),
                        Err(Fault::Corrupt { offset, .. }) => {
                            assert!(offset <= archive.len() as u64);
                        }
                        Err(Fault::Window { window }) => assert!(window > LIMIT),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_follows_the_end_is_named() {
        for (encoding, archive, content, _) in archives() {
            let len = archive.len() as u64;
            let name = encoding.name();
            for garbage in [&b"x"[..], b"{\"some\": \"text\", \"and\": 1}\n"] {
                let (offset, how) = damage(encoding, &[&archive, garbage].concat());
                assert_eq!(offset, len);
                assert_eq!(how, format!("is followed by bytes that are not {name}"));
                let (offset, how) = damage(encoding, garbage);
                assert_eq!((offset, how), (0, format!("is not {name} data")));
            }
            for zeros in [1, 2, 511, 200_000] {
                let mut padded = archive.clone();
                padded.resize(archive.len() + zeros, 0);
                if encoding == Encoding::Zstd {
                    assert_eq!(damage(encoding, &padded).0, len);
                    continue;
                }
                assert_eq!(decode(encoding, &padded).expect("whole"), content);
                padded.extend(&archive);
                let (offset, how) = damage(encoding, &padded);
                assert_eq!(offset, len + zeros as u64);
                assert_eq!(how, "is followed by bytes that are not gzip");
            }
        }
        assert_eq!(damage(Encoding::Gzip, &[0; 512]).1, "is not gzip data");
    }

    #[test]
    fn frames_of_any_kind_may_follow_one_another() {
        for archive in [
            skippable(0),
            skippable(300_000),
            [
                zstd(b"", true),
                skippable(1),
                zstd(b"", false),
                skippable(0),
            ]
            .concat(),
        ] {
            assert_eq!(decode(Encoding::Zstd, &archive).expect("whole"), b"");
        }
        assert_eq!(
            decode(Encoding::Gzip, &gzip(b"").repeat(3)).expect("whole"),
            b""
        );
        let (offset, how) = damage(Encoding::Zstd, &skippable(300_000)[..200_000]);
        assert_eq!((offset, &how[..]), (200_000, "zstd data ends early"));
    }

    #[test]
    fn a_dictionary_is_refused() {
        for (flag, id) in [(1, &[9u8][..]), (2, &[9, 0]), (3, &[0, 0, 0, 9])] {
            let first = zstd(b"first", true);
            let mut archive = [&first[..], &ZSTD_MAGIC, &[0x20 | flag]].concat();
            archive.extend(id);
            archive.extend([1, 9, 0, 0, b'x']);
            let (offset, how) = damage(Encoding::Zstd, &archive);
            assert_eq!(offset, first.len() as u64);
            assert_eq!(how, "needs a dictionary, which is not supported");
            // The number of no dictionary.
            let at = first.len() + 5;
            archive[at..at + id.len()].fill(0);
            assert_eq!(decode(Encoding::Zstd, &archive).expect("whole"), b"firstx");
        }
    }

    #[test]
    fn window_limits_are_exact() {
        for descriptor in 0..=255 {
            let frame = windowed(descriptor, b"content");
            let wanted = descriptor_window(descriptor);
            assert_eq!(window(Encoding::Zstd, &frame), Some(wanted));
            for len in 0..6 {
                assert_eq!(window(Encoding::Zstd, &frame[..len]), None);
            }
            let archive = [zstd(b"", true), skippable(3), frame].concat();
            let mut below = Decoder::new(Encoding::Zstd, wanted - 1, None).expect("memory");
            for (reads, out) in [(usize::MAX, 100), (1, 1)] {
                match decode_by(&mut below, &archive, 0, &[reads], &[out]) {
                    Err(Fault::Window { window }) => assert_eq!(window, wanted),
                    other => panic!("{other:?}"),
                }
            }
            if wanted <= 64 << 20 {
                let mut at = Decoder::new(Encoding::Zstd, wanted, None).expect("memory");
                let all = decode_by(&mut at, &archive, 0, &[1], &[1]).expect("whole");
                assert_eq!(all, b"content");
                let Codec::Zstd { context, .. } = &at.codec else {
                    unreachable!("it is zstd");
                };
                let used = (context.sizeof() + ZSTD_BUFFER) as u64;
                assert!(used + 8192 <= memory(Encoding::Zstd, wanted), "{used}");
            }
        }
    }

    #[test]
    fn single_segments_are_their_own_window() {
        for (flags, content) in [
            (0x20, &[200][..]),
            (0x60, &[1, 2]),
            (0xa0, &[1, 2, 3, 4]),
            (0xe0, &[1, 2, 3, 4, 5, 6, 7, 8]),
        ] {
            let mut frame = [&ZSTD_MAGIC[..], &[flags], content].concat();
            let mut value = [0; 8];
            value[..content.len()].copy_from_slice(content);
            let offset = if content.len() == 2 { 256 } else { 0 };
            let wanted = u64::from_le_bytes(value) + offset;
            assert_eq!(window(Encoding::Zstd, &frame), Some(wanted));
            assert_eq!(window(Encoding::Zstd, &frame[..frame.len() - 1]), None);
            frame.extend([0; 20]);
            for limit in [wanted - 1, 0] {
                let mut decoder = Decoder::new(Encoding::Zstd, limit, None).expect("memory");
                match decode_by(&mut decoder, &frame, 0, &[1], &[1]) {
                    Err(Fault::Window { window }) => assert_eq!(window, wanted),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(window(Encoding::Zstd, &skippable(100)), None);
        assert_eq!(window(Encoding::Gzip, b""), Some(32 << 10));
        // Whether all fits in one call must make no difference to a limit.
        let bytes = noise(100_000);
        let archive = zstd(&bytes, true);
        let wanted = window(Encoding::Zstd, &archive).expect("a header");
        for out in [10, 1 << 20] {
            let mut decoder = Decoder::new(Encoding::Zstd, wanted, None).expect("memory");
            let all = decode_by(&mut decoder, &archive, 0, &[usize::MAX], &[out]);
            assert!(all.expect("whole") == bytes);
            let mut decoder = Decoder::new(Encoding::Zstd, wanted - 1, None).expect("memory");
            let all = decode_by(&mut decoder, &archive, 0, &[usize::MAX], &[out]);
            assert!(matches!(all, Err(Fault::Window { window }) if window == wanted));
        }
    }

    #[test]
    fn expansion_is_refused_above_its_floor() {
        let bytes = vec![b'x'; 4 << 20];
        for (encoding, archive) in [
            (Encoding::Gzip, gzip(&bytes)),
            (Encoding::Zstd, zstd(&bytes, true)),
        ] {
            for (ratio, floor, refused) in [
                (100, 1 << 20, true),
                (100, 4 << 20, false),
                (100_000, 1 << 20, false),
                (u64::MAX, 0, false),
            ] {
                let expansion = Some(Expansion { ratio, floor });
                let mut decoder = Decoder::new(encoding, LIMIT, expansion).expect("memory");
                for out in [1 << 16, 8 << 20] {
                    match decode_by(&mut decoder, &archive, 0, &[usize::MAX], &[out]) {
                        Ok(all) => assert!(!refused && all == bytes),
                        Err(Fault::Expansion { input, output }) => {
                            assert!(refused && output > floor && output > ratio * input);
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn a_decoder_goes_on_after_faults() {
        for (encoding, archive, content, _) in archives() {
            let mut decoder = decoder(encoding);
            for len in 0..archive.len() {
                let mut broken = archive.clone();
                broken[len] ^= 0xff;
                let _ = decode_by(&mut decoder, &broken, 4, &[usize::MAX], &[2]);
                // Left in the middle, too.
                decoder.begin(&archive[..LOOK]);
                let mut sick = |_: &mut [u8]| Err(Error::Cancelled);
                let stopped = decoder.decode(&mut [0; 100], &mut sick);
                assert!(matches!(stopped, Err(Fault::Source(Error::Cancelled))));
                let all = decode_by(&mut decoder, &archive, LOOK, &[usize::MAX], &[2]);
                assert_eq!(all.expect("whole"), content);
            }
        }
    }

    #[test]
    fn decoders_may_change_threads() {
        fn send<T: Send>() {}
        send::<Decoder>();
    }

    /// Content that compresses more or less: runs of few different bytes, and noise.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            (any::<u8>(), 0usize..5000).prop_map(|(byte, len)| vec![byte; len]),
            proptest::collection::vec(b'a'..b'e', 0..500),
            proptest::collection::vec(any::<u8>(), 0..500),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(prop_oneof![1usize..10, 1usize..3000, Just(1 << 20)], 1..4)
    }

    proptest! {
        #[test]
        fn archives_round_trip(
            bytes in content(),
            mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
            sized: bool,
            head in 0..=LOOK,
            reads in sizes(),
            outs in sizes(),
        ) {
            cuts.sort_by_key(|cut| cut.index(bytes.len() + 1));
            let ends = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]);
            let (mut gz, mut zst, mut start) = (Vec::new(), Vec::new(), 0);
            for end in ends {
                gz.extend(gzip(&bytes[start..end]));
                zst.extend(zstd(&bytes[start..end], sized));
                if end % 3 == 0 {
                    zst.extend(skippable(end % 50));
                }
                start = end;
            }
            for (encoding, archive) in [
                (Encoding::Raw, &bytes),
                (Encoding::Gzip, &gz),
                (Encoding::Zstd, &zst),
            ] {
                let mut decoder = decoder(encoding);
                for _ in 0..2 {
                    let all = decode_by(&mut decoder, archive, head, &reads, &outs);
                    prop_assert!(all.expect("whole") == bytes);
                }
            }
        }

        #[test]
        fn damage_anywhere_is_found(
            bytes in content(),
            place: prop::sample::Index,
            change in 1u8..,
            reads in sizes(),
            outs in sizes(),
        ) {
            for (encoding, mut archive) in [
                (Encoding::Gzip, [gzip(&bytes), gzip(&bytes)].concat()),
                (Encoding::Zstd, [zstd(&bytes, true), zstd(&bytes, false)].concat()),
            ] {
                let place = place.index(archive.len());
                archive[place] ^= change;
                match decode_by(&mut decoder(encoding), &archive, 0, &reads, &outs) {
                    Ok(all) => prop_assert!(all == bytes.repeat(2)),
                    Err(Fault::Corrupt { offset, .. }) => {
                        prop_assert!(offset <= archive.len() as u64);
                    }
                    Err(Fault::Window { window }) => prop_assert!(window > LIMIT),
                    Err(other) => panic!("{other:?}"),
                }
            }
        }

        #[test]
        fn nonsense_ends(
            start in 0usize..3,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            reads in sizes(),
            outs in sizes(),
        ) {
            let heads = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &ZSTD_MAGIC, b""];
            let nonsense = [heads[start], &bytes].concat();
            for encoding in [Encoding::Gzip, Encoding::Zstd] {
                let expansion = Some(Expansion { ratio: 10, floor: 1 << 20 });
                let mut decoder = Decoder::new(encoding, LIMIT, expansion).expect("memory");
                let _ = decode_by(&mut decoder, &nonsense, 0, &reads, &outs);
            }
        }
    }
}
