//! Memory that the system may refuse: whatever has a size from outside is made here.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};

use corekit_base::memory::Refused;

use crate::error::{Error, Result};

/// Makes room for `more` elements, or for some more than that.
pub(crate) fn reserve<E>(what: &'static str, buffer: &mut Vec<E>, more: usize) -> Result<()> {
    buffer
        .try_reserve(more)
        .map_err(|_| refused(what, buffer, more))
}

/// Makes `buffer` `len` long; what is new is `value`.
pub(crate) fn resize<E: Clone>(
    what: &'static str,
    buffer: &mut Vec<E>,
    len: usize,
    value: E,
) -> Result<()> {
    reserve(what, buffer, len.saturating_sub(buffer.len()))?;
    buffer.resize(len, value);
    Ok(())
}

/// Makes `buffer` at least `len` long, on huge pages.
pub(crate) fn fit<E>(what: &'static str, buffer: &mut Vec<E>, len: usize) -> Result<()>
where
    E: Default,
{
    if len > buffer.len() {
        let more = len - buffer.len();
        buffer
            .try_reserve_exact(more)
            .map_err(|_| refused(what, buffer, more))?;
        advise_huge(&mut buffer.spare_capacity_mut()[..more]);
        buffer.resize_with(len, E::default);
    }
    Ok(())
}

/// Zeros, on huge pages.
pub(crate) fn zeros<E: Default>(what: &'static str, len: usize) -> Result<Vec<E>> {
    let mut buffer = Vec::new();
    fit(what, &mut buffer, len)?;
    Ok(buffer)
}

/// The types of which zero bits are a value.
///
/// # Safety
/// They are.
// SAFETY: that is all it needs.
pub(crate) unsafe trait Blank {}

// SAFETY: as all integers.
unsafe impl Blank for u16 {}
// SAFETY: as above.
unsafe impl Blank for u32 {}

/// Zeros, on huge pages, none of which is touched before it is used: workers that fill it side by
/// side share what first touches cost.
pub(crate) fn blank<E: Blank>(what: &'static str, len: usize) -> Result<Vec<E>> {
    let refused = || refused::<E>(what, &[], len);
    let layout = Layout::array::<E>(len).map_err(|_| refused())?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the size is not zero.
    let first = unsafe { alloc_zeroed(layout) }.cast::<E>();
    if first.is_null() {
        return Err(refused());
    }
    // SAFETY: it is memory of the global allocator, of this layout, and zeros are values.
    let mut buffer = unsafe { Vec::from_raw_parts(first, len, len) };
    advise_huge(&mut buffer);
    Ok(buffer)
}

fn refused<E>(what: &'static str, buffer: &[E], more: usize) -> Error {
    Refused::of::<E>(what, buffer.len().checked_add(more)).into()
}

/// Asks the system for huge pages, before memory is touched for the first time.
///
/// Look-ups all over a table, and writes to the ends of thousands of rows, wait for the translation
/// of addresses, and fresh small pages are dear on virtual machines. Measured on one (1,000,000
/// features, 219 non-zeros a row, 16 MB): projecting 51 against 57 ms of processor time, turning CSC
/// into CSR 53 against 57, building the table 26 against 28.
fn advise_huge<E>(room: &mut [E]) {
    const HUGE: usize = 2 << 20;
    let start = room.as_ptr().addr();
    let end = start + size_of_val(room);
    let inner = start.next_multiple_of(HUGE)..end / HUGE * HUGE;
    if inner.is_empty() {
        return;
    }
    let first = room.as_mut_ptr().wrapping_byte_add(inner.start - start);
    // SAFETY: the pages are inside of memory that is ours, and the advice does not change it.
    let _ = unsafe {
        rustix::mm::madvise(first.cast(), inner.len(), rustix::mm::Advice::LinuxHugepage)
    };
}
