//! What maps are made of, kept from call to call: Favor's matrix and its panels, and the tables of
//! polynomials. Making them takes longer than many a call, and than any step.

use std::any::Any;
use std::sync::{Arc, Mutex};

use corekit_base::run::Run;
use corekit_base::simd::Level;
use corekit_base::sync::lock;

use super::favor::Favor;
use super::{FeatureMap, Prepared};
use crate::error::Result;
use crate::kernels::Computed;

/// What a map is made of: the one, and for the size of heads, that was last asked for.
#[derive(Debug, Default)]
pub struct MapCache {
    matrix: Mutex<Option<Drawn>>,
    made: Mutex<Option<Made>>,
}

/// Favor's matrix, and what it is for.
#[derive(Debug)]
struct Drawn {
    favor: Favor,
    key_dim: usize,
    matrix: Arc<Vec<f64>>,
}

/// A [`Prepared`], and what it is for.
#[derive(Debug)]
struct Made {
    map: FeatureMap,
    key_dim: usize,
    level: Level,
    prepared: Arc<dyn Any + Send + Sync>,
}

impl MapCache {
    /// Favor's matrix, drawn if it is not there.
    ///
    /// # Errors
    /// As of [`Favor::projection`].
    pub fn matrix(&self, favor: &Favor, key_dim: usize, run: &Run) -> Result<Arc<Vec<f64>>> {
        if let Some(matrix) = self.kept_matrix(favor, key_dim) {
            return Ok(matrix);
        }
        let matrix = Arc::new(favor.projection(key_dim, run)?);
        *lock(&self.matrix) = Some(Drawn {
            favor: *favor,
            key_dim,
            matrix: matrix.clone(),
        });
        Ok(matrix)
    }

    /// Favor's matrix, if it is there.
    pub fn kept_matrix(&self, favor: &Favor, key_dim: usize) -> Option<Arc<Vec<f64>>> {
        match &*lock(&self.matrix) {
            Some(drawn) if (&drawn.favor, drawn.key_dim) == (favor, key_dim) => {
                Some(drawn.matrix.clone())
            }
            _ => None,
        }
    }

    /// What `map` is made of, made if it is not there.
    pub(super) fn prepared<T: Computed>(
        &self,
        map: &FeatureMap,
        key_dim: usize,
        run: &Run,
    ) -> Result<Arc<Prepared<T>>> {
        if let Some(made) = &*lock(&self.made)
            && (made.map, made.key_dim, made.level) == (*map, key_dim, run.level)
            && let Ok(prepared) = made.prepared.clone().downcast()
        {
            return Ok(prepared);
        }
        let matrix = match map {
            FeatureMap::Favor(favor) => Some(self.matrix(favor, key_dim, run)?),
            _ => None,
        };
        let matrix = matrix.as_ref().map(|matrix| &matrix[..]);
        let prepared = Arc::new(Prepared::<T>::new(map, matrix, key_dim, run)?);
        *lock(&self.made) = Some(Made {
            map: *map,
            key_dim,
            level: run.level,
            prepared: prepared.clone(),
        });
        Ok(prepared)
    }
}

#[cfg(test)]
mod tests {
    use corekit_base::control::Control;

    use super::super::Features;
    use super::*;

    fn inputs() -> impl Iterator<Item = (FeatureMap, usize)> {
        let favor = |n_features, seed| {
            FeatureMap::Favor(Favor {
                n_features,
                orthogonal: true,
                seed,
            })
        };
        let maps = [
            favor(5, 1),
            favor(5, 2),
            favor(6, 2),
            FeatureMap::Taylor(2),
            FeatureMap::Taylor(3),
            FeatureMap::ExponentialLimit(2),
            FeatureMap::Elu1,
        ];
        maps.into_iter().flat_map(|map| [(map, 3), (map, 4)])
    }

    /// Features of some rows, with a cache or without one.
    fn features<T: Computed>(
        cache: Option<&MapCache>,
        (map, key_dim): (FeatureMap, usize),
        run: &Run,
    ) -> Vec<T> {
        let kernels = T::kernels(run.level);
        let map = Features::<T>::new(&map, cache, key_dim, (1.0, true), run).unwrap();
        let mut side = crate::features::Side::new(&map, 1).unwrap();
        let x: Vec<T> = (0..key_dim).map(|i| T::of(0.3 - i as f64)).collect();
        let shape = [1, key_dim];
        // SAFETY: the row is there as long as the view of it.
        #[allow(unsafe_code)]
        let x = unsafe {
            let strides = [0, size_of::<T>() as isize];
            corekit_base::array::Matrix::new(x.as_ptr().cast(), T::DTYPE, shape, strides)
        };
        side.load(kernels, &map, &x, 0..1, T::ONE);
        side.features.row(0).to_vec()
    }

    #[test]
    fn whatever_was_asked_before_is_not_what_is_given() {
        let control = Control::new();
        let cache = MapCache::default();
        for level in Level::all() {
            let run = &Run {
                threads: 1,
                level,
                control: &control,
            };
            for input in inputs() {
                for _ in 0..2 {
                    assert_eq!(
                        features::<f32>(Some(&cache), input, run),
                        features::<f32>(None, input, run),
                    );
                    assert_eq!(
                        features::<f64>(Some(&cache), input, run),
                        features::<f64>(None, input, run),
                    );
                }
            }
        }
    }
}
