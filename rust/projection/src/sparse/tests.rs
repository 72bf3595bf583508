//! Everything against a dense matrix made of the draws, and loops that are obviously right.
#![allow(clippy::unwrap_used)]

use corekit_base::array::{Element, Matrix, MatrixMut};
use corekit_base::control::Control;
use corekit_base::philox::Stream;
use corekit_base::real::Real;
use corekit_base::simd::Level;
use half::f16;

use super::*;
use crate::draw::{Placement, SIGN, iid_column, placements};
use crate::law::{Strata, Threshold};

const SEED: u128 = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210;

/// Rows of (feature, value) pairs in any order.
type Rows<E> = Vec<Vec<(usize, E)>>;

fn run(control: &Control, threads: usize) -> Run<'_> {
    Run {
        threads,
        level: Level::detect(),
        control,
    }
}

/// How all outputs are drawn.
fn whole(law: SparseLaw<'_>) -> Draw<'_> {
    Draw {
        law,
        part: law.whole(),
        seed: SEED,
    }
}

/// The signs of A, k x d.
fn signs(law: SparseLaw<'_>, d: usize) -> Vec<Vec<i8>> {
    let mut a = vec![vec![0; d]; law.n_components()];
    match law {
        SparseLaw::Stack(strata) => {
            let s = strata.column_nnz();
            let mut words = vec![0; s * strata.words_per_stratum()];
            let mut drawn = vec![Placement::NOWHERE; s];
            for block in 0..d.div_ceil(strata.width) {
                placements(SEED, strata, 0..s, block as u64, &mut words, &mut drawn);
                for placement in &drawn {
                    for (l, lane) in placement.lanes[..strata.width].iter().enumerate() {
                        let feature = block * strata.width + (lane & !SIGN) as usize;
                        if feature < d {
                            let output = placement.start as usize + l;
                            a[output][feature] = if lane & SIGN == 0 { 1 } else { -1 };
                        }
                    }
                }
            }
        }
        SparseLaw::Iid {
            threshold,
            n_components,
        } => {
            let mut words = vec![0; n_components.div_ceil(2)];
            for feature in 0..d as u64 {
                iid_column(
                    SEED,
                    threshold,
                    0..n_components,
                    feature,
                    &mut words,
                    |i, negative| {
                        a[i][feature as usize] = if negative { -1 } else { 1 };
                    },
                );
            }
        }
    }
    a
}

/// What `toarray()` makes of rows, in the type that is computed in.
fn to_array<E: Element, T: Real>(rows: &Rows<E>, d: usize) -> Vec<Vec<T>> {
    let dense = |row: &Vec<(usize, E)>| {
        let mut out = vec![T::ZERO; d];
        for (feature, value) in row {
            out[*feature] += value.load();
        }
        out
    };
    rows.iter().map(dense).collect()
}

fn weights(law: SparseLaw<'_>) -> Vec<f64> {
    let mut weights = Vec::new();
    law.scales(&law.whole(), &mut weights).unwrap();
    weights
}

/// X Aᵀ as the law says: ascending features, one multiplication.
fn naive<T: Real>(x: &[Vec<T>], law: SparseLaw<'_>, d: usize) -> Vec<T> {
    let a = signs(law, d);
    let scales = weights(law);
    let mut y = Vec::new();
    for row in x {
        for (line, scale) in a.iter().zip(&scales) {
            let mut sum = T::ZERO;
            for (value, sign) in row.iter().zip(line) {
                match sign {
                    0 => {}
                    1 => sum += *value,
                    _ => sum += -*value,
                }
            }
            y.push(sum * T::of(*scale));
        }
    }
    y
}

/// Rows with `most` non-zeros at most, every third one empty; in order unless `is_mixed`.
fn some_rows(n: usize, d: usize, most: usize, is_mixed: bool) -> Rows<f64> {
    let mut drawn = (0..).map(|i| Stream::new(7, n as u64, 1 << 40).word(i) as usize);
    let mut next = move |below: usize| drawn.next().unwrap_or(0) % below;
    let mut rows = Vec::new();
    for i in 0..n {
        let len = if i % 3 == 1 { 0 } else { next(most + 1) };
        let value = |word: usize| (word as f64 - 5e5) / 3e5;
        let mut row: Vec<_> = (0..len)
            .map(|_| (next(d), value(next(1_000_000))))
            .collect();
        if !is_mixed || i % 5 == 0 {
            row.sort_by_key(|pair| pair.0);
            row.dedup_by_key(|pair| pair.0);
        }
        rows.push(row);
    }
    rows
}

fn typed<E: Element>(rows: &Rows<f64>) -> Rows<E> {
    let pair = |&(feature, value): &(usize, f64)| (feature, E::store(value));
    rows.iter()
        .map(|row| row.iter().map(pair).collect())
        .collect()
}

/// Columns of (row, value) pairs, features' duplicates in the order in which rows have them.
fn by_columns<E: Copy>(rows: &Rows<E>, d: usize) -> Rows<E> {
    let mut columns = vec![Vec::new(); d];
    for (i, row) in rows.iter().enumerate() {
        for &(feature, value) in row {
            columns[feature].push((i, value));
        }
    }
    columns
}

/// Pointers, indices and values.
struct Packed<I, E> {
    indptr: Vec<I>,
    indices: Vec<I>,
    values: Vec<E>,
}

fn pack<I: TryFrom<usize>, E: Copy>(lines: &Rows<E>) -> Packed<I, E> {
    let number = |n: usize| I::try_from(n).ok().unwrap();
    let mut packed = Packed {
        indptr: vec![number(0)],
        indices: Vec::new(),
        values: Vec::new(),
    };
    for line in lines {
        for &(index, value) in line {
            packed.indices.push(number(index));
            packed.values.push(value);
        }
        packed.indptr.push(number(packed.values.len()));
    }
    packed
}

impl<E: Element> Packed<i32, E> {
    fn view<'a>(&'a self, minor: usize, run: &Run<'_>) -> Result<Compressed<'a>> {
        let structure = Indices::I32 {
            indptr: &self.indptr,
            indices: &self.indices,
        };
        let values = Matrix::of(&self.values, 1, self.values.len());
        Compressed::new(self.indptr.len() - 1, minor, structure, values, run)
    }
}

impl<E: Element> Packed<i64, E> {
    fn view<'a>(&'a self, minor: usize, run: &Run<'_>) -> Result<Compressed<'a>> {
        let structure = Indices::I64 {
            indptr: &self.indptr,
            indices: &self.indices,
        };
        let values = Matrix::of(&self.values, 1, self.values.len());
        Compressed::new(self.indptr.len() - 1, minor, structure, values, run)
    }
}

/// Bits that are compared: those of zero without its sign, and one NaN for all.
fn bits<T: Real>(values: &[T]) -> Vec<u64> {
    let bits = |value: &T| (value.wide() + 0.0).to_bits();
    let nan = f64::NAN.to_bits();
    values
        .iter()
        .map(|v| if v.wide().is_nan() { nan } else { bits(v) })
        .collect()
}

/// Projects rows in every way there is, and holds each against the naive loop.
fn check<E: Element, T: Paired>(law: SparseLaw<'_>, d: usize, rows: &Rows<E>) {
    let k = law.n_components();
    let wanted = bits(&naive::<T>(&to_array(rows, d), law, d));
    let draw = whole(law);
    let control = Control::new();
    let long = pack::<i64, E>(rows);
    let short = pack::<i32, E>(rows);
    let turned = by_columns(rows, d);
    let short_turned = pack::<i32, E>(&turned);
    let long_turned = pack::<i64, E>(&turned);
    for threads in [1, 2, 3] {
        let run = &run(&control, threads);
        let built = Columns::build(&draw, d, run).unwrap().unwrap();
        for table in [Some(&built), None] {
            let source = Source { draw, table };
            for is_long in [false, true] {
                let what = format!("{law:?}, d {d}, {threads} threads, i64 {is_long}");
                let csr = match is_long {
                    true => long.view(d, run).unwrap(),
                    false => short.view(d, run).unwrap(),
                };
                let mut y = vec![T::of(f64::NAN); rows.len() * k];
                let out = MatrixMut::of(&mut y, rows.len(), k);
                project_csr::<T>(&source, &csr, &out, run).unwrap();
                assert_eq!(bits(&y), wanted, "CSR, {what}");
                let csc = match is_long {
                    true => long_turned.view(rows.len(), run).unwrap(),
                    false => short_turned.view(rows.len(), run).unwrap(),
                };
                let mut y = vec![T::of(f64::NAN); rows.len() * k];
                let out = MatrixMut::of(&mut y, rows.len(), k);
                project_csc::<T>(&source, &csc, &out, run).unwrap();
                assert_eq!(bits(&y), wanted, "CSC, {what}");
            }
        }
    }
}

/// The outputs in parts, each by itself, are those of the whole.
fn check_parts(law: SparseLaw<'_>, d: usize, rows: &Rows<f32>) {
    let k = law.n_components();
    let wanted = bits(&naive::<f32>(&to_array(rows, d), law, d));
    let control = Control::new();
    let run = run(&control, 2);
    let packed = pack::<i32, f32>(rows);
    let turned = pack::<i32, f32>(&by_columns(rows, d));
    let (csr, csc) = (
        packed.view(d, &run).unwrap(),
        turned.view(rows.len(), &run).unwrap(),
    );
    for most in [[16, 1], [100, 3], [150, 100]] {
        let parts = law.parts(most[0], most[1]);
        let mut found = [vec![f32::NAN; wanted.len()], vec![f32::NAN; wanted.len()]];
        let done = control.progress().done;
        for number in 0..parts.count() {
            let part = parts.get(number);
            let draw = Draw { part, ..whole(law) };
            let source = Source { draw, table: None };
            let outs = found.each_mut().map(|y| {
                let out = MatrixMut::of(y, rows.len(), k);
                out.transposed().row_range(part.outputs()).transposed()
            });
            project_csr::<f32>(&source, &csr, &outs[0], &run).unwrap();
            project_csc::<f32>(&source, &csc, &outs[1], &run).unwrap();
        }
        for found in found {
            assert_eq!(bits(&found), wanted, "{law:?}, {parts:?}");
        }
        // A row counts once, however many parts it has.
        assert_eq!(control.progress().done - done, 2 * rows.len() as u64);
    }
}

#[test]
fn parts_are_the_whole() {
    let rows = typed(&some_rows(5, 61, 40, true));
    laws(|law| check_parts(law, 61, &rows));
}

fn laws(mut visit: impl FnMut(SparseLaw<'_>)) {
    for k in [10, 100, 192, 300, 1000] {
        for s in [1, 2, 3, 4, 5, 8, 10] {
            for width in [1, Strata::widest(k, s)] {
                visit(SparseLaw::Stack(&Strata::new(k, s, width).unwrap()));
            }
        }
        for density in [1.0, 1.0 / 3.0, 0.01, 1e-4] {
            visit(SparseLaw::Iid {
                threshold: Threshold::new(density).unwrap(),
                n_components: k,
            });
        }
    }
}

#[test]
fn all_laws_are_the_naive_loop() {
    let (sorted, mixed) = (some_rows(9, 61, 40, false), some_rows(10, 61, 90, true));
    laws(|law| {
        check::<f32, f32>(law, 61, &typed(&sorted));
        check::<f64, f64>(law, 61, &typed(&mixed));
    });
}

#[test]
fn all_types_are_converted() {
    let rows = some_rows(20, 100, 60, false);
    let strata = Strata::new(64, 4, 16).unwrap();
    let law = SparseLaw::Stack(&strata);
    check::<f16, f32>(law, 100, &typed(&rows));
    check::<i8, f64>(law, 100, &typed(&rows));
    check::<u16, f64>(law, 100, &typed(&rows));
    check::<i64, f64>(law, 100, &typed(&rows));
}

#[test]
fn many_outputs_take_long_entries() {
    let rows = some_rows(4, 50, 30, true);
    for (k, s, width) in [(32768, 3, 16), (32769, 8, 16), (40000, 2, 1)] {
        let strata = Strata::new(k, s, width).unwrap();
        let law = SparseLaw::Stack(&strata);
        assert_eq!(columns::is_short(k), k == 32768);
        check::<f32, f32>(law, 50, &typed(&rows));
    }
}

#[test]
fn long_rows_and_many_rows_are_cut_anywhere() {
    let strata = Strata::new(16, 2, 8).unwrap();
    let law = SparseLaw::Stack(&strata);
    for is_mixed in [false, true] {
        check::<f32, f32>(law, 9001, &typed(&some_rows(5, 9001, 5000, is_mixed)));
        check::<f32, f32>(law, 77, &typed(&some_rows(3000, 77, 9, is_mixed)));
        check::<f32, f32>(law, 3, &typed(&some_rows(5000, 3, 3, is_mixed)));
    }
    let threshold = Threshold::new(0.2).unwrap();
    let law = SparseLaw::Iid {
        threshold,
        n_components: 9,
    };
    check::<f32, f32>(law, 9001, &typed(&some_rows(5, 9001, 5000, false)));
}

#[test]
fn nothing_is_projected_to_nothing() {
    let strata = Strata::new(16, 2, 8).unwrap();
    let law = SparseLaw::Stack(&strata);
    check::<f32, f32>(law, 7, &vec![]);
    check::<f32, f32>(law, 7, &vec![vec![]; 5]);
    check::<f32, f32>(law, 1, &vec![vec![(0, 2.5)]]);
}

#[test]
fn duplicates_are_summed_before_they_are_added() {
    // 1e8 + 1 - 1e8 is 0 in float32, in this order, and ±1 where the three are added one by one.
    let strata = Strata::new(20, 2, 8).unwrap();
    let row = vec![(3, 5e-9f32), (2, 1e8), (2, 1.0), (3, 1.0), (2, -1e8)];
    check::<f32, f32>(SparseLaw::Stack(&strata), 5, &vec![row]);
}

#[test]
fn what_is_not_finite_reaches_its_outputs_alone() {
    let strata = Strata::new(100, 4, 16).unwrap();
    let law = SparseLaw::Stack(&strata);
    let row = vec![(0, 1f32), (9, f32::NAN), (30, f32::INFINITY), (31, -0.0)];
    check::<f32, f32>(law, 40, &vec![row.clone(), vec![(1, 1.0)]]);
    let y: Vec<f32> = naive(&to_array::<f32, f32>(&vec![row], 40), law, 40);
    assert!((4..=8).contains(&y.iter().filter(|v| !v.is_finite()).count()));
}

#[test]
fn slabs_of_any_size_have_all_rows_in_order() {
    let control = Control::new();
    for is_mixed in [false, true] {
        for (n, d, most) in [(40, 300, 100), (700, 20, 18), (1, 50, 50), (64, 2, 2)] {
            let rows = typed::<f32>(&some_rows(n, d, most, is_mixed));
            let packed = pack::<i32, f32>(&by_columns(&rows, d));
            let dense = to_array::<f32, f32>(&rows, d);
            for (threads, bytes, groups) in [(1, 1 << 20, 1 << 20), (2, 400, 1000), (3, 900, 7)] {
                let run = run(&control, threads);
                let x = packed.view(n, &run).unwrap();
                let slabs = Slabs::of_bytes::<f32>(&x, bytes, groups, &run).unwrap();
                let (mut slab, mut next) = (Slab::<f32>::default(), 0);
                let (mut columns, mut values) = (vec![9; 3], vec![9.0; 5]);
                // Twice, as the second time begins above the rows that were passed.
                for number in (0..slabs.len()).chain(0..slabs.len()) {
                    slabs.fill(number, &mut slab, &run).unwrap();
                    next = if number == 0 { 0 } else { next };
                    assert_eq!(slab.row_range().start, next);
                    next = slab.row_range().end;
                    assert_eq!(SparseRows::rows(&slab), slab.row_range().len());
                    for (i, row) in slab.row_range().enumerate() {
                        slab.row(i, &mut columns, &mut values, &control).unwrap();
                        assert!(columns.is_sorted_by(|a, b| a < b));
                        let mut out = vec![0.0; d];
                        for (column, value) in columns.iter().zip(&values) {
                            out[*column as usize] = *value;
                        }
                        assert_eq!(out, dense[row], "{n} x {d}, row {row}");
                    }
                }
                assert_eq!(next, n);
            }
        }
    }
}

#[test]
fn rows_of_csr_are_in_order() {
    let control = Control::new();
    let rows = typed::<f64>(&some_rows(50, 30, 60, true));
    let packed = pack::<i64, f64>(&rows);
    let x = packed.view(30, &run(&control, 1)).unwrap();
    let dense = to_array::<f64, f64>(&rows, 30);
    let (mut columns, mut values) = (vec![1], Vec::<f64>::new());
    assert_eq!(SparseRows::<f64>::rows(&x), 50);
    for (i, dense) in dense.iter().enumerate() {
        x.row(i, &mut columns, &mut values, &control).unwrap();
        assert!(columns.is_sorted_by(|a, b| a < b));
        let mut out = vec![0.0; 30];
        for (column, value) in columns.iter().zip(&values) {
            out[*column as usize] = *value;
        }
        assert_eq!(out, *dense);
    }
}

#[test]
fn features_of_any_width_are_put_in_order_alike() {
    let control = Control::new();
    let rows = typed::<f64>(&some_rows(50, 30, 60, true));
    // Features that take more than 32 bits, the same rows otherwise.
    let gap = 1usize << 40;
    let far = |(feature, value): &(usize, f64)| (feature * gap, *value);
    let apart: Rows<f64> = rows
        .iter()
        .map(|row| row.iter().map(far).collect())
        .collect();
    let (near, apart) = (pack::<i64, f64>(&rows), pack::<i64, f64>(&apart));
    let near = near.view(30, &run(&control, 1)).unwrap();
    let apart = apart.view(30 * gap, &run(&control, 1)).unwrap();
    let (mut columns, mut values) = (Vec::new(), Vec::<f64>::new());
    let (mut far_columns, mut far_values) = (Vec::new(), Vec::<f64>::new());
    for i in 0..50 {
        near.row(i, &mut columns, &mut values, &control).unwrap();
        apart
            .row(i, &mut far_columns, &mut far_values, &control)
            .unwrap();
        let wanted: Vec<u64> = columns.iter().map(|column| column * gap as u64).collect();
        assert_eq!(far_columns, wanted);
        assert_eq!(bits(&far_values), bits(&values));
    }
}

#[test]
fn entries_are_the_columns() {
    let check = |law: SparseLaw<'_>| {
        let d = 61;
        let a = signs(law, d);
        let scales = weights(law);
        let features = [0, 60, 17, 16, 18, 17, 3];
        let control = Control::new();
        let found = entries(law, SEED, &features, &run(&control, 1)).unwrap();
        assert_eq!(found.starts.len(), features.len() + 1);
        for (feature, ends) in features.iter().zip(found.starts.windows(2)) {
            let column = ends[0] as usize..ends[1] as usize;
            let outputs = &found.outputs[column.clone()];
            assert!(outputs.is_sorted_by(|a, b| a < b));
            let mut out = vec![0.0; law.n_components()];
            for (output, value) in outputs.iter().zip(&found.values[column]) {
                out[*output as usize] = *value;
            }
            for (output, value) in out.iter().enumerate() {
                let sign = f64::from(a[output][*feature as usize]);
                assert_eq!(*value, sign * scales[output]);
            }
        }
    };
    laws(check);
    // In several parts: of whole strata, of pieces of one, and of an iid law.
    for (s, width) in [(3, 16), (1, 1)] {
        let strata = Strata::new(MOST_OUTPUTS + 999, s, width).unwrap();
        check(SparseLaw::Stack(&strata));
    }
    check(SparseLaw::Iid {
        threshold: Threshold::new(1e-4).unwrap(),
        n_components: MOST_OUTPUTS + 999,
    });
    let strata = Strata::new(10, 2, 4).unwrap();
    let law = SparseLaw::Stack(&strata);
    let control = Control::new();
    let of = |features: &[u64]| entries(law, SEED, features, &run(&control, 1)).unwrap();
    assert_eq!(of(&[]).starts, [0]);
    // The last features that a matrix can have.
    assert_eq!(of(&[u64::MAX]).starts, [0, 2]);
}

#[test]
fn whether_an_order_ascends_is_known() {
    let control = Control::new();
    let run = run(&control, 2);
    let lines = |lines: &[&[usize]]| {
        let pairs = |line: &&[usize]| line.iter().map(|i| (*i, 1f32)).collect();
        let packed = pack::<i32, f32>(&lines.iter().map(pairs).collect());
        packed.view(10, &run).unwrap().is_ascending()
    };
    assert!(lines(&[]));
    assert!(lines(&[&[], &[], &[]]));
    assert!(lines(&[&[1, 2, 9], &[], &[0, 5], &[5], &[5], &[]]));
    assert!(!lines(&[&[1, 2, 9], &[5, 5]]));
    assert!(!lines(&[&[], &[9, 2], &[5]]));
    assert!(!lines(&[&[1, 3, 2], &[], &[4]]));
    // Across the parts in which indices are read.
    let n: i32 = (1 << 17) * 5;
    let mut packed = Packed {
        indptr: vec![0, 7, n],
        indices: (0..7).chain(0..n - 7).collect(),
        values: vec![0u8; n as usize],
    };
    assert!(packed.view(n as usize, &run).unwrap().is_ascending());
    packed.indices.swap(1 << 17, (1 << 17) - 1);
    assert!(!packed.view(n as usize, &run).unwrap().is_ascending());
    packed.indices[n as usize - 3] = n;
    let refused = packed.view(n as usize, &run).unwrap_err().to_string();
    assert!(refused.ends_with("got 655360 at 655357"), "{refused}");
}

#[test]
fn unsound_structures_are_refused() {
    let control = Control::new();
    let run = run(&control, 1);
    let refusal = |major, minor, indptr: &[i32], indices: &[i32], nnz: usize| {
        let values = vec![1f32; nnz];
        let values = Matrix::of(&values, 1, nnz);
        Compressed::new(major, minor, Indices::I32 { indptr, indices }, values, &run)
            .map_err(|e| e.to_string())
            .unwrap_err()
    };
    for (refusal, wanted) in [
        (
            refusal(2, 4, &[0, 1, 2], &[0], 2),
            "indices and data must be of one length, got 1 and 2",
        ),
        (
            refusal(2, 4, &[], &[], 0),
            "indptr must have 2 + 1 elements, got 0",
        ),
        (
            refusal(2, 4, &[0, 2], &[0, 1], 2),
            "indptr must have 2 + 1 elements, got 2",
        ),
        (
            refusal(2, 4, &[1, 1, 2], &[0, 1], 2),
            "indptr must start at 0, got 1",
        ),
        (
            refusal(2, 4, &[-1, 1, 2], &[0, 1], 2),
            "indptr must start at 0, got -1",
        ),
        (
            refusal(2, 4, &[0, 1, 3], &[0, 1], 2),
            "indptr must end at the number of values (2), got 3",
        ),
        (
            refusal(2, 4, &[0, 3, 2], &[0, 1], 2),
            "indptr must not fall, got 2 after 3 at 2",
        ),
        (
            refusal(3, 4, &[0, i32::MIN, i32::MAX, 2], &[0, 1], 2),
            "indptr must not fall, got -2147483648 after 0 at 1",
        ),
        (
            refusal(2, 4, &[0, 1, 2], &[0, 4], 2),
            "indices must be at least 0 and below 4, got 4 at 1",
        ),
        (
            refusal(2, 4, &[0, 1, 2], &[-1, 3], 2),
            "indices must be at least 0 and below 4, got -1 at 0",
        ),
        (
            refusal(1, 0, &[0, 1], &[0], 1),
            "indices must be at least 0 and below 0, got 0 at 0",
        ),
    ] {
        assert_eq!(refusal, wanted);
    }
}

#[test]
fn results_of_another_shape_are_refused() {
    let control = Control::new();
    let run = run(&control, 1);
    let packed = pack::<i32, f32>(&vec![vec![(0, 1f32)], vec![]]);
    let x = packed.view(5, &run).unwrap();
    let strata = Strata::new(10, 2, 4).unwrap();
    let draw = whole(SparseLaw::Stack(&strata));
    let source = Source { draw, table: None };
    let mut y = vec![0f32; 30];
    let out = MatrixMut::of(&mut y, 3, 10);
    let refused = project_csr::<f32>(&source, &x, &out, &run).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the result must be of 2 x 10, got 3 x 10"
    );
    assert!(project_csc::<f32>(&source, &x, &out, &run).is_err());
    assert_eq!(y, [0.0; 30]);
}

#[test]
fn a_cancelled_call_ends_and_rows_are_counted() {
    let rows = typed::<f32>(&some_rows(100, 50, 20, false));
    let packed = pack::<i32, f32>(&rows);
    let turned = pack::<i32, f32>(&by_columns(&rows, 50));
    let strata = Strata::new(10, 2, 4).unwrap();
    let draw = whole(SparseLaw::Stack(&strata));
    let source = Source { draw, table: None };
    let control = Control::new();
    let run = run(&control, 2);
    let (csr, csc) = (
        packed.view(50, &run).unwrap(),
        turned.view(100, &run).unwrap(),
    );
    let mut y = vec![0f32; 1000];
    let out = MatrixMut::of(&mut y, 100, 10);
    project_csr::<f32>(&source, &csr, &out, &run).unwrap();
    assert_eq!(control.progress().done, 100);
    project_csc::<f32>(&source, &csc, &out, &run).unwrap();
    assert_eq!(control.progress().done, 200);
    control.cancel();
    for cancelled in [
        project_csr::<f32>(&source, &csr, &out, &run),
        project_csc::<f32>(&source, &csc, &out, &run),
        Columns::build(&draw, 50, &run).map(|_| ()),
        packed.view(50, &run).map(|_| ()),
    ] {
        assert!(matches!(cancelled, Err(Error::Cancelled)));
    }
}

#[test]
fn tables_beyond_the_cap_are_not_built() {
    let control = Control::new();
    let strata = Strata::new(10, 2, 4).unwrap();
    let law = SparseLaw::Stack(&strata);
    let most = columns::CAP / 4;
    assert!(Columns::fit(&law, most) && !Columns::fit(&law, most + 1));
    assert!(Columns::pay(&law, 400, 100) && !Columns::pay(&law, 400, 99));
    assert!(!Columns::pay(&law, usize::MAX, usize::MAX));
    let draw = whole(law);
    let built = Columns::build(&draw, usize::MAX, &run(&control, 1)).unwrap();
    assert!(built.is_none());
}
