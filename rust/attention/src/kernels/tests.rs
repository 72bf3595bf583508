//! Every kernel of every level against loops.

// Indices stay what they are in the formulas.
#![allow(clippy::needless_range_loop)]

use std::ptr;

use corekit_base::array::{Matrix, MatrixMut};

use super::*;
use crate::tiles::{ROOM, Tile};

pub(super) fn numbers<T: Computed>(count: usize, factor: f64) -> Vec<T> {
    (0..count)
        .map(|i| T::of((i as f64 * factor + factor).sin()))
        .collect()
}

pub(super) fn tile<T: Computed>(rows: usize, columns: usize, factor: f64) -> Tile<T> {
    let mut tile = Tile::new(rows, columns).unwrap();
    for row in 0..rows {
        let values = numbers(columns, factor + row as f64 / 7.0);
        tile.row_mut(row).copy_from_slice(&values);
    }
    tile
}

pub(super) fn close<T: Computed>(got: T, wanted: f64, what: &str) {
    let tolerance = if size_of::<T>() == 4 { 1e-5 } else { 1e-13 };
    assert!(
        (got.wide() - wanted).abs() <= tolerance * (1.0 + wanted.abs()),
        "{what}: {got:?}, not {wanted}"
    );
}

pub(super) fn each_level<T: Computed>(check: impl Fn(&'static Kernels<T>, Level)) {
    for level in Level::all() {
        check(T::kernels(level), level);
    }
}

const SIZES: [usize; 9] = [1, 2, 7, 8, 15, 16, 33, 64, 65];

fn products<T: Computed>() {
    each_level::<T>(|kernels, level| {
        for n in SIZES {
            for d in [1, 5, 16, 40] {
                let (q, k) = (tile::<T>(n, d, 0.3), tile::<T>(n, d, 0.8));
                let mut turned = kernels.panels(d, n).unwrap();
                kernels.turn(&k, n, d, &mut turned);
                let mut out = tile::<T>(n, n, 9.0);
                for (shape, end) in [(Shape::Full, n), (Shape::Lower, 0)] {
                    kernels.scores(&q, &turned, d, (n, n), shape, &mut out, None);
                    for r in 0..n {
                        for c in 0..end.max(r + 1) {
                            let wanted: f64 = (0..d)
                                .map(|i| q.row(r)[i].wide() * k.row(c)[i].wide())
                                .sum();
                            close(out.row(r)[c], wanted, &format!("{level} scores {n} {d}"));
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn scores_are_dot_products() {
    products::<f32>();
    products::<f64>();
}

#[test]
#[should_panic(expected = "has_room")]
fn products_refuse_tiles_without_room() {
    let kernels = f32::kernels(Level::Scalar);
    let (q, mut out) = (Tile::of_rows(1, 4).unwrap(), Tile::new(1, 1).unwrap());
    let k = kernels.panels(4, 1).unwrap();
    kernels.scores(&q, &k, 4, (1, 1), Shape::Full, &mut out, None);
}

fn weighted<T: Computed>() {
    each_level::<T>(|kernels, level| {
        for n in SIZES {
            for (m, columns) in [(3, 1), (16, 33), (20, 50)] {
                let (q, a, v) = (
                    tile::<T>(n, m, 0.3),
                    tile::<T>(n, n, 0.7),
                    tile::<T>(n, columns, 1.1),
                );
                let s = tile::<T>(m, columns, 0.5);
                let (mut sp, mut vp) = (
                    kernels.panels(m, columns).unwrap(),
                    kernels.panels(n, columns).unwrap(),
                );
                kernels.spread(&s, m, columns, &mut sp);
                kernels.spread(&v, n, columns, &mut vp);
                let scale = numbers::<T>(n + ROOM, 0.9);
                let whole = numbers::<T>(n + ROOM, 1.7);
                for kind in [Kind::Full, Kind::Lower, Kind::LowerTransposed] {
                    for adds in [false, true] {
                        let mut out = tile::<T>(n, columns, 2.0);
                        let before = tile::<T>(n, columns, 2.0);
                        let weighted = Weighted {
                            scores: &a,
                            values: &vp,
                            tokens: n,
                            kind,
                        };
                        let by = Factors {
                            state: Some(&scale[..]),
                            whole: Some(&whole[..]),
                        };
                        let state = Some((&q, &sp, m));
                        kernels.outputs(
                            state,
                            adds,
                            Some(&weighted),
                            by,
                            (n, columns),
                            Out::Tile(&mut out),
                            None,
                        );
                        for r in 0..n {
                            for c in 0..columns {
                                let mut sum = match adds {
                                    true => before.row(r)[c].wide(),
                                    false => 0.0,
                                };
                                for i in 0..m {
                                    sum += q.row(r)[i].wide() * s.row(i)[c].wide();
                                }
                                sum *= scale[r].wide();
                                for t in 0..n {
                                    let weight = match kind {
                                        Kind::Full => a.row(r)[t],
                                        Kind::Lower if t <= r => a.row(r)[t],
                                        Kind::LowerTransposed if t >= r => a.row(t)[r],
                                        _ => continue,
                                    };
                                    sum += weight.wide() * v.row(t)[c].wide();
                                }
                                let wanted = sum * whole[r].wide();
                                close(out.row(r)[c], wanted, &format!("{level} {kind:?} {n}"));
                            }
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn outputs_are_what_state_and_scores_give() {
    weighted::<f32>();
    weighted::<f64>();
}

fn updates<T: Computed>() {
    each_level::<T>(|kernels, level| {
        for n in [1, 7, 64] {
            for (m, columns) in [(1, 1), (13, 33), (32, 64)] {
                let (k, v, s) = (
                    tile::<T>(n, m, 0.3),
                    tile::<T>(n, columns, 1.1),
                    tile::<T>(m, columns, 0.5),
                );
                let mut vp = kernels.panels(n, columns).unwrap();
                kernels.spread(&v, n, columns, &mut vp);
                let each = numbers::<T>(m + ROOM, 0.9);
                let rest = vec![T::of(1e-3); m + ROOM];
                let one = [T::of(0.5), T::of(1e-3)];
                for keep in [Keep::All, Keep::One(&one), Keep::Each(&each, &rest)] {
                    let mut sp = kernels.panels(m, columns).unwrap();
                    kernels.spread(&s, m, columns, &mut sp);
                    kernels.update(&k, &vp, n, keep, (m, columns), &mut sp, None);
                    let mut row = vec![T::ZERO; columns];
                    for i in 0..m {
                        sp.get_row(i, &mut row);
                        let kept = match keep {
                            Keep::All => 1.0,
                            Keep::One(_) => 0.501,
                            Keep::Each(each, _) => each[i].wide() + 1e-3,
                        };
                        for c in 0..columns {
                            let sum: f64 = (0..n)
                                .map(|t| k.row(t)[i].wide() * v.row(t)[c].wide())
                                .sum();
                            close(row[c], kept * s.row(i)[c].wide() + sum, &format!("{level}"));
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn updates_keep_and_add() {
    updates::<f32>();
    updates::<f64>();
}

fn maps<T: Computed>() {
    each_level::<T>(|kernels, level| {
        for columns in SIZES {
            for map in [
                Map::Identity,
                Map::Elu1,
                Map::Relu,
                Map::SquaredRelu,
                Map::Exp,
                Map::Softmax,
            ] {
                let before = tile::<T>(3, columns, 0.4);
                let mut after = tile::<T>(3, columns, 0.4);
                kernels.map(&mut after, (3, columns), map, T::of(1.5));
                for r in 0..3 {
                    let sum: f64 = before.row(r).iter().map(|x| x.wide().exp()).sum();
                    for (x, got) in before.row(r).iter().zip(after.row(r)) {
                        let x = x.wide();
                        let wanted = match map {
                            Map::Identity => x,
                            Map::Elu1 => {
                                if x > 0.0 {
                                    x + 1.0
                                } else {
                                    x.exp()
                                }
                            }
                            Map::Relu => x.max(0.0),
                            Map::SquaredRelu => x.max(0.0).powi(2),
                            Map::Exp => x.exp(),
                            Map::Softmax => x.exp() / sum,
                        };
                        close(*got, 1.5 * wanted, &format!("{level} {map:?}"));
                    }
                }
            }
        }
    });
}

#[test]
fn maps_are_their_formulas() {
    maps::<f32>();
    maps::<f64>();
}

/// Units in the last place between a number and what it should be.
fn ulps<T: Computed>(got: T, wanted: f64) -> f64 {
    let (digits, least) = match size_of::<T>() {
        4 => (24.0, f64::from(f32::from_bits(1))),
        _ => (53.0, f64::from_bits(1)),
    };
    let unit = (wanted.abs().log2().floor() - digits + 1.0)
        .exp2()
        .max(least);
    (got.wide() - wanted).abs() / unit
}

fn exponentials<T: Computed>(range: (f64, f64), most: f64) {
    each_level::<T>(|kernels, level| {
        let count = 6400;
        let step = (range.1 - range.0) / count as f64;
        let from: Vec<T> = (0..count)
            .map(|i| T::of(range.0 + step * (i as f64 + 0.3)))
            .collect();
        let mut to = vec![T::ZERO; count];
        kernels.exps(&from, &mut to, count);
        for (x, y) in from.iter().zip(&to) {
            let off = ulps(*y, x.wide().exp());
            assert!(off <= most, "{level}: exp({x:?}) is {off} units off");
        }
        let special = [f64::NEG_INFINITY, -2000.0, 0.0, 2000.0, f64::INFINITY];
        let mut from = vec![T::ZERO; 64];
        let mut to = vec![T::ONE; 64];
        for (from, x) in from.iter_mut().zip(special) {
            *from = T::of(x);
        }
        from[5] = T::of(f64::NAN);
        kernels.exps(&from, &mut to, 6);
        let got: Vec<f64> = to[..5].iter().map(|y| y.wide()).collect();
        assert_eq!(
            got,
            [0.0, 0.0, 1.0, f64::INFINITY, f64::INFINITY],
            "{level}"
        );
        assert!(to[5].wide().is_nan(), "{level}");
    });
}

#[test]
fn exponentials_are_within_two_units() {
    exponentials::<f32>((-103.0, 88.5), 2.0);
    exponentials::<f64>((-744.0, 709.0), 2.5);
}

fn rows_and_sums<T: Computed>() {
    each_level::<T>(|kernels, level| {
        for n in SIZES {
            let what = format!("{level} {n}");
            let vector = numbers::<T>(n + 64, 0.6);
            let before = tile::<T>(5, n, 0.4);
            let mut sums = [T::ZERO; 5];
            kernels.dots(&before, n, &vector, &mut sums);
            let keys = tile::<T>(5, n, 0.7);
            let mut prefixes = [T::ZERO; 5];
            kernels.prefix_dots(&before, &keys, n, &vector, &mut prefixes);
            let mut pairs = [T::ZERO; 5];
            kernels.row_dots(&before, &tile::<T>(5, n, 0.9), n, &mut pairs);
            let mut down = vector.clone();
            kernels.column_sums(&before, 5, n, &mut down);
            let mut most = [T::ZERO; 5];
            let mut divided = tile::<T>(5, n, 0.4);
            kernels.exp_below_most(&mut divided, n, &mut most);
            let mut scaled = tile::<T>(5, n, 0.4);
            kernels.scale_rows(&mut scaled, n, &vector[..5]);
            for r in 0..5 {
                let row = before.row(r);
                let dot: f64 = row
                    .iter()
                    .zip(&vector)
                    .map(|(a, b)| a.wide() * b.wide())
                    .sum();
                close(sums[r], dot, &what);
                let dot: f64 = (0..n)
                    .map(|c| {
                        let seen: f64 = (0..=r).map(|s| keys.row(s)[c].wide()).sum();
                        row[c].wide() * (vector[c].wide() + seen)
                    })
                    .sum();
                close(prefixes[r], dot, &what);
                let other = tile::<T>(5, n, 0.9);
                let dot: f64 = row
                    .iter()
                    .zip(other.row(r))
                    .map(|(a, b)| a.wide() * b.wide())
                    .sum();
                close(pairs[r], dot, &what);
                let largest = row
                    .iter()
                    .map(|x| x.wide())
                    .fold(f64::NEG_INFINITY, f64::max);
                close(most[r], largest, &what);
                for c in 0..n {
                    close(divided.row(r)[c], (row[c].wide() - largest).exp(), &what);
                    close(scaled.row(r)[c], row[c].wide() * vector[r].wide(), &what);
                }
            }
            for c in 0..n {
                let sum: f64 = (0..5).map(|r| before.row(r)[c].wide()).sum();
                close(down[c], vector[c].wide() + sum, &what);
            }
        }
    });
}

#[test]
fn rows_are_scaled_and_summed() {
    rows_and_sums::<f32>();
    rows_and_sums::<f64>();
}

fn triangles<T: Computed>() {
    each_level::<T>(|kernels, level| {
        for n in SIZES {
            let logs = |factor: f64| -> Vec<T> {
                let mut sum = 0.0;
                (0..n + 64)
                    .map(|i| {
                        sum -= (i as f64 * factor).sin().abs();
                        T::of(sum)
                    })
                    .collect()
            };
            let (rows, small) = (logs(0.3), vec![T::of(1e-4); n + 64]);
            let mut table = Tile::<T>::new(n, n).unwrap();
            kernels.decay_table([&rows[..n], &small[..n]], [&rows, &small], &mut table);
            let before = tile::<T>(n, n, 0.4);
            for factors in [None, Some(&table)] {
                let mut scores = tile::<T>(n, n, 0.4);
                // What is above the diagonal must not be seen.
                scores.row_mut(0)[n - 1] = T::of(f64::NAN);
                let first = before.row(0)[0];
                if n == 1 {
                    scores.row_mut(0)[0] = first;
                }
                let mut sums = vec![T::ZERO; n];
                kernels.finish_scores(&mut scores, factors, &mut sums);
                for t in 0..n {
                    let mut sum = 0.0;
                    for s in 0..=t {
                        let factor =
                            factors.map_or(1.0, |_| (rows[t].wide() - rows[s].wide()).exp());
                        let wanted = before.row(t)[s].wide() * factor;
                        sum += wanted;
                        close(scores.row(t)[s], wanted, &format!("{level} {n}"));
                    }
                    close(sums[t], sum, &format!("{level} {n}"));
                    // To the end of the register that has the diagonal.
                    let end = (t + 1).next_multiple_of(kernels.width() / 2).min(n);
                    assert!(scores.row(t)[t + 1..end].iter().all(|x| *x == T::ZERO));
                }
            }
        }
    });
}

#[test]
fn scores_are_finished_below_the_diagonal() {
    triangles::<f32>();
    triangles::<f64>();
}

fn steps<T: Computed>() {
    each_level::<T>(|kernels, level| {
        for values in [1, 3, 16, 40, 130, 257] {
            for (queries, decays) in [(1, 0), (3, 1), (2, 2)] {
                let features = 9;
                let mut s = numbers::<T>(features * values, 0.3);
                let before = s.clone();
                let (k, v) = (numbers::<T>(features, 0.7), numbers::<T>(values, 0.2));
                let q = numbers::<T>(features * queries, 1.3);
                let decay = numbers::<T>(features, 2.1);
                let mut out = vec![T::of(f64::NAN); queries * values];
                let x = Step {
                    s: s.as_mut_ptr(),
                    stride: values,
                    features,
                    values,
                    decay: match decays {
                        0 => ptr::null(),
                        _ => decay.as_ptr(),
                    },
                    decay_step: decays.max(1) - 1,
                    k: k.as_ptr(),
                    v: v.as_ptr(),
                    q: q.as_ptr(),
                    q_stride: features,
                    queries,
                    out: out.as_mut_ptr(),
                    out_stride: values,
                };
                // SAFETY: the vectors have the sizes that it says.
                unsafe { (kernels.step)(&x) };
                for c in 0..values {
                    for f in 0..features {
                        let kept = match decays {
                            0 => 1.0,
                            1 => decay[0].wide(),
                            _ => decay[f].wide(),
                        };
                        let wanted =
                            kept * before[f * values + c].wide() + k[f].wide() * v[c].wide();
                        close(s[f * values + c], wanted, &format!("{level} {values}"));
                    }
                    for query in 0..queries {
                        let wanted: f64 = (0..features)
                            .map(|f| q[query * features + f].wide() * s[f * values + c].wide())
                            .sum();
                        close(
                            out[query * values + c],
                            wanted,
                            &format!("{level} {values}"),
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn a_step_updates_and_reads() {
    steps::<f32>();
    steps::<f64>();
}

fn halves<T: Computed>() {
    let is_same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    // Also halfway between two of them, and a little to each side.
    let near: Vec<T> = (0..=u16::MAX)
        .map(|bits| {
            let shift = [0x7fff, 0x8000, 0x8001][usize::from(bits) % 3];
            T::of(f64::from(f32::from_bits(u32::from(bits) << 16 | shift)))
        })
        .collect();
    each_level::<T>(|kernels, level| {
        let from = Matrix::of(&all, 256, 256);
        let mut tile = Tile::<T>::new(256, 250).unwrap();
        // Not whole registers, and from some row and column on.
        kernels.load(&from, 1..256, 3..250, &mut tile);
        for (r, row) in all.chunks(256).skip(1).enumerate() {
            for (c, value) in row[3..250].iter().enumerate() {
                let (got, wanted) = (tile.row(r)[c].wide(), value.load::<T>().wide());
                assert!(is_same(got, wanted), "{level}: {got} from {value:?}");
            }
        }
        for (r, row) in near.chunks(256).enumerate() {
            tile.row_mut(r).copy_from_slice(&row[..250]);
        }
        let mut out = vec![bf16::from_bits(0x7fab); 256 * 256];
        kernels.store(&tile, 0..256, 2..250, &MatrixMut::of(&mut out, 256, 256));
        for (r, row) in out.chunks(256).enumerate() {
            for (c, got) in row.iter().enumerate() {
                match c.checked_sub(2) {
                    Some(c) if c < 248 => {
                        let wanted: bf16 = Element::store(near[r * 256 + c]);
                        assert!(
                            is_same(got.to_f64(), wanted.to_f64()),
                            "{level}: {got:?}, not {wanted:?}"
                        );
                    }
                    _ => assert_eq!(got.to_bits(), 0x7fab),
                }
            }
        }
    });
}

#[test]
fn sixteen_bits_are_read_and_rounded_alike_on_all_levels() {
    halves::<f32>();
    halves::<f64>();
}
