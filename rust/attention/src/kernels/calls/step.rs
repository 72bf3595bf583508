//! One token more for a state.
#![allow(unsafe_code)]

use std::ptr;

use corekit_base::array::BlockMut;

use super::super::step::Step;
use super::super::{Computed, Kernels};
use crate::tiles::Tile;

impl<T: Computed> Kernels<T> {
    /// s = keep s + key valuesᵀ, and for the first `count` rows of `queries`, one at least, out = q s.
    ///
    /// What is kept is everything, one factor of all features, or one for each.
    pub(crate) fn step(
        &self,
        s: &BlockMut<T>,
        (key, values): (&[T], &[T]),
        keep: Option<&[T]>,
        (queries, count): (&Tile<T>, usize),
        out: &mut Tile<T>,
    ) {
        let (features, columns) = (s.rows, s.columns);
        assert!(key.len() >= features && values.len() >= columns);
        assert!(keep.is_none_or(|keep| keep.len() == 1 || keep.len() == features));
        assert!((1..=queries.rows()).contains(&count) && features <= queries.columns());
        assert!(count <= out.rows() && columns <= out.columns() && s.stride >= 0);
        let x = Step {
            s: s.data,
            stride: s.stride as usize,
            features,
            values: columns,
            decay: keep.map_or(ptr::null(), <[T]>::as_ptr),
            decay_step: keep.map_or(0, |keep| usize::from(keep.len() > 1)),
            k: key.as_ptr(),
            v: values.as_ptr(),
            q: queries.as_ptr(),
            q_stride: queries.stride(),
            queries: count,
            out: out.as_mut_ptr(),
            out_stride: out.stride(),
        };
        // SAFETY: the block's memory is the caller's to write, and all sizes are as checked.
        unsafe { (self.step)(&x) }
    }
}
