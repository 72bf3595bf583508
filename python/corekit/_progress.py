"""Progress: nothing, a bar on standard error, or the caller's own function.

The core calls ``progress(done, total, phase)`` from the thread that waits for
the run, some times a second; `total` is None as long as it is not known.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, TypeAlias

from corekit import _checks, _size

Callback: TypeAlias = Callable[[int, int | None, str], object]
Progress: TypeAlias = bool | Callback | None


def check(progress: Any) -> None:
    """Refuse what is neither None, a bool nor callable."""
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise _checks.wrong_type("progress", "None, True or a callable", progress)


@contextmanager
def reporting(progress: Progress) -> Iterator[Callback | None]:
    """Give the function that the core is to call, and close the bar in the end."""
    if progress is None or progress is False:
        yield None
    elif progress is not True:
        yield progress
    elif sys.stderr is None:  # closed by whoever started the process: nobody looks
        yield None
    else:
        bar = _Careful(_bar(sys.stderr))
        try:
            yield bar.show
        finally:
            bar.close()


def _bar(stream: TextIO) -> TqdmBar | PlainBar:
    """Return tqdm's bar when tqdm is installed, else our own."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return PlainBar(stream)
    return TqdmBar(tqdm)


class _Careful:
    """A bar that gives up when its stream fails: a lost terminal must not end the run."""

    def __init__(self, bar: TqdmBar | PlainBar) -> None:
        self._bar: TqdmBar | PlainBar | None = bar

    def show(self, done: int, total: int | None, phase: str) -> None:
        try:
            if self._bar is not None:
                self._bar.show(done, total, phase)
        except OSError:
            self._bar = None

    def close(self) -> None:
        with suppress(OSError):
            if self._bar is not None:
                self._bar.close()


class TqdmBar:
    """A tqdm bar that starts again with each phase."""

    def __init__(self, tqdm: Callable[..., Any]) -> None:
        self._tqdm = tqdm
        self._bar: Any = None
        self._phase = ""

    def show(self, done: int, total: int | None, phase: str) -> None:
        """Draw the state, at tqdm's own pace."""
        if self._bar is None:
            # Made at the first call: an empty bar before an error helps nobody.
            self._bar = self._tqdm(
                desc=phase, total=total, unit="B", unit_scale=True, unit_divisor=1024
            )
        elif phase != self._phase:
            self._bar.set_description_str(phase, refresh=False)
            self._bar.reset(total=total)
        self._phase = phase
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.close()


class PlainBar:
    """One line on a stream, drawn over itself at most ten times a second."""

    WIDTH = 24
    INTERVAL = 0.1

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._phase = ""
        self._began = 0.0
        self._drawn_at = 0.0
        self._drawn = ""
        self._latest = ""

    def show(self, done: int, total: int | None, phase: str) -> None:
        """Draw the state, unless the last drawing was a moment ago."""
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._began, self._drawn_at = phase, now, 0.0
        self._latest = self._line(done, total, now - self._began)
        if now - self._drawn_at >= self.INTERVAL:
            self._drawn_at = now
            self._draw()

    def close(self) -> None:
        """Draw the last state and leave the line."""
        if self._latest:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()

    def _draw(self) -> None:
        padding = " " * (len(self._drawn) - len(self._latest))
        self._stream.write(f"\r{self._latest}{padding}")
        self._stream.flush()
        self._drawn = self._latest

    def _line(self, done: int, total: int | None, seconds: float) -> str:
        rate = f", {_size.human(int(done / seconds))}/s" if seconds > 0 else ""
        if not total:
            return f"{self._phase}: {_size.human(done)}{rate}"
        share = min(done / total, 1.0)
        bar = ("#" * int(share * self.WIDTH)).ljust(self.WIDTH, ".")
        sizes = f"{_size.human(done)} of {_size.human(total)}"
        return f"{self._phase}: {share:4.0%} [{bar}] {sizes}{rate}"
