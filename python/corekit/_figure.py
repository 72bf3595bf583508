"""Figures of reports: made with matplotlib where it is installed, saved in one step."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable
from typing import Any

from corekit import _replace
from corekit.errors import InvalidArgumentError, MissingPackageError


def drawn(draw: Callable[[Any], None], path: str | os.PathLike[str] | None) -> Any:
    """Return a figure whose axes `draw` was given, saved under `path` if there is one."""
    try:
        module = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise MissingPackageError(
            "plot needs matplotlib, which is not installed: pip install matplotlib"
        ) from None
    # Not through pyplot: its current figure and its backend are the caller's.
    figure = module.Figure(figsize=(7, 4), layout="constrained")
    kind = None if path is None else _format(figure, os.fspath(path))
    draw(figure.subplots())
    if path is not None:
        image = io.BytesIO()
        figure.savefig(image, format=kind)
        # Given back before the image goes: Python 3.13 complains of what is still out then.
        with (
            image.getbuffer() as content,
            _replace.replacing(os.fspath(path), len(content)) as descriptor,
        ):
            _replace.write(descriptor, os.fspath(path), content)
    return figure


def _format(figure: Any, path: str) -> str:
    """Return the format that a name ends in."""
    kind = os.path.splitext(path)[1].removeprefix(".").lower()
    known = sorted(figure.canvas.get_supported_filetypes())
    if kind not in known:
        raise InvalidArgumentError(f"path must end in one of {', '.join(known)}, got {path!r}")
    return kind
