//! Buffers that begin where a cache line does.

use std::ops::{Deref, DerefMut};

use crate::memory::{Refused, try_vec};
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

/// `len` zeros: a length, or what checked arithmetic made of it.
///
/// # Errors
/// When the system refuses the memory, or the length is `None`.
pub fn zeros<T: Real>(
    what: &'static str,
    len: impl Into<Option<usize>>,
) -> Result<Aligned<T>, Refused> {
    let len = len.into();
    let refused = || Refused::of::<T>(what, len);
    let spare = LINE / size_of::<T>();
    let room = len.and_then(|len| len.checked_add(spare));
    let mut buffer = try_vec::<T>(what, room).map_err(|_| refused())?;
    let len = len.unwrap_or(0);
    // It is not moved any more: its room is enough for what it will hold.
    let start = buffer.as_ptr().align_offset(LINE).min(spare);
    buffer.resize(start + len, T::ZERO);
    Ok(Aligned { buffer, start, len })
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
            let mut buffer = zeros::<f32>("numbers", len).unwrap();
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|value| *value == 0.0));
            assert!(buffer.as_ptr().addr().is_multiple_of(64));
            buffer.fill(1.0);
            let wide = zeros::<f64>("numbers", len).unwrap();
            assert!(wide.as_ptr().addr().is_multiple_of(64));
        }
        for len in [Some(usize::MAX), None] {
            let refused = zeros::<f64>("numbers", len).unwrap_err();
            assert_eq!(refused, Refused::of::<f64>("numbers", len));
        }
    }
}
