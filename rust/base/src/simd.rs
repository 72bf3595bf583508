//! Which instruction set the kernels use.
//!
//! Wheels are built for the ABI's floor; what the machine has on top of it is found at run time.
//! The level can only be lowered by the caller, never raised above what the machine has.

use std::fmt;
use std::str::FromStr;

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

    /// The levels that this machine can run, lowest first.
    pub fn all_available() -> Vec<Self> {
        let top = Self::detect();
        let all: &[Self] = if cfg!(target_arch = "x86_64") {
            &[Self::Scalar, Self::Avx2, Self::Avx512]
        } else {
            &[Self::Scalar, Self::Neon]
        };
        all.iter().copied().filter(|&level| level <= top).collect()
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

impl FromStr for Level {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "scalar" => Ok(Self::Scalar),
            "neon" => Ok(Self::Neon),
            "avx2" => Ok(Self::Avx2),
            "avx512" => Ok(Self::Avx512),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_scalar_is_always_there() {
        let levels = Level::all_available();
        assert_eq!(levels[0], Level::Scalar);
        assert!(levels.contains(&Level::detect()));
        for level in levels {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("sse9".parse::<Level>(), Err(()));
    }
}
