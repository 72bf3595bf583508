//! Compressed frames, one after the other, on their way to the destination.
//!
//! Their sizes are not known beforehand, so they are put together in one aligned buffer, which goes
//! to the destination whenever it is full.

use crate::error::Result;
use crate::output::destination::Destination;
use crate::run::Run;
use crate::store::pool::Part;

/// The end of the section that is being written.
pub(crate) struct Appender {
    buffer: Part,
    used: usize,
    /// Bytes of the section that the destination has.
    offset: u64,
}

impl Appender {
    /// Bytes of the buffer.
    pub const BYTES: usize = 1 << 20;

    pub fn new(buffer: Part) -> Self {
        Self {
            buffer,
            used: 0,
            offset: 0,
        }
    }

    pub fn append(
        &mut self,
        mut bytes: &[u8],
        destination: &Destination,
        section: u64,
        run: &Run,
    ) -> Result<()> {
        while !bytes.is_empty() {
            let room = &mut self.buffer.as_mut()[self.used..];
            let n = room.len().min(bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
            self.used += n;
            bytes = &bytes[n..];
            if self.used == self.buffer.len() {
                self.flush(destination, section, run)?;
            }
        }
        // Who reads a stream waits for whole frames, not for whole buffers.
        if destination.is_stream() {
            self.flush(destination, section, run)?;
        }
        Ok(())
    }

    /// The section is complete.
    pub fn end(&mut self, destination: &Destination, section: u64, run: &Run) -> Result<()> {
        self.flush(destination, section, run)?;
        let len = std::mem::take(&mut self.offset);
        destination.finish(section, len)
    }

    fn flush(&mut self, destination: &Destination, section: u64, run: &Run) -> Result<()> {
        let len = std::mem::take(&mut self.used);
        if len > 0 {
            destination.write(section, self.buffer.as_mut(), len, self.offset, run)?;
            self.offset += len as u64;
        }
        Ok(())
    }
}
