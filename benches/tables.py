"""How tables look, in Markdown and on a terminal, and what stands above them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal: first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """Return the same as Markdown."""
    head, *rest = rows
    ruled = [head, ["---", *["---:"] * (len(head) - 1)], *rest]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def listed(notes: Sequence[str]) -> str:
    """Return notes as a list in Markdown; "" of none."""
    return "\n".join(f"- {note}" for note in notes)


def described(machine: dict[str, Any]) -> str:
    """Return what kind of machine figures come from."""
    kind = "virtual machine" if machine["virtual"] else "machine"
    return (
        f"{kind} with {machine['cpus']} CPUs ({machine['cpu']}), {machine['memory_gib']:.0f} GiB, "
        f"{machine['filesystem']}, {machine['system']} {machine['kernel']}"
    )


def caption(machine: dict[str, Any]) -> str:
    """Return the same as a line above figures."""
    words = described(machine)
    return f"{words[0].upper()}{words[1:]}:"
