//! Zstd frames: how they begin, and what memory they want.

use zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_memory_allocation;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use super::source::{Read, Source};
use super::{Fault, LOOK, Step};
use crate::error::{Error, Result};

pub(super) const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// The first of the 16 magic numbers of skippable frames.
const SKIPPABLE_MAGIC: [u8; 4] = 0x184d_2a50_u32.to_le_bytes();

/// The smallest and the largest window of the library, as powers of two.
const WINDOW_LOG_MIN: u32 = 10;
const WINDOW_LOG_MAX: u32 = if cfg!(target_pointer_width = "64") {
    31
} else {
    30
};

/// Most bytes of a block.
const BLOCK: u64 = 128 << 10;

pub(super) const BUFFER: usize = 128 << 10;

/// A bound of what the library allocates besides windows, with what the allocator adds.
const STATE: usize = 192 << 10;

/// Whether an input that begins so is stored as zstd frames.
pub(super) fn recognise(head: &[u8]) -> bool {
    head.len() >= 4 && Frame::of(head).is_some()
}

/// The window of the first frame; none when it is skippable or its header is not complete.
pub(super) fn window(head: &[u8]) -> Option<u64> {
    if head.len() >= 4 && Frame::of(head) == Some(Frame::Data) {
        Some(FrameHeader::of(head)?.window)
    } else {
        None
    }
}

/// Bytes of memory that a decoder takes at most when no window is larger than `window`.
pub(super) fn memory(window: u64) -> u64 {
    // The library's own sum: a block of input; the window, two blocks, and 64 bytes for copies that
    // overshoot.
    let window = window.clamp(1 << WINDOW_LOG_MIN, 1 << WINDOW_LOG_MAX);
    window + 3 * window.min(BLOCK) + 64 + (STATE + BUFFER) as u64
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
        if MAGIC.starts_with(head) {
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
        let mut rest = head.get(MAGIC.len()..)?;
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

/// What decodes one frame after another.
pub(super) struct Zstd {
    pub(super) context: DCtx<'static>,
    /// The window of the frame begun last.
    window: u64,
    /// The largest window there may be.
    limit: u64,
}

impl Zstd {
    pub(super) fn new(limit: u64) -> Result<Self> {
        let mut context = DCtx::try_create().ok_or(Error::OutOfMemory {
            what: "a zstd decoder",
            bytes: STATE as u64,
        })?;
        let log = limit
            .checked_next_power_of_two()
            .map_or(WINDOW_LOG_MAX, u64::ilog2)
            .clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
        context
            .set_parameter(DParameter::WindowLogMax(log))
            .map_err(|code| {
                let why = zstd_safe::get_error_name(code);
                Error::Internal(format!("zstd takes no window of 2^{log} bytes: {why}"))
            })?;
        Ok(Self {
            context,
            window: 0,
            limit: limit.min(1 << WINDOW_LOG_MAX),
        })
    }

    /// Forgets a frame that was left in the middle.
    pub(super) fn reset(&mut self) {
        // Should it fail, then so does decoding.
        let _ = self.context.reset(ResetDirective::SessionOnly);
    }

    /// Goes on to the next frame; false at the end of the input.
    pub(super) fn enter(
        &mut self,
        source: &mut Source,
        first: bool,
        read: &mut Read<'_>,
    ) -> std::result::Result<bool, Fault> {
        let head = source.want(LOOK, read)?;
        if head.is_empty() && !first {
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
                self.window = header.window;
                if header.window > self.limit {
                    return Err(Fault::Window {
                        window: header.window,
                    });
                }
            }
            Some(Frame::Skippable) => {}
            _ => return Err(source.foreign(first)),
        }
        Ok(true)
    }

    /// Decodes some of what is there into `out`, which is not empty. The library verifies what it
    /// has decoded.
    pub(super) fn step(
        &mut self,
        source: &Source,
        out: &mut [u8],
    ) -> std::result::Result<Step, Fault> {
        let mut input = InBuffer::around(source.unread());
        let mut output = OutBuffer::around(out);
        match self.context.decompress_stream(&mut output, &mut input) {
            Ok(hint) => Ok(Step {
                taken: input.pos(),
                given: output.pos(),
                ended: hint == 0,
            }),
            Err(code) if zstd_safe::is_error_kind(code, ZSTD_error_memory_allocation) => {
                Err(Fault::Source(Error::OutOfMemory {
                    what: "a zstd window",
                    bytes: self.window,
                }))
            }
            Err(code) => {
                let why = zstd_safe::get_error_name(code);
                Err(source.corrupt(source.offset(), why))
            }
        }
    }
}
