use super::*;

fn counted(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

#[test]
fn tiles_of_both_orders_are_the_same() {
    let (rows, columns) = (37, 41);
    let by_rows = counted(rows * columns);
    let by_columns: Vec<f32> = (0..rows * columns)
        .map(|i| by_rows[i % rows * columns + i / rows])
        .collect();
    let views = [
        Matrix::of(&by_rows, rows, columns),
        Matrix::of(&by_columns, columns, rows).transposed(),
    ];
    for (top, left, height, width) in [(0, 0, 37, 41), (3, 5, 17, 16), (36, 40, 1, 1), (2, 2, 0, 3)]
    {
        for view in &views {
            let stride = width.max(1) + 2;
            let mut tile = vec![-1f32; (height + 1) * stride];
            view.load_tile(top..top + height, left..left + width, &mut tile, stride);
            let across_stride = height.max(1) + 3;
            let mut across = vec![-1f64; (width + 1) * across_stride];
            view.load_transposed(
                top..top + height,
                left..left + width,
                &mut across,
                across_stride,
            );
            for r in 0..height {
                for c in 0..width {
                    let wanted = by_rows[(top + r) * columns + left + c];
                    assert_eq!(tile[r * stride + c], wanted);
                    assert_eq!(across[c * across_stride + r], f64::from(wanted));
                }
                assert_eq!(tile[r * stride + width..][..2], [-1.0; 2]);
            }
        }
    }
}

#[test]
fn stores_and_loads_of_both_orders_agree() {
    let (rows, columns) = (19, 35);
    let tile: Vec<f64> = (0..rows * columns).map(|i| i as f64).collect();
    let mut by_rows = vec![0f32; rows * columns];
    let mut by_columns = vec![0f32; rows * columns];
    let view = MatrixMut::of(&mut by_rows, rows, columns);
    view.store_transposed(0..rows, 0..columns, &tile, rows);
    let view = MatrixMut::of(&mut by_columns, columns, rows).transposed();
    view.store_transposed(0..rows, 0..columns, &tile, rows);
    for r in 0..rows {
        for c in 0..columns {
            let wanted = tile[c * rows + r] as f32;
            assert_eq!(by_rows[r * columns + c], wanted);
            assert_eq!(by_columns[c * rows + r], wanted);
        }
    }
}

#[test]
fn every_type_is_converted() {
    fn check<E: Element>(values: &[E], wanted: &[f64]) {
        let mut out = vec![0f64; values.len()];
        Matrix::of(values, 1, values.len()).load_row(0, 0, &mut out);
        assert_eq!(out, wanted);
        // Strided and unaligned: every second element of bytes that start one too late.
        let size = size_of::<E>();
        let mut bytes = vec![0u8; 1 + 2 * size * values.len()];
        for (i, value) in values.iter().enumerate() {
            // SAFETY: the place is inside of `bytes`, and need not be aligned.
            unsafe {
                let to = bytes.as_mut_ptr().add(1 + 2 * size * i).cast::<E>();
                to.write_unaligned(*value);
            }
        }
        let strides = [0, 2 * size as isize];
        // SAFETY: the elements are inside of `bytes`, which outlives the view.
        let view =
            unsafe { Matrix::new(bytes.as_ptr().add(1), E::DTYPE, [1, values.len()], strides) };
        view.load_row(0, 0, &mut out);
        assert_eq!(out, wanted);
    }
    check(&[1.5f32, -2.0], &[1.5, -2.0]);
    check(&[1.5f64, 1e300], &[1.5, 1e300]);
    check(&[i8::MIN, i8::MAX], &[-128.0, 127.0]);
    check(&[i16::MIN, 3], &[-32768.0, 3.0]);
    check(&[i32::MIN, 3], &[-2147483648.0, 3.0]);
    check(&[i64::MIN, 3], &[-9223372036854775808.0, 3.0]);
    check(&[u8::MAX, 1], &[255.0, 1.0]);
    check(&[u16::MAX, 1], &[65535.0, 1.0]);
    check(&[u32::MAX, 1], &[4294967295.0, 1.0]);
    check(&[u64::MAX, 1], &[18446744073709551616.0, 1.0]);
    let halves: Vec<f16> = (0..100).map(|i| f16::from_f32(i as f32 / 4.0)).collect();
    check(
        &halves,
        &halves.iter().map(|h| h.to_f64()).collect::<Vec<_>>(),
    );
    let brains: Vec<bf16> = (0..100).map(|i| bf16::from_f32(i as f32 / 4.0)).collect();
    check(
        &brains,
        &brains.iter().map(|h| h.to_f64()).collect::<Vec<_>>(),
    );
}

#[test]
fn halves_are_rounded_once_to_even() {
    let mut out = [bf16::ZERO; 3];
    MatrixMut::of(&mut out, 1, 3).store_row(
        0,
        0,
        &[1.0 + 1.0f32 / 256.0, 1.0 + 3.0 / 256.0, f32::NAN],
    );
    assert_eq!((out[0].to_f32(), out[1].to_f32()), (1.0, 1.015625));
    assert!(out[2].is_nan());
    let mut out = [f16::ZERO; 2];
    MatrixMut::of(&mut out, 1, 2).store_row(0, 0, &[65520f32, 1e-8]);
    assert_eq!((out[0], out[1].to_f32()), (f16::INFINITY, 0.0));
}

#[test]
#[should_panic(expected = "outside")]
fn a_tile_outside_is_a_panic() {
    let mut out = [0f32; 8];
    Matrix::of(&[0f32; 4], 2, 2).load_tile(0..2, 0..3, &mut out, 4);
}

#[test]
fn rows_in_place_are_those_of_the_matrix() {
    let values = counted(7 * 12);
    let x = Matrix::of(&values, 7, 12);
    let rows = x.in_place::<f32>(2..6, 3..9).unwrap();
    assert_eq!([rows.rows(), rows.columns()], [4, 6]);
    assert_eq!(rows.stride(), 12);
    for r in 0..4 {
        for c in 0..6 {
            assert_eq!(rows.get(r, c), values[(2 + r) * 12 + 3 + c]);
        }
    }
    // Another type, or elements that are not side by side.
    assert!(x.in_place::<f64>(0..7, 0..12).is_none());
    assert!(x.transposed().in_place::<f32>(0..12, 0..7).is_none());
}

#[test]
#[should_panic(expected = "a column that there is")]
fn no_element_outside_of_rows_is_read() {
    let values = counted(12);
    Rows::of(&values, 6, 2, 5).get(1, 5);
}

#[test]
#[should_panic(expected = "stride")]
fn rows_are_inside_of_their_slice() {
    let values = counted(12);
    let _ = Rows::of(&values, 6, 2, 7);
}

#[test]
fn all_lines_are_asked_for_once() {
    let values = vec![0f32; 4 * 2048];
    let x = Matrix::of(&values, 4, 2048);
    let mut ahead = x.ahead(1..4, 512..1024);
    assert_eq!(ahead.len(), 3 * 32);
    for left in (0..3).rev() {
        assert!(!ahead.is_empty());
        (0..32).for_each(|_| ahead.ask());
        assert_eq!(ahead.len(), left * 32);
    }
    assert!(ahead.is_empty());
    ahead.ask();
    assert!(Ahead::none().is_empty() && x.ahead(0..4, 0..100).is_empty());
}

#[test]
fn scaled_rows_are_stored_in_both_orders() {
    let (values, scales) = ([1f64, 2.0, 3.0, 9.0], [2f64, 0.5, -1.0]);
    let mut by_rows = [0f32; 6];
    MatrixMut::of(&mut by_rows, 2, 3).store_scaled(1, &values, &scales);
    assert_eq!(by_rows, [0.0, 0.0, 0.0, 2.0, 1.0, -3.0]);
    let mut by_columns = [0f32; 6];
    let y = MatrixMut::of(&mut by_columns, 3, 2).transposed();
    y.store_scaled(1, &values, &scales);
    assert_eq!(by_columns, [0.0, 2.0, 0.0, 1.0, 0.0, -3.0]);
}
