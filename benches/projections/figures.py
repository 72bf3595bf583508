"""The tables of the projection's results: ratios first, then every row, then the targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aims import verdicts
from projections.results import bound, rates
from projections.targets import MATMULS, fitted, targets
from ratios import shown, times
from results import Record
from tables import listed, markdown
from timings import median, milliseconds, notes, provenance, quickest, ratios, row, steady

INPUTS = {
    "normal": "dense, N(0, 1) times log-normal column scales",
    "zipf": "CSR, Zipf's law, tf-idf",
    "text": "CSR, the standard library's sources, tf-idf of words and pairs",
}

# What the summary of all suites has: a case, a peer with its name there, and how it is called.
BRIEF = (
    ("4096-to-512", "sklearn-sparse", "scikit-learn's transform", "new"),
    ("4096-to-512", "randblas", "RandBLAS", "out"),
    ("text-to-1000", "sklearn-sparse", "scikit-learn's transform", "new"),
)


def brief(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield the rows of the summary."""
    named = {case["name"]: case for case in cases}
    for name, peer, called, step in BRIEF:
        if name not in named:
            continue
        case = named[name]
        own, other = row(case, "corekit"), row(case, peer)
        if own is None or other is None:
            continue
        yield [
            f"project {'' if case['input']['entries'] else 'dense '}{_sized(case)}",
            f"{milliseconds(median(own, step))} ms",
            called,
            shown(ratios(other, own, step)),
            _of_bound(case, own),
        ]


def summary(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield how many times as long as corekit each peer takes, and where corekit stands."""
    yield [
        "input",
        "scikit-learn",
        "fit + transform",
        "matmul",
        "RandBLAS",
        "corekit ms",
        "with out=",
        "of bound",
        "RMS error",
        "scikit-learn's",
    ]
    for case in cases:
        own, sparse = row(case, "corekit"), row(case, "sklearn-sparse")
        if own is None:
            continue
        fresh = row(case, "corekit-fresh") or own
        yield [
            _sized(case),
            shown(ratios(sparse, own, "new")),
            shown(fitted(sparse, fresh)),
            shown(ratios(quickest(case, MATMULS, "new"), own, "new")),
            shown(ratios(row(case, "randblas"), own, "out")),
            milliseconds(median(own, "new")),
            milliseconds(median(own, "out")),
            _of_bound(case, own),
            _distortion(own, "rms"),
            _distortion(sparse, "rms") if sparse else "",
        ]


def details(case: Record) -> Iterator[list[str]]:
    """Yield every row of a case, also those that failed or are absent."""
    yield [
        "tool",
        "vs corekit",
        "ms (min-max, MAD)",
        "with out=",
        "first call",
        "fit",
        "CPU ms",
        "of bound",
        "extra MB",
        "RMS error",
        "max",
    ]
    own = row(case, "corekit")
    for each in case["rows"]:
        if each["status"] != "ok":
            yield [each["name"], each["status"], *[""] * 9]
            continue
        floor = each["role"] == "floor"
        step = "new" if "new" in each["summary"] else "out"
        told = each["summary"][step]
        spread = ", ".join(
            (
                "-".join(milliseconds(told[name]) for name in ("min", "max")),
                milliseconds(told["mad"]),
            )
        )
        compared = each is not own and each["layout"] != "row" and not floor
        yield [
            each["name"],
            shown(ratios(each, own, step)) if compared else "",
            f"{milliseconds(told['median'])} ({spread})" if step == "new" else "",
            milliseconds(median(each, "out")) if "out" in each["summary"] else "",
            "" if floor else milliseconds(median(each, "first")),
            "" if floor else milliseconds(median(each, "fit")),
            milliseconds(told["cpu_seconds"]),
            "" if floor else _of_bound(case, each),
            "" if floor else f"{each['summary']['first']['extra_bytes'] / 1e6:.0f}",
            _distortion(each, "rms"),
            _distortion(each, "max"),
        ]


def judged(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield every target with what was measured."""
    return verdicts(((_sized(case), targets(case)) for case in cases), "input")


def machine_rates(case: Record) -> str:
    """Return the rates that the bound is made of as a sentence."""
    found = rates(case)
    if found is None:
        return "The rates of the machine were not measured."
    return f"Reading X: {found[0] / 1e9:.1f} GB/s; writing Y: {found[1] / 1e9:.1f} GB/s."


def document(cases: Sequence[Record]) -> Iterator[str]:
    """Yield the tables of a results file as Markdown, with what belongs to them."""
    yield markdown(summary(cases))
    yield markdown(judged(cases))
    for case in cases:
        yield f"**{titled(case)}**, {provenance(case)}"
        yield markdown(details(case))
        yield listed(notes(case))
        yield machine_rates(case)


def titled(case: Record) -> str:
    """Return what is projected to what, in words."""
    source = case["input"]
    each = f", {source['entries'] / source['rows']:.0f} entries a row" if source["entries"] else ""
    return f"{_sized(case)}, {INPUTS[source['kind']]}{each}"


def _sized(case: Record) -> str:
    source = case["input"]
    name = {"normal": "", "zipf": "CSR ", "text": "text "}[source["kind"]]
    return f"{name}{source['rows']:,} x {source['columns']:,} to {case['n_components']:,}"


def _of_bound(case: Record, row: Record) -> str:
    least = bound(case, row)
    return f"{times(median(row, steady(row)) / least)}x" if least else ""


def _distortion(row: Record, name: str) -> str:
    found = row["summary"].get("distortion")
    return f"{found[name]:.3f}" if found else ""
