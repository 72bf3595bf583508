//! Where a worker copies records to, front to back.

use crate::error::Result;

pub(crate) trait Cursor {
    /// The next bytes, to be filled from the front; at least one, unless the range is at its end.
    /// `advance` tells how many were filled.
    fn room(&mut self) -> Result<&mut [u8]>;

    /// The next `len` bytes were filled.
    fn advance(&mut self, len: usize);

    /// What was written last ends a record.
    fn end_record(&mut self) -> Result<()>;
}
