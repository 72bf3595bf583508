use corekit_base::array::Element;
use corekit_base::simd::Level;
use half::bf16;

use super::*;
use crate::pairs::reference::{Case, relative_error};

fn ours<E: Element>(case: &Case, threads: usize, level: Level) -> Vec<f64> {
    case.run::<E>(threads, level, |arrays, out, run| {
        let call = SoftmaxAttention {
            q: arrays.q,
            k: arrays.k,
            v: arrays.v,
            key_mask: arrays.mask,
            cu_seqlens: case.cu_seqlens.as_deref(),
            causal: case.causal,
            scale: scale(case),
        };
        call.forward(out, run).unwrap();
    })
}

fn scale(case: &Case) -> f64 {
    1.0 / (case.key_dim.max(1) as f64).sqrt()
}

fn by_loops(case: &Case) -> Vec<f64> {
    let scale = scale(case);
    let weights = |dots: &[f64]| -> Vec<f64> {
        let most = dots.iter().fold(f64::NEG_INFINITY, |a, b| a.max(b * scale));
        dots.iter().map(|x| (x * scale - most).exp()).collect()
    };
    case.by_loops(weights, |sum| sum)
}

fn hold(case: &Case) {
    let wanted = by_loops(case);
    // Scores are sums of so many numbers.
    let longer = if case.key_dim < 200 { 1.0 } else { 2.0 };
    for level in Level::all() {
        for (got, most) in [
            (ours::<f32>(case, 1, level), 1e-6),
            (ours::<f64>(case, 1, level), 2e-15),
        ] {
            let off = relative_error(&got, &wanted);
            assert!(off <= longer * most, "{level}: {off} at {}", case.time);
        }
    }
}

#[test]
fn it_is_softmax_attention_at_every_edge() {
    for causal in [true, false] {
        for time in [
            0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 257,
        ] {
            hold(&Case::new(time, 9, 11, causal));
        }
        for (key_dim, value_dim) in [(0, 3), (3, 0), (1, 1), (64, 64), (33, 130), (129, 17)] {
            hold(&Case::new(70, key_dim, value_dim, causal));
        }
        // Blocks of fewer keys and queries.
        hold(&Case::new(300, 700, 3, causal));
        hold(&Case::new(600, 24, 8, causal));
    }
}

#[test]
fn heads_are_grouped_sequences_packed_tokens_masked() {
    for causal in [true, false] {
        let case = Case::new(90, 9, 5, causal);
        hold(&case.clone().heads(2, 2, 3));
        hold(&case.clone().heads(2, 3, 1).masked());
        hold(&case.clone().heads(1, 2, 2).packed(&[0, 1, 33, 33, 80]));
        hold(&case.heads(1, 1, 2).packed(&[40]).masked());
        let mut nobody = Case::new(300, 4, 4, causal);
        nobody.mask = Some(vec![0; 300]);
        nobody.k.fill(f64::NAN);
        nobody.v.fill(f64::NAN);
        for level in Level::all() {
            assert_eq!(ours::<f32>(&nobody, 1, level), vec![0.0; 1200]);
        }
    }
}

#[test]
fn errors_do_not_grow_with_the_length() {
    let case = Case::new(4000, 16, 16, true);
    let wanted = by_loops(&case);
    let level = Level::detect();
    let off = relative_error(&ours::<f32>(&case, 2, level), &wanted);
    assert!(off <= 5e-7, "{off}");
    let off = relative_error(&ours::<f64>(&case, 2, level), &wanted);
    assert!(off <= 2e-15, "{off}");
    let off = relative_error(&ours::<bf16>(&case, 2, level), &wanted);
    assert!(off <= 5e-3, "{off}");
}

#[test]
fn bits_depend_neither_on_threads_nor_on_cuts() {
    for causal in [true, false] {
        let case = Case::new(700, 16, 24, causal).heads(1, 2, 2);
        for level in Level::all() {
            let one = ours::<f32>(&case, 1, level);
            for threads in [2, 3, 64] {
                assert!(ours::<f32>(&case, threads, level) == one, "{level}");
            }
        }
    }
    // A sequence's outputs are the same wherever it is packed.
    let case = Case::new(300, 8, 8, true);
    let mut packed = Case::new(340, 8, 8, true).packed(&[40]);
    packed.q[40 * 8..].copy_from_slice(&case.q);
    packed.k[40 * 8..].copy_from_slice(&case.k);
    packed.v[40 * 8..].copy_from_slice(&case.v);
    for level in Level::all() {
        assert!(ours::<f32>(&packed, 1, level)[40 * 8..] == ours::<f32>(&case, 1, level));
    }
}

#[test]
fn what_is_not_finite_stays_where_it_belongs() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3e38] {
        for at in [0, 5, 31, 32, 40, 63, 64, 127, 128, 140] {
            let clean = Case::new(150, 5, 6, true);
            let mut bad = clean.clone();
            bad.q[at * 5 + 2] = value;
            bad.k[at * 5 + 1] = value;
            bad.v[at * 6 + 3] = value;
            let mut query = clean.clone();
            query.q[at * 5 + 2] = f64::NAN;
            for level in Level::all() {
                let wanted = ours::<f32>(&clean, 1, level);
                let got = ours::<f32>(&bad, 1, level);
                assert_eq!(got[..at * 6], wanted[..at * 6], "{level} {value} {at}");
                if value.is_nan() {
                    assert!(got[at * 6..].chunks(6).all(|row| row[3].is_nan()));
                }
                let got = ours::<f32>(&query, 1, level);
                assert!(got[at * 6..][..6].iter().all(|x| x.is_nan()));
                assert_eq!(got[(at + 1) * 6..], wanted[(at + 1) * 6..]);
            }
        }
    }
}

#[test]
fn scores_may_be_of_any_size() {
    for size in [1e-3, 30.0, 1e3] {
        let mut case = Case::new(200, 8, 4, true);
        for q in &mut case.q {
            *q = f64::from((*q * size) as f32);
        }
        let wanted = by_loops(&case);
        for level in Level::all() {
            let off = relative_error(&ours::<f64>(&case, 1, level), &wanted);
            assert!(off <= 1e-15 * (20.0 + 10.0 * size), "{level} {size}: {off}");
            let off = relative_error(&ours::<f32>(&case, 1, level), &wanted);
            assert!(off <= 6e-8 * (20.0 + 10.0 * size), "{level} {size}: {off}");
        }
    }
    // One key is all that counts, wherever it is: its value comes out exactly.
    for at in [0, 50, 199] {
        let mut case = Case::new(200, 2, 3, false);
        case.q.fill(1e4);
        case.k.fill(0.0);
        case.k[at * 2] = 3e4;
        for level in Level::all() {
            let value: Vec<f64> = case.v[at * 3..][..3].to_vec();
            for row in ours::<f32>(&case, 1, level).chunks(3) {
                assert_eq!(row, value);
            }
        }
    }
}
