"""The targets that the project has set itself, each with what was measured and whether it is met.

Peers are compared by calls that allocate their output, where both do; corekit's own variants among
each other, and with the machine, by calls that are given it, which hides nothing behind the cost of
fresh pages. A range is that of the rounds.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

from projections.cases import THREADS
from projections.results import median, quickest, row, seconds
from results import Record

MIB = 1 << 20
MATMULS = ("numpy-matmul", "jax-matmul")
# By the number of columns: times scikit-learn's transform, times a product of matrices.
DENSE = {10_000: (20.0, 35.0), 768: (18.0, 4.5), 4096: (100.0, 25.0)}
RANDBLAS = 8.0
EXTRA_BYTES = 16 * MIB * THREADS


def targets(case: Record) -> list[Record]:
    """Return the targets of a case, in the issue's order."""
    return list(_sparse(case) if case["input"]["entries"] else _dense(case))


def _dense(case: Record) -> Iterator[Record]:
    own = row(case, "corekit")
    wanted = DENSE.get(case["input"]["columns"])
    matmul = quickest(case, MATMULS, "new")
    if wanted is not None:
        sparse = row(case, "sklearn-sparse")
        yield _at_least("x scikit-learn's transform", wanted[0], _ratios(sparse, own, "new"))
        name = f" ({matmul['name']})" if matmul else ""
        yield _at_least(f"x matmul{name}", wanted[1], _ratios(matmul, own, "new"))
        yield _at_least("x RandBLAS", RANDBLAS, _ratios(row(case, "randblas"), own, "out"))
    if case["input"]["columns"] == 4096:
        share = _ratios(row(case, "read-x"), own, "new", "out")
        yield _at_least("of the bandwidth of reading X", 0.55, share)
    for name, words in (("fortran", "Fortran order"), ("bfloat16", "bfloat16")):
        variant = row(case, f"corekit-{name}")
        yield _at_least(f"of C order in float32: {words}", 0.5, _ratios(own, variant, "out"))
    double = row(case, "corekit-float64")
    yield _at_least("of the rate of float32: float64", 0.5, _ratios(own, double, "out"))
    yield _avx2(case, own)
    gaussian = row(case, "corekit-gaussian")
    yield _at_least("x matmul: Gaussian, no matrix stored", 0.9, _ratios(matmul, gaussian, "new"))
    dense = [each for each in case["rows"] if each["name"].startswith("corekit")]
    sizes = [each["summary"]["first"]["extra_bytes"] for each in dense if each["status"] == "ok"]
    yield _below("MiB beyond the output in the first call", sizes)


def _sparse(case: Record) -> Iterator[Record]:
    own, fresh = row(case, "corekit"), row(case, "corekit-fresh")
    sparse = row(case, "sklearn-sparse")
    if case["input"]["kind"] == "zipf":
        yield _at_least("x transform, with the table", 4.0, _ratios(sparse, own, "new"))
        yield _at_least("x transform, table made in the call", 2.0, _ratios(sparse, fresh, "new"))
        both = sparse and fresh and [_both(sparse), _both(fresh)]
        found = [theirs / ours for theirs, ours in zip(*both, strict=True)] if both else []
        middle = _both_medians(sparse) / _both_medians(fresh) if sparse and fresh else None
        yield _at_least("x fit + transform", 25.0, (middle, found))
        pair = [each["summary"]["distortion"]["rms"] for each in (own, sparse) if each]
        half: _Found = (pair[0] / pair[1], []) if len(pair) == 2 else (None, [])
        yield _at_most("of scikit-learn's RMS distortion", 0.5, half)
    csc = row(case, "corekit-csc")
    yield _at_least("of CSR: CSC", 0.5, _ratios(own, csc, "out"))
    yield _avx2(case, own)
    sizes = [own["summary"]["out"]["growth_bytes"]] if own else []
    yield _below("MiB beyond output and table", sizes)


def _avx2(case: Record, own: Record | None) -> Record:
    avx2 = row(case, "corekit-avx2")
    level = own["version"].rpartition(" ")[2] if own else ""
    pair = _ratios(avx2, own, "out") if level == "avx512" else _ratios(None, None, "out")
    return _at_most("x the time of AVX-512: AVX2", 1.6, pair)


_Found = tuple[float | None, list[float]]


def _ratios(above: Record | None, below: Record | None, step: str, other: str = "") -> _Found:
    """Return the ratio of the medians of a step, and that of every round."""
    if above is None or below is None:
        return None, []
    other = other or step
    pairs = zip(seconds(above, step), seconds(below, other), strict=True)
    return median(above, step) / median(below, other), [over / under for over, under in pairs]


def _both(row: Record) -> list[float]:
    return [fit + new for fit, new in zip(seconds(row, "fit"), seconds(row, "new"), strict=True)]


def _both_medians(row: Record) -> float:
    return median(row, "fit") + median(row, "new")


def _at_least(what: str, needed: float, found: _Found) -> Record:
    return _target(what, ">=", needed, found)


def _at_most(what: str, needed: float, found: _Found) -> Record:
    return _target(what, "<=", needed, found)


def _below(what: str, sizes: list[int]) -> Record:
    greatest = max(sizes) / MIB if sizes else None
    return _target(what, "<", EXTRA_BYTES / MIB, (greatest, []))


_COMPARED = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


def _target(what: str, sign: str, needed: float, found: _Found) -> Record:
    value, rounds = found
    return {
        "what": what,
        "needed": f"{sign} {needed:g}",
        "measured": value,
        "range": [min(rounds), max(rounds)] if rounds else None,
        "met": None if value is None else bool(_COMPARED[sign](value, needed)),
    }
