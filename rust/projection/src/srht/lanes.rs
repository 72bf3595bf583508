//! Registers of each instruction set, as the transform uses them.
#![allow(unsafe_code)]

/// Neighbouring values in a register.
///
/// # Safety
/// The functions need the instruction set that the type is of, and pointers to [`Lanes::COUNT`]
/// values. Alignment is not needed.
pub(super) trait Lanes<T>: Copy {
    /// How many values: a power of two.
    const COUNT: usize;
    unsafe fn load(from: *const T) -> Self;
    unsafe fn store(self, to: *mut T);
    /// The sum and the difference.
    unsafe fn butterfly(self, other: Self) -> [Self; 2];
    /// The stages whose strides are below `COUNT`, in ascending order.
    unsafe fn within(self) -> Self;
}

/// Plain arrays, which compilers keep in the registers that every machine has.
macro_rules! plain {
    ($type:ty, $count:literal) => {
        impl Lanes<$type> for [$type; $count] {
            const COUNT: usize = $count;
            #[inline(always)]
            unsafe fn load(from: *const $type) -> Self {
                // SAFETY: as the trait demands.
                unsafe { from.cast::<Self>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $type) {
                // SAFETY: as the trait demands.
                unsafe { to.cast::<Self>().write_unaligned(self) }
            }
            #[inline(always)]
            unsafe fn butterfly(self, other: Self) -> [Self; 2] {
                let (mut sum, mut difference) = (self, self);
                for (l, other) in other.into_iter().enumerate() {
                    sum[l] = self[l] + other;
                    difference[l] = self[l] - other;
                }
                [sum, difference]
            }
            #[inline(always)]
            unsafe fn within(mut self) -> Self {
                super::fwht::reference(&mut self);
                self
            }
        }
    };
}

plain!(f32, 4);
plain!(f64, 2);

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// +1 where the lane's bit `stride` is 0, and -1 where it is 1.
    macro_rules! signs {
        ($type:ty, $count:literal, $stride:literal) => {{
            const SIGNS: [$type; $count] = {
                let mut signs = [1.0; $count];
                let mut lane = 0;
                while lane < $count {
                    if lane & $stride != 0 {
                        signs[lane] = -1.0;
                    }
                    lane += 1;
                }
                signs
            };
            SIGNS.as_ptr()
        }};
    }

    /// A stage within a register is one exchange of lanes and one multiply-add: the lower lane of
    /// a pair becomes a·(+1) + b, the upper b·(-1) + a. A product with ±1 is exact, so both are
    /// rounded once, as sums and differences are.
    macro_rules! lanes {
        (
            $type:ty, $register:ty, $count:literal,
            $load:ident, $store:ident, $add:ident, $sub:ident, $mul_add:ident,
            $v:ident: $($stride:literal => $exchange:expr),+
        ) => {
            impl Lanes<$type> for $register {
                const COUNT: usize = $count;
                #[inline(always)]
                unsafe fn load(from: *const $type) -> Self {
                    // SAFETY: as the trait demands.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut $type) {
                    // SAFETY: as the trait demands.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn butterfly(self, other: Self) -> [Self; 2] {
                    // SAFETY: as the trait demands.
                    unsafe { [$add(self, other), $sub(self, other)] }
                }
                #[inline(always)]
                unsafe fn within(self) -> Self {
                    // SAFETY: as the trait demands; there are as many signs as lanes.
                    unsafe {
                        let $v = self;
                        $(
                            let signs = $load(signs!($type, $count, $stride));
                            let $v = $mul_add($v, signs, $exchange);
                        )+
                        $v
                    }
                }
            }
        };
    }

    lanes!(
        f32, __m512, 16,
        _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_fmadd_ps,
        v: 1 => _mm512_permute_ps::<0xB1>(v),
        2 => _mm512_permute_ps::<0x4E>(v),
        4 => _mm512_shuffle_f32x4::<0xB1>(v, v),
        8 => _mm512_shuffle_f32x4::<0x4E>(v, v)
    );
    lanes!(
        f64, __m512d, 8,
        _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_sub_pd, _mm512_fmadd_pd,
        v: 1 => _mm512_permute_pd::<0x55>(v),
        2 => _mm512_shuffle_f64x2::<0xB1>(v, v),
        4 => _mm512_shuffle_f64x2::<0x4E>(v, v)
    );
    lanes!(
        f32, __m256, 8,
        _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_fmadd_ps,
        v: 1 => _mm256_permute_ps::<0xB1>(v),
        2 => _mm256_permute_ps::<0x4E>(v),
        4 => _mm256_permute2f128_ps::<1>(v, v)
    );
    lanes!(
        f64, __m256d, 4,
        _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_sub_pd, _mm256_fmadd_pd,
        v: 1 => _mm256_permute_pd::<5>(v),
        2 => _mm256_permute2f128_pd::<1>(v, v)
    );
}
