use std::fmt::LowerExp;

use corekit_base::array::Element;
use corekit_base::real::Real;
use corekit_base::simd::Level;

use super::fwht::reference;
use super::*;

const SEED: u128 = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210;

fn draw(seed: u128, n_features: usize, n_components: usize) -> Srht {
    Srht::draw(seed, n_features, n_components, &Control::new()).expect("a matrix")
}

/// Values between -1 and 1 of many magnitudes, some zero.
fn values<T: Real>(seed: u128, len: usize) -> Vec<T> {
    let stream = Stream::new(seed, 77, 99);
    let value = |word: u64| {
        let sign = [1.0, -1.0][(word >> 1 & 1) as usize];
        let magnitude = (-((word >> 2 & 15) as f64)).exp2() * (word >> 11) as f64 * 2f64.powi(-53);
        T::of(sign * if word & 0xF00 == 0 { 0.0 } else { magnitude })
    };
    (0..len as u64).map(|i| value(stream.word(i))).collect()
}

/// The bits of a value, all NaN alike.
fn bits<T: Real>(value: &T) -> u64 {
    let wide = value.wide();
    if wide.is_nan() {
        u64::MAX
    } else {
        wide.to_bits()
    }
}

#[track_caller]
fn assert_same<T: Real>(got: &[T], wanted: &[T], what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert_eq!(
            bits(got),
            bits(wanted),
            "{what}, at {i}: {got:?}, not {wanted:?}"
        );
    }
}

/// Y = X Aᵀ with the reference in place of the kernels.
fn plainly<T: Real>(srht: &Srht, x: &[T]) -> Vec<T> {
    let scale = T::of(1.0 / (srht.n_components() as f64).sqrt());
    let mut y = Vec::new();
    for row in x.chunks(srht.n_features) {
        let mut padded = vec![T::ZERO; srht.padded];
        for (f, x) in row.iter().enumerate() {
            let minus = srht.signs[f / 64] >> (f % 64) & 1 == 1;
            padded[f] = if minus { -*x } else { *x } + T::ZERO;
        }
        reference(&mut padded);
        y.extend(srht.rows.iter().map(|row| padded[*row as usize] * scale));
    }
    y
}

fn project<T: Hadamard + Element>(srht: &Srht, x: &[T], level: Level, threads: usize) -> Vec<T> {
    let rows = x.len() / srht.n_features;
    let mut y = vec![T::of(f64::NAN); rows * srht.n_components()];
    let control = Control::new();
    let run = Run {
        threads,
        level,
        control: &control,
    };
    srht.project::<T>(
        &Matrix::of(x, rows, srht.n_features),
        &MatrixMut::of(&mut y, rows, srht.n_components()),
        &run,
    )
    .expect("nobody cancels");
    assert_eq!(control.progress().done, rows as u64);
    y
}

fn adjoint<T: Hadamard + Element>(srht: &Srht, y: &[T], level: Level, threads: usize) -> Vec<T> {
    let rows = y.len() / srht.n_components();
    let mut x = vec![T::of(f64::NAN); rows * srht.n_features];
    let control = Control::new();
    let run = Run {
        threads,
        level,
        control: &control,
    };
    srht.adjoint::<T>(
        &Matrix::of(y, rows, srht.n_components()),
        &MatrixMut::of(&mut x, rows, srht.n_features),
        &run,
    )
    .expect("nobody cancels");
    assert_eq!(control.progress().done, rows as u64);
    x
}

/// Dense rows, given as sparse ones; entry 3 of every row is stored even where it is zero.
struct Sparse<'a, T> {
    values: &'a [T],
    columns: usize,
}

impl<T: Real> SparseRows<T> for Sparse<'_, T> {
    fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    fn row(
        &self,
        i: usize,
        columns: &mut Vec<u64>,
        values: &mut Vec<T>,
        _control: &Control,
    ) -> Result<()> {
        columns.clear();
        values.clear();
        for (column, value) in self.values[i * self.columns..][..self.columns]
            .iter()
            .enumerate()
        {
            if *value != T::ZERO || column == 3 {
                columns.push(column as u64);
                values.push(*value);
            }
        }
        Ok(())
    }
}

fn project_sparse<T: Hadamard + Element>(srht: &Srht, x: &[T], level: Level) -> Vec<T> {
    let rows = x.len() / srht.n_features;
    let mut y = vec![T::of(f64::NAN); rows * srht.n_components()];
    let control = Control::new();
    let run = Run {
        threads: 2,
        level,
        control: &control,
    };
    let x = Sparse {
        values: x,
        columns: srht.n_features,
    };
    srht.project_sparse(&x, &MatrixMut::of(&mut y, rows, srht.n_components()), &run)
        .expect("nobody cancels");
    assert_eq!(control.progress().done, rows as u64);
    y
}

fn every_level_transforms_as_the_reference<T: Hadamard>(most: u32) {
    for power in 0..=most {
        let n = 1 << power;
        for live in [0, 1, 3 * n / 8 + 1, n - n / 7, n] {
            let live = live.min(n);
            let mut given: Vec<T> = values(u128::from(power), n);
            given[live..].fill(T::ZERO);
            given[..live].iter_mut().for_each(|value| *value += T::ZERO);
            let mut wanted = given.clone();
            reference(&mut wanted);
            for level in Level::all() {
                let mut got = given.clone();
                T::transform(level, &mut got, 1, live, &Control::new()).expect("nobody cancels");
                assert_same(&got, &wanted, &format!("{level}, N {n}, live {live}"));
                if power > most - 4 {
                    continue;
                }
                // Rows side by side, all different.
                let scaled = |values: &[T], row: usize| -> Vec<T> {
                    let scale = T::of((row as f64 / 4.0 - 20.0).floor().exp2());
                    values.iter().map(|value| *value * scale).collect()
                };
                for height in [SIDE, MOST_SIDE_BY_SIDE] {
                    let rows: Vec<Vec<T>> = (0..height).map(|row| scaled(&given, row)).collect();
                    let mut got = turned(&rows.concat(), height, n);
                    T::transform(level, &mut got, height, live, &Control::new())
                        .expect("nobody cancels");
                    for (row, got) in turned(&got, n, height).chunks(n).enumerate() {
                        let what = format!("{level}, N {n}, live {live}, row {row} of {height}");
                        assert_same(got, &scaled(&wanted, row), &what);
                    }
                }
            }
        }
    }
}

#[test]
fn every_level_transforms_float32_as_the_reference() {
    // Beyond the blocks of the first cache, and of eight and sixty-four of these.
    every_level_transforms_as_the_reference::<f32>(19);
}

#[test]
fn every_level_transforms_float64_as_the_reference() {
    every_level_transforms_as_the_reference::<f64>(18);
}

#[test]
fn the_reference_is_the_definition() {
    for n in [1, 2, 4, 32, 128] {
        let given: Vec<f64> = values::<f64>(5, n)
            .iter()
            .map(|v| (v * 256.0).round())
            .collect();
        let mut got = given.clone();
        reference(&mut got);
        for (i, got) in got.iter().enumerate() {
            let sign = |f: usize| [1.0, -1.0][((i & f).count_ones() & 1) as usize];
            let wanted: f64 = given.iter().enumerate().map(|(f, x)| sign(f) * x).sum();
            assert_eq!(*got, wanted, "N {n}, output {i}");
        }
    }
}

fn projections_are_the_reference<T: Hadamard + Element + LowerExp>() {
    for d in [1, 2, 3, 15, 16, 17, 63, 64, 65, 255, 257, 1000, 4097, 9001] {
        let n = usize::next_power_of_two(d);
        for k in [1, 2, n / 2, n - 1, n] {
            if !(1..=n).contains(&k) || (d > 1000 && k > 2 && k < n) {
                continue;
            }
            let srht = draw(SEED, d, k);
            let rows = if d > 4000 { 2 } else { 5 };
            let x: Vec<T> = values(d as u128, rows * d);
            let wanted = plainly(&srht, &x);
            for level in Level::all() {
                let what = format!("{level}, d {d}, k {k}");
                assert_same(&project(&srht, &x, level, 1), &wanted, &what);
                assert_same(&project_sparse(&srht, &x, level), &wanted, &what);
            }
        }
    }
}

#[test]
fn projections_in_float32_are_the_reference() {
    projections_are_the_reference::<f32>();
}

#[test]
fn projections_in_float64_are_the_reference() {
    projections_are_the_reference::<f64>();
}

#[test]
fn projections_are_products_with_the_columns() {
    for (d, k) in [(1, 1), (7, 8), (100, 10), (513, 1024), (1000, 300)] {
        let srht = draw(SEED, d, k);
        let features: Vec<u64> = (0..d as u64).collect();
        let mut columns = vec![0.0; d * k];
        srht.columns(&features, &mut columns);
        assert!(columns.iter().all(|a| a.abs() == 1.0 / (k as f64).sqrt()));
        let x: Vec<f64> = values(3, 2 * d);
        let y: Vec<f64> = values(4, 2 * k);
        let projected = project(&srht, &x, Level::detect(), 1);
        let back = adjoint(&srht, &y, Level::detect(), 1);
        for row in 0..2 {
            let (x, y) = (&x[row * d..][..d], &y[row * k..][..k]);
            for i in 0..k {
                let wanted: f64 = (0..d).map(|f| columns[f * k + i] * x[f]).sum();
                assert!((projected[row * k + i] - wanted).abs() < 1e-12);
            }
            for f in 0..d {
                let wanted: f64 = (0..k).map(|i| columns[f * k + i] * y[i]).sum();
                assert!((back[row * d + f] - wanted).abs() < 1e-12);
            }
            // <Ax, y> = <x, Aᵀy>
            let ahead: f64 = projected[row * k..].iter().zip(y).map(|(a, b)| a * b).sum();
            let behind: f64 = back[row * d..].iter().zip(x).map(|(a, b)| a * b).sum();
            assert!((ahead - behind).abs() < 1e-12, "{ahead} {behind}");
        }
    }
}

#[test]
fn adjoints_have_the_same_bits_at_every_level() {
    for (d, k) in [(1, 1), (3, 2), (100, 128), (5000, 33), (9001, 16384)] {
        let srht = draw(SEED, d, k);
        let y: Vec<f32> = values(8, 3 * k);
        let wanted = adjoint(&srht, &y, Level::Scalar, 1);
        for level in Level::all() {
            assert_same(
                &adjoint(&srht, &y, level, 2),
                &wanted,
                &format!("{level}, d {d}, k {k}"),
            );
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    // Enough for every thread to be started, and a last task that is not full.
    let (d, k, rows) = (700, 100, 3001);
    let srht = draw(SEED, d, k);
    let x: Vec<f32> = values(1, rows * d);
    let y: Vec<f32> = values(2, rows * k);
    let projected = project(&srht, &x, Level::detect(), 1);
    let back = adjoint(&srht, &y, Level::detect(), 1);
    for threads in [2, 3, 8] {
        assert_same(
            &project(&srht, &x, Level::detect(), threads),
            &projected,
            "project",
        );
        assert_same(
            &adjoint(&srht, &y, Level::detect(), threads),
            &back,
            "adjoint",
        );
    }
}

/// The columns of one row after another: what lies together is a column.
fn turned<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns)
        .flat_map(|c| (0..rows).map(move |r| values[r * columns + c]))
        .collect()
}

#[test]
fn bits_do_not_depend_on_the_order_of_memory() {
    let control = Control::new();
    let run = Run {
        threads: 2,
        level: Level::detect(),
        control: &control,
    };
    for (d, k, rows) in [
        (1, 1, 40),
        (100, 17, 35),
        (100, 30, 150),
        (5000, 2000, 18),
        (300, 512, 1),
        (70000, 9, 33),
    ] {
        let srht = draw(SEED, d, k);
        let x: Vec<f64> = values(1, rows * d);
        let y: Vec<f64> = values(2, rows * k);
        let projected = project(&srht, &x, run.level, 1);
        let back = adjoint(&srht, &y, run.level, 1);
        let (x_turned, y_turned) = (turned(&x, rows, d), turned(&y, rows, k));
        let xs = [
            Matrix::of(&x, rows, d),
            Matrix::of(&x_turned, d, rows).transposed(),
        ];
        let ys = [
            Matrix::of(&y, rows, k),
            Matrix::of(&y_turned, k, rows).transposed(),
        ];
        let what = format!("d {d}, k {k}, {rows} rows");
        for across in [false, true] {
            for (x, y) in xs.iter().zip(&ys) {
                let mut out = vec![f64::NAN; rows * k];
                let mut out_back = vec![f64::NAN; rows * d];
                let mut out_sparse = vec![f64::NAN; rows * k];
                let view = |out, columns| match across {
                    true => MatrixMut::of(out, columns, rows).transposed(),
                    false => MatrixMut::of(out, rows, columns),
                };
                srht.project::<f64>(x, &view(&mut out, k), &run)
                    .expect("nobody cancels");
                srht.adjoint::<f64>(y, &view(&mut out_back, d), &run)
                    .expect("nobody cancels");
                let sparse = Sparse {
                    values: &xs_of(x, rows, d),
                    columns: d,
                };
                srht.project_sparse(&sparse, &view(&mut out_sparse, k), &run)
                    .expect("nobody cancels");
                if across {
                    out = turned(&out, k, rows);
                    out_back = turned(&out_back, d, rows);
                    out_sparse = turned(&out_sparse, k, rows);
                }
                assert_same(&out, &projected, &what);
                assert_same(&out_sparse, &projected, &what);
                assert_same(&out_back, &back, &what);
            }
        }
    }
}

fn xs_of(x: &Matrix, rows: usize, columns: usize) -> Vec<f64> {
    let mut values = vec![0.0; rows * columns];
    x.load_tile(0..rows, 0..columns, &mut values, columns);
    values
}

#[test]
fn outputs_are_the_first_of_all_words_sorted() {
    for (n, counts) in [
        (1, vec![1]),
        (8, vec![1, 5, 8]),
        (1 << 16, vec![1, 100, 20_000, 1 << 16]),
    ] {
        let stream = Stream::new(SEED, 1, DOMAIN);
        let mut all: Vec<usize> = (0..n).collect();
        all.sort_by_key(|place| stream.word(*place as u64));
        for count in counts {
            let got = smallest(stream, n, count, &Control::new()).expect("nobody cancels");
            let wanted = all[..count].iter().map(|place| *place as u32);
            assert!(got.iter().copied().eq(wanted), "{count} of {n}");
        }
        // So they are different ones, and all of them when all are asked for.
        let mut places = smallest(stream, n, n, &Control::new()).expect("nobody cancels");
        places.sort_unstable();
        assert!(places.into_iter().eq(0..n as u32));
    }
}

#[test]
fn entries_are_those_of_numpy() {
    // tests/projection/srht_formula.py: outputs, and the signs of some columns.
    type Columns = &'static [(u64, &'static str)];
    let drawn: [(usize, usize, u128, &[u32], Columns); 5] = [
        (1, 1, 0, &[0], &[(0, "-")]),
        (2, 2, 3, &[0, 1], &[(0, "++"), (1, "-+")]),
        (
            5,
            8,
            7,
            &[2, 1, 7, 0, 5, 3, 6, 4],
            &[(0, "++++++++"), (2, "+-+--++-"), (4, "++-+-+--")],
        ),
        (
            100,
            4,
            (1 << 127) + 3,
            &[26, 7, 91, 15],
            &[(0, "----"), (50, "+-+-"), (99, "+-+-")],
        ),
        (
            1000,
            6,
            12345,
            &[64, 622, 364, 820, 903, 534],
            &[(0, "------"), (500, "--++-+"), (999, "--+++-")],
        ),
    ];
    for (d, k, seed, rows, columns) in drawn {
        let srht = draw(seed, d, k);
        assert_eq!(srht.rows, rows);
        let features: Vec<u64> = columns.iter().map(|column| column.0).collect();
        let mut out = vec![0.0; features.len() * k];
        srht.columns(&features, &mut out);
        let signs = columns.iter().flat_map(|column| column.1.chars());
        for (entry, sign) in out.into_iter().zip(signs) {
            let value = 1.0 / (k as f64).sqrt();
            assert_eq!(entry, if sign == '+' { value } else { -value }, "d {d}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let message = |d, k| match Srht::draw(SEED, d, k, &Control::new()) {
        Err(Error::InvalidArgument(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(message(0, 1).starts_with("n_features must be from 1 to 4294967296"));
    assert!(message((1 << 32) + 1, 1).ends_with("got 4294967297"));
    assert!(message(100, 0).ends_with("got 0"));
    assert!(message(100, 129).starts_with("n_components must be from 1 to 128"));
    assert_eq!(draw(SEED, 100, 128).n_components(), 128);
}

#[test]
fn a_nan_reaches_all_outputs_of_its_row_and_no_others() {
    let (d, k) = (300, 40);
    let srht = draw(SEED, d, k);
    let mut x: Vec<f32> = values(1, 3 * d);
    let before = project(&srht, &x, Level::detect(), 1);
    x[d + 17] = f32::NAN;
    for level in Level::all() {
        for y in [
            project(&srht, &x, level, 1),
            project_sparse(&srht, &x, level),
        ] {
            assert!(y[k..2 * k].iter().all(|y| y.is_nan()));
            assert_same(&y[..k], &before[..k], "the row before");
            assert_same(&y[2 * k..], &before[2 * k..], "the row after");
        }
    }
    x[d + 17] = f32::INFINITY;
    let infinite = project(&srht, &x, Level::detect(), 1);
    assert!(infinite[k..2 * k].iter().all(|y| !y.is_finite()));
}

#[test]
fn zeros_are_positive() {
    let srht = draw(SEED, 100, 128);
    let y = project(&srht, &[-0.0f32; 100], Level::detect(), 1);
    assert_same(&y, &[0.0; 128], "project");
    let x = adjoint(&srht, &[-0.0f64; 128], Level::detect(), 1);
    assert_same(&x, &[0.0; 100], "adjoint");
}

#[test]
fn no_rows_are_no_work() {
    let srht = draw(SEED, 100, 10);
    assert!(project::<f32>(&srht, &[], Level::detect(), 4).is_empty());
    assert!(adjoint::<f32>(&srht, &[], Level::detect(), 4).is_empty());
    assert!(project_sparse::<f32>(&srht, &[], Level::detect()).is_empty());
}

#[test]
fn a_cancel_ends_the_work() {
    let srht = draw(SEED, 5000, 10);
    let control = Control::new();
    control.cancel();
    assert!(matches!(
        Srht::draw(SEED, 5000, 10, &control),
        Err(Error::Cancelled)
    ));
    let run = Run {
        threads: 2,
        level: Level::detect(),
        control: &control,
    };
    let (x, mut y) = (vec![1.0f32; 50_000], vec![0.0f32; 100]);
    let view = MatrixMut::of(&mut y, 10, 10);
    let ended = srht.project::<f32>(&Matrix::of(&x, 10, 5000), &view, &run);
    assert!(matches!(ended, Err(Error::Cancelled)));
    // The transform looks by itself: one row may be long.
    let mut long = vec![1.0f32; 1 << 14];
    let ended = f32::transform(run.level, &mut long, 1, 1 << 14, &control);
    assert!(matches!(ended, Err(Error::Cancelled)));
    assert_eq!(control.progress().done, 0);
}

/// E ‖Ax‖² = ‖x‖² and Var ‖Ax‖² = (2/k) (N-k)/(N-1) (‖x‖⁴ - ‖x‖₄⁴).
#[test]
fn moments_are_those_of_the_law() {
    const DRAWS: u32 = 4000;
    for (d, k) in [(16, 4), (12, 3), (16, 16), (10, 8)] {
        let x: Vec<f64> = (0..d).map(|i| 1.0 + (i % 5) as f64).collect();
        let norm: f64 = x.iter().map(|x| x * x).sum();
        let fourth: f64 = x.iter().map(|x| x.powi(4)).sum();
        let n = usize::next_power_of_two(d) as f64;
        let share = 2.0 / k as f64 * (n - k as f64) / (n - 1.0);
        let variance = share * (norm * norm - fourth) / (norm * norm);
        let (mut sum, mut squares) = (0.0, 0.0);
        for seed in 0..DRAWS {
            let y = project(&draw(u128::from(seed), d, k), &x, Level::detect(), 1);
            let ratio = y.iter().map(|y| y * y).sum::<f64>() / norm - 1.0;
            sum += ratio;
            squares += ratio * ratio;
        }
        let draws = f64::from(DRAWS);
        // Five standard errors of the mean; a fifth of the variance is as many of its own, even
        // with tails that are heavier than those of a normal law (kurtosis up to 7).
        assert!(
            (sum / draws).abs() <= 5.0 * (variance / draws).sqrt() + 1e-12,
            "d {d}, k {k}"
        );
        assert!(
            (squares / draws - variance).abs() <= 0.2 * variance + 1e-12,
            "d {d}, k {k}: {} and {variance}",
            squares / draws
        );
    }
}
