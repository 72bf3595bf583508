//! Buffers that begin where a cache line does.

use std::collections::TryReserveError;
use std::ops::{Deref, DerefMut};

use crate::real::Real;

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

/// A buffer of numbers whose first is at a multiple of 64 bytes.
///
/// A load that crosses lines costs two.
#[derive(Debug)]
pub struct Aligned<T> {
    buffer: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Real> Aligned<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// When the system refuses the memory.
    pub fn zeros(len: usize) -> Result<Self, TryReserveError> {
        let mut buffer: Vec<T> = Vec::new();
        let spare = LINE / size_of::<T>();
        buffer.try_reserve_exact(len.saturating_add(spare))?;
        // It is not moved any more: its room is enough for what it will hold.
        let start = buffer.as_ptr().align_offset(LINE).min(spare);
        buffer.resize(start + len, T::ZERO);
        Ok(Self { buffer, start, len })
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.buffer[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_zeros_at_a_line() {
        for len in [0, 1, 15, 16, 1000] {
            let mut buffer = Aligned::<f32>::zeros(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|value| *value == 0.0));
            assert!(buffer.as_ptr().addr().is_multiple_of(64));
            buffer.fill(1.0);
            assert!(
                Aligned::<f64>::zeros(len)
                    .unwrap()
                    .as_ptr()
                    .addr()
                    .is_multiple_of(64)
            );
        }
        assert!(Aligned::<f64>::zeros(usize::MAX).is_err());
    }
}
