//! The products against plain loops over the entries.

use corekit_base::control::Control;
use corekit_base::real::Real;
use corekit_base::simd::Level;

use super::*;
use crate::error::Error;
use crate::sparse::SparseRows;

const SEED: u128 = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210;

fn run(control: &Control, threads: usize, level: Level) -> Run<'_> {
    Run {
        threads,
        level,
        control,
    }
}

/// Numbers of several magnitudes, zeros among them.
fn data<T: Real>(n: usize, d: usize) -> Vec<T> {
    let value = |i: usize| {
        let hash = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let value = (hash as f64 - 8e6) * 1e-6;
        if hash.is_multiple_of(5) { 0.0 } else { value }
    };
    (0..n * d).map(|i| T::of(value(i))).collect()
}

/// A as features x outputs.
fn matrix(d: usize, k: usize) -> Vec<f64> {
    let features: Vec<u64> = (0..d as u64).collect();
    let mut out = vec![f64::NAN; d * k];
    let control = Control::new();
    let run = run(&control, 1, Level::Scalar);
    columns(SEED, k, &features, &mut out, &run).expect("a result");
    out
}

fn plainly<T: Real>(
    x: &[T],
    n: usize,
    depth: usize,
    m: usize,
    a: impl Fn(usize, usize) -> f64,
) -> Vec<T> {
    let mut y = vec![T::ZERO; n * m];
    for r in 0..n {
        for j in 0..m {
            for f in 0..depth {
                y[r * m + j] = x[r * depth + f].mul_add(T::of(a(f, j)), y[r * m + j]);
            }
        }
    }
    y
}

struct Rows<'a, T> {
    x: &'a [T],
    d: usize,
}

impl<T: Real> SparseRows<T> for Rows<'_, T> {
    fn rows(&self) -> usize {
        self.x.len() / self.d
    }
    fn row(
        &self,
        row: usize,
        columns: &mut Vec<u64>,
        values: &mut Vec<T>,
        _control: &Control,
    ) -> Result<()> {
        columns.clear();
        values.clear();
        for (j, value) in self.x[row * self.d..][..self.d].iter().enumerate() {
            if *value != T::ZERO {
                columns.push(j as u64);
                values.push(*value);
            }
        }
        Ok(())
    }
}

fn check<T: Real + corekit_base::array::Element>(
    n: usize,
    d: usize,
    k: usize,
    threads: usize,
    level: Level,
) {
    let what = format!(
        "{n} x {d} to {k}, {threads} threads, {level}, {}",
        size_of::<T>()
    );
    let a = matrix(d, k);
    let control = Control::new();
    let run = run(&control, threads, level);
    let nan = T::of(f64::NAN);

    let x = data::<T>(n, d);
    let expected = plainly(&x, n, d, k, |f, j| a[f * k + j]);
    let mut y = vec![nan; n * k];
    project::<T>(
        SEED,
        k,
        &Matrix::of(&x, n, d),
        &MatrixMut::of(&mut y, n, k),
        &run,
    )
    .expect("a result");
    assert_eq!(y, expected, "project {what}");
    assert_eq!(control.progress().done, n as u64);

    y.fill(nan);
    project_sparse(
        SEED,
        k,
        &Rows { x: &x, d },
        &MatrixMut::of(&mut y, n, k),
        &run,
    )
    .expect("a result");
    assert_eq!(y, expected, "sparse {what}");
    assert_eq!(control.progress().done, 2 * n as u64);

    // By columns, both of them.
    let turned: Vec<T> = (0..d * n).map(|i| x[i % n * d + i / n]).collect();
    y.fill(nan);
    let by_columns = MatrixMut::of(&mut y, k, n).transposed();
    project::<T>(
        SEED,
        k,
        &Matrix::of(&turned, d, n).transposed(),
        &by_columns,
        &run,
    )
    .expect("a result");
    let turned: Vec<T> = (0..n * k).map(|i| y[i % k * n + i / k]).collect();
    assert_eq!(turned, expected, "project by columns {what}");

    let z = data::<T>(n, k);
    let expected = plainly(&z, n, k, d, |f, j| a[j * k + f]);
    let mut w = vec![nan; n * d];
    adjoint::<T>(
        SEED,
        d,
        k,
        &Matrix::of(&z, n, k),
        &MatrixMut::of(&mut w, n, d),
        &run,
    )
    .expect("a result");
    assert_eq!(w, expected, "adjoint {what}");
}

#[test]
fn every_level_equals_a_plain_loop_at_every_edge() {
    for level in Level::all() {
        for n in [1, 2, 11, 12, 13, 17, 24, 25] {
            for (d, k) in [(1, 1), (3, 70), (40, 33), (5, 16), (17, 31), (9, 64)] {
                check::<f32>(n, d, k, 2, level);
                check::<f64>(n, d, k, 1, level);
            }
        }
        for d in [255, 256, 257, 513] {
            check::<f32>(5, d, 20, 3, level);
            check::<f64>(5, d, 20, 2, level);
            check::<f32>(5, 20, d, 3, level);
        }
    }
}

#[test]
fn all_small_shapes_are_right() {
    let level = Level::detect();
    for k in 1..=70 {
        check::<f32>(3, 7, k, 1, level);
        check::<f64>(2, 6, k, 1, level);
    }
    for n in 1..=17 {
        check::<f32>(n, 30, 8, 2, level);
    }
}

#[test]
fn many_panels_ranges_and_rounds_are_right() {
    let level = Level::detect();
    // Several ranges of columns; several panels for each, and more rows than one task has.
    for threads in [1, 2, 5] {
        check::<f32>(30, 3000, 1100, threads, level);
        check::<f64>(30, 2100, 600, threads, level);
    }
    check::<f32>(30, 600, 3000, 1, level);
}

#[test]
fn rounds_and_threads_do_not_show() {
    // One worker has the sums of 2816 rows of 1024 outputs.
    let (n, d, k) = (3000, 5000, 1024);
    let x: Vec<f32> = data(n, d);
    let control = Control::new();
    let level = Level::detect();
    let mut outputs = [1, 2].map(|threads| {
        let mut y = vec![f32::NAN; n * k];
        let run = run(&control, threads, level);
        let (x, y_mut) = (Matrix::of(&x, n, d), MatrixMut::of(&mut y, n, k));
        project::<f32>(SEED, k, &x, &y_mut, &run).expect("a result");
        y
    });
    assert!(outputs[0] == outputs[1]);
    let mut last = vec![0f32; k];
    let run = run(&control, 1, level);
    let x = Matrix::of(&x[(n - 1) * d..], 1, d);
    project::<f32>(SEED, k, &x, &MatrixMut::of(&mut last, 1, k), &run).expect("a result");
    assert_eq!(last, outputs[1].split_off((n - 1) * k));
}

#[test]
fn not_a_number_stays_in_its_row() {
    let (n, d, k) = (30, 300, 40);
    let mut x: Vec<f32> = data(n, d);
    x[7 * d + 299] = f32::NAN;
    x[9 * d] = f32::INFINITY;
    let control = Control::new();
    for level in Level::all() {
        let mut y = vec![0f32; n * k];
        let run = run(&control, 2, level);
        project::<f32>(
            SEED,
            k,
            &Matrix::of(&x, n, d),
            &MatrixMut::of(&mut y, n, k),
            &run,
        )
        .expect("a result");
        for (r, row) in y.chunks(k).enumerate() {
            match r {
                7 => assert!(row.iter().all(|y| y.is_nan())),
                9 => assert!(row.iter().all(|y| y.is_infinite())),
                _ => assert!(row.iter().all(|y| y.is_finite())),
            }
        }
    }
}

#[test]
fn nothing_gives_nothing() {
    let control = Control::new();
    let run = run(&control, 2, Level::detect());
    let mut y = [f32::NAN; 6];
    let none: [f32; 0] = [];
    project::<f32>(
        SEED,
        3,
        &Matrix::of(&none, 2, 0),
        &MatrixMut::of(&mut y, 2, 3),
        &run,
    )
    .expect("a result");
    assert_eq!(y, [0.0; 6]);
    project::<f32>(
        SEED,
        3,
        &Matrix::of(&none, 0, 5),
        &MatrixMut::of(&mut [0f32; 0], 0, 3),
        &run,
    )
    .expect("a result");
    y.fill(f32::NAN);
    let empty = Rows { x: &[0.0; 8], d: 4 };
    project_sparse(SEED, 3, &empty, &MatrixMut::of(&mut y, 2, 3), &run).expect("a result");
    assert_eq!(y, [0.0; 6]);
}

#[test]
fn cancelling_ends_all_workers() {
    let (n, d, k) = (300, 20_000, 512);
    let x: Vec<f32> = data(n, d);
    for delay in [0, 1, 20] {
        let control = Control::new();
        let mut y = vec![0f32; n * k];
        let outcome = std::thread::scope(|scope| {
            let control = &control;
            scope.spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(delay));
                control.cancel();
            });
            // The lowest level takes seconds for this.
            let run = run(control, 3, Level::Scalar);
            project::<f32>(
                SEED,
                k,
                &Matrix::of(&x, n, d),
                &MatrixMut::of(&mut y, n, k),
                &run,
            )
        });
        assert!(matches!(outcome, Err(Error::Cancelled)));
    }
}

#[test]
fn sparse_rows_take_many_rounds() {
    // More entries than a round takes, and rows that share few features.
    let (n, d, k) = (700, 900, 33);
    let x: Vec<f32> = data(n, d);
    let control = Control::new();
    let level = Level::detect();
    let run = run(&control, 2, level);
    let (mut dense, mut sparse) = (vec![0f32; n * k], vec![0f32; n * k]);
    project::<f32>(
        SEED,
        k,
        &Matrix::of(&x, n, d),
        &MatrixMut::of(&mut dense, n, k),
        &run,
    )
    .expect("a result");
    project_sparse(
        SEED,
        k,
        &Rows { x: &x, d },
        &MatrixMut::of(&mut sparse, n, k),
        &run,
    )
    .expect("a result");
    assert_eq!(dense, sparse);
}

#[test]
fn columns_can_be_drawn_alone() {
    for k in [1, 3, 100, 2048, 2049, 5000] {
        let control = Control::new();
        let run = |level| run(&control, 1, level);
        let all = {
            let mut out = vec![0.0; 6 * k];
            let features = [0, 1, 2, 3, 4, 5];
            columns(SEED, k, &features, &mut out, &run(Level::detect())).expect("a result");
            out
        };
        for level in Level::all() {
            let mut some = vec![0.0; 3 * k];
            columns(SEED, k, &[4, 1, 1], &mut some, &run(level)).expect("a result");
            assert_eq!(some[..k], all[4 * k..5 * k]);
            assert_eq!(some[k..2 * k], all[k..2 * k]);
            assert_eq!(some[2 * k..], all[k..2 * k]);
        }
    }
}
