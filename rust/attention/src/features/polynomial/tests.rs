use super::*;
use corekit_base::philox::Stream;

/// So many numbers between -1 and 1.
fn numbers<T: Real>(len: usize, stream: u64) -> Vec<T> {
    let words = Stream::new(4, stream, 2 << 32);
    let number = |i| (words.word(i) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    (0..len as u64).map(|i| T::of(number(i))).collect()
}

fn both<T: Real>(key_dim: usize, order: u32) -> [Polynomial<T>; 2] {
    [
        Polynomial::taylor(key_dim, order).unwrap(),
        Polynomial::exponential_limit(key_dim, order).unwrap(),
    ]
}

/// c_j j!, plainly: 1 for Taylor.
fn falling(kind: Kind, order: u32, degree: u32) -> f64 {
    match kind {
        Kind::Taylor => 1.0,
        Kind::ExponentialLimit => (0..degree)
            .map(|i| f64::from(order - i) / f64::from(order))
            .product(),
    }
}

/// Σ c_j uʲ, plainly.
fn sum(kind: Kind, order: u32, u: f64) -> f64 {
    let mut power = 1.0;
    let mut sum = 0.0;
    for j in 0..=order {
        sum += falling(kind, order, j) * power;
        power *= u / f64::from(j + 1);
    }
    sum
}

/// The multisets of `degree` of the places below `key_dim`, in lexicographic order.
fn multisets(key_dim: usize, degree: u32) -> Vec<Vec<usize>> {
    if degree == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in multisets(key_dim, degree - 1) {
        for place in shorter.last().copied().unwrap_or(0)..key_dim {
            let mut one = shorter.clone();
            one.push(place);
            all.push(one);
        }
    }
    all
}

/// The product of every place's x, over √α!.
fn monomial(places: &[usize], x: &[f64]) -> f64 {
    let mut value = 1.0;
    for (i, place) in places.iter().enumerate() {
        let times = places[..=i].iter().filter(|p| *p == place).count();
        value *= x[*place] / (times as f64).sqrt();
    }
    value
}

fn near(got: f64, expected: f64, tolerance: f64) {
    assert!(
        (got - expected).abs() <= tolerance * (1.0 + expected.abs()),
        "{got}, expected {expected}"
    );
}

const SHAPES: [(usize, u32); 14] = [
    (0, 1),
    (0, 3),
    (1, 1),
    (1, 5),
    (2, 1),
    (2, 4),
    (3, 7),
    (5, 2),
    (9, 3),
    (16, 2),
    (17, 1),
    (40, 2),
    (65, 2),
    (20, 4),
];

#[test]
fn features_are_counted() {
    assert_eq!(n_features(0, 5), Some(1));
    assert_eq!(n_features(5, 0), Some(1));
    assert_eq!(n_features(64, 2), Some(65 * 66 / 2));
    assert_eq!(n_features(128, 3), Some(131 * 130 * 129 / 6));
    assert_eq!(n_features(1, u32::MAX), Some(1 << 32));
    assert_eq!(n_features(usize::MAX - 1, 1), Some(usize::MAX));
    for (d, n) in [
        (usize::MAX, 1),
        (usize::MAX, u32::MAX),
        (128, 1000),
        (64, u32::MAX),
    ] {
        assert_eq!(n_features(d, n), None);
    }
    // Pascal's triangle.
    for d in 1..30 {
        for n in 1..30 {
            let sum = n_features(d - 1, n).unwrap() + n_features(d, n - 1).unwrap();
            assert_eq!(n_features(d, n), Some(sum));
        }
    }
}

#[test]
fn features_are_monomials_in_graded_lexicographic_order() {
    for (d, n) in SHAPES {
        let x = numbers::<f64>(d, 0);
        for polynomial in both(d, n) {
            let count = n_features(d, n).unwrap();
            let polynomial = polynomial.with_features(count).unwrap();
            let mut phi = vec![f64::NAN; count];
            polynomial.apply(&x, &mut phi);
            let mut expected = Vec::new();
            for degree in 0..=n {
                let factor = falling(polynomial.kind, n, degree).sqrt();
                let places = multisets(d, degree);
                expected.extend(places.iter().map(|p| factor * monomial(p, &x)));
            }
            assert_eq!(phi.len(), expected.len());
            for (got, expected) in phi.iter().zip(&expected) {
                near(*got, *expected, 1e-15);
            }
        }
    }
}

fn scores_agree<T: Real>(unit: f64) {
    for (d, n) in SHAPES {
        let (x, y) = (numbers::<T>(d, 1), numbers::<T>(d, 2));
        let dot =
            |x: &[T], y: &[T]| -> f64 { x.iter().zip(y).map(|(x, y)| x.wide() * y.wide()).sum() };
        let u = dot(&x, &y);
        // All that is added up, whatever its sign.
        let all: f64 = x
            .iter()
            .zip(&y)
            .map(|(x, y)| (x.wide() * y.wide()).abs())
            .sum();
        for polynomial in both::<T>(d, n) {
            let count = n_features(d, n).unwrap();
            let polynomial = polynomial.with_features(count).unwrap();
            let (mut left, mut right) = (vec![T::ZERO; count], vec![T::ZERO; count]);
            polynomial.apply(&x, &mut left);
            polynomial.apply(&y, &mut right);
            let expected = sum(polynomial.kind, n, u);
            let tolerance = f64::from(4 + n) * unit * sum(polynomial.kind, n, all);
            near(dot(&left, &right), expected, tolerance);
            near(polynomial.value(T::of(u)).wide(), expected, tolerance);
        }
    }
}

#[test]
fn products_of_features_are_the_polynomial_of_the_product() {
    scores_agree::<f32>(f64::from(f32::EPSILON));
    scores_agree::<f64>(f64::EPSILON);
}

fn slices_are_values<T: Real>() {
    for n in [1, 2, 3, 8, 9, 100] {
        for polynomial in both::<T>(5, n) {
            for len in [0, 1, 7, 8, 9, 31, 32, 33, 40, 100] {
                let u = numbers::<T>(len, 3);
                let mut values = u.clone();
                polynomial.values(&mut values);
                let mut slopes = vec![T::of(f64::NAN); len];
                polynomial.slopes_into(&u, &mut slopes);
                for (i, u) in u.iter().enumerate() {
                    assert_eq!(values[i], polynomial.value(*u));
                    assert_eq!(slopes[i], polynomial.slope(*u));
                }
            }
        }
    }
}

#[test]
fn slices_are_what_their_numbers_are() {
    slices_are_values::<f32>();
    slices_are_values::<f64>();
}

#[test]
fn slopes_are_derivatives() {
    for n in [1, 2, 5, 30, 1000] {
        for polynomial in both::<f64>(3, n) {
            for u in [-1.5, -0.2, 0.0, 0.7, 3.0] {
                let h = 1e-5;
                let rise = polynomial.value(u + h) - polynomial.value(u - h);
                near(polynomial.slope(u), rise / (2.0 * h), 1e-8);
            }
        }
    }
}

#[test]
fn high_orders_are_the_exponential() {
    let taylor = Polynomial::<f64>::taylor(64, 1000).unwrap();
    for u in [0.0, 0.5, 1.0, 10.0, 50.0, 700.0] {
        // A chain of u steps that are rounded.
        let tolerance = (2.0 + u) * f64::EPSILON;
        assert!((taylor.value(u) / u.exp() - 1.0).abs() <= tolerance, "{u}");
        assert!((taylor.slope(u) / u.exp() - 1.0).abs() <= tolerance, "{u}");
    }
    for n in [9, 10, 17, 33, 34, 100, 1000, 1 << 20, 1 << 27, u32::MAX] {
        let limit = Polynomial::<f64>::exponential_limit(64, n).unwrap();
        let single = Polynomial::<f32>::exponential_limit(64, n).unwrap();
        let wide = f64::from(n);
        for u in [-8.5f64, -1.0, -1e-3, 0.0, 1e-9, 0.1, 1.0, 7.3, 20.0, 80.0] {
            let plain = if n <= 33 { wide } else { 0.0 };
            let tolerance = (4.0 + 2.0 * u.abs() + plain) * f64::EPSILON;
            let expected = (wide * (u / wide).ln_1p()).exp();
            let error = (limit.value(u) / expected - 1.0).abs();
            assert!(error <= tolerance, "{n}, {u}: {error}");
            let slope = expected / (1.0 + u / wide);
            let error = (limit.slope(u) / slope - 1.0).abs();
            assert!(error <= tolerance, "{n}, {u}: {error}");
            let u = u as f32;
            let expected = (wide * (f64::from(u) / wide).ln_1p()).exp();
            let error = (f64::from(single.value(u)) / expected - 1.0).abs();
            assert!(error <= f64::from(f32::EPSILON), "{n}, {u}: {error}");
        }
    }
}

#[test]
fn powers_of_whole_numbers_are_exact() {
    for n in 1..=33u32 {
        let limit = Polynomial::<f64>::exponential_limit(1, n).unwrap();
        for base in -3..=3 {
            let u = f64::from((base - 1) * n as i32);
            assert_eq!(
                limit.value(u),
                f64::from(base).powi(n as i32),
                "{base}, {n}"
            );
            assert_eq!(limit.slope(u), f64::from(base).powi(n as i32 - 1));
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    for n in [1, 2, 3, 30, 31, 1000] {
        for polynomial in both::<f64>(3, n) {
            assert!(polynomial.value(f64::NAN).is_nan());
            assert_eq!(polynomial.value(f64::INFINITY), f64::INFINITY);
        }
        let limit = Polynomial::<f64>::exponential_limit(3, n).unwrap();
        let sign = if n % 2 == 0 { 1.0 } else { -1.0 };
        assert_eq!(limit.value(f64::NEG_INFINITY), sign * f64::INFINITY);
        // Beyond the range, and close to its ends.
        for u in [1e300, 1e306] {
            let expected = (1.0 + u / f64::from(n)).powi(n as i32);
            let got = limit.value(u);
            assert!(
                got == expected || (got / expected - 1.0).abs() < 1e-13,
                "{n}: {got}"
            );
        }
    }
}

fn gradients<T: Real>(tolerance: f64) {
    for (d, n) in SHAPES {
        let x = numbers::<T>(d, 5);
        let count = n_features(d, n).unwrap();
        let dphi = numbers::<T>(count, 6);
        for polynomial in both::<T>(d, n) {
            let exact = match polynomial.kind {
                Kind::Taylor => Polynomial::<f64>::taylor(d, n),
                Kind::ExponentialLimit => Polynomial::<f64>::exponential_limit(d, n),
            };
            let exact = exact.unwrap().with_features(count).unwrap();
            let weighted = |x: &[f64]| -> f64 {
                let mut phi = vec![0.0; count];
                exact.apply(x, &mut phi);
                phi.iter().zip(&dphi).map(|(a, b)| a * b.wide()).sum()
            };
            let polynomial = polynomial.with_features(count).unwrap();
            let mut phi = vec![T::ZERO; count];
            polynomial.apply(&x, &mut phi);
            let mut scratch = vec![T::of(f64::NAN); polynomial.scratch_len()];
            let start = numbers::<T>(d, 7);
            let mut dx = start.clone();
            polynomial.pull_back(&x, &phi, &dphi, &mut scratch, &mut dx);
            for place in 0..d {
                let h = 1e-5;
                let mut moved: Vec<f64> = x.iter().map(|x| x.wide()).collect();
                moved[place] += h;
                let above = weighted(&moved);
                moved[place] -= 2.0 * h;
                let rise = (above - weighted(&moved)) / (2.0 * h);
                near(dx[place].wide(), start[place].wide() + rise, tolerance);
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    gradients::<f32>(2e-5);
    gradients::<f64>(2e-8);
}

#[test]
fn what_cannot_be_is_refused() {
    for refused in [
        Polynomial::<f32>::taylor(4, 0),
        Polynomial::exponential_limit(4, 0),
    ] {
        assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    }
    for (polynomial, needed) in [
        (Polynomial::<f32>::taylor(64, 4), 4 * 814_385),
        (Polynomial::exponential_limit(128, 1000), u64::MAX),
    ] {
        let refused = polynomial.unwrap().with_features(814_384);
        assert!(matches!(refused, Err(Error::OutOfMemory { bytes, .. }) if bytes == needed));
    }
    let taylor = Polynomial::<f32>::taylor(64, 4).unwrap();
    assert!(taylor.with_features(814_385).is_ok());
}
