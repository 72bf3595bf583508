"""How work is counted: products of numbers that have to be formed, twice each, for the additions.

Counted is what the algorithm of a row needs at its own chunk size, with what lies above the
diagonal left out: whoever multiplies zeros gets nothing for it. The feature maps, exponentials,
decays and the normaliser are not counted. Per token and head, with keys of m features, values of V
and chunks of C:

- causal, chunked: scores (C + 1) m, scores times values (C + 1) V, queries times state 2 m V,
  keys times values 2 m V;
- not causal: 4 m V;
- Favor: the same with m features, and 4 D m for the projections of q and k;
- softmax, causal: (T + 1) (D + V);
- gradient: forward and backward, three times the forward pass, for each product has two gradients;
- one step: 4 D V.
"""

from __future__ import annotations

from attentions.cases import FAVOR_FEATURES, Shape

LOAD_BYTES = {"float64": 8, "bfloat16": 2}


def flops(computes: str, shape: Shape, chunk: int) -> float:
    """Return the work of one call; without a chunk size, that of the recurrence."""
    dim = shape.dim
    if computes == "none":
        return 0.0
    if computes in ("step", "plain-step"):
        return float(shape.heads * 4 * dim * dim)
    if computes == "softmax":
        each = (shape.length + 1) * 2 * dim
    elif computes == "full":
        each = 4 * dim * dim
    elif computes == "favor":
        each = _chunked(FAVOR_FEATURES, dim, chunk) + 4 * dim * FAVOR_FEATURES
    else:
        each = _chunked(dim, dim, chunk)
    return float(shape.heads * shape.length * each * (3 if computes == "gradient" else 1))


def _chunked(features: int, values: int, chunk: int) -> int:
    inside = (chunk + 1) * (features + values) if chunk else 0
    return inside + 4 * features * values


def moved_bytes(computes: str, shape: Shape, layout: str) -> int:
    """Return the bytes that a call cannot but read and write: each array once, or a state twice."""
    size = LOAD_BYTES.get(layout, 4)
    if computes in ("step", "plain-step"):
        return 2 * shape.heads * shape.dim * shape.dim * size
    array = shape.heads * shape.length * shape.dim * size
    decay = {
        "scalar-decay": shape.heads * shape.length * 4,
        "vector-decay": shape.heads * shape.length * shape.dim * 4,
    }
    return array * (8 if computes == "gradient" else 4) + decay.get(computes, 0)
