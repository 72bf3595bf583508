//! The maps whose scores are polynomials p(q·k) that tend to exp(q·k).
//!
//! - Taylor: p(u) = Σ uʲ/j!, j <= order. Its remainder is at most |u|^(order+1) e^|u| / (order+1)!,
//!   and for even orders p is positive.
//! - The exponential's limit: p(u) = (1 + u/n)ⁿ, which is e^(u - u²/2n + ..).
//!
//! Inside a chunk the polynomial of a score is all that is needed, of any order ([`values`],
//! [`slopes_into`]). A state needs features ([`monomials`]), of which there are C(key_dim + order,
//! order): they are made ready only when asked for, and refused when there are too many.
//!
//! [`values`]: Polynomial::values
//! [`slopes_into`]: Polynomial::slopes_into

mod monomials;
mod power;

use corekit_base::real::Real;

use crate::error::{Error, Result};
use monomials::Monomials;

/// C(key_dim + order, order): monomials up to a degree, if so many can be counted.
pub(crate) fn n_features(key_dim: usize, order: u32) -> Option<usize> {
    let (all, fewer) = (key_dim as u128 + u128::from(order), u128::from(order));
    let fewer = fewer.min(key_dim as u128);
    let mut count = 1u128;
    // Every step at least doubles the count, so that there are few.
    for chosen in 1..=fewer {
        // A whole number: C(all - fewer + chosen, chosen).
        count = count * (all - fewer + chosen) / chosen;
        if count > usize::MAX as u128 {
            return None;
        }
    }
    usize::try_from(count).ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Taylor,
    ExponentialLimit,
}

/// A polynomial for heads of one size.
#[derive(Clone, Debug)]
pub(crate) struct Polynomial<T> {
    kind: Kind,
    order: u32,
    key_dim: usize,
    monomials: Option<Monomials<T>>,
}

impl<T: Real> Polynomial<T> {
    /// Taylor's, for now without features.
    ///
    /// # Errors
    /// When `order` is 0.
    pub(crate) fn taylor(key_dim: usize, order: u32) -> Result<Self> {
        Self::new(Kind::Taylor, "order", key_dim, order)
    }

    /// (1 + u/n)ⁿ, for now without features.
    ///
    /// # Errors
    /// When `n` is 0.
    pub(crate) fn exponential_limit(key_dim: usize, n: u32) -> Result<Self> {
        Self::new(Kind::ExponentialLimit, "n", key_dim, n)
    }

    fn new(kind: Kind, parameter: &str, key_dim: usize, order: u32) -> Result<Self> {
        if order == 0 {
            return Err(Error::InvalidArgument(format!(
                "{parameter} must be at least 1, got 0"
            )));
        }
        Ok(Self {
            kind,
            order,
            key_dim,
            monomials: None,
        })
    }

    /// Makes it ready for features, if there are at most `most`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with the bytes of one token's features when there are more, or when
    /// the system refuses the tables.
    pub(crate) fn with_features(mut self, most: usize) -> Result<Self> {
        let count = n_features(self.key_dim, self.order);
        let refused = || Error::OutOfMemory {
            what: "the features of a token",
            bytes: (count.unwrap_or(usize::MAX) as u64).saturating_mul(size_of::<T>() as u64),
        };
        // Tables have places of 32 bits.
        let most = most.min(u32::MAX as usize);
        let count = count.filter(|count| *count <= most).ok_or_else(refused)?;
        let monomials = Monomials::new(self.key_dim, self.order, count, |degree| {
            match self.kind {
                Kind::Taylor => 1.0,
                // √(n!/(n-j)!/nʲ) over the same for j - 1.
                Kind::ExponentialLimit => {
                    (f64::from(self.order - (degree - 1)) / f64::from(self.order)).sqrt()
                }
            }
        });
        self.monomials = Some(monomials.map_err(|_| refused())?);
        Ok(self)
    }

    fn monomials(&self) -> &Monomials<T> {
        match &self.monomials {
            Some(monomials) => monomials,
            None => panic!("features that were not asked for"),
        }
    }

    /// Numbers of scratch that [`Self::pull_back`] takes.
    pub(crate) fn scratch_len(&self) -> usize {
        self.monomials().parents()
    }

    /// The features of `x`: `out` is as long as there are features.
    ///
    /// # Panics
    /// When lengths do not fit, or without [`Self::with_features`].
    #[inline(always)]
    pub(crate) fn apply(&self, x: &[T], out: &mut [T]) {
        self.monomials().apply(x, out);
    }

    /// Adds Jᵀ `dphi` to `dx`, for the Jacobian J of the features at `x`, which are `phi`.
    ///
    /// # Panics
    /// As [`Self::apply`].
    #[inline(always)]
    pub(crate) fn pull_back(
        &self,
        x: &[T],
        phi: &[T],
        dphi: &[T],
        scratch: &mut [T],
        dx: &mut [T],
    ) {
        self.monomials().pull_back(x, phi, dphi, scratch, dx);
    }

    /// p(u).
    #[cfg(test)]
    pub(crate) fn value(&self, u: T) -> T {
        let mut u = [u];
        self.block(self.order, &mut u);
        u[0]
    }

    /// p'(u).
    #[cfg(test)]
    pub(crate) fn slope(&self, u: T) -> T {
        let mut u = [u];
        self.block(self.order - 1, &mut u);
        u[0]
    }

    /// p(u) in place of every u.
    #[inline(always)]
    pub(crate) fn values(&self, u: &mut [T]) {
        self.each(self.order, u);
    }

    /// p'(u) of every u: that of the order before, in both kinds.
    ///
    /// # Panics
    /// When `out` has another length.
    #[inline(always)]
    pub(crate) fn slopes_into(&self, u: &[T], out: &mut [T]) {
        out.copy_from_slice(u);
        self.each(self.order - 1, out);
    }

    /// In blocks of a few registers, to be computed side by side. The compiler makes registers of the
    /// power's larger blocks in some types and of none in others.
    #[inline(always)]
    fn each(&self, degree: u32, u: &mut [T]) {
        match self.kind {
            Kind::Taylor => self.blocks::<32>(degree, u),
            Kind::ExponentialLimit => self.blocks::<16>(degree, u),
        }
    }

    #[inline(always)]
    fn blocks<const N: usize>(&self, degree: u32, u: &mut [T]) {
        let (blocks, rest) = u.as_chunks_mut::<N>();
        for block in blocks {
            self.block(degree, block);
        }
        let (blocks, rest) = rest.as_chunks_mut::<8>();
        for block in blocks {
            self.block(degree, block);
        }
        if !rest.is_empty() {
            let mut block = [T::ZERO; 8];
            block[..rest.len()].copy_from_slice(rest);
            self.block(degree, &mut block);
            rest.copy_from_slice(&block[..rest.len()]);
        }
    }

    /// The polynomial of a degree, which is the order or one less.
    #[inline(always)]
    fn block<const N: usize>(&self, degree: u32, u: &mut [T; N]) {
        match self.kind {
            Kind::Taylor => series(degree, u),
            Kind::ExponentialLimit => power::one_plus(self.order, degree, u),
        }
    }
}

/// 1/j! at j, for the degrees that are in use: one product a degree where higher ones, whose
/// coefficients would vanish in float32, take two.
const COEFFICIENTS: [f64; 13] = {
    let mut coefficients = [1.0; 13];
    let mut j = 1;
    while j < coefficients.len() {
        coefficients[j] = coefficients[j - 1] / j as f64;
        j += 1;
    }
    coefficients
};

/// 1 + u (1 + u/2 (1 + u/3 (..))).
#[inline(always)]
fn series<T: Real, const N: usize>(degree: u32, u: &mut [T; N]) {
    let mut sums = [T::ONE; N];
    if let Some([lower @ .., highest]) = COEFFICIENTS.get(..=degree as usize) {
        sums = [T::of(*highest); N];
        for coefficient in lower.iter().rev() {
            let coefficient = T::of(*coefficient);
            for (sum, u) in sums.iter_mut().zip(&*u) {
                *sum = *sum * *u + coefficient;
            }
        }
    } else {
        for j in (1..=degree).rev() {
            let inverse = T::of(1.0 / f64::from(j));
            for (sum, u) in sums.iter_mut().zip(&*u) {
                *sum = *sum * (*u * inverse) + T::ONE;
            }
        }
    }
    *u = sums;
}

#[cfg(test)]
mod tests;
