//! Attention of every pair, in f64 and by loops; and calls of ours on arrays that hold them.

use corekit_base::array::Element;
use corekit_base::control::Control;
use corekit_base::run::Run;
use corekit_base::simd::Level;

use crate::heads::{Heads, HeadsMut, Place};

/// A call's sizes, and arrays [batch, head, time, dimension] in f64.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) key_heads: usize,
    pub(crate) group: usize,
    pub(crate) time: usize,
    pub(crate) key_dim: usize,
    pub(crate) value_dim: usize,
    pub(crate) causal: bool,
    pub(crate) cu_seqlens: Option<Vec<i64>>,
    pub(crate) q: Vec<f64>,
    pub(crate) k: Vec<f64>,
    pub(crate) v: Vec<f64>,
    pub(crate) mask: Option<Vec<u8>>,
    /// [batch, key head, time].
    pub(crate) decay: Option<Vec<f64>>,
}

/// Numbers that are spread like normal ones, and are numbers of type f32.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    (0..count)
        .map(|_| f64::from(((0..6).map(|_| uniform()).sum::<f64>() * 2f64.sqrt()) as f32))
        .collect()
}

impl Case {
    pub(crate) fn new(time: usize, key_dim: usize, value_dim: usize, causal: bool) -> Self {
        Self {
            batch: 1,
            key_heads: 1,
            group: 1,
            time,
            key_dim,
            value_dim,
            causal,
            cu_seqlens: None,
            q: vec![],
            k: vec![],
            v: vec![],
            mask: None,
            decay: None,
        }
        .filled()
    }

    /// The same with other heads, and arrays of their size.
    pub(crate) fn heads(self, batch: usize, key_heads: usize, group: usize) -> Self {
        Self {
            batch,
            key_heads,
            group,
            ..self
        }
        .filled()
    }

    fn filled(self) -> Self {
        let rows = self.batch * self.key_heads * self.time;
        Self {
            q: numbers(rows * self.group * self.key_dim, 1),
            k: numbers(rows * self.key_dim, 2),
            v: numbers(rows * self.value_dim, 3),
            ..self
        }
    }

    /// Every third token is not there, and what is written for it is NaN.
    pub(crate) fn masked(mut self) -> Self {
        let mask: Vec<u8> = (0..self.batch * self.time)
            .map(|t| u8::from(t % 3 != 1 && t % 7 != 0))
            .collect();
        for batch in 0..self.batch {
            for head in 0..self.key_heads {
                for t in (0..self.time).filter(|t| mask[batch * self.time + t] == 0) {
                    let row = (batch * self.key_heads + head) * self.time + t;
                    self.k[row * self.key_dim..][..self.key_dim].fill(f64::NAN);
                    self.v[row * self.value_dim..][..self.value_dim].fill(f64::NAN);
                    if let Some(decay) = &mut self.decay {
                        decay[row] = f64::NAN;
                    }
                }
            }
        }
        self.mask = Some(mask);
        self
    }

    /// Logarithms of decay of about `size`, some of them resets.
    pub(crate) fn decaying(mut self, size: f64) -> Self {
        let decay = numbers(self.batch * self.key_heads * self.time, 4);
        let decay = decay.iter().enumerate().map(|(t, g)| match t % 41 {
            40 => f64::NEG_INFINITY,
            _ => f64::from((-(g * size).abs()) as f32),
        });
        self.decay = Some(decay.collect());
        self
    }

    pub(crate) fn packed(mut self, cuts: &[i64]) -> Self {
        self.cu_seqlens = Some([&[0], cuts, &[self.time as i64]].concat());
        self
    }

    pub(crate) fn out_len(&self) -> usize {
        self.batch * self.key_heads * self.group * self.time * self.value_dim
    }

    /// Outputs. `weight` makes weights of a query's dot products, logarithms of decay since each
    /// token included; the result is divided by `divisor` of their sum.
    pub(crate) fn by_loops(
        &self,
        weights: impl Fn(&[f64]) -> Vec<f64>,
        divisor: impl Fn(f64) -> f64,
    ) -> Vec<f64> {
        let mut out = vec![0.0; self.out_len()];
        let heads = self.key_heads * self.group;
        for batch in 0..self.batch {
            for head in 0..heads {
                let kv = batch * self.key_heads + head / self.group;
                for t in 0..self.time {
                    let (first, last) = self.sequence_of(t);
                    let seen: Vec<usize> = (first..if self.causal { t + 1 } else { last })
                        .filter(|s| {
                            let at = batch * self.time + s;
                            self.mask.as_ref().is_none_or(|mask| mask[at] == 1)
                        })
                        .collect();
                    let row = (batch * heads + head) * self.time + t;
                    let q = &self.q[row * self.key_dim..][..self.key_dim];
                    let dots: Vec<f64> = seen
                        .iter()
                        .map(|s| {
                            let k = (kv * self.time + s) * self.key_dim;
                            q.iter().zip(&self.k[k..]).map(|(q, k)| q * k).sum()
                        })
                        .collect();
                    let mut weights = weights(&dots);
                    if let Some(decay) = &self.decay {
                        let mut sum = 0.0;
                        for (weight, s) in weights.iter_mut().zip(&seen).rev() {
                            *weight *= f64::exp(sum);
                            sum += decay[kv * self.time + s];
                        }
                    }
                    let below = divisor(weights.iter().sum());
                    for (c, out) in out[row * self.value_dim..][..self.value_dim]
                        .iter_mut()
                        .enumerate()
                    {
                        let v = |s: &usize| self.v[(kv * self.time + s) * self.value_dim + c];
                        let sum: f64 = weights.iter().zip(&seen).map(|(w, s)| w * v(s)).sum();
                        *out = if below == 0.0 { 0.0 } else { sum / below };
                    }
                }
            }
        }
        out
    }

    fn sequence_of(&self, t: usize) -> (usize, usize) {
        let Some(ends) = &self.cu_seqlens else {
            return (0, self.time);
        };
        let pair = ends
            .windows(2)
            .find(|pair| (pair[0] as usize..pair[1] as usize).contains(&t));
        let pair = pair.expect("a sequence");
        (pair[0] as usize, pair[1] as usize)
    }

    /// Calls `work` with the arrays as `E`, time before heads as callers have it, and returns
    /// outputs as [batch, head, time, dimension].
    pub(crate) fn run<E: Element>(
        &self,
        threads: usize,
        level: Level,
        work: impl Fn(&Arrays, &HeadsMut, &Run),
    ) -> Vec<f64> {
        let heads = self.key_heads * self.group;
        let (d, v) = (self.key_dim, self.value_dim);
        let one = |x: &[f64], heads: usize, last: usize| -> Vec<E> {
            let mut out = vec![E::store(f64::NAN); x.len()];
            for b in 0..self.batch {
                for h in 0..heads {
                    for t in 0..self.time {
                        for i in 0..last {
                            let to = ((b * self.time + t) * heads + h) * last + i;
                            let from = ((b * heads + h) * self.time + t) * last + i;
                            out[to] = E::store(x[from]);
                        }
                    }
                }
            }
            out
        };
        let place = |x: &[E], heads: usize, last: usize| Place {
            data: x.as_ptr().cast_mut().cast(),
            dtype: E::DTYPE,
            shape: [self.batch, heads, self.time, last],
            strides: [self.time * heads * last, last, heads * last, 1]
                .map(|s| (s * size_of::<E>()) as isize),
        };
        let q = one(&self.q, heads, d);
        let k = one(&self.k, self.key_heads, d);
        let values = one(&self.v, self.key_heads, v);
        let decay = self.decay.as_ref().map(|x| one(x, self.key_heads, 1));
        let mut out = vec![E::store(f64::NAN); self.out_len()];
        let mask = self.mask.as_ref().map(|mask| Place {
            data: mask.as_ptr().cast_mut(),
            dtype: corekit_base::array::Dtype::Bool,
            shape: [self.batch, 1, 1, self.time],
            strides: [self.time as isize, 0, 0, 1],
        });
        let control = Control::new();
        let run = Run {
            threads,
            level,
            control: &control,
        };
        #[allow(unsafe_code)]
        // SAFETY: places of vectors that live as long as the call, outputs in one of their own.
        unsafe {
            let arrays = Arrays {
                q: Heads::new(place(&q, heads, d)),
                k: Heads::new(place(&k, self.key_heads, d)),
                v: Heads::new(place(&values, self.key_heads, v)),
                decay: decay
                    .as_ref()
                    .map(|x| Heads::new(place(x, self.key_heads, 1))),
                mask: mask.map(|mask| Heads::new(mask)),
            };
            let to = Place {
                data: out.as_mut_ptr().cast(),
                ..place(&[], heads, v)
            };
            work(&arrays, &HeadsMut::new(to), &run);
        }
        let mut back = vec![0.0; out.len()];
        for b in 0..self.batch {
            for h in 0..heads {
                for t in 0..self.time {
                    for i in 0..v {
                        let from = ((b * self.time + t) * heads + h) * v + i;
                        let to = ((b * heads + h) * self.time + t) * v + i;
                        back[to] = out[from].load();
                    }
                }
            }
        }
        back
    }
}

/// The arrays of a case.
pub(crate) struct Arrays<'a> {
    pub(crate) q: Heads<'a>,
    pub(crate) k: Heads<'a>,
    pub(crate) v: Heads<'a>,
    pub(crate) decay: Option<Heads<'a>>,
    pub(crate) mask: Option<Heads<'a>>,
}

/// The root of the mean square of the differences, over that of the numbers.
pub(crate) fn relative_error(got: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let (mut off, mut size) = (0.0, 0.0);
    for (got, wanted) in got.iter().zip(wanted) {
        off += (got - wanted).powi(2);
        size += wanted.powi(2);
    }
    if off == 0.0 { 0.0 } else { (off / size).sqrt() }
}
