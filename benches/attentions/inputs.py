"""The arrays of a case: drawn once, laid out in every way that an entry wants, and judged by.

q, k, v and the gradient of the output are N(0, 1), decays log sigmoid(N(0, 1)) / 16, as
gated linear attention is initialised: a token keeps some 95 % of the state.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from attentions import formula
from attentions.cases import Shape

DECAY_DIVISOR = 16
SOFTMAX_ROWS = 32  # that are judged

Floats = npt.NDArray[np.float64]
Arrays = tuple[Any, Any, Any]


@dataclass(frozen=True)
class Inputs:
    """q, k, v as ``[B, T, H, D]`` in float32, and what else entries of a case need."""

    shape: Shape
    q: Any
    k: Any
    v: Any
    dout: Any
    scalar_decay: Any
    vector_decay: Any
    layouts: Mapping[str, Arrays]
    _references: dict[str, tuple[Floats, ...]] = field(default_factory=dict)

    @cached_property
    def heads(self) -> list[int]:
        """Return the heads by which outputs are judged."""
        return sorted({0, self.shape.heads - 1})

    @cached_property
    def rows(self) -> npt.NDArray[np.intp]:
        """Return the rows by which softmax attention is judged."""
        return np.unique(np.linspace(0, self.shape.length - 1, SOFTMAX_ROWS).astype(np.intp))

    def sampled(self, computes: str, array: Any) -> Floats:
        """Return what is judged of an output in ``[B, T, H, D]``."""
        part = array[0, self.rows] if computes == "softmax" else array[0]
        return np.asarray(part[:, self.heads], dtype=np.float64)

    def reference(self, computes: str, layout: str) -> tuple[Floats, ...]:
        """Return what the sampled outputs must be; "favor" is added by whoever has its matrix."""
        kind = f"{computes}-bfloat16" if layout == "bfloat16" else computes
        if kind not in self._references:
            self._references[kind] = self._computed(computes, layout)
        return self._references[kind]

    def _computed(self, computes: str, layout: str) -> tuple[Floats, ...]:
        source = self.layouts["bfloat16"] if layout == "bfloat16" else (self.q, self.k, self.v)
        q, k, v = (self._some(array) for array in source)
        if computes == "softmax":
            return (formula.softmax(q, k, v, self.rows),)
        if computes == "gradient":
            return formula.gradients(q, k, v, self._some(self.dout))
        if computes == "plain-step":
            return (formula.steps(q, k, v, normalize=False, scale=q.shape[-1] ** -0.5),)
        q, k = formula.elu1(q), formula.elu1(k)
        if computes == "full":
            return (formula.full(q, k, v),)
        decays = {"scalar-decay": self.scalar_decay, "vector-decay": self.vector_decay}
        decay = decays.get(computes)
        return (formula.linear(q, k, v, None if decay is None else self._some(decay)),)

    def favor(self, projection: Floats) -> tuple[Floats, ...]:
        """Return what attention with these random features must be."""
        q, k, v = (self._some(array) for array in (self.q, self.k, self.v))
        q, k = (formula.favor_features(x, projection) for x in (q, k))
        return (formula.linear(q, k, v),)

    def _some(self, array: Any) -> Floats:
        return np.asarray(array[0][:, self.heads], dtype=np.float64)


def drawn(shape: Shape, layouts: list[str], computed: list[str]) -> Inputs:
    """Draw the arrays of a case, and lay them out."""
    rng = np.random.default_rng(1)
    size = (1, shape.length, shape.heads, shape.dim)
    q, k, v = (rng.standard_normal(size, dtype=np.float32) for _ in range(3))
    dout = rng.standard_normal(size, dtype=np.float32) if "gradient" in computed else None
    vector = _decay(rng, size) if "vector-decay" in computed else None
    arrays = (q, k, v)
    found: dict[str, Arrays] = {"bthd": arrays}
    if "bhtd" in layouts:
        found["bhtd"] = _each(lambda x: np.ascontiguousarray(x.transpose(0, 2, 1, 3)), arrays)
    if "fused" in layouts:
        fused = np.stack(arrays, axis=2)
        found["fused"] = (fused[:, :, 0], fused[:, :, 1], fused[:, :, 2])
    if "float64" in layouts:
        found["float64"] = _each(lambda x: x.astype(np.float64), arrays)
    if "bfloat16" in layouts:
        kind = importlib.import_module("ml_dtypes").bfloat16
        found["bfloat16"] = _each(lambda x: x.astype(kind), arrays)
    if "tokens" in layouts:
        found["tokens"] = arrays
    return Inputs(shape, q, k, v, dout, _decay(rng, size[:3]), vector, found)


def _each(change: Any, arrays: Arrays) -> Arrays:
    q, k, v = map(change, arrays)
    return q, k, v


def _decay(rng: np.random.Generator, size: tuple[int, ...]) -> Any:
    drawn = rng.standard_normal(size, dtype=np.float32)
    return -np.log1p(np.exp(-drawn)) / np.float32(DECAY_DIVISOR)
