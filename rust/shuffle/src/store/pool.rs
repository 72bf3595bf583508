//! The one region of memory that all large buffers of a run come from.
//!
//! It is mapped once, with a size that follows from the memory limit, and its pages become resident
//! when first touched; freed blocks are reused before fresh ones, because fresh pages are dear. The
//! limit holds by construction: there is no other large allocation.

#![allow(unsafe_code)]

use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::error::{Error, Result};

/// Alignment of everything handed out: pages, as direct I/O wants it.
pub(crate) const ALIGN: usize = 4096;

/// An owned region of zeroed, lazily resident, page-aligned memory.
pub(crate) struct Pool {
    base: NonNull<u8>,
    len: usize,
    carved: usize,
}

/// A part of the pool that one owner has to itself.
pub(crate) struct Part {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a pool and its parts are plain memory with one owner each; nothing is tied to a thread.
unsafe impl Send for Pool {}
// SAFETY: as above; `&Pool` gives no access to the memory.
unsafe impl Sync for Pool {}
// SAFETY: as above.
unsafe impl Send for Part {}
// SAFETY: `&Part` only reads; writing takes `&mut Part` or the contract of `Blocks`.
unsafe impl Sync for Part {}

impl Pool {
    /// Maps `len` bytes.
    pub fn new(len: usize) -> Result<Self> {
        let refused = |_| Error::OutOfMemory {
            what: "the block pool",
            bytes: len as u64,
        };
        // SAFETY: a fresh private mapping at an address of the system's choice aliases nothing.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len.max(ALIGN),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(refused)?;
        let base =
            NonNull::new(base.cast::<u8>()).ok_or_else(|| refused(rustix::io::Errno::NOMEM))?;
        // Small pages: residency grows with what is touched. On virtual machines the first hundred
        // megabytes of huge pages may be cheap, but beyond them, where the host must find memory,
        // they were measured to cost several times as much a byte (1 GB: 2.1 to 3.2 s against 0.5
        // to 0.8). Address translation did not show. Only advice.
        // SAFETY: the range is the mapping made above.
        let _ = unsafe {
            madvise(
                base.as_ptr().cast(),
                len.max(ALIGN),
                Advice::LinuxNoHugepage,
            )
        };
        Ok(Self {
            base,
            len,
            carved: 0,
        })
    }

    /// The next `len` bytes, aligned to pages; each byte is handed out once.
    pub fn carve(&mut self, len: usize) -> Part {
        let len = len.next_multiple_of(ALIGN);
        assert!(
            len <= self.len - self.carved,
            "the plan carved more than it mapped"
        );
        // SAFETY: carved + len <= self.len, checked above, so the result is inside the mapping.
        let base = unsafe { self.base.add(self.carved) };
        self.carved += len;
        Part { base, len }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; its parts are fields of the same run and not used any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len.max(ALIGN)) };
    }
}

impl Part {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the part is inside the mapping (carve), owned by `self`, initialised by mmap.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }

    /// The part's memory as words.
    pub fn as_mut_words(&mut self) -> &mut [u64] {
        // SAFETY: as for `as_mut`; page alignment is more than a word's, and any bits are a word.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().cast(), self.len / 8) }
    }

    /// The address of byte `at`, for sharing that the caller keeps disjoint.
    pub fn at(&self, at: usize) -> *mut u8 {
        assert!(at <= self.len);
        // SAFETY: at <= len, so the result is inside the part or one past its end.
        unsafe { self.base.as_ptr().add(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_aligned_and_zero() {
        let mut pool = Pool::new(3 * ALIGN).expect("memory");
        let (mut a, mut b) = (pool.carve(10), pool.carve(2 * ALIGN));
        assert_eq!((a.len(), b.len()), (ALIGN, 2 * ALIGN));
        assert_eq!(a.at(ALIGN), b.at(0));
        a.as_mut().fill(1);
        assert!(b.as_mut().iter().all(|&byte| byte == 0));
        b.as_mut_words()[0] = u64::MAX;
        assert_eq!(b.as_mut()[..9], [255, 255, 255, 255, 255, 255, 255, 255, 0]);
    }

    #[test]
    fn more_than_the_address_space_is_refused() {
        assert!(matches!(Pool::new(1 << 60), Err(Error::OutOfMemory { .. })));
    }
}
