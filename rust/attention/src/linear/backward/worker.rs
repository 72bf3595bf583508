//! What a worker keeps.

use corekit_base::aligned::Aligned;

use super::super::chunk;
use super::Backward;
use crate::error::Result;
use crate::features::Prepared;
use crate::kernels::Computed;
use crate::tiles::{Panels, ROOM, Tile, zeros};

/// What a worker keeps from unit to unit, beside what it has for the forward pass.
pub(super) struct Worker<T> {
    pub(super) forward: chunk::Worker<T>,
    pub(super) values: Tile<T>,
    /// Vᵀ in panels.
    pub(super) values_turned: Panels<T>,
    /// Features of keys or queries in panels.
    pub(super) spread: Panels<T>,
    /// Inputs of a polynomial in panels.
    pub(super) inputs: Panels<T>,
    /// Sᵀ or S̄ᵀ.
    pub(super) state_turned: Panels<T>,
    pub(super) dout: Tile<T>,
    pub(super) dout_spread: Panels<T>,
    pub(super) by_scores: Tile<T>,
    pub(super) by_features: Tile<T>,
    pub(super) by_keys: Tile<T>,
    pub(super) by_values: Tile<T>,
    pub(super) by_input: Tile<T>,
    pub(super) by_key_input: Tile<T>,
    /// Gradients that nobody asked for.
    pub(super) rest: Tile<T>,
    pub(super) slopes: Vec<T>,
    pub(super) scratch: Vec<T>,
    pub(super) s: Panels<T>,
    pub(super) z: Aligned<T>,
    pub(super) dots: Vec<T>,
    pub(super) ones: Vec<T>,
    pub(super) weights: Vec<T>,
    /// Sums of scores times gradients by them, of rows and of columns.
    pub(super) of_rows: Vec<T>,
    pub(super) of_columns: Vec<T>,
}

impl<T: Computed> Worker<T> {
    pub(super) fn new(backward: &Backward<T>) -> Result<Self> {
        let Backward { call, .. } = backward;
        let (kernels, map, sizes) = (call.kernels, call.map, call.sizes);
        let (chunk, m, d, v) = (call.chunk, map.count, map.key_dim, sizes.value_dim);
        let has_vector = call.arguments.has_vector_decay();
        let mut forward = chunk::Worker::new(kernels, map, chunk, v, has_vector)?;
        let mut scratch = Vec::new();
        let needs_input = !matches!(*map.prepared, Prepared::Rows(_));
        let inputs = if needs_input { d } else { 0 };
        if let Prepared::Polynomial(polynomial) = &*map.prepared {
            forward.products = Some(Tile::new(chunk, chunk)?);
            scratch = vec![T::ZERO; polynomial.scratch_len()];
        }
        let numbers = || vec![T::ZERO; chunk + 64 + ROOM];
        Ok(Self {
            forward,
            values: Tile::new(chunk, v)?,
            values_turned: kernels.panels(v, chunk)?,
            spread: kernels.panels(chunk, m)?,
            inputs: kernels.panels(chunk, inputs)?,
            state_turned: kernels.panels(v, m)?,
            dout: Tile::new(chunk, v)?,
            dout_spread: kernels.panels(chunk, v)?,
            by_scores: Tile::new(chunk, chunk)?,
            by_features: Tile::new(chunk, m)?,
            by_keys: Tile::new(chunk, m)?,
            by_values: Tile::new(chunk, v)?,
            by_input: Tile::new(chunk, inputs)?,
            by_key_input: Tile::new(chunk, inputs)?,
            rest: Tile::new(if has_vector { chunk } else { 0 }, m)?,
            slopes: vec![T::ZERO; chunk],
            scratch,
            s: kernels.panels(m, v)?,
            z: zeros("a state", m.checked_add(64))?,
            dots: numbers(),
            ones: vec![T::ONE; chunk],
            weights: numbers(),
            of_rows: numbers(),
            of_columns: numbers(),
        })
    }
}
