use corekit_base::array::Element;
use corekit_base::simd::Level;

use super::*;
use crate::pairs::reference::{Case, relative_error};

const MAPS: [FeatureMap; 5] = [
    FeatureMap::Taylor(1),
    FeatureMap::Taylor(2),
    FeatureMap::Taylor(5),
    FeatureMap::ExponentialLimit(1),
    FeatureMap::ExponentialLimit(13),
];

const SCALE: f64 = 0.25;

fn ours<E: Element>(
    case: &Case,
    map: FeatureMap,
    normalize: bool,
    threads: usize,
    level: Level,
) -> Vec<f64> {
    case.run::<E>(threads, level, |arrays, out, run| {
        let call = LinearAttention {
            q: arrays.q,
            k: arrays.k,
            v: arrays.v,
            decay: arrays.decay,
            key_mask: arrays.mask,
            cu_seqlens: case.cu_seqlens.as_deref(),
            initial: None,
            causal: case.causal,
            cache: None,
            map,
            normalize,
            eps: 0.5,
            scale: SCALE,
            chunk_size: None,
        };
        let sizes = call.sizes().unwrap();
        match size_of::<E>() {
            8 => forward::<f64>(&call, &sizes, out, run).unwrap(),
            _ => forward::<f32>(&call, &sizes, out, run).unwrap(),
        }
    })
}

fn by_loops(case: &Case, map: FeatureMap, normalize: bool) -> Vec<f64> {
    let value = |dot: &f64| {
        let u = dot * SCALE;
        match map {
            FeatureMap::Taylor(order) => {
                let mut term = 1.0;
                let mut sum = 1.0;
                for j in 1..=order {
                    term *= u / f64::from(j);
                    sum += term;
                }
                sum
            }
            FeatureMap::ExponentialLimit(n) => (1.0 + u / f64::from(n)).powi(n as i32),
            _ => unreachable!(),
        }
    };
    let weights = |dots: &[f64]| dots.iter().map(value).collect();
    case.by_loops(weights, |sum| match normalize {
        true => 1.0 / reciprocal(sum, 0.5),
        false => 1.0,
    })
}

fn hold(case: &Case) {
    for map in MAPS {
        for normalize in [false, true] {
            let wanted = by_loops(case, map, normalize);
            for level in Level::all() {
                let got = ours::<f32>(case, map, normalize, 1, level);
                let off = relative_error(&got, &wanted);
                assert!(off <= 2e-6, "{level} {map:?}: {off} at {}", case.time);
                let got = ours::<f64>(case, map, normalize, 1, level);
                let off = relative_error(&got, &wanted);
                assert!(off <= 1e-14, "{level} {map:?}: {off} at {}", case.time);
            }
        }
    }
}

#[test]
fn it_is_the_sum_over_pairs() {
    for time in [0, 1, 2, 16, 31, 33, 64, 100, 128, 129, 257] {
        for causal in [true, false] {
            hold(&Case::new(time, 5, 7, causal));
        }
        hold(&Case::new(time, 5, 7, true).decaying(0.1));
    }
    hold(&Case::new(600, 8, 3, true).decaying(0.01));
}

#[test]
fn heads_are_grouped_sequences_packed_tokens_masked() {
    for causal in [true, false] {
        let case = Case::new(90, 4, 5, causal);
        hold(&case.clone().heads(2, 2, 3));
        hold(&case.clone().heads(2, 3, 1).masked());
        hold(&case.clone().heads(1, 2, 2).packed(&[0, 1, 33, 33, 80]));
        hold(&case.heads(1, 1, 2).packed(&[40]).masked());
    }
    let case = Case::new(90, 4, 5, true);
    hold(&case.clone().heads(2, 2, 3).decaying(0.3).masked());
    hold(
        &case
            .heads(1, 2, 2)
            .decaying(3.0)
            .packed(&[0, 1, 33, 33, 80]),
    );
}

#[test]
fn strong_decay_is_exact_and_finite() {
    for size in [10.0, 100.0, 1000.0] {
        hold(&Case::new(400, 4, 5, true).decaying(size));
    }
    // After many resets differences of sums are still right.
    let mut case = Case::new(3000, 3, 2, true).decaying(0.01);
    if let Some(decay) = &mut case.decay {
        decay[..2000].fill(f64::NEG_INFINITY);
        decay[2001..].fill(-0.01);
    }
    let map = FeatureMap::Taylor(2);
    let wanted = by_loops(&case, map, false);
    for level in Level::all() {
        let off = relative_error(&ours::<f32>(&case, map, false, 1, level), &wanted);
        assert!(off <= 1e-6, "{level}: {off}");
        let off = relative_error(&ours::<f64>(&case, map, false, 1, level), &wanted);
        assert!(off <= 1e-14, "{level}: {off}");
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let case = Case::new(700, 8, 9, true).heads(1, 1, 2).decaying(0.1);
    for level in Level::all() {
        let one = ours::<f32>(&case, MAPS[1], true, 1, level);
        for threads in [2, 3, 64] {
            assert!(ours::<f32>(&case, MAPS[1], true, threads, level) == one);
        }
    }
}

#[test]
fn later_tokens_never_reach_earlier_ones() {
    for value in [f64::NAN, f64::INFINITY] {
        for at in [0, 5, 31, 32, 64, 127, 128, 140] {
            let clean = Case::new(150, 5, 6, true).decaying(0.1);
            let mut bad = clean.clone();
            bad.q[at * 5 + 2] = value;
            bad.k[at * 5 + 1] = value;
            bad.v[at * 6 + 3] = value;
            for level in Level::all() {
                let wanted = ours::<f32>(&clean, MAPS[1], true, 1, level);
                let got = ours::<f32>(&bad, MAPS[1], true, 1, level);
                assert_eq!(got[..at * 6], wanted[..at * 6], "{level} {value} {at}");
                assert!(got[at * 6..][..6].iter().any(|x| x.is_nan()));
            }
        }
    }
}
