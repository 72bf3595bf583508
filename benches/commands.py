"""What the command lines of the suites have in common: options, selection, how rows are shown."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import machine
import pinned
from results import RESULTS, Record
from tables import plain

REPOSITORY = Path(__file__).resolve().parent.parent

SuiteT = TypeVar("SuiteT", bound=Any)


def add_job(
    jobs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    words: str,
    sizes: Mapping[str, str],
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """Add a job to the command line of the benches, with its suites; the first is the default."""
    parser = jobs.add_parser(name, help=words, allow_abbrev=False)
    size = parser.add_mutually_exclusive_group()
    for suite, told in sizes.items():
        size.add_argument(f"--{suite}", dest="suite", action="store_const", const=suite, help=told)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases and tools")
    parser.add_argument("--rounds", type=int, help="instead of the suite's number")
    parser.add_argument(
        "--dir", type=Path, default=REPOSITORY / "build" / "bench", help="for files"
    )
    parser.set_defaults(suite=next(iter(sizes)), run=run, parser=parser)
    return parser


def selected(
    suite: SuiteT, only: Sequence[str], parser: argparse.ArgumentParser
) -> tuple[SuiteT, bool]:
    """Return what is left of a suite, and whether its cases still have all their tools."""
    cases = {case.name for case in suite.cases}
    tools = {entry.name for case in suite.cases for entry in case.entries}
    for name in only:
        if name not in cases | tools:
            parser.error(f"--only takes {', '.join([*sorted(cases), *sorted(tools)])}; got {name}")
    chosen = [case for case in suite.cases if case.name in only or not cases & set(only)]
    wanted = tools & set(only)
    if wanted:
        chosen = [
            replace(case, entries=tuple(entry for entry in case.entries if entry.name in wanted))
            for case in chosen
        ]
    kept = tuple(case for case in chosen if case.entries)
    return replace(suite, cases=kept), not wanted


def results_path(job: str, directory: Path, *, keep: bool) -> Path:
    """Return where results go: into the repository only what is complete."""
    place = RESULTS if keep else directory
    return place / f"{job}-{machine.slug(directory)}.json"


def check_memory(needed: float) -> None:
    """Stop if the cases do not fit."""
    available = machine.available_bytes()
    if available < needed:
        raise SystemExit(
            f"the cases need {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are "
            "available; choose smaller ones by --only"
        )


def wheel(tools: Iterable[str]) -> Path | None:
    """Return the newest wheel that was built here; None where no row of corekit's is wanted."""
    if not any(tool.startswith("corekit") for tool in tools):
        return None
    return pinned.newest_wheel(REPOSITORY)


def is_bad(row: Record) -> bool:
    """Tell whether a row fails the bench: a peer may be absent, corekit may not."""
    status: str = row["status"]
    return status == "failed" or (row["tool"].startswith("corekit") and status != "ok")


def status(cases: Iterable[Record]) -> int:
    """Return the exit status: 1 if any row fails the bench."""
    return int(any(is_bad(row) for case in cases for row in case["rows"]))


def show(table: Iterable[Sequence[str]], rows: Sequence[Record]) -> None:
    """Print the table of a case's rows, and in red, on a terminal, those that fail the bench."""
    red = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    head, *lines = plain(list(table)).splitlines()
    print(head)
    for line, row in zip(lines, rows, strict=True):
        print(f"\x1b[31m{line}\x1b[0m" if red and is_bad(row) else line)


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
