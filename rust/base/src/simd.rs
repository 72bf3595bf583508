//! Which instruction set the machine has.
//!
//! Wheels are built for the ABI's floor; what the machine has on top of it is found at run time.
//! A kernel takes a level as an argument and never asks by itself, so that a lower one can be run.

use std::fmt;

/// An instruction-set level, in rising order for one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// What the ABI guarantees; the reference for every other level.
    Scalar,
    /// Advanced SIMD of AArch64.
    Neon,
    /// AVX2 and FMA of x86-64.
    Avx2,
    /// AVX-512 F, BW, DQ and VL of x86-64, and what AVX2 has.
    Avx512,
}

impl Level {
    /// The highest level that this machine has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
            if avx2
                && std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512dq")
                && std::is_x86_feature_detected!("avx512vl")
            {
                return Self::Avx512;
            }
            if avx2 {
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

impl Level {
    /// The levels that this machine has, lowest first.
    pub fn all() -> Vec<Self> {
        let levels = [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512];
        let highest = Self::detect();
        let has = |level: &Self| match level {
            Self::Neon => highest == Self::Neon,
            level => *level <= highest,
        };
        levels.into_iter().filter(has).collect()
    }

    /// The level of that name, unless this machine lacks it.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|l| l.to_string() == name)
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
        assert_eq!(Level::named(&name), Some(Level::detect()));
        assert_eq!(Level::named("scalar"), Some(Level::Scalar));
        assert_eq!(Level::named("mmx"), None);
    }
}
