//! `linear_attention_step` for arguments that are as plain as can be.
//!
//! Decoding calls it for every token and layer, so that a few microseconds of checking in Python
//! would be most of the time. Here the checks that the slow way has are made on the arrays' own
//! fields; whatever is not plain, or not right, is refused without a word, for the slow way to take
//! or to explain.

use corekit_attention::{FeatureMap, Heads, HeadsMut, LinearAttentionStep, Place, State};
use corekit_base::array::Dtype;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyTuple};

use super::{LEAST_EPS, from_last};
use crate::arrays::Plain;
use crate::enter::{Length, run};
use crate::environment::MOST_THREADS;

/// What a step asks of a dense array.
impl Plain {
    fn is_of(&self, dtype: Dtype, shape: &[usize]) -> bool {
        self.dtype == dtype && self.ndim == shape.len() && self.shape[..self.ndim] == *shape
    }

    /// Where it lies, as [batch, head, row, column] of that shape.
    fn place(&self, shape: [usize; 4]) -> Place {
        let size = self.dtype.size() as isize;
        let mut strides = [size; 4];
        for axis in (0..3).rev() {
            strides[axis] = strides[axis + 1] * shape[axis + 1] as isize;
        }
        Place {
            data: self.data,
            dtype: self.dtype,
            shape,
            strides,
        }
    }

    /// Whether all are logarithms of what can be kept.
    fn decays(&self) -> bool {
        let count = self.bytes / self.dtype.size();
        #[allow(unsafe_code)]
        // SAFETY: a dense and aligned array of that type and size, which nobody writes while the
        // interpreter is held.
        unsafe {
            match self.dtype {
                Dtype::F32 => std::slice::from_raw_parts(self.data.cast::<f32>(), count)
                    .iter()
                    .all(|g| *g <= 0.0),
                _ => std::slice::from_raw_parts(self.data.cast::<f64>(), count)
                    .iter()
                    .all(|g| *g <= 0.0),
            }
        }
    }
}

/// Does what `linear_attention_step` does and returns true; or false, and has done nothing.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub(crate) fn linear_attention_step_fast(
    state: &Bound<'_, PyAny>,
    q: &Bound<'_, PyAny>,
    k: &Bound<'_, PyAny>,
    v: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
    decay: &Bound<'_, PyAny>,
    feature_map: &Bound<'_, PyAny>,
    normalize: &Bound<'_, PyAny>,
    eps: &Bound<'_, PyAny>,
    scale: &Bound<'_, PyAny>,
    threads: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = q.py();
    let numbers = || {
        let normalize = normalize.cast_exact::<PyBool>().ok()?.is_true();
        let eps = eps.cast_exact::<PyFloat>().ok()?.value();
        let map = match feature_map.is_none() {
            true => FeatureMap::Identity,
            false => FeatureMap::named(feature_map.cast_exact::<PyString>().ok()?.to_str().ok()?)?,
        };
        let scale = match scale.is_none() {
            true => None,
            false => Some(scale.cast_exact::<PyFloat>().ok()?.value()),
        };
        let is_right =
            (LEAST_EPS..f64::INFINITY).contains(&eps) && scale.is_none_or(f64::is_finite);
        is_right.then_some((map, normalize, eps, scale))
    };
    let arrays = || {
        let read = |given: &Bound<'_, PyAny>| Plain::read(given);
        let write = |given: &Bound<'_, PyAny>| Plain::written(given);
        let parts = state.cast::<PyTuple>().ok()?;
        if parts.len() != 3 || !parts.get_borrowed_item(2).ok()?.is_none() {
            return None;
        }
        let s = write(&parts.get_item(0).ok()?)?;
        let z = parts.get_item(1).ok()?;
        let z = match z.is_none() {
            true => None,
            false => Some(write(&z)?),
        };
        let decay = match decay.is_none() {
            true => None,
            false => Some(read(decay)?),
        };
        Some((s, z, read(q)?, read(k)?, read(v)?, write(out)?, decay))
    };
    let Some((map, normalize, eps, scale)) = numbers() else {
        return Ok(false);
    };
    let Some((s, z, q, k, v, out, decay)) = arrays() else {
        return Ok(false);
    };
    let [batch, query_heads, key_dim, _] = q.shape;
    let [_, heads, value_dim, _] = v.shape;
    let dtype = q.dtype;
    let fits = q.is_of(dtype, &[batch, query_heads, key_dim])
        && query_heads.is_multiple_of(heads)
        && k.is_of(dtype, &[batch, heads, key_dim])
        && v.is_of(dtype, &[batch, heads, value_dim])
        && out.is_of(dtype, &[batch, query_heads, value_dim])
        && s.is_of(dtype, &[batch, heads, key_dim, value_dim])
        && z.is_some() == normalize
        && z.as_ref()
            .is_none_or(|z| z.is_of(dtype, &[batch, heads, key_dim]));
    if !fits {
        return Ok(false);
    }
    let decay = match decay {
        None => None,
        Some(decay) => {
            let last = match decay.ndim {
                2 => 1,
                3 => key_dim,
                _ => return Ok(false),
            };
            let shape = [batch, heads, last];
            if !decay.is_of(dtype, &shape[..decay.ndim]) || !decay.decays() {
                return Ok(false);
            }
            Some((decay, last))
        }
    };
    let read = [Some(&q), Some(&k), Some(&v), decay.as_ref().map(|x| &x.0)];
    let written = [Some(&s), Some(&out), z.as_ref()];
    for (i, to) in written.iter().enumerate() {
        for other in read.iter().chain(&written[..i]).flatten() {
            if to.is_some_and(|to| to.meets(other)) {
                return Ok(false);
            }
        }
    }
    let Some(threads) = count(threads) else {
        return Ok(false);
    };
    let token = |array: &Plain, heads: usize, size: usize| array.place([batch, heads, 1, size]);
    #[allow(unsafe_code)]
    // SAFETY: dense arrays of these shapes, kept alive by their handles; those that are written
    // are writable and share no memory with any other.
    let (arguments, state, to) = unsafe {
        (
            LinearAttentionStep {
                q: Heads::new(token(&q, query_heads, key_dim)),
                k: Heads::new(token(&k, heads, key_dim)),
                v: Heads::new(token(&v, heads, value_dim)),
                decay: decay
                    .as_ref()
                    .map(|(array, last)| Heads::new(token(array, heads, *last))),
                map,
                cache: None,
                normalize,
                eps,
                scale: scale.unwrap_or_else(|| (key_dim as f64).powf(-0.5)),
                from_last: from_last(),
            },
            State {
                s: HeadsMut::new(s.place([batch, heads, key_dim, value_dim])),
                z: z.as_ref().map(|z| HeadsMut::new(token(z, heads, key_dim))),
                log_scale: None,
            },
            HeadsMut::new(token(&out, query_heads, value_dim)),
        )
    };
    let length = match s.bytes < LinearAttentionStep::SHARED_BYTES {
        true => Length::Least,
        false => Length::Brief,
    };
    run(py, threads, length, None, |run| {
        arguments.run(&state, &to, run)
    })?;
    Ok(true)
}

/// The threads that are asked for, if any, and if so many can be.
fn count(given: &Bound<'_, PyAny>) -> Option<Option<usize>> {
    if given.is_none() {
        return Some(None);
    }
    let count = given.cast_exact::<PyInt>().ok()?.extract().ok()?;
    (1..=MOST_THREADS).contains(&count).then_some(Some(count))
}
