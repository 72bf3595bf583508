//! The types of elements, and how they become the type that is computed in.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::real::Real;

/// The type of a matrix's elements, in the machine's byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

/// Calls `$body` with `$type` standing for the element type of `$dtype`.
macro_rules! with_type {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            Dtype::F16 => {
                type $type = f16;
                $body
            }
            Dtype::Bf16 => {
                type $type = bf16;
                $body
            }
            Dtype::F32 => {
                type $type = f32;
                $body
            }
            Dtype::F64 => {
                type $type = f64;
                $body
            }
            // A boolean is a byte that is 0 or 1.
            Dtype::Bool | Dtype::U8 => {
                type $type = u8;
                $body
            }
            Dtype::I8 => {
                type $type = i8;
                $body
            }
            Dtype::I16 => {
                type $type = i16;
                $body
            }
            Dtype::I32 => {
                type $type = i32;
                $body
            }
            Dtype::I64 => {
                type $type = i64;
                $body
            }
            Dtype::U16 => {
                type $type = u16;
                $body
            }
            Dtype::U32 => {
                type $type = u32;
                $body
            }
            Dtype::U64 => {
                type $type = u64;
                $body
            }
        }
    };
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        with_type!(self, E => size_of::<E>())
    }
}

/// An element type: any bits are a value of it.
pub trait Element: Copy + Send + Sync + 'static {
    /// Its name.
    const DTYPE: Dtype;
    /// The value as the type that is computed in.
    fn load<T: Real>(self) -> T;
    /// Converts one after the other; the same as `load` of each.
    fn load_all<T: Real>(from: &[Self], out: &mut [T]) {
        for (out, from) in out.iter_mut().zip(from) {
            *out = from.load();
        }
    }
    /// The nearest value of this type.
    fn store<T: Real>(value: T) -> Self;
}

macro_rules! element {
    ($type:ty, $dtype:ident) => {
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            #[inline(always)]
            fn load<T: Real>(self) -> T {
                // Through f64: integers of up to 32 bits are exact, and LLVM sees through it.
                T::of(self as f64)
            }
            #[inline(always)]
            fn store<T: Real>(value: T) -> Self {
                value.wide() as Self
            }
        }
    };
}

element!(f32, F32);
element!(f64, F64);
element!(i8, I8);
element!(i16, I16);
element!(i32, I32);
element!(i64, I64);
element!(u8, U8);
element!(u16, U16);
element!(u32, U32);
element!(u64, U64);

impl Element for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
    #[inline(always)]
    fn load<T: Real>(self) -> T {
        T::of(f64::from(f32::from_bits(u32::from(self.to_bits()) << 16)))
    }
    #[inline(always)]
    fn store<T: Real>(value: T) -> Self {
        Self::from_f32(value.wide() as f32)
    }
}

impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
    #[inline(always)]
    fn load<T: Real>(self) -> T {
        T::of(self.to_f64())
    }
    fn load_all<T: Real>(from: &[Self], out: &mut [T]) {
        // The slice form asks once whether the machine converts by itself.
        let mut wide = [0f32; 64];
        for (out, from) in out.chunks_mut(64).zip(from.chunks(64)) {
            let wide = &mut wide[..from.len()];
            from.convert_to_f32_slice(wide);
            f32::load_all(wide, out);
        }
    }
    #[inline(always)]
    fn store<T: Real>(value: T) -> Self {
        Self::from_f32(value.wide() as f32)
    }
}

pub(super) use with_type;
