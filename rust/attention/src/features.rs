//! Feature maps: what is done to queries and keys before they meet.
//!
//! A map is a small value. [`Prepared`] is what a call makes of it once, for a type and a size of
//! heads; [`Side`] is a chunk of queries or keys with their features, made in cache and never
//! stored.

pub(crate) mod cache;
pub(crate) mod favor;
pub(crate) mod polynomial;

use std::ops::{Deref, Range};
use std::sync::Arc;

use corekit_base::array::{Dtype, Matrix, MatrixMut};
use corekit_base::run::Run;

use crate::error::{Error, Result};
use crate::kernels::{Computed, Factors, Kernels, Map, Out, Shape};
use crate::tiles::{Panels, Tile, zeros};
use cache::MapCache;
use favor::Favor;
use polynomial::Polynomial;

/// The most bytes that the state of a head may have.
pub(crate) const STATE_BYTES: usize = 64 << 20;

/// Which map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeatureMap {
    /// x.
    Identity,
    /// elu(x) + 1 (Katharopoulos et al. 2020).
    Elu1,
    /// max(x, 0).
    Relu,
    /// max(x, 0)².
    SquaredRelu,
    /// eˣ.
    Exp,
    /// The softmax over a row's numbers.
    Softmax,
    /// Positive random features (Choromanski et al. 2021).
    Favor(Favor),
    /// The exponential's Taylor series up to a power.
    Taylor(u32),
    /// (1 + x/n)ⁿ.
    ExponentialLimit(u32),
}

impl FeatureMap {
    /// The map of that name, if it has no parameters.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "identity" => Self::Identity,
            "elu1" => Self::Elu1,
            "relu" => Self::Relu,
            "squared_relu" => Self::SquaredRelu,
            "exp" => Self::Exp,
            "softmax" => Self::Softmax,
            _ => return None,
        })
    }

    /// Features of a head of `key_dim` numbers.
    ///
    /// # Errors
    /// When there are more than can be counted.
    pub fn features(&self, key_dim: usize) -> Result<usize> {
        match self {
            Self::Favor(favor) => Ok(favor.n_features),
            Self::Taylor(order) | Self::ExponentialLimit(order) => {
                polynomial::n_features(key_dim, *order).ok_or(Error::OutOfMemory {
                    what: "features",
                    bytes: u64::MAX,
                })
            }
            _ => Ok(key_dim),
        }
    }

    /// Whether it stands for the softmax: the scale then belongs into the exponent.
    pub fn approximates_softmax(&self) -> bool {
        matches!(
            self,
            Self::Favor(_) | Self::Taylor(_) | Self::ExponentialLimit(_)
        )
    }

    /// Whether scores are polynomials of dot products, and features their monomials.
    pub(crate) fn is_polynomial(&self) -> bool {
        matches!(self, Self::Taylor(_) | Self::ExponentialLimit(_))
    }

    /// Whether it keeps a logarithm beside the state.
    pub fn is_stabilised(&self) -> bool {
        matches!(self, Self::Favor(_))
    }

    /// The features of every row of `x`, with the scale in the exponent of maps that stand for the
    /// softmax, and no scale elsewhere; nothing is divided off them.
    ///
    /// # Errors
    /// When sizes do not fit, memory is refused, or the caller cancels.
    pub fn apply(
        &self,
        cache: Option<&MapCache>,
        x: &Matrix,
        out: &MatrixMut,
        scale: f64,
        run: &Run,
    ) -> Result<()> {
        match out.dtype() {
            Dtype::F64 => self.apply_in::<f64>(cache, x, out, scale, run),
            _ => self.apply_in::<f32>(cache, x, out, scale, run),
        }
    }

    fn apply_in<T: Computed>(
        &self,
        cache: Option<&MapCache>,
        x: &Matrix,
        out: &MatrixMut,
        scale: f64,
        run: &Run,
    ) -> Result<()> {
        /// Rows of a task.
        const ROWS: usize = 32;
        let count = self.features(x.columns())?;
        if (x.rows(), count) != (out.rows(), out.columns()) {
            return Err(Error::InvalidArgument(format!(
                "out must have shape {:?}, got {:?}",
                (x.rows(), count),
                (out.rows(), out.columns())
            )));
        }
        let features = Features::<T>::new(self, cache, x.columns(), (scale, true), run)?;
        let kernels = T::kernels(run.level);
        run.share(
            x.rows().div_ceil(ROWS),
            || Side::new(&features, ROWS),
            |side, task| {
                let rows = task * ROWS..x.rows().min((task + 1) * ROWS);
                side.load(kernels, &features, x, rows.clone(), T::ONE);
                for (place, row) in rows.enumerate() {
                    let values = side.features.row_mut(place);
                    if features.is_stabilised() {
                        let factor = T::of(side.logs[place].wide().exp());
                        for value in values.iter_mut() {
                            *value = *value * factor;
                        }
                    }
                    out.store_row(row, 0, values);
                }
                Ok(())
            },
        )
    }

    fn rows(&self) -> Option<Map> {
        Some(match self {
            Self::Identity => Map::Identity,
            Self::Elu1 => Map::Elu1,
            Self::Relu => Map::Relu,
            Self::SquaredRelu => Map::SquaredRelu,
            Self::Exp => Map::Exp,
            Self::Softmax => Map::Softmax,
            _ => return None,
        })
    }
}

/// What is made of a map.
pub(crate) enum Prepared<T> {
    /// Numbers or rows on their own.
    Rows(Map),
    /// The matrix as panels, transposed (features across) and not, and ln m / 2.
    Favor {
        transposed: Panels<T>,
        matrix: Panels<T>,
        half_log: T,
    },
    /// Monomials.
    Polynomial(Polynomial<T>),
}

impl<T: Computed> Prepared<T> {
    /// What `map` needs; `matrix` is Favor's, drawn unless it is given.
    fn new(map: &FeatureMap, matrix: Option<&[f64]>, key_dim: usize, run: &Run) -> Result<Self> {
        let kernels = T::kernels(run.level);
        let most = STATE_BYTES / size_of::<T>();
        Ok(match map {
            FeatureMap::Favor(favor) => {
                let drawn;
                let rows = match matrix {
                    Some(rows) => rows,
                    None => {
                        drawn = favor.projection(key_dim, run)?;
                        &drawn[..]
                    }
                };
                let mut transposed = kernels.panels(key_dim, favor.n_features)?;
                let mut matrix = kernels.panels(favor.n_features, key_dim)?;
                let mut column = zeros("a row", Some(favor.n_features))?;
                for feature in 0..key_dim {
                    for (out, row) in column.iter_mut().zip(rows.chunks_exact(key_dim)) {
                        *out = T::of(row[feature]);
                    }
                    transposed.set_row(feature, &column);
                }
                kernels.flip(&transposed, (key_dim, favor.n_features), &mut matrix);
                Self::Favor {
                    transposed,
                    matrix,
                    half_log: T::of((favor.n_features as f64).ln() / 2.0),
                }
            }
            FeatureMap::Taylor(order) => {
                Self::Polynomial(Polynomial::taylor(key_dim, *order)?.with_features(most)?)
            }
            FeatureMap::ExponentialLimit(n) => {
                Self::Polynomial(Polynomial::exponential_limit(key_dim, *n)?.with_features(most)?)
            }
            map => Self::Rows(map.rows().unwrap_or(Map::Identity)),
        })
    }
}

/// A [`Prepared`] of this call, or one that calls share.
pub(crate) enum Held<T> {
    Own(Prepared<T>),
    Shared(Arc<Prepared<T>>),
}

impl<T> Deref for Held<T> {
    type Target = Prepared<T>;

    fn deref(&self) -> &Prepared<T> {
        match self {
            Self::Own(prepared) => prepared,
            Self::Shared(prepared) => prepared,
        }
    }
}

/// A map made ready for heads of one size.
pub(crate) struct Features<T> {
    pub(crate) prepared: Held<T>,
    pub(crate) key_dim: usize,
    pub(crate) count: usize,
    /// What queries and keys are multiplied by before the map.
    pub(crate) inner: T,
    /// What queries are multiplied by after it.
    pub(crate) outer: T,
}

impl<T: Computed> Features<T> {
    /// Makes `map` ready, of what is in the cache if there is one. The scale goes into the exponent
    /// of a map that stands for the softmax, else it multiplies queries, unless `normalize` takes it
    /// out again.
    pub(crate) fn new(
        map: &FeatureMap,
        cache: Option<&MapCache>,
        key_dim: usize,
        (scale, normalize): (f64, bool),
        run: &Run,
    ) -> Result<Self> {
        let prepared = match cache {
            Some(cache) if map.rows().is_none() => Held::Shared(cache.prepared(map, key_dim, run)?),
            _ => Held::Own(Prepared::new(map, None, key_dim, run)?),
        };
        let (inner, outer) = match (map.approximates_softmax(), normalize) {
            (true, _) => (scale.sqrt(), 1.0),
            (false, true) => (1.0, 1.0),
            (false, false) => (1.0, scale),
        };
        Ok(Self {
            prepared,
            key_dim,
            count: map.features(key_dim)?,
            inner: T::of(inner),
            outer: T::of(outer),
        })
    }

    /// Whether scores are made of what goes into the map and not of features.
    pub(crate) fn is_polynomial(&self) -> bool {
        matches!(*self.prepared, Prepared::Polynomial(_))
    }

    /// Makes scores of dot products of what goes into the map.
    pub(crate) fn finish(
        &self,
        scores: &mut Tile<T>,
        (rows, columns): (usize, usize),
        shape: Shape,
    ) {
        if let Prepared::Polynomial(polynomial) = &*self.prepared {
            for row in 0..rows {
                let end = match shape {
                    Shape::Lower => row + 1,
                    Shape::Full => columns,
                };
                polynomial.values(&mut scores.row_mut(row)[..end]);
            }
        }
    }

    /// Whether features come with a logarithm for each row.
    pub(crate) fn is_stabilised(&self) -> bool {
        matches!(*self.prepared, Prepared::Favor { .. })
    }
}

/// A chunk of queries or of keys.
pub(crate) struct Side<T> {
    /// What goes into the map, for maps that need it beside the features.
    pub(crate) input: Tile<T>,
    /// Tokens by features.
    pub(crate) features: Tile<T>,
    /// The logarithm by which each row's features were divided.
    pub(crate) logs: Vec<T>,
}

impl<T: Computed> Side<T> {
    /// Room for `tokens` tokens.
    pub(crate) fn new(features: &Features<T>, tokens: usize) -> Result<Self> {
        Self::in_tiles(features, tokens, Tile::new)
    }

    /// Room for `tokens` tokens, which no product takes ([`Tile::of_rows`]).
    pub(crate) fn of_rows(features: &Features<T>, tokens: usize) -> Result<Self> {
        match *features.prepared {
            Prepared::Rows(_) => Self::in_tiles(features, tokens, Tile::of_rows),
            // Their maps are products.
            _ => Self::new(features, tokens),
        }
    }

    fn in_tiles(
        features: &Features<T>,
        tokens: usize,
        tile: impl Fn(usize, usize) -> Result<Tile<T>>,
    ) -> Result<Self> {
        Ok(Self {
            input: match *features.prepared {
                Prepared::Rows(_) => tile(0, 0)?,
                _ => tile(tokens, features.key_dim)?,
            },
            features: tile(tokens, features.count)?,
            logs: vec![T::ZERO; tokens],
        })
    }

    /// Loads rows of a matrix and maps them, then multiplies by `outer`.
    pub(crate) fn load(
        &mut self,
        kernels: &Kernels<T>,
        map: &Features<T>,
        from: &Matrix,
        rows: Range<usize>,
        outer: T,
    ) {
        let (n, d) = (rows.len(), map.key_dim);
        match &*map.prepared {
            Prepared::Rows(rows_map) => match from.block(rows.clone(), 0..d) {
                Some(block) if kernels.is_whole(d) => {
                    kernels.map_block(&block, &mut self.features, *rows_map, outer);
                }
                _ => {
                    kernels.load(from, rows, 0..d, &mut self.features);
                    kernels.map(&mut self.features, (n, d), *rows_map, outer);
                }
            },
            Prepared::Favor {
                transposed,
                half_log,
                ..
            } => {
                kernels.load(from, rows, 0..d, &mut self.input);
                kernels.map(&mut self.input, (n, d), Map::Identity, map.inner);
                let state = Some((&self.input, transposed, d));
                let size = (n, map.count);
                let out = Out::Tile(&mut self.features);
                kernels.outputs(state, false, None, Factors::NONE, size, out, None);
                kernels.exp_below_most(&mut self.features, map.count, &mut self.logs[..n]);
                for (log, row) in self.logs[..n].iter_mut().zip(0..) {
                    let mut square = T::ZERO;
                    for x in self.input.row(row) {
                        square += *x * *x;
                    }
                    *log = *log - square * T::of(0.5) - *half_log;
                }
            }
            Prepared::Polynomial(polynomial) => {
                kernels.load(from, rows, 0..d, &mut self.input);
                kernels.map(&mut self.input, (n, d), Map::Identity, map.inner);
                for row in 0..n {
                    polynomial.apply(self.input.row(row), self.features.row_mut(row));
                }
            }
        }
    }

    /// Makes of `gradient`, by features, that by what was loaded: in its place, or in `by_input`,
    /// which then holds what was found of it before; returns which. `scratch` is what a polynomial
    /// needs.
    pub(crate) fn back<'a>(
        &self,
        kernels: &Kernels<T>,
        map: &Features<T>,
        n: usize,
        gradient: &'a mut Tile<T>,
        by_input: &'a mut Tile<T>,
        scratch: &mut [T],
    ) -> &'a mut Tile<T> {
        let (d, m) = (map.key_dim, map.count);
        match &*map.prepared {
            Prepared::Rows(rows_map) => {
                kernels.map_back(gradient, &self.features, (n, d), *rows_map);
                return gradient;
            }
            Prepared::Favor { matrix, .. } => {
                // ln φ_j = w_j·x - |x|²/2: the gradient by it is φ_j times that by φ_j.
                kernels.map_back(gradient, &self.features, (n, m), Map::Exp);
                let state = Some((&*gradient, matrix, m));
                let out = Out::Tile(by_input);
                kernels.outputs(state, false, None, Factors::NONE, (n, d), out, None);
                for row in 0..n {
                    let mut sum = T::ZERO;
                    for x in gradient.row(row) {
                        sum += *x;
                    }
                    for (by, x) in by_input.row_mut(row).iter_mut().zip(self.input.row(row)) {
                        *by = *by - *x * sum;
                    }
                }
            }
            Prepared::Polynomial(polynomial) => {
                for row in 0..n {
                    let (x, features) = (self.input.row(row), self.features.row(row));
                    let by = by_input.row_mut(row);
                    polynomial.pull_back(x, features, gradient.row(row), scratch, by);
                }
            }
        }
        kernels.map(by_input, (n, d), Map::Identity, map.inner);
        by_input
    }

    /// What scores are made of, and how many numbers of it a token has.
    pub(crate) fn scored<'a>(&'a self, map: &Features<T>) -> (&'a Tile<T>, usize) {
        match map.is_polynomial() {
            true => (&self.input, map.key_dim),
            false => (&self.features, map.count),
        }
    }

    /// Makes masked tokens add nothing, whatever was loaded for them.
    pub(crate) fn clear_masked(&mut self, mask: &[T]) {
        for (token, _) in mask.iter().enumerate().filter(|(_, m)| **m == T::ZERO) {
            self.features.row_mut(token).fill(T::ZERO);
            if self.input.rows() > 0 {
                self.input.row_mut(token).fill(T::ZERO);
            }
            self.logs[token] = T::of(f64::NEG_INFINITY);
        }
    }
}
