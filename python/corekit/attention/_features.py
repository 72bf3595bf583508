"""`features`: a feature map by itself."""

from __future__ import annotations

import math
from typing import Any

from corekit import _arrays as arrays
from corekit import _threads
from corekit.attention import _maps
from corekit.errors import InvalidArgumentError


def features(
    x: Any, feature_map: _maps.FeatureMap, *, scale: float | None = None, threads: int | None = None
) -> Any:
    """Apply a feature map, as `linear_attention` does inside.

    To look at features, and to compute attention by other means: `linear_attention` never
    stores them.

    Parameters
    ----------
    x : array of shape (..., D)
        float16, bfloat16, float32 or float64; NumPy, torch on the CPU, or another array
        with DLPack. Copied where the axes but the last cannot be taken as one.
    feature_map
        As in `linear_attention`.
    scale
        Of the maps that approximate softmax, which act on sqrt(scale) x. D**-0.5 unless
        given. The others leave it to the output.
    threads
        The most threads to use; COREKIT_NUM_THREADS or all CPUs unless given.

    Returns
    -------
    array of shape (..., m)
        phi(x), of the library and the dtype of x. That of `Favor` is not stabilised: it
        may overflow.

    Raises
    ------
    InvalidArgumentError
        x has no axis, or an option is out of its range.
    ArgumentTypeError
        A dtype, or an object, that is not taken.
    OutOfMemoryError
        The system has no memory for the features.

    Notes
    -----
    O(m) a row for the maps by name, O(m D) for `Favor`, O(m) for the polynomials.

    Examples
    --------
    >>> import numpy as np
    >>> from corekit.attention import Taylor, features
    >>> q, k = np.array([[0.5, 1.0], [2.0, -1.0]])
    >>> phi = features(np.stack([q, k]), Taylor(2), scale=1.0)
    >>> phi.shape
    (2, 6)
    >>> x = float(q @ k)
    >>> bool(np.isclose(phi[0] @ phi[1], 1 + x + x**2 / 2))
    True
    """
    found = arrays.array("x", x, dtypes=arrays.FLOATS)
    applied = _maps.check(feature_map)
    if found.values.ndim == 0:
        raise InvalidArgumentError("x must have at least one axis, got an array without any")
    *rows, key_dim = found.shape
    scale = _maps.scale_of(scale, key_dim, applied)
    count = _threads.given(threads)
    m = _maps.n_features(applied, key_dim)
    out = arrays.new((*rows, m), found.dtype, found.wrap)
    total = math.prod(rows)
    if out.values.size > 0:
        _maps.core_of(applied).apply(
            (found.values.reshape(total, key_dim), found.dtype),
            (out.values.reshape(total, m), found.dtype),
            scale,
            count,
        )
    return out.wrap(out.values, out.dtype)
