"""Threads: the argument, else the environment, else the CPUs this process may use."""

from __future__ import annotations

import pytest

from corekit import _core, _threads
from corekit.errors import InvalidArgumentError


def test_the_argument_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREKIT_NUM_THREADS", "3")
    assert _threads.count(5) == 5


def test_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREKIT_NUM_THREADS", "3")
    assert _threads.count(None) == 3


@pytest.mark.parametrize("text", [None, "", " "])
def test_then_the_usable_cpus(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    monkeypatch.delenv("COREKIT_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("COREKIT_NUM_THREADS", text)
    assert _threads.count(None) == _core.build_info()["available_threads"] >= 1


@pytest.mark.parametrize("text", ["0", "-1", "many", "2.5", "99999", "٣"])
def test_a_bad_environment_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("COREKIT_NUM_THREADS", text)
    with pytest.raises(InvalidArgumentError, match=r"COREKIT_NUM_THREADS must be .*got"):
        _threads.count(None)
