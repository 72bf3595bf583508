"""Measuring what one call adds to the resident memory of a process of its own.

A child imports corekit and NumPy and does nothing else, notes its resident memory,
sets the system's high-water mark back to it, makes the call, and reads the mark. So
everything counts that the call makes resident: buffers, tables, stacks, the pages of
code that it is the first to run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, TypeAlias

MIB = 1 << 20
# Guards against hangs and measures nothing.
PATIENCE = 60

Stream: TypeAlias = int | IO[bytes] | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call in a child did, sizes in bytes."""

    before: int
    """Resident memory before the call."""
    added: int
    """Most resident memory during the call, above what there was before it."""
    exact: bool
    """Whether the mark could be set back; if not, `added` may be too small."""
    report: dict[str, Any] | None
    error: str | None


def measure(
    call: str, arguments: Mapping[str, Any], *, stdin: Stream = None, stdout: Stream = None
) -> Outcome:
    """Make one of `CALLS` with these arguments in a child, and measure it."""
    with NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(dict(arguments), file)
        file.flush()
        done = subprocess.run(
            [sys.executable, __file__, call, file.name],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    said = done.stderr.decode()
    assert done.returncode == 0, said
    return Outcome(**json.loads(said.splitlines()[-1]))


def _shuffle(arguments: dict[str, Any]) -> dict[str, Any]:
    from corekit import shuffle

    if "delimiter" in arguments:
        arguments["delimiter"] = arguments["delimiter"].encode()
    return shuffle.shuffle_files(**arguments).to_dict()


def _allocate(arguments: dict[str, Any]) -> dict[str, Any]:
    """Touch so many bytes once, and give them back before the end."""
    import numpy as np

    np.ones(arguments["size"], dtype=np.uint8)
    return {}


CALLS = {"shuffle": _shuffle, "allocate": _allocate}


def _status(name: str) -> int:
    """Return a size that the kernel knows of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")


def _child(call: str, arguments: dict[str, Any]) -> None:
    import numpy as np

    import corekit
    import corekit.shuffle

    assert np.__name__, corekit.__name__
    report = error = None
    try:
        Path("/proc/self/clear_refs").write_text("5")
        exact = True
    except OSError:
        exact = False
    before = _status("VmRSS")
    try:
        report = CALLS[call](arguments)
    except corekit.errors.CorekitError as raised:
        error = f"{type(raised).__name__}: {raised}"
    added = _status("VmHWM") - before
    outcome = {"before": before, "added": added, "exact": exact, "report": report, "error": error}
    sys.stderr.write(f"\n{json.dumps(outcome)}\n")


if __name__ == "__main__":
    _child(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
