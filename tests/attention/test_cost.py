"""The promise: costs are counted right, and a measured crossover is that of the times measured.

No time is judged here: what a machine takes is its own affair.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corekit.attention import ExponentialLimit, Favor, Taylor, cost
from corekit.attention.cost import CrossoverReport, Layer, measure_crossover
from corekit.errors import ArgumentTypeError, InvalidArgumentError, OutOfMemoryError

SHAPES = [(1, 1), (1, 64), (12, 64), (16, 128), (3, 7)]


def test_the_table_of_contents() -> None:
    assert set(cost.__all__) == {"CrossoverReport", "Layer", "measure_crossover"}


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize(("h", "d"), [(1, 1), (2, 3), (3, 2)])
def test_counts_are_those_of_loops(h: int, d: int, n: int) -> None:
    width = h * d
    layer, causal = Layer(heads=h, dim=d), Layer(heads=h, dim=d, causal=True)
    # Matrices of width x width on every token: to q, k, v and out, and twice four times as wide.
    square = sum(1 for _ in range(n) for _ in range(width) for _ in range(width))
    assert layer.projections(n) == causal.projections(n) == 4 * square
    assert layer.feed_forward(n) == causal.feed_forward(n) == 2 * 4 * square
    # A score takes d of them, and its value d.
    pairs = [(t, s) for t in range(n) for s in range(n)]
    assert layer.softmax(n) == h * sum(2 * d for _ in pairs)
    assert causal.softmax(n) == h * sum(2 * d for t, s in pairs if s <= t)
    # A token is added to a state of m x V numbers, and the state is asked.
    assert layer.linear(n) == causal.linear(n) == n * h * 2 * d * d
    assert layer.linear(n, ratio=3) == n * h * 2 * (3 * d) ** 2
    assert layer.linear(n, n_features=11) == n * h * 2 * 11 * d


@pytest.mark.parametrize(("h", "d"), SHAPES)
def test_lengths_that_follow(h: int, d: int) -> None:
    layer = Layer(heads=h, dim=d)
    # n = 2 h d: attention as a whole is as much as the feed-forward part.
    n = layer.attention_passes_feed_forward
    assert n == 2 * h * d
    assert layer.projections(n) + layer.softmax(n) == layer.feed_forward(n)
    # n = 6 h d: the core is half of the layer.
    n = layer.core_passes_all_else
    assert n == 6 * h * d
    assert layer.softmax(n) == layer.projections(n) + layer.feed_forward(n)
    # n = d, and n = r^2 d.
    assert layer.linear_pays() == d
    for r in (1, 2, 4):
        n = layer.linear_pays(ratio=r)
        assert n == r * r * d
        assert layer.softmax(n) == layer.linear(n, ratio=r)
    m = 5 * d
    n = layer.linear_pays(n_features=m)
    assert layer.softmax(n) == layer.linear(n, n_features=m)


@pytest.mark.parametrize(("h", "d"), SHAPES)
def test_lengths_that_follow_causally(h: int, d: int) -> None:
    layer = Layer(heads=h, dim=d, causal=True)
    for r in (1, 2, 4):
        n = layer.linear_pays(ratio=r)
        assert n == max(1, 2 * r * r * d - 1)
        assert layer.softmax(n) == layer.linear(n, ratio=r)
    n = layer.core_passes_all_else
    assert layer.softmax(n) == layer.projections(n) + layer.feed_forward(n)
    n = layer.attention_passes_feed_forward
    assert layer.projections(n) + layer.softmax(n) == layer.feed_forward(n)


def test_large_numbers_do_not_overflow() -> None:
    layer = Layer(heads=1 << 20, dim=1 << 20)
    assert layer.softmax(1 << 40) == 2 * (1 << 80) * (1 << 40)
    assert isinstance(Layer(heads=np.int64(2), dim=np.int64(3)).linear(5), int)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "name", "error"),
    [
        ({"heads": 0, "dim": 1}, "heads", InvalidArgumentError),
        ({"heads": 1, "dim": -1}, "dim", InvalidArgumentError),
        ({"heads": 1.0, "dim": 1}, "heads", ArgumentTypeError),
        ({"heads": 1, "dim": True}, "dim", ArgumentTypeError),
        ({"heads": 1, "dim": 1, "causal": 1}, "causal", ArgumentTypeError),
    ],
)
def test_layers_that_are_refused(arguments: Any, name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{name} must .*, got "):
        Layer(**arguments)


def test_lengths_that_are_refused() -> None:
    layer = Layer(heads=2, dim=3)
    for count in (layer.projections, layer.feed_forward, layer.softmax, layer.linear):
        with pytest.raises(InvalidArgumentError, match=r"^n must .*, got -1"):
            count(-1)
    with pytest.raises(InvalidArgumentError, match=r"^ratio must .*, got 0"):
        layer.linear(3, ratio=0)
    with pytest.raises(InvalidArgumentError, match=r"^n_features must .*, got 0"):
        layer.linear_pays(n_features=0)


@pytest.fixture(scope="module")
def report() -> CrossoverReport:
    return measure_crossover(heads=1, dim=8, lengths=[1, 16, 200], threads=1)


def test_a_report_is_what_was_asked_for(report: CrossoverReport) -> None:
    assert (report.heads, report.dim, report.threads, report.dtype) == (1, 8, 1, "float32")
    assert report.lengths == (1, 16, 200)
    assert (report.causal, report.normalize, report.n_features) == (True, True, 8)
    assert report.expected == Layer(heads=1, dim=8, causal=True).linear_pays()
    for seconds in (report.softmax_seconds, report.linear_seconds):
        assert len(seconds) == 3
        assert all(value > 0 for value in seconds)


@pytest.mark.parametrize(
    "options",
    [
        {"feature_map": Favor(12, seed=1), "causal": False},
        {"feature_map": Taylor(2), "dtype": "float64"},
        {"feature_map": ExponentialLimit(2), "dtype": np.float16},
        {"feature_map": "relu", "normalize": False, "dtype": np.float32},
    ],
    ids=str,
)
def test_reports_of_other_calls(options: Any) -> None:
    found = measure_crossover(heads=2, dim=4, lengths=[3], threads=1, **options)
    m = {"Favor": 12, "Taylor": 15, "ExponentialLimit": 15}
    assert found.n_features == m.get(type(options["feature_map"]).__name__, 4)
    layer = Layer(heads=2, dim=4, causal=options.get("causal", True))
    assert found.expected == layer.linear_pays(n_features=found.n_features)


def made(softmax: list[float], linear: list[float]) -> tuple[int | None, float | None]:
    """Return what a measurement of these times at 16, 64 and 256 tokens must say."""
    faster = [quick < slow for slow, quick in zip(softmax, linear, strict=True)]
    lengths = [16, 64, 256]
    first = next((i for i in range(3) if all(faster[i:])), None)
    if first is None:
        return None, None
    if first == 0:
        return lengths[0], None
    before, after = (np.log(linear[i] / softmax[i]) for i in (first - 1, first))
    share = before / (before - after)
    return lengths[first], float(lengths[first - 1] * 4.0**share)


@pytest.mark.parametrize(
    ("softmax", "linear"),
    [
        ([1.0, 4.0, 16.0], [2.0, 3.0, 4.0]),
        ([1.0, 4.0, 16.0], [2.0, 8.0, 8.0]),
        ([1.0, 4.0, 16.0], [0.5, 1.0, 2.0]),
        ([1.0, 4.0, 16.0], [2.0, 8.0, 32.0]),
        ([1.0, 4.0, 16.0], [0.5, 8.0, 8.0]),
        ([1.0, 4.0, 16.0], [0.5, 1.0, 20.0]),
        ([1.0, 4.0, 16.0], [1.0, 4.0, 16.0]),
    ],
)
def test_crossings(
    softmax: list[float], linear: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from corekit.attention import _crossover

    times = iter(zip(softmax, linear, strict=True))
    monkeypatch.setattr(_crossover, "_timed", lambda *_: next(times))
    found = measure_crossover(heads=1, dim=4, lengths=[16, 64, 256])
    pays, crossing = made(softmax, linear)
    assert found.pays_from == pays
    assert found.crossover == (None if crossing is None else pytest.approx(crossing))
    assert (found.softmax_seconds, found.linear_seconds) == (tuple(softmax), tuple(linear))


def test_reports_are_data(report: CrossoverReport) -> None:
    held = json.loads(report.to_json())
    assert held == report.to_dict()
    assert held["lengths"] == [1, 16, 200]
    assert "tokens" in str(report)


def test_a_plot(report: CrossoverReport, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "crossover.png"
    figure = report.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    drawn = [line.get_xdata() for line in axes.lines[:2]]
    assert all(list(x) == [1, 16, 200] for x in drawn)


@pytest.mark.parametrize("lengths", [[], [2, 2], [3, 2], [0], [-1], [2**40]])
def test_lengths_to_measure(lengths: list[int]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^lengths must .*, got "):
        measure_crossover(lengths=lengths)


def test_what_is_no_sequence_of_lengths() -> None:
    wrong: Any
    for wrong in (5, "16", [1.5]):
        with pytest.raises(ArgumentTypeError, match=r"^lengths must .*, got "):
            measure_crossover(lengths=wrong)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("heads", "dim"), [(10**8, 10**6), (2**62, 1), (2**70, 1)])
def test_layers_that_no_memory_holds(heads: int, dim: int, dtype: str) -> None:
    with pytest.raises(OutOfMemoryError):
        measure_crossover(heads=heads, dim=dim, lengths=[16], dtype=dtype)


def test_numpys_bools_are_bools() -> None:
    yes: Any = np.float64(2) > np.float64(1)
    found = measure_crossover(heads=1, dim=4, lengths=[3], normalize=yes, causal=yes, threads=1)
    assert found.normalize is True
    assert found.causal is True
