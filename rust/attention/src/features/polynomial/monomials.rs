//! Features whose dot product is a polynomial of the dot product.
//!
//! φ_α(x) = √(c_j j!) x^α / √α!, j = |α|, since (x·y)ʲ / j! = Σ x^α y^α / α! over |α| = j; c_j is the
//! polynomial's coefficient. Every monomial is there once: C(D + n, n) of them, where the tensor
//! powers x^⊗j have Dʲ entries.
//!
//! A monomial is a multiset of places i1 <= i2 <= .., and they come by rising degree, in
//! lexicographic order within one. So the children of a parent with the last place l, which are the
//! parent times x_l, x_(l+1), .., x_(D-1), lie side by side, and those of the next parent follow:
//!
//! ```text
//! for each parent by rising degree and in order, with the last place l:
//!     out[next ..] = parent · r_j · x[l ..];  out[next] /= √(how often l is in that child)
//!     next += D - l
//! ```
//!
//! with r_j = √(c_j j!) / √(c_(j-1) (j-1)!). The adjoint goes the same way back.

use std::collections::TryReserveError;

use corekit_base::real::Real;

/// The children of one parent.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The place of the first, which is the last one of the parent.
    first: u32,
    /// How often the first child has it.
    times: u32,
}

/// The runs of all parents of one degree.
#[derive(Clone, Debug)]
struct Degree<T> {
    runs: Vec<Run>,
    /// r of the children's degree.
    ratio: T,
}

/// Monomials of `key_dim` variables up to a degree.
#[derive(Clone, Debug)]
pub(super) struct Monomials<T> {
    key_dim: usize,
    n_features: usize,
    parents: usize,
    degrees: Vec<Degree<T>>,
    /// 1/√t at t.
    roots: Vec<T>,
}

impl<T: Real> Monomials<T> {
    /// All up to degree `order`, of which there are `n_features`; r_j is `ratio(j)`.
    ///
    /// Tables have 8 bytes for each monomial below the highest degree.
    ///
    /// # Errors
    /// When the system refuses memory.
    pub(super) fn new(
        key_dim: usize,
        order: u32,
        n_features: usize,
        ratio: impl Fn(u32) -> f64,
    ) -> Result<Self, TryReserveError> {
        let mut these = Self {
            key_dim,
            n_features,
            parents: 0,
            degrees: Vec::new(),
            roots: Vec::new(),
        };
        if key_dim == 0 {
            // There is nothing but the 1 of degree 0.
            return Ok(these);
        }
        these.roots.try_reserve_exact(order as usize + 1)?;
        for times in 0..=order {
            these
                .roots
                .push(T::of(1.0 / f64::from(times.max(1)).sqrt()));
        }
        these.degrees.try_reserve_exact(order as usize)?;
        let mut runs = Vec::new();
        runs.try_reserve_exact(1)?;
        runs.push(Run { first: 0, times: 1 });
        for degree in 1..=order {
            let mut next = Vec::new();
            if degree < order {
                next.try_reserve_exact(runs.iter().map(|run| run.len(key_dim)).sum())?;
                for run in &runs {
                    next.extend((run.first..key_dim as u32).map(|first| Run {
                        first,
                        times: 1 + if first == run.first { run.times } else { 1 },
                    }));
                }
            }
            these.parents += runs.len();
            these.degrees.push(Degree {
                runs,
                ratio: T::of(ratio(degree)),
            });
            runs = next;
        }
        Ok(these)
    }

    /// Monomials below the highest degree.
    pub(super) fn parents(&self) -> usize {
        self.parents
    }

    #[inline(always)]
    pub(super) fn apply(&self, x: &[T], out: &mut [T]) {
        assert_eq!((x.len(), out.len()), (self.key_dim, self.n_features));
        out[0] = T::ONE;
        let (mut parent, mut next) = (0, 1);
        for degree in &self.degrees {
            for run in &degree.runs {
                let (before, children) = out.split_at_mut(next);
                let x = &x[run.first as usize..];
                let children = &mut children[..x.len()];
                let factor = before[parent] * degree.ratio;
                scaled(children, factor, x);
                children[0] = children[0] * self.roots[run.times as usize];
                parent += 1;
                next += x.len();
            }
        }
    }

    #[inline(always)]
    pub(super) fn pull_back(
        &self,
        x: &[T],
        phi: &[T],
        dphi: &[T],
        scratch: &mut [T],
        dx: &mut [T],
    ) {
        assert_eq!((x.len(), dx.len()), (self.key_dim, self.key_dim));
        assert_eq!((phi.len(), dphi.len()), (self.n_features, self.n_features));
        // What parents get from their children, beside what they are given.
        let inner = &mut scratch[..self.parents];
        inner.copy_from_slice(&dphi[..self.parents]);
        let (mut parent, mut end) = (self.parents, self.n_features);
        for degree in self.degrees.iter().rev() {
            for run in degree.runs.iter().rev() {
                parent -= 1;
                let first = run.first as usize;
                let start = end - (self.key_dim - first);
                let (parents, children) = inner.split_at_mut(start.min(self.parents));
                let children = match children.is_empty() {
                    true => &dphi[start..end],
                    false => &children[..end - start],
                };
                let (x, dx) = (&x[first..], &mut dx[first..]);
                let factor = phi[parent] * degree.ratio;
                let own = children[0] * self.roots[run.times as usize];
                dx[0] += factor * own;
                let others = back(&mut dx[1..], factor, &children[1..], &x[1..]);
                parents[parent] += degree.ratio * (own * x[0] + others);
                end = start;
            }
        }
    }
}

impl Run {
    fn len(&self, key_dim: usize) -> usize {
        key_dim - self.first as usize
    }
}

/// out = factor x.
///
/// Runs are short, so that what is left after whole registers counts: a last register that overlaps
/// the one before does the rest, and shorter ones where there is no such.
#[inline(always)]
fn scaled<T: Real>(out: &mut [T], factor: T, x: &[T]) {
    match x.len() {
        0..4 => {
            for (out, x) in out.iter_mut().zip(x) {
                *out = factor * *x;
            }
        }
        4..8 => scaled_by::<T, 4>(out, factor, x),
        8..16 => scaled_by::<T, 8>(out, factor, x),
        _ => scaled_by::<T, 16>(out, factor, x),
    }
}

#[inline(always)]
fn scaled_by<T: Real, const N: usize>(out: &mut [T], factor: T, x: &[T]) {
    for (out, x) in out.as_chunks_mut::<N>().0.iter_mut().zip(x.as_chunks().0) {
        scaled_block(out, factor, x);
    }
    if let (Some(out), Some(x)) = (out.last_chunk_mut::<N>(), x.last_chunk()) {
        scaled_block(out, factor, x);
    }
}

#[inline(always)]
fn scaled_block<T: Real, const N: usize>(out: &mut [T; N], factor: T, x: &[T; N]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = factor * *x;
    }
}

/// dx += factor g; returns g · x.
#[inline(always)]
fn back<T: Real>(dx: &mut [T], factor: T, g: &[T], x: &[T]) -> T {
    let len = x.len();
    let (dx, g) = (&mut dx[..len], &g[..len]);
    let (sum, done) = (T::ZERO, 0);
    let (sum, done) = back_by::<T, 16>(dx, factor, g, x, sum, done);
    let (sum, done) = back_by::<T, 4>(dx, factor, g, x, sum, done);
    back_by::<T, 1>(dx, factor, g, x, sum, done).0
}

/// The same from place `done` on, as far as registers of `N` go; returns what comes to the sum, and
/// the first place that is left.
#[inline(always)]
fn back_by<T: Real, const N: usize>(
    dx: &mut [T],
    factor: T,
    g: &[T],
    x: &[T],
    sum: T,
    done: usize,
) -> (T, usize) {
    let dx = dx[done..].as_chunks_mut::<N>().0;
    let (g, x) = (g[done..].as_chunks::<N>().0, x[done..].as_chunks::<N>().0);
    let blocks = dx.len();
    if blocks == 0 {
        return (sum, done);
    }
    let mut sums = [T::ZERO; N];
    for ((dx, g), x) in dx.iter_mut().zip(g).zip(x) {
        for i in 0..N {
            dx[i] += factor * g[i];
            sums[i] += g[i] * x[i];
        }
    }
    let mut sum = sum;
    let mut width = N;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sums[i] += sums[i + width];
        }
    }
    sum += sums[0];
    (sum, done + blocks * N)
}
