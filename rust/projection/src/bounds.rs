//! How likely a Gaussian projection moves a squared length by more than eps: chi-square tails.
//!
//! For A of k rows with independent N(0, 1/k) entries and a unit vector u, k‖Au‖² is chi-square
//! with k degrees of freedom, so all there is to know is P(χ²_k <= k(1 - eps)) and
//! P(χ²_k >= k(1 + eps)). A union bound over many pairs needs them far out, so they come as
//! natural logarithms and never underflow.
//!
//! With a = k/2 and λ = 1 ∓ eps the tails are the regularized incomplete gamma functions P(a, aλ)
//! and Q(a, aλ). Substituting t = aλ·exp(∓u) in their integrals gives for both
//!
//! ```text
//! √(a/2π) / Γ*(a) · exp(-a·φ(λ - 1)) · ∫ exp(-a·(eps·u + λ·(exp(∓u) - 1 ± u))) du,  u from 0 to ∞
//! φ(x) = x - ln(1 + x),    Γ*(a) = Γ(a) / (√(2π/a) · (a/e)^a)
//! ```
//!
//! where nothing cancels: both terms of the exponent are positive, and the size of the tail is in
//! the factor in front. The integrand falls from 1 at least exponentially, which is what the
//! double-exponential rule is for, the trapezoidal one in τ with u = s·exp(τ - exp(-τ)) (Takahasi
//! and Mori, Double exponential formulas for numerical integration, Publ. RIMS 9, 1974, 721-741).
//!
//! 1. One formula serves for every k and eps. Series, continued fraction and Temme's expansion,
//!    which is what libraries switch between, need thresholds and tables, and take 10⁵ terms
//!    where k is 10⁹ and eps is small.
//! 2. The functions of public crates lose digits as k grows because they subtract ln Γ(a), which
//!    is near a·ln a, or stop at a fixed number of terms. The largest relative errors seen at
//!    k = 10⁶ and 10⁹ were 5e-10 and 3e-6 (statrs 0.18), 3e-13 and 0.3 (spec_math 0.1);
//!    puruspe 0.4 and special 0.11 failed at k = 1000. Here they are below 3e-13 for all k.

use std::f64::consts::TAU;

use crate::error::{Error, Result};

/// The step of the rule: its error is 3e-13 for k = 1 and less for more.
const STEP: f64 = 1.0 / 16.0;

/// Nodes from τ = -3.625, where u is 1e-18 of its scale, to 4.25, past where the integrand ends.
const NODES: std::ops::RangeInclusive<i32> = -58..=68;

/// Beyond this exponent the integrand is below 1e-26 of its start.
const NEGLIGIBLE: f64 = 60.0;

/// ln P(χ²_k <= k(1 - eps)) and ln P(χ²_k >= k(1 + eps)) for k = `n_components`.
///
/// The relative error of the probabilities is 1e-12, or a few roundings of their logarithm where
/// that is more. About 15 microseconds for the two.
///
/// # Errors
/// Unless `n_components >= 1` and `0 < eps < 1`.
pub fn chi_square_log_tails(n_components: u64, eps: f64) -> Result<(f64, f64)> {
    if n_components == 0 {
        return Err(Error::InvalidArgument(
            "n_components must be at least 1, got 0".to_owned(),
        ));
    }
    if !(eps > 0.0 && eps < 1.0) {
        return Err(Error::InvalidArgument(format!(
            "eps must be above 0 and below 1, got {eps}"
        )));
    }
    let a = n_components as f64 / 2.0;
    Ok((log_tail(a, eps, -1.0), log_tail(a, eps, 1.0)))
}

/// ln P(a, a(1 - eps)) for side -1, ln Q(a, a(1 + eps)) for side 1.
fn log_tail(a: f64, eps: f64, side: f64) -> f64 {
    let lambda = 1.0 + side * eps;
    // Where the exponent, up to its second order, is 1.
    let scale = 2.0 / (a * (eps + (eps * eps + 2.0 * lambda / a).sqrt()));
    let mut sum = 0.0;
    for node in NODES {
        let tau = f64::from(node) * STEP;
        let fall = (-tau).exp();
        let v = (tau - fall).exp();
        let u = scale * v;
        let exponent = a * (eps * u + lambda * exp_beyond_line(side * u));
        if exponent > NEGLIGIBLE {
            break;
        }
        sum += v * (1.0 + fall) * (-exponent).exp();
    }
    0.5 * (a / TAU).ln() - log_scaled_gamma(a) - a * line_beyond_log(side * eps)
        + (sum * STEP * scale).ln()
}

/// exp(u) - 1 - u, to full relative precision.
fn exp_beyond_line(u: f64) -> f64 {
    if u.abs() > 0.5 {
        return u.exp_m1() - u;
    }
    let (mut sum, mut term, mut n) = (0.0, u * u / 2.0, 3.0);
    while sum + term != sum {
        sum += term;
        term *= u / n;
        n += 1.0;
    }
    sum
}

/// x - ln(1 + x) for x > -1, to full relative precision.
fn line_beyond_log(x: f64) -> f64 {
    if x.abs() > 0.5 {
        return x - x.ln_1p();
    }
    // ln(1 + x) = 2 artanh r, and x - 2r = rx.
    let r = x / (2.0 + x);
    let square = r * r;
    let (mut sum, mut power, mut n) = (0.0, square, 3.0);
    while sum + power / n != sum {
        sum += power / n;
        power *= square;
        n += 2.0;
    }
    r * (x - 2.0 * sum)
}

/// ln Γ*(a), what Stirling's formula leaves of ln Γ(a), for a > 0.
fn log_scaled_gamma(mut a: f64) -> f64 {
    /// B_2j / (2j(2j - 1)).
    const STIRLING: [f64; 7] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
    ];
    let mut steps = 0.0;
    while a < 10.0 {
        steps += (a + 0.5) * (1.0 / a).ln_1p() - 1.0;
        a += 1.0;
    }
    let z = 1.0 / (a * a);
    let series = STIRLING.iter().rev().fold(0.0, |sum, b| sum * z + b);
    steps + series / a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// k, eps, and both logarithms, from 60-digit arithmetic: for odd k mpmath's incomplete gamma
    /// functions; for even k the sums that these are then; for the last two rows its quadrature.
    const GOLDEN: &[(u64, f64, f64, f64)] = &[
        (1, 1e-09, -0.38171514665656353, -1.1478744652118857),
        (1, 0.01, -0.38528369152093284, -1.1554911353178643),
        (1, 0.5, -0.6529656256763312, -1.511080734357216),
        (1, 0.9, -1.3936398091732778, -1.7833252234772545),
        (1, 0.999999, -7.133546798279142, -1.8496048501913398),
        (3, 0.001, -0.4977250597316015, -0.9386312673268571),
        (3, 0.3, -0.802767340835396, -1.3002386601438536),
        (3, 0.95, -4.214890338854354, -2.1274515489850465),
        (7, 0.2, -0.8846733310023384, -1.2084952050804478),
        (7, 0.99, -14.214364767841802, -2.9480766558148557),
        (19, 0.1, -0.8748922663520011, -1.0719139355625997),
        (19, 0.9, -15.28391027841623, -4.579407300421017),
        (21, 0.25, -1.5302988975810832, -1.6241632292586776),
        (21, 0.75, -8.530915453226472, -4.018444355581955),
        (101, 0.05, -0.976438771403644, -1.0614827827550377),
        (101, 0.5, -11.977511153133355, -7.060157888021978),
        (101, 0.999, -301.27273588813335, -18.38832834283373),
        (999, 0.01, -0.8744279325750977, -0.9012211314669778),
        (999, 0.2, -14.013035499300102, -11.300208269640741),
        (999, 0.6, -161.50450906947117, -68.45700636099753),
        (4, 1e-05, -0.5208949213282786, -0.9014010446874458),
        (4, 0.5, -1.3308932682040546, -1.6137056388801094),
        (4, 0.99999, -22.332717082711834, -2.3905460875738997),
        (20, 0.4, -2.477843449084536, -2.212750150960226),
        (1000, 0.1, -4.535901797272455, -4.225747378926618),
        (1000, 0.3, -31.174810260986607, -21.667509512525534),
        (1000, 0.95, -1026.841363271766, -145.06471405353545),
        (11842, 0.1, -34.71375013961334, -30.745735364659133),
        (100000, 0.001, -0.886531029735366, -0.8892089463338698),
        (100000, 0.02, -12.596229260416349, -12.331196224772897),
        (100000, 0.1, -272.0538187572091, -238.5194424937031),
        (100000, 0.5, -9662.994750153184, -4732.380396722114),
        (1000000, 0.002, -2.54363434906406, -2.541875031132091),
        (1000000, 0.03, -233.57944876572313, -224.5747178054645),
        (1000000, 0.3, -28343.748132505283, -18824.143942725717),
        (1000000000, 0.0002, -12.463036485928122, -12.460386795659208),
        (1000000000, 0.0015, -567.4957268570793, -566.3707279955705),
        (1000000000, 0.01, -25174.255598195185, -24840.902263833137),
        (1000000000, 0.9, -701292557.3256602, -129073067.74243997),
        (1000000000, 1e-06, -0.7111358806603607, -0.7111600829065159),
        (
            4503599627370496,
            3e-07,
            -104.91059504309611,
            -104.91055451360354,
        ),
    ];

    fn tails(k: u64, eps: f64) -> (f64, f64) {
        chi_square_log_tails(k, eps).expect("both are in range")
    }

    fn close(got: f64, wanted: f64) -> bool {
        (got - wanted).abs() <= 1e-12 + 4.0 * f64::EPSILON * wanted.abs()
    }

    #[test]
    fn tails_are_those_of_exact_arithmetic() {
        for &(k, eps, lower, upper) in GOLDEN {
            let got = tails(k, eps);
            assert!(close(got.0, lower), "k {k} eps {eps}: {} {lower}", got.0);
            assert!(close(got.1, upper), "k {k} eps {eps}: {} {upper}", got.1);
        }
    }

    #[test]
    fn two_components_are_exponential() {
        for i in 1..1000 {
            let eps = f64::from(i) / 1000.0;
            let (lower, upper) = tails(2, eps);
            assert!(close(lower, (-(eps - 1.0).exp_m1()).ln()), "eps {eps}");
            assert!(close(upper, -1.0 - eps), "eps {eps}");
        }
    }

    #[test]
    fn smallest_eps_has_all_outside() {
        for k in [1, 2, 1000, 1 << 40] {
            let (lower, upper) = tails(k, f64::MIN_POSITIVE);
            assert!((lower.exp() + upper.exp() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn failure_falls_with_components_one_by_one() {
        // What lets a search for the smallest k halve its interval.
        for eps in [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999] {
            let mut last = f64::INFINITY;
            for k in 1..3000 {
                let (lower, upper) = tails(k, eps);
                let (less, more) = (lower.min(upper), lower.max(upper));
                let log = more + (less - more).exp().ln_1p();
                assert!(log < last, "k {k} eps {eps}");
                last = log;
            }
        }
    }

    proptest! {
        #[test]
        fn tails_stay_below_chernoffs(k in 1_u64..1 << 53, eps in 1e-9_f64..1.0) {
            let (lower, upper) = tails(k, eps);
            let half = k as f64 / 2.0;
            let slack = 1.0 - 8.0 * f64::EPSILON;
            prop_assert!(lower <= -half * line_beyond_log(-eps) * slack);
            prop_assert!(upper <= -half * line_beyond_log(eps) * slack);
        }
    }

    #[test]
    fn what_has_no_tails_is_refused() {
        assert!(chi_square_log_tails(0, 0.5).is_err());
        for eps in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
            assert!(chi_square_log_tails(3, eps).is_err(), "{eps}");
        }
    }
}
