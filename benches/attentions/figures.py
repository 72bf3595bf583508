"""The tables of attention's results: ratios first, then the targets, then every row."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from aims import verdicts
from attentions.cases import FAVOR_FEATURES
from attentions.results import bandwidth, bound, rate, share
from attentions.targets import gradient_peer, linear_peer, targets
from ratios import shown, times
from results import Record
from tables import listed, markdown
from timings import median, milliseconds, notes, provenance, ratios, row, seconds, steady

WHAT = {
    "linear": "causal",
    "scalar-decay": "causal, a decay a head",
    "vector-decay": "causal, a decay a feature",
    "favor": f"causal, {FAVOR_FEATURES} random features",
    "full": "not causal",
    "gradient": "forward + backward",
    "softmax": "softmax, causal",
    "step": "elu + 1, normalised",
    "plain-step": "no map",
    "none": "",
}
BRIEF = "16x128-8192"  # the case that the summary of all suites has


def brief(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield the rows of the summary: corekit's causal form beside torch's two."""
    case = next((case for case in cases if case["name"] == BRIEF), None)
    own = row(case, "corekit") if case else None
    least = bound(case, own) if case and own else None
    if case is None or own is None or least is None:
        return
    linear, softmax = linear_peer(case), row(case, "torch-sdpa")
    for peer, step, name in (
        (linear, _step(linear), "linear attention in torch, quickest of four"),
        (softmax, "new", "torch's softmax attention"),
    ):
        yield [
            f"attend, causal: {titled(case)}",
            f"{milliseconds(median(own, step))} ms",
            name,
            _ratio(peer, own, step),
            f"{times(median(own, steady(own)) / least)}x",
        ]


def summary(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield how many times as long as corekit each peer takes, and where corekit stands."""
    yield [
        "heads x size, tokens",
        "corekit ms",
        "GFLOP/s",
        "of peak",
        "tokens/s",
        "torch, causal linear",
        "torch SDPA",
        "JAX",
        "torch, not causal",
        "torch, gradient",
        "error",
    ]
    for case in _of(cases, "sequence"):
        own = row(case, "corekit")
        if own is None:
            continue
        peer, gradient = linear_peer(case), row(case, "corekit-gradient")
        yield [
            _sized(case),
            milliseconds(median(own, "out")),
            f"{rate(own) / 1e9:.0f}",
            _shared(case, own),
            _tokens(case, own),
            _ratio(peer, own, _step(peer)),
            _ratio(row(case, "torch-sdpa"), own, "new"),
            _ratio(_jax(case), own, "new"),
            _ratio(row(case, "torch-einsum"), row(case, "corekit-full"), "new"),
            _ratio(gradient_peer(case) if gradient else None, gradient, "new"),
            f"{own['summary']['first']['error']:.1e}",
        ]


def steps(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield one token at a time: every form of every tool."""
    yield [
        "heads x size",
        "tool",
        "threads",
        "what",
        "us (min-max, MAD)",
        "vs corekit",
        "GB/s",
        "tokens/s",
        "error",
    ]
    for case in _of(cases, "step"):
        for each in case["rows"]:
            sized = f"{case['shape']['heads']} x {case['shape']['dim']}"
            head = [sized, each["name"], str(each["threads"]), WHAT[each["computes"]]]
            if each["status"] != "ok":
                yield [*head, each["status"], *[""] * 4]
                continue
            told = each["summary"]["out"]
            low, middle, high, mad = (
                f"{1e6 * told[name]:.2f}" for name in ("min", "median", "max", "mad")
            )
            own = _same_step(case, each)
            compared = own is not None and own is not each
            yield [
                *head,
                f"{middle} ({low}-{high}, {mad})",
                _ratio(each, own, "out") if compared else "",
                f"{each['bytes'] / told['median'] / 1e9:.0f}",
                f"{1 / told['median']:,.0f}",
                f"{each['summary']['first']['error']:.1e}",
            ]


def tails(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield how late calls are beside a busy process."""
    points = ("50.0", "99.0", "99.9", "max")
    names = ("median", "p99", "p99.9", "latest")
    yield ["tool", "threads", *(f"{name} us" for name in names)]
    for case in _of(cases, "tail"):
        for each in case["rows"]:
            if each["status"] != "ok":
                yield [each["name"], "", each["status"], *[""] * 3]
                continue
            for who, threads in (("one", 1), ("all", case["threads"])):
                told = each["summary"]["tail"][who]
                yield [each["name"], str(threads), *(f"{1e6 * told[name]:.1f}" for name in points)]


def details(case: Record) -> Iterator[list[str]]:
    """Yield every row of a sequence, also those that failed or are absent."""
    yield [
        "tool",
        "what",
        "vs corekit",
        "ms (min-max, MAD)",
        "allocating",
        "first call",
        "GFLOP/s",
        "of peak",
        "of bound",
        "tokens/s",
        "extra MB",
        "error",
    ]
    own = row(case, "corekit")
    for each in case["rows"]:
        floor = each["role"] == "floor"
        if each["status"] != "ok":
            yield [each["name"], WHAT[each["computes"]], each["status"], *[""] * 9]
            continue
        if each["tool"] == "fma":
            rates = [1 / one / 1e9 for one in seconds(each, "new")]
            spread = f" ({min(rates):.0f}-{max(rates):.0f})"
            yield [
                each["name"],
                "multiply-adds",
                *[""] * 4,
                f"{1e-9 / median(each, 'new'):.0f}{spread}",
                *[""] * 5,
            ]
            continue
        step = steady(each)
        told, first = each["summary"][step], each["summary"].get("first")
        ends = "-".join(milliseconds(told[name]) for name in ("min", "max"))
        least = bound(case, each)
        other = "new" if "new" in each["summary"] and step == "out" else ""
        yield [
            each["name"],
            "all threads" if floor else WHAT[each["computes"]],
            _ratio(each, own, step) if own and each is not own and not floor else "",
            f"{milliseconds(told['median'])} ({ends}, {milliseconds(told['mad'])})",
            milliseconds(median(each, other)) if other else "",
            milliseconds(median(each, "first")) if first else "",
            "" if floor else f"{rate(each) / 1e9:.0f}",
            "" if floor else _shared(case, each),
            "" if floor or not least else f"{times(median(each, step) / least)}x",
            "" if floor else _tokens(case, each),
            f"{first['extra_bytes'] / 1e6:.1f}" if first else "",
            f"{first['error']:.1e}" if first else "",
        ]


def judged(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield every target with what was measured."""
    return verdicts(((_sized(case), targets(case)) for case in cases), "heads x size, tokens")


def machine_rates(case: Record) -> str:
    """Return what the bound is made of as a sentence."""
    peak, moved = row(case, "fma"), bandwidth(case)
    if peak is None or moved is None:
        return "The rates of the machine were not measured."
    words = [f"FMA peak {1e-9 / median(peak, 'new'):.0f} GFLOP/s"]
    for name, what in (
        ("fma-one-thread", "with one thread"),
        ("fma-float64", "in float64"),
        ("fma-avx2", "with AVX2"),
    ):
        other = row(case, name)
        words += [f"{1e-9 / median(other, 'new'):.0f} {what}"] if other else []
    return f"{', '.join(words)}; reading or copying these arrays: {moved / 1e9:.0f} GB/s."


def document(cases: Sequence[Record]) -> Iterator[str]:
    """Yield the tables of a results file as Markdown, with what belongs to them."""
    cases = ordered(cases)
    yield markdown(summary(cases))
    for kind, table in (("step", steps), ("tail", tails)):
        if _of(cases, kind):
            yield markdown(table(cases))
    yield markdown(judged(cases))
    for case in cases:
        yield f"**{titled(case)}**, {provenance(case)}"
        if case["kind"] == "sequence":
            yield markdown(details(case))
        yield listed(notes(case))
        if case["kind"] == "sequence":
            yield machine_rates(case)


def ordered(cases: Sequence[Record]) -> list[Record]:
    """Return sequences by their size, then the rest."""

    def place(case: Record) -> tuple[bool, int, int]:
        shape = case["shape"]
        return case["kind"] != "sequence", shape["dim"], shape["length"]

    sequences = [case for case in cases if case["kind"] == "sequence"]
    rest = [case for case in cases if case["kind"] != "sequence"]
    return [*sorted(sequences, key=place), *rest]


def titled(case: Record) -> str:
    """Return what a case is in words."""
    shape = case["shape"]
    heads = f"{shape['heads']} heads" if shape["heads"] > 1 else "1 head"
    if case["kind"] == "sequence":
        return f"{heads} of {shape['dim']}, {shape['length']:,} tokens"
    return f"{case['name']}, {heads} of {shape['dim']}"


def _of(cases: Sequence[Record], kind: str) -> list[Record]:
    return [case for case in cases if case["kind"] == kind]


def _sized(case: Record) -> str:
    shape = case["shape"]
    if case["kind"] != "sequence":
        return f"{case['name']}, {shape['heads']} x {shape['dim']}"
    return f"{shape['heads']} x {shape['dim']}, {shape['length']:,}"


def _jax(case: Record) -> Record | None:
    found = [each for name in (64, 128) if (each := row(case, f"jax-scan-{name}"))]
    return min(found, key=lambda each: median(each, "new"), default=None)


def _step(peer: Record | None) -> str:
    """Return the step by which a causal peer is compared: into arrays that it has, if it can."""
    return "out" if peer and "out" in peer["summary"] else "new"


def _same_step(case: Record, each: Record) -> Record | None:
    """Return corekit's row of the same form with as many threads."""
    wanted = ("corekit-step", each["computes"], each["threads"])
    found = (
        row(case, other["name"])
        for other in case["rows"]
        if (other["tool"], other["computes"], other["threads"]) == wanted
    )
    return next(found, None)


def _shared(case: Record, each: Record) -> str:
    found = share(case, each)
    return f"{100 * statistics.median(found):.0f} %" if found else ""


def _tokens(case: Record, each: Record) -> str:
    return f"{case['shape']['length'] / median(each, steady(each)):,.0f}"


def _ratio(other: Record | None, own: Record | None, step: str) -> str:
    """Return how many times as long the other takes."""
    if own is None:
        return ""
    return shown(ratios(other, own, step, step if step in own["summary"] else steady(own)))
