//! Sorting that may be cancelled.

use corekit_base::control::Control;

use crate::error::Result;

/// Elements that are sorted between two looks at the cancel flag: some ten milliseconds.
const STRETCH: usize = 1 << 19;

/// Sorts `all` in the memory that it has; equal elements are alike.
///
/// # Errors
/// When the caller cancels; the order is then any.
pub(crate) fn sort<K: Ord>(all: &mut [K], control: &Control) -> Result<()> {
    control.check()?;
    if all.len() <= STRETCH {
        all.sort_unstable();
        return Ok(());
    }
    let (lower, _, upper) = all.select_nth_unstable(all.len() / 2);
    sort(lower, control)?;
    sort(upper, control)
}

#[cfg(test)]
mod tests {
    use corekit_base::philox::Stream;

    use super::*;
    use crate::error::Error;

    #[test]
    fn it_sorts_and_is_cancelled() {
        let control = Control::new();
        for len in [0, 1, 10, STRETCH, 3 * STRETCH + 5] {
            for spread in [1, 10, u64::MAX] {
                let mut all = vec![0; len];
                Stream::new(1, 0, 1 << 40).fill(0, &mut all);
                all.iter_mut().for_each(|key| *key %= spread);
                let mut wanted = all.clone();
                wanted.sort_unstable();
                sort(&mut all, &control).unwrap();
                assert!(all == wanted, "{len} below {spread}");
            }
        }
        control.cancel();
        let cancelled = sort(&mut [2, 1], &control);
        assert!(matches!(cancelled, Err(Error::Cancelled)));
    }
}
