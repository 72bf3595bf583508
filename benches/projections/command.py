"""The command line of `benches/run.py projection`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import machine
import pinned
from environment import AbsentError, PeerEnvironment
from projections import figures, peers, results
from projections.cases import ROUNDS, SUITES, THREADS, Case, Input, Suite
from projections.inputs import ending
from projections.rounds import Bench
from results import RESULTS, Record, add, refuse_changed
from tables import plain
from workers import BENCHES

REPOSITORY = BENCHES.parent
# What each layout takes of memory, in sizes of the C-ordered float32 array.
LAYOUT_SIZES = {"c": 1.0, "fortran": 1.0, "float64": 2.0, "bfloat16": 0.5, "row": 0.0}
PEER_SIZES = 5.0  # JAX's own array, and what scipy's sketch takes while it runs


def add_parser(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the job to the command line of the benches."""
    parser = jobs.add_parser("projection", help="random projection", allow_abbrev=False)
    size = parser.add_mutually_exclusive_group()
    for name, words in (
        ("full", f"{ROUNDS} rounds of all cases, about 25 minutes on 2 cores (the default)"),
        ("short", "3 rounds, without the largest input; no result"),
        ("smoke", "a quick look whether the bench itself works; no result"),
    ):
        size.add_argument(f"--{name}", dest="suite", action="store_const", const=name, help=words)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="cases and tools")
    parser.add_argument("--rounds", type=int, help="instead of the suite's number")
    parser.add_argument(
        "--dir", type=Path, default=REPOSITORY / "build" / "bench", help="for files"
    )
    parser.add_argument("--wheel", type=Path, help="of corekit; default: that in target/wheels")
    parser.add_argument("--output", type=Path, help="results file; default: by kind of machine")
    parser.set_defaults(suite="full", run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Run the cases; 1 when corekit is absent or any row is red."""
    suite, complete = _selected(SUITES[options.suite], options.only, options.parser)
    directory: Path = options.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    rounds = suite.rounds if options.rounds is None else options.rounds
    if rounds < 1:
        options.parser.error(f"--rounds must be at least 1, got {rounds}")
    keep = complete and suite.name == "full" and rounds >= ROUNDS
    path = options.output or _results_path(directory, keep=keep)
    refuse_changed(path, machine.commit(REPOSITORY))
    _check_memory(suite)
    try:
        python, _ = pinned.prepared(PeerEnvironment(directory / "env"), peers.PINS, peers.NEEDED)
    except AbsentError as error:
        raise SystemExit(str(error)) from error
    wheel = options.wheel or _wheel(suite)
    corekit = pinned.unpacked(wheel, directory / "corekit") if wheel else None
    facts = machine.describe(directory)
    bench = Bench(python, corekit, _say)
    finished: list[Record] = []
    for case in suite.cases:
        file = _made(case.input, python, directory / "projection")
        load = machine.load()
        rows, source = bench.run_case(case, file, rounds)
        record: Record = {
            "name": case.name,
            "suite": suite.name,
            "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
            "commit": machine.commit(REPOSITORY),
            "load": load,
            "threads": THREADS,
            "rounds": rounds,
            "input": {
                "kind": case.input.kind,
                "rows": source["shape"][0],
                "columns": source["shape"][1],
                "entries": source["entries"],
            },
            "n_components": case.n_components,
            "rows": [asdict(row) for row in rows],
        }
        for row in record["rows"]:
            row["summary"] = results.summarised(row) if row["status"] == "ok" else {}
        finished.append(record)
        # After each case: an interrupted run keeps those that it has finished.
        add(path, facts, record, job="projection")
    _print(finished)
    _say(f"written to {os.path.relpath(path)}")
    return 1 if any(_is_bad(row) for case in finished for row in case["rows"]) else 0


def _selected(
    suite: Suite, only: Sequence[str], parser: argparse.ArgumentParser
) -> tuple[Suite, bool]:
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


def _results_path(directory: Path, *, keep: bool) -> Path:
    """Return where results go: into the repository only what is complete."""
    place = RESULTS if keep else directory
    return place / f"projection-{machine.slug(directory)}.json"


def _check_memory(suite: Suite) -> None:
    needed = max(map(_memory, suite.cases))
    available = machine.available_bytes()
    if available < needed:
        raise SystemExit(
            f"the cases need {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are "
            "available; choose smaller ones by --only"
        )


def _memory(case: Case) -> float:
    if case.input.sparse:
        return 2e9
    size = 4.0 * case.input.rows * case.input.columns
    layouts = {"c"} | {entry.layout for entry in case.entries}
    return size * (sum(LAYOUT_SIZES[layout] for layout in layouts) + PEER_SIZES) + 1e9


def _wheel(suite: Suite) -> Path | None:
    """Return the newest wheel that was built here; None where no row of corekit's is wanted."""
    if not any(entry.tool.startswith("corekit") for case in suite.cases for entry in case.entries):
        return None
    return pinned.newest_wheel(REPOSITORY)


def _made(source: Input, python: Path, directory: Path) -> Path:
    """Return the file of an input, which is made when it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{source.name}{ending(source.kind)}"
    if not path.exists():
        free, size = shutil.disk_usage(directory).free, 4 * source.rows * source.columns
        if not source.sparse and free < 2 * size:
            raise SystemExit(
                f"{directory} must have {2 * size / 1e9:.1f} GB free, it has {free / 1e9:.1f} GB; "
                "name another place by --dir"
            )
        _say(f"making {path.name}")
        argv = [str(python), "-m", "projections.inputs", source.kind]
        argv += [str(source.rows), str(source.columns), str(path)]
        subprocess.run(argv, check=True, env={**os.environ, "PYTHONPATH": str(BENCHES)})
    return path


def _is_bad(row: Record) -> bool:
    """Tell whether a row fails the bench: a peer may be absent, corekit may not."""
    status: str = row["status"]
    return status == "failed" or (row["tool"].startswith("corekit") and status != "ok")


def _print(cases: Sequence[Record]) -> None:
    print(f"\n{plain(list(figures.summary(cases)))}")
    red = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for case in cases:
        print(f"\n{figures.titled(case)}")
        table = plain(list(figures.details(case))).splitlines()
        print(table[0])
        for line, row in zip(table[1:], case["rows"], strict=True):
            print(f"\x1b[31m{line}\x1b[0m" if red and _is_bad(row) else line)
        for note in figures.notes(case):
            print(note)
        print(figures.machine_rates(case))
    print(f"\n{plain(list(figures.judged(cases)))}\n")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
