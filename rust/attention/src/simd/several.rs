//! Several registers at a time: long chains of dependent operations, such as an exponential, then
//! stand side by side in the program, and the machine need not look far ahead to overlap them.

use corekit_base::real::Real;

use super::Elementwise;

/// `N` registers of `E`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Several<E, const N: usize>(std::marker::PhantomData<E>);

/// Does the same to each register.
macro_rules! each {
    ($n:ident => $value:expr) => {
        // SAFETY: the caller's promise, of every register.
        unsafe {
            let mut out = [E::splat(E::T::ZERO); N];
            for $n in 0..N {
                out[$n] = $value;
            }
            out
        }
    };
}

impl<E: Elementwise, const N: usize> Elementwise for Several<E, N> {
    type T = E::T;
    type V = [E::V; N];
    const LANES: usize = N * E::LANES;

    #[inline(always)]
    unsafe fn splat(x: E::T) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { [E::splat(x); N] }
    }
    #[inline(always)]
    unsafe fn load(from: *const E::T) -> Self::V {
        each!(n => E::load(from.add(n * E::LANES)))
    }
    #[inline(always)]
    unsafe fn store(to: *mut E::T, x: Self::V) {
        for (n, x) in x.into_iter().enumerate() {
            // SAFETY: the caller's pointer is good for all registers.
            unsafe { E::store(to.add(n * E::LANES), x) };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each!(n => E::add(a[n], b[n]))
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each!(n => E::sub(a[n], b[n]))
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each!(n => E::mul(a[n], b[n]))
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        each!(n => E::mul_add(a[n], b[n], c[n]))
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        each!(n => E::max(a[n], b[n]))
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        each!(n => E::min(a[n], b[n]))
    }
    #[inline(always)]
    unsafe fn round(x: Self::V) -> Self::V {
        each!(n => E::round(x[n]))
    }
    #[inline(always)]
    unsafe fn scale(x: Self::V, n: Self::V) -> Self::V {
        each!(i => E::scale(x[i], n[i]))
    }
    #[inline(always)]
    unsafe fn where_positive(x: Self::V, a: Self::V, b: Self::V) -> Self::V {
        each!(n => E::where_positive(x[n], a[n], b[n]))
    }
}
