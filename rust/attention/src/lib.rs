//! Linear attention on the CPU: causal and not, chunked and token by token, with its gradients.
//!
//! Attention with weights φ(q_t)·φ(k_s) needs no matrix of all pairs: a state of features by values,
//! which every token adds to, gives the same sums in time linear in the length. The ops are
//! [`LinearAttention`], forward and backward over whole sequences, [`LinearAttentionStep`], for one
//! token after the other, and the yardstick, [`SoftmaxAttention`]. Each is a struct of arguments,
//! whose arrays are [`Heads`] and [`HeadsMut`]: any order of axes, any strides, no copy.
//!
//! # Where to look
//!
//! - [`features`]: the maps φ; random and polynomial features in files of their own.
//! - [`linear`]: the ops: chunk by chunk, pair by pair, token by token, the kinds of decay, and the
//!   gradients in `backward`.
//! - [`softmax`] and [`pairs`]: every query with every key, in tiles.
//! - [`tiles`]: the small matrices in cache that all of them work on.
//! - [`kernels`]: what is done to tiles, written once over [`simd`], compiled for each instruction
//!   set, and called through safe functions that check the sizes.
//!
//! Work is shared out by batch and head, and by columns of values where these are fewer than the
//! threads. Each output is summed in a fixed order, so results do not depend on their number.
//!
//! To read it all, begin with [`linear`] and its `chunk`; `kernels::product` is where time goes.

mod error;
mod features;
mod heads;
mod kernels;
mod linear;
mod pairs;
mod simd;
mod softmax;
mod tiles;

pub use error::{Error, Result};
pub use features::FeatureMap;
pub use features::cache::MapCache;
pub use features::favor::Favor;
pub use heads::{Heads, HeadsMut, Place};
pub use linear::backward::Gradients;
pub use linear::recurrent::LinearAttentionStep;
pub use linear::{LinearAttention, State};
pub use softmax::SoftmaxAttention;
