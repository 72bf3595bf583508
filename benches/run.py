"""Run the benchmarks: `python benches/run.py shuffle|projection|attention ...`.

See the README beside this file for what is measured, how, and how to read it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import attentions.command
import commands
import corpora
import figures
import machine
import projections.command
import results
from cases import PARTS, SUITES, Case, Storage, Suite
from environment import AbsentError, PeerEnvironment, printed
from measure import isolated
from peers import Tool, registry
from roofline import Codecs, measure_codecs, measure_rates
from rounds import Bench
from tables import plain

# Free space wanted beside the corpora, in sizes of the largest one: the output, scratch (sort's may
# be a good deal larger than its input), and room for the file system to work well.
ROOM = 4


def main() -> int:
    """Run the command line; 1 when corekit is absent or any row is red."""
    options = _options()
    code: int = options.run(options)
    return code


def _shuffle(options: argparse.Namespace) -> int:
    suite, complete = _selected(SUITES[options.suite], options.only)
    directory: Path = options.dir.resolve()
    program: Path = options.corekit or Path(sys.executable).with_name("corekit")
    keep = complete and suite.name != "smoke"
    path = options.output or commands.results_path("shuffle", directory, keep=keep)
    results.refuse_changed(path, machine.commit(commands.REPOSITORY))
    _check_room(suite, directory)

    threads = machine.cpus()
    environment = PeerEnvironment(directory / "env")
    tools = _tools(suite, environment, program.absolute())
    suite = _possible(suite, tools)
    zstd = environment.zstd() if _needs_zstd(suite) else ()
    files = {
        name: isolated(corpora.ensure, corpora.CORPORA[name], directory / "corpora", threads)
        for name in sorted({case.corpus for case in suite.cases})
    }
    stored = {
        (case.corpus, case.task.storage): _stored(files[case.corpus], case.task.storage, zstd)
        for case in suite.cases
    }
    facts = machine.describe(directory)
    bench = Bench(directory, tools, zstd, threads, commands.say)
    finished: list[results.Record] = []
    for case in suite.cases:
        load, file = machine.load(), files[case.corpus]
        # Before each case, for neighbours on a shared host make them drift within minutes.
        commands.say(f"{case.name}: measuring the machine's rates")
        sources = stored[case.corpus, case.task.storage]
        rates = isolated(measure_rates, directory, threads)
        codecs = _codecs(case, file, sources, zstd)
        rates |= isolated(measure_codecs, codecs, directory, threads)
        rows = bench.run_case(case, file, sources, options.rounds or suite.rounds)
        finished.append(
            {
                "name": case.name,
                "suite": suite.name,
                "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
                "commit": machine.commit(commands.REPOSITORY),
                "build": _build(program),
                "versions": {row.tool: _version(tools[row.tool]) for row in rows},
                "load": load,
                "threads": threads,
                "input": file.corpus.shape.what,
                "input_bytes": file.fingerprint.bytes,
                "input_records": file.fingerprint.records,
                "stored_bytes": sum(path.stat().st_size for path in sources),
                "task": asdict(case.task),
                "cache": case.cache,
                "rates": rates,
                "rows": [asdict(row) for row in rows],
            }
        )
        # After each case: an interrupted run keeps those that it has finished.
        results.add(path, facts, finished[-1])
    _print(finished)
    commands.say(f"written to {os.path.relpath(path)}")
    return commands.status(finished)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    jobs = parser.add_subparsers(dest="job", required=True)
    _add_shuffle(jobs)
    projections.command.add_parser(jobs)
    attentions.command.add_parser(jobs)
    options = parser.parse_args()
    if options.job == "shuffle":
        known = _names(SUITES[options.suite])
        for name in options.only:
            if name not in known:
                options.parser.error(f"--only takes {', '.join(known)}; got {name}")
    return options


def _add_shuffle(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sizes = {
        "short": "3 rounds on 1 GB, about 35 minutes on 2 cores (the default)",
        "full": "5 rounds, and 4 GB too",
        "smoke": "a quick look whether the bench itself works, on 100 MB",
    }
    parser = commands.add_job(jobs, "shuffle", "shuffling files", sizes, _shuffle)
    parser.add_argument("--corekit", type=Path, help="default: beside this interpreter")
    parser.add_argument("--output", type=Path, help="results file; default: by kind of machine")


def _names(suite: Suite) -> list[str]:
    tools = {entry.tool for case in suite.cases for entry in case.entries}
    return [case.name for case in suite.cases] + sorted(tools)


def _selected(suite: Suite, only: Sequence[str]) -> tuple[Suite, bool]:
    """Return what is left of a suite, and whether its cases still have all their tools."""
    cases = [case for case in suite.cases if case.name in only] or list(suite.cases)
    tools = {entry.tool for case in cases for entry in case.entries} & set(only)
    if not tools:
        return replace(suite, cases=tuple(cases)), True
    kept = [
        replace(case, entries=tuple(entry for entry in case.entries if entry.tool in tools))
        for case in cases
    ]
    return replace(suite, cases=tuple(case for case in kept if case.entries)), False


def _check_room(suite: Suite, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    sizes = {case.corpus: corpora.CORPORA[case.corpus].bytes for case in suite.cases}
    missing = [
        size for name, size in sizes.items() if not (directory / "corpora" / f"{name}.txt").exists()
    ]
    # A compressed corpus takes less than half of the plain one.
    packed = {(case.corpus, case.task.storage) for case in suite.cases} - {
        (name, "plain") for name in sizes
    }
    needed = sum(missing) + sum(sizes[name] for name, _ in packed) // 2
    needed += ROOM * max(sizes.values())
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise SystemExit(
            f"{directory} must have {needed / 1e9:.1f} GB free, it has {free / 1e9:.1f} GB; "
            "name another place by --dir"
        )


def _possible(suite: Suite, tools: Mapping[str, Tool | AbsentError]) -> Suite:
    """Return the suite without the cases whose own row is of something that is not built yet."""
    kept = []
    for case in suite.cases:
        tool = tools[case.entries[0].tool]
        if case.task.product == "batches" and isinstance(tool, AbsentError):
            commands.say(f"{case.name}: left out: {tool}")
        else:
            kept.append(case)
    return replace(suite, cases=tuple(kept))


def _needs_zstd(suite: Suite) -> bool:
    return any("zstd" in (case.task.storage, case.task.product) for case in suite.cases)


def _stored(file: corpora.CorpusFile, storage: Storage, zstd: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the files that hold a corpus in the way that a case wants it."""
    if storage == "plain":
        return (file.path,)
    command, ending = (
        (("gzip",), ".gz") if storage == "gzip" else ((*zstd, "-q", "-3", "-T1"), ".zst")
    )
    return isolated(corpora.stored, file, command, ending, PARTS)


def _codecs(
    case: Case, file: corpora.CorpusFile, sources: tuple[Path, ...], zstd: tuple[str, ...]
) -> Codecs:
    """Return the codecs whose rates the bound of a case needs."""
    return Codecs(
        zstd=zstd,
        gzip_files=sources if case.task.storage == "gzip" else (),
        zstd_files=sources if case.task.storage == "zstd" else (),
        plain=file.path if case.task.product == "zstd" else None,
    )


def _tools(
    suite: Suite, environment: PeerEnvironment, corekit: Path
) -> dict[str, Tool | AbsentError]:
    finders = registry(environment, corekit)
    tools: dict[str, Tool | AbsentError] = {}
    for name in sorted({entry.tool for case in suite.cases for entry in case.entries}):
        try:
            tools[name] = finders[name]()
        except AbsentError as error:
            tools[name] = error
            commands.say(f"absent: {name}: {error}")
    return tools


def _version(tool: Tool | AbsentError) -> str | None:
    return None if isinstance(tool, AbsentError) else tool.version


def _build(corekit: Path) -> dict[str, str]:
    """Return what `corekit info` says of the build: version, profile, SIMD level, Python."""
    pairs = (line.split(maxsplit=1) for line in printed(corekit, "info"))
    told = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    return {name: told[name] for name in ("version", "build", "python", "simd") if name in told}


def _print(cases: Sequence[results.Record]) -> None:
    print(f"\n{plain(list(figures.summary(cases)))}")
    for case in cases:
        print(f"\n{case['name']}")
        commands.show(figures.details(case), case["rows"])
        for note in figures.notes(case):
            print(note)
        print(f"{figures.rates(case)}. {figures.basis(case)}".rstrip())
    print(f"\n{plain(list(figures.bounds(cases)))}\n")


if __name__ == "__main__":
    raise SystemExit(main())
