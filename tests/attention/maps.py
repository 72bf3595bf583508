"""The feature maps in NumPy, plainly: what every map gives for one vector, and its adjoint.

Nothing here is quick or shared with the core, which is held to it. Maps are named as users
name them: a string, or one of the package's objects, of which the parameters alone are read.
Everything is computed in the precision of what comes in.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attention.favor_formula import matrix

Array = npt.NDArray[Any]
Map = Any  # a string, None, or an object of corekit.attention

ELEMENTWISE = ["identity", "elu1", "relu", "squared_relu", "exp", "softmax"]


def kind(feature_map: Map) -> str:
    """Return the name of a map or of its class."""
    if feature_map is None or isinstance(feature_map, str):
        return feature_map or "identity"
    return type(feature_map).__name__


def is_softmax(feature_map: Map) -> bool:
    """Whether the map approximates softmax attention: it takes the scale into its exponent."""
    return kind(feature_map) in ("Favor", "Taylor", "ExponentialLimit")


def features(x: Array, feature_map: Map, scale: float) -> Array:
    """Return phi of the last axis."""
    if is_softmax(feature_map):
        x = x * np.sqrt(x.dtype.type(scale))
    with np.errstate(invalid="ignore", over="ignore"):
        match kind(feature_map):
            case "identity":
                return x
            case "elu1":
                return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
            case "relu":
                return np.maximum(x, 0)
            case "squared_relu":
                return np.maximum(x, 0) ** 2
            case "exp":
                return np.exp(x)
            case "softmax":
                return _softmax(x)
            case "Favor":
                w = matrix(feature_map, x.shape[-1]).astype(x.dtype)
                square = (x * x).sum(axis=-1, keepdims=True)
                return np.asarray(np.exp(x @ w.T - square / 2) / np.sqrt(x.dtype.type(len(w))))
    monomials = [
        x[..., places].prod(axis=-1) * np.asarray(weights).astype(x.dtype)
        for places, weights in _powers(feature_map, x.shape[-1])
    ]
    return np.concatenate(monomials, axis=-1)


def adjoint(x: Array, feature_map: Map, scale: float, dphi: Array) -> Array:
    """Return the gradient of ``(features(x) * dphi).sum()`` with respect to x."""
    root = np.sqrt(x.dtype.type(scale)) if is_softmax(feature_map) else x.dtype.type(1)
    phi = features(x, feature_map, scale)
    match kind(feature_map):
        case "identity":
            return dphi
        case "elu1":
            return np.where(x > 0, dphi, dphi * np.exp(np.minimum(x, 0)))
        case "relu":
            return np.where(x > 0, dphi, 0)
        case "squared_relu":
            return 2 * np.maximum(x, 0) * dphi
        case "exp":
            return phi * dphi
        case "softmax":
            return np.asarray(phi * (dphi - (phi * dphi).sum(axis=-1, keepdims=True)))
        case "Favor":
            w = matrix(feature_map, x.shape[-1]).astype(x.dtype)
            both = phi * dphi
            return np.asarray(root * (both @ w - both.sum(axis=-1, keepdims=True) * x * root))
    y = x * root
    dy = np.zeros_like(y)
    first = 0
    for places, weights in _powers(feature_map, x.shape[-1]):
        given = dphi[..., first : first + len(places)] * np.asarray(weights).astype(x.dtype)
        first += len(places)
        for factor in range(places.shape[1]):
            others = y[..., np.delete(places, factor, axis=1)].prod(axis=-1)
            for one, place in enumerate(places[:, factor]):
                dy[..., place] += given[..., one] * others[..., one]
    return np.asarray(root * dy)


def size(feature_map: Map, key_dim: int) -> int:
    """Return the number of features, m."""
    match kind(feature_map):
        case "Favor":
            return int(feature_map.n_features)
        case "Taylor":
            return math.comb(key_dim + feature_map.order, feature_map.order)
        case "ExponentialLimit":
            return math.comb(key_dim + feature_map.n, feature_map.n)
    return key_dim


def _softmax(x: Array) -> Array:
    most = x.max(axis=-1, keepdims=True, initial=-np.inf)
    raised = np.exp(x - most)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _powers(feature_map: Map, key_dim: int) -> list[tuple[npt.NDArray[np.int64], Array]]:
    """Return for each degree the factors of every monomial, and the weights of the monomials."""
    if kind(feature_map) == "Taylor":
        return _graded(key_dim, feature_map.order, None)
    assert kind(feature_map) == "ExponentialLimit"
    return _graded(key_dim, feature_map.n, feature_map.n)


@cache
def _graded(
    key_dim: int, order: int, limit: int | None
) -> list[tuple[npt.NDArray[np.int64], Array]]:
    """The monomials by degree, those of a degree in the order of their sorted factors.

    The weight of x^a is 1/sqrt(a!), times sqrt(n! / (n-j)! / n^j) for the power of a limit n.
    """
    degrees = []
    for degree in range(order + 1):
        every = list(itertools.combinations_with_replacement(range(key_dim), degree))
        places = np.array(every, dtype=np.int64).reshape(len(every), degree)
        square = np.longdouble(1)
        if limit is not None:
            for j in range(degree):
                square *= np.longdouble(limit - j) / limit
        repeats = [
            math.prod(math.factorial(one.count(place)) for place in set(one)) for one in every
        ]
        degrees.append((places, np.sqrt(square / np.array(repeats, dtype=np.longdouble))))
    return degrees
