//! Which instruction set the machine has.
//!
//! Wheels are built for the ABI's floor; what the machine has on top of it is found at run time.
//! The shuffle's kernels have one form, so nothing chooses by it yet; it is what `corekit info` tells.

use std::fmt;

/// An instruction-set level, in rising order for one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// What the ABI guarantees; the reference for every other level.
    Scalar,
    /// Advanced SIMD of AArch64.
    Neon,
    /// AVX2 of x86-64.
    Avx2,
    /// AVX-512 F, BW and VL of x86-64.
    Avx512,
}

impl Level {
    /// The highest level that this machine has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512vl")
            {
                return Self::Avx512;
            }
            if std::is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self::Neon;
        }
        Self::Scalar
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_one_of_this_architecture() {
        let name = Level::detect().to_string();
        let levels: &[&str] = match std::env::consts::ARCH {
            "x86_64" => &["scalar", "avx2", "avx512"],
            "aarch64" => &["neon"],
            _ => &["scalar"],
        };
        assert!(levels.contains(&name.as_str()), "{name}");
    }
}
