"""The targets that the project has set itself, each with what was measured and whether it is met.

Peers are compared by calls that allocate their output, where both do; corekit's own variants among
each other, and with the machine, by calls that are given it, which hides nothing behind the cost of
fresh pages. What is judged is the median of the rounds, and a range is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

from aims import at_least, at_most, target
from projections.cases import THREADS
from ratios import paired
from results import Record
from timings import quickest, ratios, row, seconds

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
        yield at_least("x scikit-learn's transform", wanted[0], ratios(sparse, own, "new"))
        name = f" ({matmul['name']})" if matmul else ""
        yield at_least(f"x matmul{name}", wanted[1], ratios(matmul, own, "new"))
        yield at_least("x RandBLAS", RANDBLAS, ratios(row(case, "randblas"), own, "out"))
    if case["input"]["columns"] == 4096:
        share = ratios(row(case, "read-x"), own, "new", "out")
        yield at_least("of the bandwidth of reading X", 0.55, share)
    for name, words in (("fortran", "Fortran order"), ("bfloat16", "bfloat16")):
        variant = row(case, f"corekit-{name}")
        yield at_least(f"of C order in float32: {words}", 0.5, ratios(own, variant, "out"))
    double = row(case, "corekit-float64")
    yield at_least("of the rate of float32: float64", 0.5, ratios(own, double, "out"))
    yield _avx2(case, own)
    gaussian = row(case, "corekit-gaussian")
    yield at_least("x matmul: Gaussian, no matrix stored", 0.9, ratios(matmul, gaussian, "new"))
    dense = [each for each in case["rows"] if each["name"].startswith("corekit")]
    sizes = [each["summary"]["first"]["extra_bytes"] for each in dense if each["status"] == "ok"]
    yield _below("MiB beyond the output in the first call", sizes)


def _sparse(case: Record) -> Iterator[Record]:
    own, fresh = row(case, "corekit"), row(case, "corekit-fresh")
    sparse = row(case, "sklearn-sparse")
    if case["input"]["kind"] == "zipf":
        yield at_least("x transform, with the table", 4.0, ratios(sparse, own, "new"))
        yield at_least("x transform, table made in the call", 2.0, ratios(sparse, fresh, "new"))
        yield at_least("x fit + transform", 25.0, fitted(sparse, fresh))
        pair = [each["summary"]["distortion"]["rms"] for each in (own, sparse) if each]
        half = [pair[0] / pair[1]] if len(pair) == 2 else []
        yield at_most("of scikit-learn's RMS distortion", 0.5, half)
    csc = row(case, "corekit-csc")
    yield at_least("of CSR: CSC", 0.5, ratios(own, csc, "out"))
    yield _avx2(case, own)
    sizes = [own["summary"]["out"]["growth_bytes"]] if own else []
    yield _below("MiB beyond output and table", sizes)


def _avx2(case: Record, own: Record | None) -> Record:
    avx2 = row(case, "corekit-avx2")
    level = own["version"].rpartition(" ")[2] if own else ""
    pair = ratios(avx2, own, "out") if level == "avx512" else []
    return at_most("x the time of AVX-512: AVX2", 1.6, pair)


def fitted(above: Record | None, below: Record | None) -> list[float]:
    """Return the ratios of what drawing the matrix and projecting take together."""
    return paired(_both(above), _both(below)) if above and below else []


def _both(row: Record) -> list[float]:
    return [fit + new for fit, new in zip(seconds(row, "fit"), seconds(row, "new"), strict=True)]


def _below(what: str, sizes: list[int]) -> Record:
    return target(what, "<", EXTRA_BYTES / MIB, [max(sizes) / MIB] if sizes else [])
