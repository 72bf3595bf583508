//! The compressed bytes of an input, and what is said when they are not as they should be.

use super::{Encoding, Fault};
use crate::error::Result;

/// Gives the next compressed bytes; none at the end of the input, after which it is not called again.
pub(super) type Read<'a> = dyn FnMut(&mut [u8]) -> Result<usize> + 'a;

/// The compressed bytes, and where in the input they are.
pub(super) struct Source {
    pub(super) encoding: Encoding,
    pub(super) buffer: Vec<u8>,
    /// Of the buffer, `at..filled` was read and not yet consumed.
    pub(super) at: usize,
    pub(super) filled: usize,
    /// Bytes read of the input.
    pub(super) read: u64,
    pub(super) ended: bool,
}

impl Source {
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.at..self.filled]
    }

    pub(super) fn offset(&self) -> u64 {
        self.read - (self.filled - self.at) as u64
    }

    /// Reads more behind what is there; false at the end of the input. The buffer must not be full.
    pub(super) fn more(&mut self, read: &mut Read<'_>) -> Result<bool> {
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
    pub(super) fn want(&mut self, len: usize, read: &mut Read<'_>) -> Result<&[u8]> {
        while self.filled - self.at < len && self.more(read)? {}
        Ok(self.unread())
    }

    /// At least one byte, or the fault that there is none.
    pub(super) fn some(&mut self, read: &mut Read<'_>) -> std::result::Result<&[u8], Fault> {
        if self.want(1, read)?.is_empty() {
            return Err(self.ends_early());
        }
        Ok(self.unread())
    }

    /// Consumes exactly `N` bytes, or fails because they are not there.
    pub(super) fn array<const N: usize>(
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

    pub(super) fn ends_early(&self) -> Fault {
        Fault::Corrupt {
            offset: self.read,
            how: format!("{} data ends early", self.encoding.name()),
        }
    }

    pub(super) fn corrupt(&self, offset: u64, why: &str) -> Fault {
        Fault::Corrupt {
            offset,
            how: format!("{} data is corrupt: {why}", self.encoding.name()),
        }
    }

    /// What stands here is neither a member nor a frame.
    pub(super) fn foreign(&self, first: bool) -> Fault {
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
