//! Gzip members: where they begin and end, and their checksums.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use corekit_base::memory::try_vec;

use super::source::{Read, Source};
use super::{Fault, Step};
use crate::error::Result;

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The only method there is.
const DEFLATE: u8 = 8;

pub(super) const WINDOW: u64 = 32 << 10;

/// Flags of a gzip header.
pub(super) const FHCRC: u8 = 1 << 1;
pub(super) const FEXTRA: u8 = 1 << 2;
pub(super) const FNAME: u8 = 1 << 3;
pub(super) const FCOMMENT: u8 = 1 << 4;
const FRESERVED: u8 = 0b111 << 5;

pub(super) const BUFFER: usize = 64 << 10;

/// A bound of what the library allocates besides the window, with what the allocator adds.
const STATE: usize = 24 << 10;

/// Most bytes decoded before their checksum is taken, so that they are still in the cache.
const CHECK: usize = 256 << 10;

/// Whether an input that begins so is stored as gzip members.
pub(super) fn recognise(head: &[u8]) -> bool {
    head.starts_with(&MAGIC) && head.get(2) == Some(&DEFLATE)
}

/// Bytes of memory that a decoder takes at most.
pub(super) fn memory() -> u64 {
    WINDOW + (STATE + BUFFER) as u64
}

/// What decodes one member after another.
pub(super) struct Gzip {
    inflate: Decompress,
    crc: Crc,
}

impl Gzip {
    pub(super) fn new() -> Result<Self> {
        // The library panics when it is refused memory, so that is asked for before.
        drop(try_vec::<u8>("a gzip decoder", STATE + WINDOW as usize)?);
        Ok(Self {
            inflate: Decompress::new(false),
            crc: Crc::new(),
        })
    }

    /// Goes on to the next member; false at the end of the input.
    pub(super) fn enter(
        &mut self,
        source: &mut Source,
        first: bool,
        read: &mut Read<'_>,
    ) -> std::result::Result<bool, Fault> {
        let head = source.want(MAGIC.len(), read)?;
        if head.is_empty() && !first {
            return Ok(false);
        }
        if head.is_empty() || !MAGIC.starts_with(&head[..head.len().min(2)]) {
            // Archives on tape are padded with zeros.
            while !first && !source.want(1, read)?.is_empty() {
                match source.unread().iter().position(|&byte| byte != 0) {
                    Some(zeros) => {
                        source.at += zeros;
                        return Err(source.foreign(false));
                    }
                    None => source.at = source.filled,
                }
            }
            if first {
                return Err(source.foreign(true));
            }
            return Ok(false);
        }
        header(source, &mut self.crc, read)?;
        self.crc.reset();
        self.inflate.reset(false);
        Ok(true)
    }

    /// Decodes some of what is there into `out`, which is not empty.
    pub(super) fn step(
        &mut self,
        source: &Source,
        out: &mut [u8],
    ) -> std::result::Result<Step, Fault> {
        let inflate = &mut self.inflate;
        let (taken, given) = (inflate.total_in(), inflate.total_out());
        let room = out.len().min(CHECK);
        let status = inflate.decompress(source.unread(), &mut out[..room], FlushDecompress::None);
        let taken = (inflate.total_in() - taken) as usize;
        let given = (inflate.total_out() - given) as usize;
        let ended = match status {
            Ok(status) => status == Status::StreamEnd,
            Err(error) => {
                let offset = source.offset() + taken as u64;
                let why = error.message().unwrap_or("invalid deflate data");
                return Err(source.corrupt(offset, why));
            }
        };
        self.crc.update(&out[..given]);
        Ok(Step {
            taken,
            given,
            ended,
        })
    }

    /// Ends a member: consumes and verifies its trailer.
    pub(super) fn leave(
        &mut self,
        source: &mut Source,
        read: &mut Read<'_>,
    ) -> std::result::Result<(), Fault> {
        let trailer = source.offset();
        let sum = u32::from_le_bytes(source.array(read)?);
        let len = u32::from_le_bytes(source.array(read)?);
        if sum != self.crc.sum() {
            return Err(source.corrupt(trailer, "the checksum differs"));
        }
        if len != self.crc.amount() {
            return Err(source.corrupt(trailer, "the length differs"));
        }
        Ok(())
    }
}

/// Consumes the header of a member (RFC 1952, 2.3), for which `crc` is used up.
fn header(
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
