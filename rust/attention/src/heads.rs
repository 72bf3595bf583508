//! Arrays of matrices: one for every batch and head.
//!
//! Queries are [batch, head] matrices of time by dimension, whatever order their axes have in
//! memory; states are [batch, head] matrices of features by values.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use corekit_base::array::{Dtype, Matrix, MatrixMut};

/// Where an array lies: [batch, head, row, column], strides in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its first element.
    pub data: *mut u8,
    /// The type of its elements.
    pub dtype: Dtype,
    /// How many there are along each axis.
    pub shape: [usize; 4],
    /// Bytes from one to the next along each axis.
    pub strides: [isize; 4],
}

impl Place {
    fn start(&self, batch: usize, head: usize) -> *mut u8 {
        assert!(
            batch < self.shape[0] && head < self.shape[1],
            "no such head"
        );
        if self.shape.contains(&0) {
            return self.data;
        }
        self.data
            .wrapping_offset(batch as isize * self.strides[0] + head as isize * self.strides[1])
    }

    fn matrix_shape(&self) -> [usize; 2] {
        [self.shape[2], self.shape[3]]
    }

    fn matrix_strides(&self) -> [isize; 2] {
        [self.strides[2], self.strides[3]]
    }

    /// Shape and strides of the first rows of `count` heads.
    fn across(&self, first: usize, count: usize) -> ([usize; 2], [isize; 2]) {
        assert!(first + count <= self.shape[1] && self.shape[2] > 0);
        ([count, self.shape[3]], [self.strides[1], self.strides[3]])
    }
}

/// Matrices that are read.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    place: Place,
    memory: PhantomData<&'a [u8]>,
}

// SAFETY: a shared view of memory that nobody writes while it lives (`Heads::new`).
unsafe impl Send for Heads<'_> {}
// SAFETY: as above.
unsafe impl Sync for Heads<'_> {}

impl<'a> Heads<'a> {
    /// A view of memory that belongs to somebody else.
    ///
    /// # Safety
    /// For `'a`, every element is memory that may be read, and no thread writes it through Rust.
    // SAFETY: nothing is read here; who calls this promises what reading needs.
    pub unsafe fn new(place: Place) -> Self {
        Self {
            place,
            memory: PhantomData,
        }
    }

    /// [batches, heads, rows, columns].
    pub fn shape(&self) -> [usize; 4] {
        self.place.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.place.dtype
    }

    /// The matrix of one head.
    pub fn at(&self, batch: usize, head: usize) -> Matrix<'a> {
        let place = &self.place;
        // SAFETY: it is part of the array, of which `new` was promised what this needs.
        unsafe {
            Matrix::new(
                place.start(batch, head),
                place.dtype,
                place.matrix_shape(),
                place.matrix_strides(),
            )
        }
    }
}

impl<'a> Heads<'a> {
    /// The first rows of `count` heads.
    pub(crate) fn across(&self, batch: usize, first: usize, count: usize) -> Matrix<'a> {
        let place = &self.place;
        let (shape, strides) = place.across(first, count);
        // SAFETY: as in `at`.
        unsafe { Matrix::new(place.start(batch, first), place.dtype, shape, strides) }
    }
}

/// Matrices that are written, by threads that take different ones, or different rows or columns.
#[derive(Clone, Copy, Debug)]
pub struct HeadsMut<'a> {
    place: Place,
    memory: PhantomData<&'a mut [u8]>,
}

// SAFETY: it hands out no reference, and its writers take different elements (`HeadsMut::new`).
unsafe impl Send for HeadsMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for HeadsMut<'_> {}

impl<'a> HeadsMut<'a> {
    /// A view of memory that belongs to somebody else.
    ///
    /// # Safety
    /// For `'a`, every element is memory that may be written, no two elements share any, nobody
    /// reads or writes it but through this view, and no two threads store to the same element at
    /// the same time.
    // SAFETY: nothing is written here; who calls this promises what writing needs.
    pub unsafe fn new(place: Place) -> Self {
        Self {
            place,
            memory: PhantomData,
        }
    }

    /// [batches, heads, rows, columns].
    pub fn shape(&self) -> [usize; 4] {
        self.place.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.place.dtype
    }

    /// The matrix of one head.
    pub fn at(&self, batch: usize, head: usize) -> MatrixMut<'a> {
        let place = &self.place;
        // SAFETY: it is part of the array, of which `new` was promised what this needs.
        unsafe {
            MatrixMut::new(
                place.start(batch, head),
                place.dtype,
                place.matrix_shape(),
                place.matrix_strides(),
            )
        }
    }

    /// The first rows of `count` heads.
    pub(crate) fn across(&self, batch: usize, first: usize, count: usize) -> MatrixMut<'a> {
        let place = &self.place;
        let (shape, strides) = place.across(first, count);
        // SAFETY: as in `at`.
        unsafe { MatrixMut::new(place.start(batch, first), place.dtype, shape, strides) }
    }

    /// The matrix of one head, to be read: by the thread that writes it, while it does not.
    pub(crate) fn read_at(&self, batch: usize, head: usize) -> Matrix<'a> {
        let place = &self.place;
        // SAFETY: as in `at`; what may be written may be read, and who writes it is the reader.
        unsafe {
            Matrix::new(
                place.start(batch, head),
                place.dtype,
                place.matrix_shape(),
                place.matrix_strides(),
            )
        }
    }
}
