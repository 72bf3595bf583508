//! Linear attention on the CPU: causal and not, chunked and token by token, with its gradients.

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
pub use features::favor::Favor;
pub use heads::{Heads, HeadsMut, Place};
pub use linear::backward::Gradients;
pub use linear::recurrent::LinearAttentionStep;
pub use linear::{LinearAttention, State};
pub use softmax::SoftmaxAttention;
