"""The Gaussian law's entries as a formula in NumPy: IEEE + - x / sqrt and whole numbers alone.

The inverse normal distribution function is PPND16 of Wichura, "Algorithm AS 241: the percentage
points of the normal distribution", Applied Statistics 37, 1988, with a logarithm of its own, so
that no mathematical library has a say in the bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The coefficients of Wichura's three ranges, those of the highest power first: above and below
# the line of each quotient.
MIDDLE = (
    "2509.0809287301226727 33430.575583588128105 67265.770927008700853 45921.953931549871457 "
    "13731.693765509461125 1971.5909503065514427 133.14166789178437745 3.3871328727963666080",
    "5226.4952788528545610 28729.085735721942674 39307.895800092710610 21213.794301586595867 "
    "5394.1960214247511077 687.18700749205790830 42.313330701600911252 1",
)
TAIL = (
    "7.74545014278341407640e-4 .0227238449892691845833 .241780725177450611770 "
    "1.27045825245236838258 3.64784832476320460504 5.76949722146069140550 "
    "4.63033784615654529590 1.42343711074968357734",
    "1.05075007164441684324e-9 5.47593808499534494600e-4 .0151986665636164571966 "
    ".148103976427480074590 .689767334985100004550 1.67638483018380384940 "
    "2.05319162663775882187 1",
)
FAR_TAIL = (
    "2.01033439929228813265e-7 2.71155556874348757815e-5 1.24266094738807843860e-3 "
    ".0265321895265761230930 .296560571828504891230 1.78482653991729133580 "
    "5.46378491116411436990 6.65790464350110377720",
    "2.04426310338993978564e-15 1.42151175831644588870e-7 1.84631831751005468180e-5 "
    "7.86869131145613259100e-4 .0148753612908506148525 .136929880922735805310 "
    ".599832206555887937690 1",
)
# ln m = s (2 + 2/3 s^2 + 2/5 s^4 + ...) for s = (m - 1) / (m + 1).
SERIES = [2.0 / i for i in range(19, 0, -2)]


def polynomial(coefficients: list[float], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The polynomial at `x`, from the highest power down."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def quotient(lines: tuple[str, str], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient of polynomials at `x`."""
    above, below = (polynomial([float(number) for number in line.split()], x) for line in lines)
    return above / below


def minus_log(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """-ln p of 0 < p < 1: p = m / 2**e, with m between the roots of 1/2 and of 2."""
    e = 1022 - (p.view(np.int64) >> 52)
    m = np.ldexp(p, e)  # exact, in [1/2, 1)
    low = m < 0.70710678118654752440
    m, e = np.where(low, 2.0 * m, m), e + low
    s = (m - 1.0) / ((m - 1.0) + 2.0)
    log: NDArray[np.float64] = e * 0.69314718055994530942 - s * polynomial(SERIES, s * s)
    return log


def normal(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The normal quantile of ((word >> 11) + 1/2) / 2**53, one for each word."""
    upper = words >> 63 == 1
    # The chance of the nearer tail: a whole number and a half over 2**53, below 1/2.
    p = ((np.where(upper, ~words, words) >> 11).astype(np.float64) + 0.5) * 2.0**-53
    q = 0.5 - p
    z = q * quotient(MIDDLE, 0.180625 - q * q)
    tail = q > 0.425
    r = np.sqrt(minus_log(p[tail]))
    z[tail] = np.where(r <= 5.0, quotient(TAIL, r - 1.6), quotient(FAR_TAIL, r - 5.0))
    return np.where(upper, z, -z)


def gaussian(d: int, k: int, seed: int) -> NDArray[np.float64]:
    """The k x d matrix of the Gaussian law under `seed`."""
    columns = [np.random.Philox(key=seed, counter=[0, 0, j, 2**32]).random_raw(k) for j in range(d)]
    z = normal(np.array(columns, dtype=np.uint64).ravel())
    return np.ascontiguousarray((z * (1.0 / np.sqrt(k))).reshape(d, k).T)
