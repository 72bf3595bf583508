"""The targets that the project has set itself, each with what was measured and whether it is met.

Calls that are given their output are compared with calls that are given it, and calls that allocate
with calls that allocate, where a peer knows nothing else. What is judged is the median of the
rounds, and a range is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aims import at_least, at_most, target
from attentions.cases import LONG, SHORT
from attentions.results import share
from results import Record
from timings import quickest, ratios, row, seconds

MIB = 1 << 20
TORCH = ("torch-chunk-64", "torch-chunk-128", "torch-loop-64", "torch-loop-128")
TORCH_CHUNKS = TORCH[:2]
JAX = ("jax-scan-64", "jax-scan-128")
TORCH_GRADIENTS = (
    "torch-gradient-64",
    "torch-gradient-128",
    "torch-loop-gradient-64",
    "torch-loop-gradient-128",
)
JAX_GRADIENTS = ("jax-gradient-64", "jax-gradient-128")
# Of the peak, by the size of a head: up to 8192 tokens, and beyond.
SHARES = {64: (0.50, 0.43), 128: (0.60, 0.55)}
# Of the rate of elu + 1 without decay.
VARIANTS = (
    ("scalar-decay", "scalar decay", 0.80),
    ("vector-decay", "vector decay", 0.35),
    ("bfloat16", "bfloat16", 0.80),
    ("bhtd", "bhtd", 0.75),
    ("strided", "strided", 0.75),
)
FAVOR_SHARE = 0.50
STATE_BYTES_PER_SECOND = 100e9


def targets(case: Record) -> list[Record]:
    """Return the targets of a case, in the issue's order."""
    if case["kind"] == "tail":
        return list(_tail(case))
    if case["kind"] == "step":
        return list(_step(case))
    return list(_sequence(case))


def linear_peer(case: Record, names: Sequence[str] = TORCH) -> Record | None:
    """Return torch's quickest causal linear attention; JAX's where torch is not here."""
    return quickest(case, names, "out") or quickest(case, JAX, "new")


def gradient_peer(case: Record) -> Record | None:
    """Return torch's quickest forward and backward pass; JAX's where torch is not here."""
    return quickest(case, TORCH_GRADIENTS, "new") or quickest(case, JAX_GRADIENTS, "new")


def _sequence(case: Record) -> Iterator[Record]:
    own, length = row(case, "corekit"), case["shape"]["length"]
    sdpa = row(case, "torch-sdpa")
    yield target("x torch's softmax attention", ">", 1.0, ratios(sdpa, own, "new"))
    softmax = ratios(row(case, "corekit-softmax"), sdpa, "new")
    yield at_most("x the time of torch's softmax attention: ours", 1.3, softmax)
    if length < SHORT:
        return
    needed = 10.0 if length >= 8192 else 6.0
    for names, words in (
        (TORCH, "the quickest causal form in torch"),
        (TORCH_CHUNKS, "torch, all chunks at once"),
    ):
        peer = linear_peer(case, names)
        step = "out" if peer and "out" in peer["summary"] else "new"
        name = f" ({peer['name']})" if peer else ""
        yield at_least(f"x {words}{name}", needed, ratios(peer, own, step))
    if case["shape"]["dim"] in SHARES and length > SHORT:
        wanted = SHARES[case["shape"]["dim"]][length >= LONG]
        yield at_least("of the FMA peak", wanted, _share(case, own))
    for name, words, wanted in VARIANTS:
        variant = row(case, f"corekit-{name}")
        yield at_least(f"of the rate without: {words}", wanted, ratios(own, variant, "out"))
    favor = row(case, "corekit-favor")
    yield at_least("of the FMA peak: Favor, by its own work", FAVOR_SHARE, _share(case, favor))
    einsum = ratios(row(case, "torch-einsum"), row(case, "corekit-full"), "new")
    yield at_least("x torch's einsum, not causal", 2.0, einsum)
    gradient, peer = row(case, "corekit-gradient"), gradient_peer(case)
    name = f" ({peer['name']})" if peer else ""
    yield at_least(f"x forward + backward{name}", 5.0, ratios(peer, gradient, "new"))
    yield from _memory(case, own, gradient)
    avx2 = row(case, "corekit-avx2")
    wide = own is not None and str(own["version"]).endswith("avx512")
    rates = ratios(own, avx2, "out") if wide else []
    yield at_least("of the rate of AVX-512: AVX2", 0.45, rates)


def _memory(case: Record, own: Record | None, gradient: Record | None) -> Iterator[Record]:
    threads = case["threads"]
    size = [own["summary"]["first"]["extra_bytes"] / MIB / threads] if own is not None else []
    yield target("MiB a thread beyond the output", "<", 1.0, size)
    size = []
    if gradient is not None:
        # The forward pass has an output beside the gradients.
        arrays = gradient["bytes"] / 8
        extra = gradient["summary"]["first"]["extra_bytes"] - arrays
        size = [max(0.0, extra) / (3 * arrays)]
    yield at_most("of the bytes of q, k and v: gradient", 1.0, size)


def _step(case: Record) -> Iterator[Record]:
    own = row(case, "corekit")
    if case["name"] == "overhead":
        micros = [1e6 * each for each in seconds(own, "out")] if own else []
        yield at_most("microseconds a call", 3.0, micros)
        return
    for name, words in (("", "one thread"), ("-2-threads", "two threads")):
        torch = row(case, f"torch{name}") or row(case, "jax")
        yield at_least(
            f"x torch in place: {words}", 4.0, ratios(torch, row(case, f"corekit{name}"), "out")
        )
    rates = [own["bytes"] / 1e9 / each for each in seconds(own, "out")] if own else []
    yield at_least("GB/s of state: one thread", STATE_BYTES_PER_SECOND / 1e9, rates)


def _tail(case: Record) -> Iterator[Record]:
    own = row(case, "corekit")
    tails = [each["tail"] for each in own["rounds"]] if own else []
    found = [tail["all"]["99.9"] / tail["one"]["99.9"] for tail in tails]
    yield at_most("x the p99.9 of one thread: two threads", 2.0, found)


def _share(case: Record, each: Record | None) -> list[float]:
    return share(case, each) if each is not None else []
