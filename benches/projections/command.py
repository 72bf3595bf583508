"""The command line of `benches/run.py projection`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import commands
import machine
import pinned
from environment import AbsentError, PeerEnvironment
from projections import figures, peers, results
from projections.cases import ROUNDS, SUITES, THREADS, Case, Input
from projections.inputs import ending
from projections.rounds import Bench
from results import Record, add, refuse_changed
from tables import plain
from timings import notes
from workers import BENCHES

# What each layout takes of memory, in sizes of the C-ordered float32 array.
LAYOUT_SIZES = {"c": 1.0, "fortran": 1.0, "float64": 2.0, "bfloat16": 0.5, "row": 0.0}
PEER_SIZES = 5.0  # JAX's own array, and what scipy's sketch takes while it runs


def add_parser(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the job to the command line of the benches."""
    sizes = {
        "full": f"{ROUNDS} rounds of all cases, about 25 minutes on 2 cores (the default)",
        "short": "3 rounds, without the largest input; no result",
        "smoke": "a quick look whether the bench itself works; no result",
    }
    parser = commands.add_job(jobs, "projection", "random projection", sizes, run)
    parser.add_argument("--wheel", type=Path, help="of corekit; default: that in target/wheels")
    parser.add_argument("--output", type=Path, help="results file; default: by kind of machine")


def run(options: argparse.Namespace) -> int:
    """Run the cases; 1 when corekit is absent or any row is red."""
    suite, complete = commands.selected(SUITES[options.suite], options.only, options.parser)
    directory: Path = options.dir.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    rounds = suite.rounds if options.rounds is None else options.rounds
    if rounds < 1:
        options.parser.error(f"--rounds must be at least 1, got {rounds}")
    keep = complete and suite.name == "full" and rounds >= ROUNDS
    path = options.output or commands.results_path("projection", directory, keep=keep)
    refuse_changed(path, machine.commit(commands.REPOSITORY))
    commands.check_memory(max(map(_memory, suite.cases)))
    try:
        python, _ = pinned.prepared(PeerEnvironment(directory / "env"), peers.PINS, peers.NEEDED)
    except AbsentError as error:
        raise SystemExit(str(error)) from error
    wheel = options.wheel or commands.wheel(
        entry.tool for case in suite.cases for entry in case.entries
    )
    corekit = pinned.unpacked(wheel, directory / "corekit") if wheel else None
    facts = machine.describe(directory)
    bench = Bench(python, corekit, commands.say)
    finished: list[Record] = []
    for case in suite.cases:
        file = _made(case.input, python, directory / "projection")
        load = machine.load()
        rows, source = bench.run_case(case, file, rounds)
        record: Record = {
            "name": case.name,
            "suite": suite.name,
            "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
            "commit": machine.commit(commands.REPOSITORY),
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
    commands.say(f"written to {os.path.relpath(path)}")
    return commands.status(finished)


def _memory(case: Case) -> float:
    if case.input.sparse:
        return 2e9
    size = 4.0 * case.input.rows * case.input.columns
    layouts = {"c"} | {entry.layout for entry in case.entries}
    return size * (sum(LAYOUT_SIZES[layout] for layout in layouts) + PEER_SIZES) + 1e9


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
        commands.say(f"making {path.name}")
        argv = [str(python), "-m", "projections.inputs", source.kind]
        argv += [str(source.rows), str(source.columns), str(path)]
        subprocess.run(argv, check=True, env={**os.environ, "PYTHONPATH": str(BENCHES)})
    return path


def _print(cases: Sequence[Record]) -> None:
    print(f"\n{plain(list(figures.summary(cases)))}")
    for case in cases:
        print(f"\n{figures.titled(case)}")
        commands.show(figures.details(case), case["rows"])
        for note in notes(case):
            print(note)
        print(figures.machine_rates(case))
    print(f"\n{plain(list(figures.judged(cases)))}\n")
