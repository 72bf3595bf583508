"""``corekit info``: the build, and what a run would use here by default."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version

from corekit import _core, _memory, _size, _threads
from corekit.cli import streams
from corekit.cli.parser import Parser


def run(argv: Sequence[str]) -> None:
    """Print what is asked for most often when something is slow or odd."""
    Parser(
        prog="corekit info",
        description="Show the build, the SIMD level, threads and the default memory limit.",
    ).parse_args(argv)
    build = _core.build_info()
    rows = [
        ("version", build["version"]),
        ("build", f"{build['profile']}, {build['target']}"),
        ("python", f"{platform.python_version()}, numpy {version('numpy')}"),
        ("simd", _core.simd_level()),
        ("threads", str(_threads.count(None))),
        (
            "memory limit",
            f"{_size.human(_memory.default())} "
            f"(half of the {_size.human(_memory.available())} available)",
        ),
    ]
    streams.write("".join(f"{label:<14}{text}\n" for label, text in rows))
