//! Linear attention on the CPU: causal and not, chunked and token by token, with its gradients.

mod error;
mod features;
mod heads;
mod kernels;
mod linear;
mod run;
mod simd;
mod tiles;

pub use error::{Error, Result};
pub use features::FeatureMap;
pub use features::favor::Favor;
pub use heads::{Heads, HeadsMut, Place};
pub use linear::{LinearAttention, State};
pub use run::Run;
