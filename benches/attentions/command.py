"""The command line of `benches/run.py attention`."""

from __future__ import annotations

import argparse
import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import commands
import machine
import pinned
from attentions import figures, peers, results
from attentions.cases import LONG, ROUNDS, SUITES, THREADS, Case
from attentions.rounds import Bench
from environment import AbsentError, PeerEnvironment
from results import Record, add, refuse_changed
from tables import plain
from timings import notes

# What a case takes, in sizes of q in float32: its inputs in all layouts, and a gradient of a peer.
SIZES = 60


def add_parser(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the job to the command line of the benches."""
    sizes = {
        "full": f"{ROUNDS} rounds of all cases (the default)",
        "short": f"3 rounds, without {LONG} tokens; no result",
        "smoke": "a quick look whether the bench itself works; no result",
    }
    parser = commands.add_job(jobs, "attention", "linear attention", sizes, run)
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
    path = options.output or commands.results_path("attention", directory, keep=keep)
    refuse_changed(path, machine.commit(commands.REPOSITORY))
    commands.check_memory(max(map(_memory, suite.cases)))
    environment = PeerEnvironment(directory / "attention-env")
    try:
        python, _ = pinned.prepared(environment, peers.PINS, peers.NEEDED)
    except AbsentError as error:
        raise SystemExit(str(error)) from error
    wheel = options.wheel or commands.wheel(
        entry.tool for case in suite.cases for entry in case.entries
    )
    corekit = pinned.unpacked(wheel, directory / "corekit") if wheel else None
    facts = machine.describe(directory)
    programs = peers.compiled(directory / "attention")
    bench = Bench(python, corekit, programs, suite.turn_seconds, commands.say)
    finished: list[Record] = []
    for case in suite.cases:
        load = machine.load()
        rows = bench.run_case(case, rounds)
        record: Record = {
            "name": case.name,
            "kind": case.kind,
            "suite": suite.name,
            "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
            "commit": machine.commit(commands.REPOSITORY),
            "load": load,
            "threads": THREADS,
            "rounds": rounds,
            "shape": asdict(case.shape),
            "rows": [asdict(row) for row in rows],
        }
        for row in record["rows"]:
            row["summary"] = results.summarised(row) if row["status"] == "ok" else {}
        finished.append(record)
        # After each case: an interrupted run keeps those that it has finished.
        add(path, facts, record, job="attention")
    _print(finished)
    commands.say(f"written to {os.path.relpath(path)}")
    return commands.status(finished)


def _memory(case: Case) -> float:
    shape = case.shape
    return SIZES * 4.0 * shape.heads * shape.length * shape.dim + 1e9


def _print(cases: Sequence[Record]) -> None:
    print(f"\n{plain(list(figures.summary(cases)))}")
    for table in (list(figures.steps(cases)), list(figures.tails(cases))):
        if len(table) > 1:
            print(f"\n{plain(table)}")
    for case in cases:
        if case["kind"] == "sequence":
            print(f"\n{figures.titled(case)}")
            commands.show(figures.details(case), case["rows"])
            print(figures.machine_rates(case))
        for note in notes(case):
            print(note)
    print(f"\n{plain(list(figures.judged(cases)))}\n")
