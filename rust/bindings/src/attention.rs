//! `corekit.attention`.

mod fast_step;

use std::cell::Cell;

use corekit_attention::{
    Favor, FeatureMap, Gradients, Heads, HeadsMut, LinearAttention, LinearAttentionStep, MapCache,
    Place, SoftmaxAttention, State,
};
use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::{Array, load_numpy};
use crate::enter::{Length, run};
use crate::errors::{Raise, invalid_argument};
pub(crate) use fast_step::linear_attention_step_fast;

/// The most operations of [`Length::Least`].
const LEAST: f64 = 1e5;

/// The most of [`Length::Brief`], which are over before anybody has noticed the wait.
const BRIEF: f64 = 1e9;

/// How long so many operations take.
fn length(operations: f64) -> Length {
    Length::of(operations, LEAST, BRIEF)
}

/// The least that outputs may be divided by, the smallest normal float32: what it divides stays a
/// number.
pub(crate) const LEAST_EPS: f64 = f32::MIN_POSITIVE as f64;

/// A feature map: what `corekit.attention` has as names and objects.
#[pyclass(module = "corekit._core", name = "FeatureMap", frozen)]
pub(crate) struct PyFeatureMap {
    map: FeatureMap,
    cache: MapCache,
}

impl PyFeatureMap {
    /// Draws Favor's matrix for heads of that size, unless it is there: that can be cancelled, and a
    /// call that is short otherwise needs no thread of its own for it.
    fn draw(&self, py: Python<'_>, key_dim: usize) -> PyResult<()> {
        let FeatureMap::Favor(favor) = &self.map else {
            return Ok(());
        };
        if self.cache.kept_matrix(favor, key_dim).is_some() {
            return Ok(());
        }
        let work = favor.n_features as f64 * (key_dim * key_dim) as f64 * 10.0;
        run(py, Some(1), length(work), None, |run| {
            self.cache.matrix(favor, key_dim, run).map(drop)
        })
    }
}

#[pymethods]
impl PyFeatureMap {
    #[new]
    #[pyo3(signature = (name, *, n_features = 0, order = 0, orthogonal = true, seed = 0))]
    fn new(
        name: &str,
        n_features: usize,
        order: u32,
        orthogonal: bool,
        seed: u128,
    ) -> PyResult<Self> {
        let map = match name {
            "favor" => FeatureMap::Favor(Favor {
                n_features,
                orthogonal,
                seed,
            }),
            "taylor" => FeatureMap::Taylor(order),
            "exponential_limit" => FeatureMap::ExponentialLimit(order),
            name => FeatureMap::named(name)
                .ok_or_else(|| invalid_argument(format!("feature_map has no {name:?}")))?,
        };
        Ok(Self {
            map,
            cache: MapCache::default(),
        })
    }

    fn features_for(&self, key_dim: usize) -> PyResult<usize> {
        self.map.features(key_dim).map_err(Raise::raise)
    }

    /// The features of rows of a matrix.
    fn apply(
        &self,
        x: Array<'_>,
        out: Array<'_>,
        scale: f64,
        threads: Option<usize>,
    ) -> PyResult<()> {
        let py = x.py();
        let work = out.elements() as f64 * 100.0;
        let (_, [_, key_dim], _) = x.parts()?;
        self.draw(py, key_dim)?;
        #[allow(unsafe_code)]
        // SAFETY: as in `linear_attention`.
        let (x, out) = unsafe { (x.matrix()?, out.matrix_mut()?) };
        run(py, threads, length(work), None, |run| {
            self.map.apply(Some(&self.cache), &x, &out, scale, run)
        })
    }

    /// Favor's matrix.
    fn projection<'py>(
        &self,
        py: Python<'py>,
        key_dim: usize,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        load_numpy(py)?;
        let FeatureMap::Favor(favor) = &self.map else {
            return Err(invalid_argument("projection is of favor alone"));
        };
        self.draw(py, key_dim)?;
        let rows = run(py, Some(1), Length::Least, None, |run| {
            self.cache.matrix(favor, key_dim, run)
        })?;
        let rows = rows.to_vec().into_pyarray(py);
        rows.reshape([favor.n_features, key_dim])
    }
}

/// Arrays of a state: s, z, log_scale.
type StateArrays<'py> = (Array<'py>, Option<Array<'py>>, Option<Array<'py>>);

/// The options that the forward and the backward pass share: `corekit._how.AttentionOptions`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options<'py> {
    feature_map: Bound<'py, PyFeatureMap>,
    causal: bool,
    normalize: bool,
    eps: f64,
    scale: f64,
    decay: Option<Array<'py>>,
    initial: Option<StateArrays<'py>>,
    cu_seqlens: Option<PyReadonlyArray1<'py, i64>>,
    key_mask: Option<Array<'py>>,
    chunk_size: Option<usize>,
    threads: Option<usize>,
}

impl Options<'_> {
    /// The arguments of the core.
    ///
    /// # Safety
    /// As of [`heads`], for all arrays.
    #[allow(unsafe_code)]
    // SAFETY: that is all it needs.
    unsafe fn arguments<'a>(
        &'a self,
        q: &'a Array<'_>,
        k: &'a Array<'_>,
        v: &'a Array<'_>,
    ) -> PyResult<LinearAttention<'a>> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(LinearAttention {
                q: heads(q, BTHD)?,
                k: heads(k, BTHD)?,
                v: heads(v, BTHD)?,
                decay: some(&self.decay).map(|x| heads(x, BTHD)).transpose()?,
                key_mask: self.key_mask.as_ref().map(|x| mask(x)).transpose()?,
                cu_seqlens: self
                    .cu_seqlens
                    .as_ref()
                    .map(|ends| ends.as_slice())
                    .transpose()?,
                initial: self
                    .initial
                    .as_ref()
                    .map(|x| state(x, |place| Heads::new(place)))
                    .transpose()?,
                causal: self.causal,
                map: self.feature_map.get().map,
                cache: Some(&self.feature_map.get().cache),
                normalize: self.normalize,
                eps: self.eps,
                scale: self.scale,
                chunk_size: self.chunk_size,
            })
        }
    }

    /// About how many operations the forward pass takes.
    fn work(&self, q: &Array<'_>, v: &Array<'_>) -> PyResult<f64> {
        let (_, [batch, time, heads, key_dim], _) = q.parts()?;
        let (_, [_, _, _, value_dim], _) = v.parts()?;
        // Maps of more features than can be counted have a form without.
        let m = self
            .feature_map
            .get()
            .map
            .features(key_dim)
            .unwrap_or(usize::MAX);
        let (rows, m, v) = ((batch * heads * time) as f64, m as f64, value_dim as f64);
        Ok(rows * (4.0 * m * v + 64.0 * (m + v)))
    }
}

/// Outputs of all tokens, and the state after the last.
#[pyfunction]
pub(crate) fn linear_attention<'py>(
    q: Array<'py>,
    k: Array<'py>,
    v: Array<'py>,
    out: Array<'py>,
    r#final: Option<StateArrays<'py>>,
    options: Options<'py>,
) -> PyResult<()> {
    let py = q.py();
    draw_for(&options.feature_map, &q)?;
    let work = options.work(&q, &v)?;
    #[allow(unsafe_code)]
    // SAFETY: the caller of this private module gives outputs that are writable, share no memory
    // with anything else and have no element twice; all arrays are kept alive by their handles.
    let (arguments, out, last) = unsafe {
        (
            options.arguments(&q, &k, &v)?,
            HeadsMut::new(place(&out, BTHD)?),
            r#final
                .as_ref()
                .map(|x| state(x, |place| HeadsMut::new(place)))
                .transpose()?,
        )
    };
    run(py, options.threads, length(work), None, |run| {
        arguments.forward(&out, last.as_ref(), run)
    })
}

/// Where gradients go: `corekit._how.AttentionGradients`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct GradientArrays<'py> {
    q: Array<'py>,
    k: Array<'py>,
    v: Array<'py>,
    decay: Option<Array<'py>>,
    initial: Option<StateArrays<'py>>,
}

/// Gradients.
#[pyfunction]
pub(crate) fn linear_attention_vjp<'py>(
    q: Array<'py>,
    k: Array<'py>,
    v: Array<'py>,
    dout: Array<'py>,
    dfinal: Option<StateArrays<'py>>,
    to: GradientArrays<'py>,
    options: Options<'py>,
) -> PyResult<()> {
    let py = q.py();
    draw_for(&options.feature_map, &q)?;
    let work = 3.0 * options.work(&q, &v)?;
    #[allow(unsafe_code)]
    // SAFETY: as in `linear_attention`.
    let (arguments, dout, dlast, to) = unsafe {
        let write = |x: &Array<'_>| Ok::<_, PyErr>(HeadsMut::new(place(x, BTHD)?));
        let to = Gradients {
            q: write(&to.q)?,
            k: write(&to.k)?,
            v: write(&to.v)?,
            decay: some(&to.decay).map(write).transpose()?,
            initial: to
                .initial
                .as_ref()
                .map(|x| state(x, |place| HeadsMut::new(place)))
                .transpose()?,
        };
        let dlast = dfinal
            .as_ref()
            .map(|x| state(x, |place| Heads::new(place)))
            .transpose()?;
        (
            options.arguments(&q, &k, &v)?,
            heads(&dout, BTHD)?,
            dlast,
            to,
        )
    };
    run(py, options.threads, length(work), None, |run| {
        arguments.backward(&dout, dlast.as_ref(), &to, run)
    })
}

/// One token more: the state is changed.
#[pyfunction]
#[pyo3(signature = (
    q, k, v, out, *, state, feature_map, normalize, eps, scale, decay, threads
))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn linear_attention_step<'py>(
    q: Array<'py>,
    k: Array<'py>,
    v: Array<'py>,
    out: Array<'py>,
    state: StateArrays<'py>,
    feature_map: &Bound<'py, PyFeatureMap>,
    normalize: bool,
    eps: f64,
    scale: f64,
    decay: Option<Array<'py>>,
    threads: Option<usize>,
) -> PyResult<()> {
    let py = q.py();
    draw_for(feature_map, &q)?;
    #[allow(unsafe_code)]
    // SAFETY: as in `linear_attention`.
    let (arguments, out, last) = unsafe {
        let arguments = LinearAttentionStep {
            q: Heads::new(token(&q)?),
            k: Heads::new(token(&k)?),
            v: Heads::new(token(&v)?),
            decay: some(&decay)
                .map(|x| token(x).map(|x| Heads::new(x)))
                .transpose()?,
            map: feature_map.get().map,
            cache: Some(&feature_map.get().cache),
            normalize,
            eps,
            scale,
            from_last: from_last(),
        };
        let out = HeadsMut::new(token(&out)?);
        let state = self::state(&state, |place| HeadsMut::new(place))?;
        (arguments, out, state)
    };
    let work = out.shape().iter().product::<usize>() as f64 * last.s.shape()[2] as f64 * 4.0;
    run(py, threads, length(work), None, |run| {
        arguments.run(&last, &out, run)
    })
}

/// Softmax attention: outputs of all tokens.
#[pyfunction]
#[pyo3(signature = (q, k, v, out, *, causal, scale, cu_seqlens, key_mask, threads))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn softmax_attention<'py>(
    q: Array<'py>,
    k: Array<'py>,
    v: Array<'py>,
    out: Array<'py>,
    causal: bool,
    scale: f64,
    cu_seqlens: Option<PyReadonlyArray1<'py, i64>>,
    key_mask: Option<Array<'py>>,
    threads: Option<usize>,
) -> PyResult<()> {
    let py = q.py();
    #[allow(unsafe_code)]
    // SAFETY: as in `linear_attention`.
    let (arguments, out) = unsafe {
        let arguments = SoftmaxAttention {
            q: heads(&q, BTHD)?,
            k: heads(&k, BTHD)?,
            v: heads(&v, BTHD)?,
            key_mask: key_mask.as_ref().map(|x| mask(x)).transpose()?,
            cu_seqlens: cu_seqlens.as_ref().map(|x| x.as_slice()).transpose()?,
            causal,
            scale,
        };
        (arguments, HeadsMut::new(place(&out, BTHD)?))
    };
    let [batch, heads, time, value_dim] = out.shape();
    let pairs = (batch * heads * time) as f64 * time as f64;
    let work = pairs * (2.0 * (arguments.q.shape()[3] + value_dim) as f64 + 32.0);
    run(py, threads, length(work), None, |run| {
        arguments.forward(&out, run)
    })
}

/// Which way a step goes through heads: there and back, for of states larger than a cache the last
/// are what a thread still finds in its own.
fn from_last() -> bool {
    thread_local! {
        static NEXT: Cell<bool> = const { Cell::new(false) };
    }
    NEXT.replace(!NEXT.get())
}

/// An array that has elements: a decay of no features, or of no tokens, says nothing.
fn some<'a, 'py>(array: &'a Option<Array<'py>>) -> Option<&'a Array<'py>> {
    array.as_ref().filter(|array| array.elements() > 0)
}

/// Draws what a map draws for the heads of `q`.
fn draw_for(map: &Bound<'_, PyFeatureMap>, q: &Array<'_>) -> PyResult<()> {
    let key_dim = match q.ndim() {
        3 => q.parts::<3>()?.1[2],
        _ => q.parts::<4>()?.1[3],
    };
    map.get().draw(map.py(), key_dim)
}

/// The order of axes of an array that has time before heads.
const BTHD: [usize; 4] = [0, 2, 1, 3];
/// The order of axes of a state.
const STRAIGHT: [usize; 4] = [0, 1, 2, 3];

/// Where an array lies, its axes taken in an order.
fn place(array: &Array<'_>, order: [usize; 4]) -> PyResult<Place> {
    let (data, shape, strides) = array.parts::<4>()?;
    Ok(Place {
        data,
        dtype: array.dtype(),
        shape: order.map(|axis| shape[axis]),
        strides: order.map(|axis| strides[axis]),
    })
}

/// # Safety
/// The array is kept alive, and its memory not written, while the view is used.
#[allow(unsafe_code)]
// SAFETY: that is all it needs.
unsafe fn heads<'a>(array: &'a Array<'_>, order: [usize; 4]) -> PyResult<Heads<'a>> {
    // SAFETY: NumPy's arrays own or keep alive all of their elements; the rest as above.
    Ok(unsafe { Heads::new(place(array, order)?) })
}

/// An array of one token: [batch, head, dimension].
fn token(array: &Array<'_>) -> PyResult<Place> {
    let (data, [batch, heads, size], [to_batch, to_head, to_next]) = array.parts::<3>()?;
    Ok(Place {
        data,
        dtype: array.dtype(),
        shape: [batch, heads, 1, size],
        strides: [to_batch, to_head, 0, to_next],
    })
}

/// A mask [batch, time] as an array of one head and one row.
///
/// # Safety
/// As of [`heads`].
#[allow(unsafe_code)]
// SAFETY: that is all it needs.
unsafe fn mask<'a>(array: &'a Array<'_>) -> PyResult<Heads<'a>> {
    let (data, [batch, time], [to_batch, to_next]) = array.parts::<2>()?;
    // SAFETY: the caller's promise.
    Ok(unsafe {
        Heads::new(Place {
            data,
            dtype: array.dtype(),
            shape: [batch, 1, 1, time],
            strides: [to_batch, 0, 0, to_next],
        })
    })
}

/// A state's arrays as views that `view` makes.
fn state<H>((s, z, log_scale): &StateArrays<'_>, view: impl Fn(Place) -> H) -> PyResult<State<H>> {
    let row = |array: &Array<'_>| {
        let (data, [n, heads, m], [to_n, to_head, to_next]) = array.parts::<3>()?;
        Ok::<_, PyErr>(view(Place {
            data,
            dtype: array.dtype(),
            shape: [n, heads, 1, m],
            strides: [to_n, to_head, 0, to_next],
        }))
    };
    let number = |array: &Array<'_>| {
        let (data, [n, heads], [to_n, to_head]) = array.parts::<2>()?;
        Ok::<_, PyErr>(view(Place {
            data,
            dtype: array.dtype(),
            shape: [n, heads, 1, 1],
            strides: [to_n, to_head, 0, 0],
        }))
    };
    Ok(State {
        s: view(place(s, STRAIGHT)?),
        z: z.as_ref().map(row).transpose()?,
        log_scale: log_scale.as_ref().map(number).transpose()?,
    })
}
