"""Blocks that show a terminal: each command is run, and what it says must be what is shown.

    ```console
    $ seq 3 > numbers.txt
    $ wc -l numbers.txt
    3 numbers.txt
    ```

All commands of a block run in one bash, standard error shown with standard output. In what is
shown ``...`` stands for anything in a line, and alone on a line for any lines. A command may fail
only where the next one is ``echo $?``.
In a ``console varying`` block the numbers are those of some machine: any number will do.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

PROMPT = "$ "
ASKS_STATUS = "echo $?"
ELLIPSIS = "..."

# Guards against hangs and measures nothing.
PATIENCE = 60

# Said by the script after each command, with its status: no command says this by itself.
_MARK = "-- end of command --"
_NUMBER = re.compile(r"[0-9](?:[0-9.,]*[0-9])?(?: (?:[KMGT]iB|B)\b)?")


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what is shown below it."""

    command: str
    shown: list[str]


def steps(block: str) -> list[Step]:
    """Return the commands of a block with what is shown below each."""
    found: list[Step] = []
    for line in block.rstrip("\n").split("\n"):
        if line.startswith(PROMPT):
            found.append(Step(line.removeprefix(PROMPT), []))
        elif found:
            found[-1].shown.append(line)
        else:
            raise ValueError(f"a console block must begin with {PROMPT!r}, got {line!r}")
    return found


def problem(
    block: str, *, folder: str, environment: Mapping[str, str], varying: bool = False
) -> str:
    """Run a block; return what is wrong with it, nothing when all is as shown."""
    wanted = steps(block)
    script = "".join(
        f"{step.command}\nstatus=$?; printf '\\n%s%d\\n' '{_MARK}' $status; (exit $status)\n"
        for step in wanted
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        check=False,
    )
    said = re.split(rf"\n{_MARK}([0-9]+)\n", done.stdout.decode("utf-8", "backslashreplace"))
    outputs, statuses = said[0:-1:2], said[1::2]
    if len(outputs) != len(wanted):
        return f"the script ended early:\n{said[-1]}"
    for number, (step, output, status) in enumerate(zip(wanted, outputs, statuses, strict=True)):
        lines = _lines(output)
        asked = number + 1 < len(wanted) and wanted[number + 1].command == ASKS_STATUS
        if status != "0" and not asked:
            return f"{PROMPT}{step.command}\nended with status {status}:\n{output}"
        shown = "\n".join(step.shown)
        if not _matches(_lines(shown), lines, varying=varying):
            return f"{PROMPT}{step.command}\nshown:\n{shown}\nsaid:\n{output}"
    return ""


def _lines(text: str) -> list[str]:
    """Return the lines of a text; empty ones at its end do not count."""
    text = text.rstrip("\n")
    return text.split("\n") if text else []


def _matches(shown: list[str], said: list[str], *, varying: bool) -> bool:
    def alike(text: str) -> str:
        return _NUMBER.sub("N", text) if varying else text

    def pattern(line: str) -> str:
        if line == ELLIPSIS:
            return r"(?:.*\n)*?"
        return ".*".join(map(re.escape, alike(line).split(ELLIPSIS))) + r"\n"

    text = "".join(alike(line) + "\n" for line in said)
    return re.fullmatch("".join(map(pattern, shown)), text) is not None
