"""Progress: a callable, tqdm's bar, our own bar, or nothing."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from corekit import _progress
from corekit.shuffle import shuffle_files

PHASES = {"scatter", "gather", "publish"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.write_bytes(b"some line\n" * 100_000)
    return path


def test_a_callable_hears_of_bytes_and_phases(source: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, int | None, str]] = []
    shuffle_files(source, tmp_path / "out", progress=lambda *state: heard.append(state))
    assert heard
    assert {phase for _, _, phase in heard} <= PHASES
    assert all(done >= 0 and (total is None or done <= total) for done, total, _ in heard)


def test_what_a_callable_raises_cancels_the_run_and_is_passed_on(
    source: Path, tmp_path: Path
) -> None:
    class EnoughError(Exception):
        pass

    def stop(done: int, total: int | None, phase: str) -> None:
        raise EnoughError(phase)

    out = tmp_path / "out"
    out.write_bytes(b"old")
    with pytest.raises(EnoughError):
        shuffle_files(source, out, progress=stop)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("silent", [None, False])
def test_silence(
    source: Path, tmp_path: Path, silent: bool | None, capfd: pytest.CaptureFixture[str]
) -> None:
    shuffle_files(source, tmp_path / "out", seed=1, progress=silent)
    assert capfd.readouterr() == ("", "")


def test_true_shows_a_bar_on_standard_error(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shuffle_files(source, tmp_path / "out", seed=1, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert any(phase in err for phase in PHASES)
    assert err.endswith("\n")


def test_without_tqdm_our_own_bar_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with _progress.reporting(True) as show:
        assert show is not None
        show(0, 2048, "scatter")
        show(1024, 2048, "scatter")
        show(2048, 2048, "gather")
    shown = stream.getvalue()
    assert shown.startswith("\rscatter:   0% [........................] 0 B of 2.0 KiB")
    assert shown.endswith("\n")
    assert "gather: 100% [########################] 2.0 KiB of 2.0 KiB" in shown


def test_our_own_bar_without_a_total() -> None:
    stream = io.StringIO()
    bar = _progress.PlainBar(stream)
    bar.show(3 << 20, None, "scatter")
    bar.close()
    assert "scatter: 3.0 MiB" in stream.getvalue()


def test_a_bar_that_never_moved_leaves_no_trace() -> None:
    stream = io.StringIO()
    _progress.PlainBar(stream).close()
    assert stream.getvalue() == ""


def test_a_stream_that_fails_ends_the_bar_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    with _progress.reporting(True) as show:
        assert show is not None
        show(0, 1, "scatter")
        show(1, 1, "scatter")


def test_without_standard_error_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with _progress.reporting(True) as show:
        assert show is None
