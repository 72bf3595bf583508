//! Memory that the system may refuse: sizes that follow from arguments or input never abort.

/// The system refused memory, or no memory is that large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the memory was for.
    pub what: &'static str,
    /// How much was asked for.
    pub bytes: u64,
}

impl Refused {
    /// The refusal of `len` values; `None` is a length beyond any that can be.
    pub fn of<T>(what: &'static str, len: Option<usize>) -> Self {
        Self {
            what,
            bytes: (len.unwrap_or(usize::MAX) as u64).saturating_mul(size_of::<T>() as u64),
        }
    }
}

/// An empty vector with room for `len` values: a length, or what checked arithmetic made of it.
///
/// # Errors
/// When the system refuses the memory, or the length is `None`.
pub fn try_vec<T>(what: &'static str, len: impl Into<Option<usize>>) -> Result<Vec<T>, Refused> {
    let len = len.into();
    let refused = || Refused::of::<T>(what, len);
    let mut values = Vec::new();
    values
        .try_reserve_exact(len.ok_or_else(refused)?)
        .map_err(|_| refused())?;
    Ok(values)
}

/// `len` zeros, as [`try_vec`] has room for them.
///
/// # Errors
/// Those of [`try_vec`].
pub fn zeroed<T: Clone + Default>(
    what: &'static str,
    len: impl Into<Option<usize>>,
) -> Result<Vec<T>, Refused> {
    let len = len.into();
    let mut values = try_vec(what, len)?;
    values.resize(len.unwrap_or(0), T::default());
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_there_or_refused() {
        let values = try_vec::<u64>("values", 5).unwrap();
        assert!(values.is_empty() && values.capacity() >= 5);
        assert_eq!(zeroed::<u32>("zeros", Some(3)), Ok(vec![0; 3]));
        for (len, bytes) in [(Some(1 << 60), 1 << 63), (None, u64::MAX)] {
            let refused = Refused {
                what: "too much",
                bytes,
            };
            assert_eq!(try_vec::<u64>("too much", len), Err(refused));
            assert_eq!(zeroed::<u64>("too much", len), Err(refused));
        }
    }
}
