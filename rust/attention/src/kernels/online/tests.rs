use super::super::tests::{close, each_level, numbers, tile};
use super::*;
use crate::tiles::ROOM;

/// Sizes of a block of tokens and where it lies to a panel's queries.
fn cases(width: usize, mut check: impl FnMut(usize, isize, bool)) {
    let width = width as isize;
    for tokens in [1, 2, 6, 7, 8, 9, 33, 64] {
        for before in [
            0,
            1,
            5,
            width / 2,
            width - 1,
            width,
            40,
            1000,
            -3,
            -width / 2 - 1,
        ] {
            if tokens as isize - before <= width {
                check(tokens, before, false);
                check(tokens, before, true);
            }
        }
    }
}

fn is_seen(query: usize, token: usize, before: isize) -> bool {
    token as isize <= before + query as isize
}

/// A panel's rows.
fn panel<T: Computed>(kernels: &Kernels<T>, rows: &Tile<T>, count: usize) -> Panels<T> {
    let width = kernels.width();
    let mut panel = kernels.panels(rows.rows().max(count), width).unwrap();
    for row in 0..count {
        panel.set_row(row, rows.row(row));
    }
    panel
}

fn rows_of<T: Computed>(panel: &mut Panels<T>, count: usize) -> Vec<Vec<f64>> {
    let mut row = vec![T::ZERO; panel.width()];
    let mut rows = vec![];
    for r in 0..count {
        panel.get_row(r, &mut row);
        rows.push(row.iter().map(|x| x.wide()).collect());
    }
    rows
}

fn mask<T: Computed>(tokens: usize, is_masked: bool) -> Option<Vec<T>> {
    let there = |t: usize| T::of(f64::from(u8::from(t % 3 != 1)));
    is_masked.then(|| (0..tokens).map(there).collect())
}

fn scores_and_weights<T: Power + Computed>() {
    each_level::<T>(|kernels, level| {
        let width = kernels.width();
        cases(width, |tokens, before, is_masked| {
            let depth = 5;
            let mut keys = tile::<T>(tokens, depth, 0.3);
            let queries = tile::<T>(depth, width, 0.8);
            let turned = panel(kernels, &queries, depth);
            let mask = mask::<T>(tokens, is_masked);
            let there = |t: usize| mask.as_ref().is_none_or(|m| m[t] != T::ZERO);
            let seen = Seen {
                tokens,
                before,
                mask: mask.as_deref(),
            };
            // What no query sees may be NaN.
            for t in 0..tokens {
                if !there(t) || !is_seen(width - 1, t, before) {
                    keys.row_mut(t).fill(T::of(f64::NAN));
                }
            }
            let what = format!("{level} {tokens} {before} {is_masked}");
            let most = numbers::<T>(width, 0.4);
            let mut next = vec![T::ZERO; width];
            let mut out = kernels.panels(tokens, width).unwrap();
            kernels.panel_scores(
                &keys,
                depth,
                &turned,
                &seen,
                Some((&most, &mut next)),
                &mut out,
            );
            let got = rows_of(&mut out, tokens);
            let mut largest: Vec<f64> = most.iter().map(|m| m.wide()).collect();
            let mut wanted = vec![vec![f64::NEG_INFINITY; width]; tokens];
            for t in 0..tokens {
                for q in 0..width {
                    if there(t) && is_seen(q, t, before) {
                        let dot: f64 = (0..depth)
                            .map(|i| keys.row(t)[i].wide() * queries.row(i)[q].wide())
                            .sum();
                        close(T::of(got[t][q]), dot, &what);
                        wanted[t][q] = dot;
                        largest[q] = largest[q].max(got[t][q]);
                    } else {
                        assert_eq!(got[t][q], f64::NEG_INFINITY, "{what}");
                    }
                }
            }
            let got: Vec<f64> = next.iter().map(|x| x.wide()).collect();
            assert_eq!(got, largest, "{what}");

            let mut sums = numbers::<T>(width, 1.3);
            let before_sums = sums.clone();
            let mut rescale = vec![T::ZERO; width];
            kernels.soften(&mut out, &seen, (&most, &next), &mut sums, &mut rescale);
            let got = rows_of(&mut out, tokens);
            for q in 0..width {
                let factor = (most[q].wide() - largest[q]).exp2();
                close(rescale[q], factor, &what);
                let mut sum = factor * before_sums[q].wide();
                for t in 0..tokens {
                    let weight = (wanted[t][q] - largest[q]).exp2();
                    sum += weight;
                    close(T::of(got[t][q]), weight, &what);
                    assert!(wanted[t][q].is_finite() || got[t][q] == 0.0, "{what}");
                }
                close(sums[q], sum, &what);
            }
        });
    });
}

#[test]
fn weights_are_powers_below_the_largest_score() {
    scores_and_weights::<f32>();
    scores_and_weights::<f64>();
}

fn forgotten<T: Computed>() {
    each_level::<T>(|kernels, level| {
        let width = kernels.width();
        let polynomial = Polynomial::<T>::taylor(5, 2).unwrap();
        cases(width, |tokens, before, is_masked| {
            let scores = tile::<T>(tokens, width, 0.6);
            let logs = |count: usize, from: f64, by: f64| -> Vec<T> {
                (0..count).map(|i| T::of(from + by * i as f64)).collect()
            };
            let of_queries = [logs(width, -3.0, -0.1), logs(width, 1e-3, 0.0)];
            let of_tokens = [logs(tokens, -1.0, -0.05), logs(tokens, 0.0, 1e-4)];
            let mask = mask::<T>(tokens, is_masked);
            let there = |t: usize| mask.as_ref().is_none_or(|m| m[t] != T::ZERO);
            let seen = Seen {
                tokens,
                before,
                mask: mask.as_deref(),
            };
            let what = format!("{level} {tokens} {before} {is_masked}");
            for decays in [false, true] {
                let mut weights = panel(kernels, &scores, tokens);
                let mut sums = numbers::<T>(width, 1.3);
                let before_sums = sums.clone();
                let logs = decays.then_some((
                    [&of_queries[0][..], &of_queries[1][..]],
                    [&of_tokens[0][..], &of_tokens[1][..]],
                ));
                kernels.forget(&mut weights, &seen, &polynomial, logs, &mut sums);
                let got = rows_of(&mut weights, tokens);
                for q in 0..width {
                    let mut sum = before_sums[q].wide();
                    for t in 0..tokens {
                        let u = scores.row(t)[q].wide();
                        let exponent = of_queries[0][q].wide() - of_tokens[0][t].wide()
                            + (of_queries[1][q].wide() - of_tokens[1][t].wide());
                        let factor = if decays { exponent.exp() } else { 1.0 };
                        let weight = match there(t) && is_seen(q, t, before) {
                            true => (1.0 + u + u * u / 2.0) * factor,
                            false => 0.0,
                        };
                        sum += weight;
                        close(T::of(got[t][q]), weight, &what);
                    }
                    close(sums[q], sum, &what);
                }
            }
        });
    });
}

#[test]
fn weights_are_polynomials_that_decay() {
    forgotten::<f32>();
    forgotten::<f64>();
}

fn gathered<T: Computed>() {
    each_level::<T>(|kernels, level| {
        let width = kernels.width();
        cases(width, |tokens, before, rescales| {
            for columns in [1, 7, 20] {
                let mut values = tile::<T>(tokens, columns, 0.7);
                let mut weights = tile::<T>(tokens, width, 0.6);
                for t in 0..tokens {
                    if !is_seen(0, t, before) {
                        values.row_mut(t)[columns - 1] = T::of(f64::NAN);
                    }
                    for q in (0..width).filter(|q| !is_seen(*q, t, before)) {
                        weights.row_mut(t)[q] = T::ZERO;
                    }
                }
                let seen = Seen {
                    tokens,
                    before,
                    mask: None,
                };
                let rescale = numbers::<T>(width, 0.2);
                let earlier = tile::<T>(columns, width, 1.9);
                let mut out = kernels.panels(room_for_values(columns), width).unwrap();
                for c in 0..columns {
                    out.set_row(c, earlier.row(c));
                }
                let by = rescales.then_some(&rescale[..]);
                let panel = panel(kernels, &weights, tokens);
                kernels.gather(&values, columns, &panel, &seen, by, &mut out);
                let what = format!("{level} {tokens} {before} {columns}");
                let got = rows_of(&mut out, columns);
                let factors = numbers::<T>(width, 0.9);
                let mut rows = Tile::<T>::new(width, columns).unwrap();
                kernels.finish(&out, columns, &factors, &mut rows);
                for q in 0..width {
                    for c in 0..columns {
                        let factor = if rescales { rescale[q].wide() } else { 1.0 };
                        let mut sum = earlier.row(c)[q].wide() * factor;
                        for t in (0..tokens).filter(|t| is_seen(q, *t, before)) {
                            sum += values.row(t)[c].wide() * weights.row(t)[q].wide();
                        }
                        if sum.is_nan() {
                            assert!(got[c][q].is_nan() && rows.row(q)[c].wide().is_nan());
                            continue;
                        }
                        close(T::of(got[c][q]), sum, &what);
                        close(rows.row(q)[c], sum * factors[q].wide(), &what);
                    }
                }
            }
        });
    });
}

#[test]
fn values_are_gathered_where_they_are_seen() {
    gathered::<f32>();
    gathered::<f64>();
}

fn powers<T: Power + Computed>(least: f64, units: f64) {
    each_level::<T>(|kernels, level| {
        let width = kernels.width();
        let tokens = 200;
        let seen = Seen {
            tokens,
            before: tokens as isize,
            mask: None,
        };
        let mut panel = kernels.panels(tokens + ROOM, width).unwrap();
        let mut exponents = vec![];
        for t in 0..tokens {
            let row: Vec<T> = (0..width)
                .map(|q| T::of(least * (t * width + q) as f64 / (tokens * width) as f64))
                .collect();
            panel.set_row(t, &row);
            exponents.push(row);
        }
        let zeros = vec![T::ZERO; width];
        let (mut sums, mut rescale) = (zeros.clone(), zeros.clone());
        let most = vec![T::of(-1e30); width];
        kernels.soften(&mut panel, &seen, (&most, &zeros), &mut sums, &mut rescale);
        let got = rows_of(&mut panel, tokens);
        for (row, exponents) in got.iter().zip(&exponents) {
            for (got, x) in row.iter().zip(exponents) {
                let wanted = x.wide().exp2();
                let off = (got / wanted - 1.0).abs();
                assert!(off <= units, "{level}: 2^{x:?} is {got}, {off} off");
            }
        }
        assert_eq!(got[0][0], 1.0, "{level}");
        assert!(rescale.iter().all(|x| *x == T::ZERO), "{level}");
    });
}

#[test]
fn powers_are_right_to_the_last_places() {
    powers::<f32>(-125.0, 1.5e-7);
    powers::<f64>(-1021.0, 3e-16);
}
