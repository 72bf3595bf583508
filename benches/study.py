"""A measurement that is a script of its own: results in a file, and a plot and tables from them.

    python benches/NAME.py               measure, write the results and the plot
    python benches/NAME.py --plot        draw the plot of the results there are
    python benches/NAME.py --write FILE  put the tables between a file's markers
    python benches/NAME.py --check FILE  fail if what stands there is not the results

The markers are ``<!-- bench:NAME -->`` and ``<!-- /bench -->``, each on a line of its own, with
hyphens in the name. Run it with the interpreter of ``.venv``, whose corekit is what is measured.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import corekit
import machine

BENCHES = Path(__file__).resolve().parent
REPOSITORY = BENCHES.parent

Record = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What is measured, and what is made of it."""

    name: str
    measured: Callable[[], Record]  # figures, and "as_expected"
    document: Callable[[Record], str]
    drawn: Callable[[Record], str]

    @property
    def results(self) -> Path:
        return BENCHES / "results" / f"{self.name}.json"

    @property
    def plot(self) -> Path:
        return REPOSITORY / "docs" / "images" / f"{self.name}.svg"

    def run(self) -> int:
        """Measure; write the results and the plot."""
        commit = machine.commit(REPOSITORY)
        machine.refuse_changed(commit)
        found: Record = {
            "job": self.name,
            "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
            "commit": commit,
            "machine": machine.describe(REPOSITORY),
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "corekit": corekit.__version__,
            },
            **rounded(self.measured()),
        }
        self.results.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        self.plot.parent.mkdir(exist_ok=True)
        self.plot.write_text(self.drawn(found))
        print(self.document(found))
        return int(not found["as_expected"])

    def main(self, description: str) -> int:
        """Run the command line."""
        parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
        action = parser.add_mutually_exclusive_group()
        action.add_argument("--plot", action="store_true")
        action.add_argument("--write", type=Path, metavar="FILE")
        action.add_argument("--check", type=Path, metavar="FILE")
        options = parser.parse_args()
        target: Path | None = options.write or options.check
        if target is None and not options.plot:
            return self.run()
        if not self.results.exists():
            parser.error("there are no results yet: run it without arguments")
        found = json.loads(self.results.read_text())
        if target is None:
            self.plot.write_text(self.drawn(found))
            return 0
        begin, end = f"<!-- bench:{self.name} -->", "<!-- /bench -->"
        marked = re.compile(rf"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
        old = target.read_text()
        if not marked.search(old):
            parser.error(f"{target} has no {begin} ... {end}")
        new = marked.sub(lambda marks: f"{marks[1]}\n{self.document(found)}\n\n{marks[2]}", old)
        if options.write:
            target.write_text(new)
        elif new != old or self.plot.read_text() != self.drawn(found):
            print(f"{target}: its figures are not those of the results file", file=sys.stderr)
            return 1
        return 0


def rounded(value: Any) -> Any:
    """Return figures without the digits in which one machine may differ from another."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def measured_with(found: Record) -> str:
    """Return what the figures were measured with."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"Measured with {versions}."
