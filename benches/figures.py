"""Make the tables of the README and the docs from the results files, so that no figure is typed.

    python benches/figures.py                  print them
    python benches/figures.py --write FILE     put them between the markers of a Markdown file
    python benches/figures.py --check FILE     fail if what stands there is not what they are now

The markers are ``<!-- bench:shuffle -->`` and ``<!-- /bench -->``, each on a line of its own. The
same with ``projection`` and ``attention``, whose tables are made in folders of their own, and with
``summary``, a few rows of all three.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attentions.figures
import projections.figures
from aims import MEANING, at_most
from ratios import shown, times
from results import (
    RESULTS,
    Record,
    cpu_seconds,
    deviation,
    floor,
    median,
    own_task,
    quickest,
    ratios,
    read,
    stages,
    timed,
    values,
)
from tables import caption, described, listed, markdown

MARKED = re.compile(
    r"(<!-- bench:(shuffle|projection|attention|summary) -->\n).*?(<!-- /bench -->)", re.DOTALL
)
# What the summary has of the shuffle: a case, corekit's row there, and what that is in words.
BRIEF = (
    ("j1-warm", "bounded", "shuffle 1 GB of JSON lines within 512 MiB"),
    ("j1-warm", "memory", "shuffle 1 GB of JSON lines in memory"),
    ("j100-warm", "memory", "shuffle 0.1 GB of JSON lines in memory"),
)


def brief(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield the rows of the summary: corekit against the quickest other tool."""
    named = {case["name"]: case for case in cases}
    for name, role, what in BRIEF:
        if name not in named:
            continue
        own, best, least = _beside(named[name], role)
        if own is not None and best is not None:
            seconds = median(own, "wall_seconds")
            of_bound = _bound(least, seconds)[1]
            yield [what, f"{seconds:.2f} s", best["tool"], _ratio(best, own), of_bound]


def summary(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield the table of ratios: corekit against the best peer of its kind, and its bound."""
    yield ["input", "corekit", "seconds", "MB/s", "best peer", "ratio", "bound s", "of bound"]
    for case in cases:
        for role, kind in (("bounded", "bounded"), ("memory", "in memory")):
            own, best, least = _beside(case, role)
            if own is None:
                continue
            seconds = median(own, "wall_seconds")
            yield [
                _input(case),
                f"{kind}, {_limit(own)}",
                f"{seconds:.2f}",
                _rate(case, own),
                f"{best['tool']} {median(best, 'wall_seconds'):.2f} s" if best else "none",
                _ratio(best, own) if best else "",
                *_bound(least, seconds),
            ]
        yield from _cliff(case)
        yield from _task(case)


def details(case: Record) -> Iterator[list[str]]:
    """Yield the table of one case: every tool, also those that failed or are absent."""
    yield [
        "tool",
        "limit",
        "seconds (min-max, MAD)",
        "+ fsync",
        "MB/s",
        "CPU s",
        "peak MB",
        "scratch MB",
        "vs corekit",
    ]
    for row in case["rows"]:
        if row["status"] != "ok":
            yield [row["tool"], _limit(row), row["status"], *[""] * 6]
            continue
        walls = values(row, "wall_seconds")
        spread = f"{min(walls):.2f}-{max(walls):.2f}, {deviation(row):.2f}"
        yield [
            row["tool"],
            _limit(row),
            f"{median(row, 'wall_seconds'):.2f} ({spread if len(walls) > 1 else 'one round'})",
            f"{median(row, 'fsync_seconds'):.2f}",
            _rate(case, row),
            f"{cpu_seconds(row):.2f}",
            _peak(row),
            f"{max(values(row, 'scratch_bytes')) / 1e6:.0f}",
            _against_own(case, row),
        ]


def notes(case: Record) -> list[str]:
    """Return why rows of a case have no time, and what must be known of those that have one."""
    told = [
        (row, f"{row['status']}: {row['reason']}" if row["status"] != "ok" else row.get("remark"))
        for row in case["rows"]
    ]
    return [f"{row['tool']}, {_limit(row)}: {words}" for row, words in told if words]


def basis(case: Record) -> str:
    """Return what the bound of a case with a task is, as a sentence; nothing for the others."""
    task = case.get("task")
    if not task or not task["floor"]:
        return ""
    return f"Bound: {task['floor']}{_judged(case)}."


def _judged(case: Record) -> str:
    """Return the target of a case and whether it is met, if it has one and was measured."""
    needed, own, least = case["task"]["target"], own_task(case), floor(case)
    if not needed or own is None or least is None:
        return ""
    judged = at_most("", needed, ratios(own, least))
    return f"; the target of at most {needed}x is {MEANING[judged['met']]} at {_ratio(own, least)}"


def bounds(cases: Sequence[Record]) -> Iterator[list[str]]:
    """Yield what makes up the physical bound of each of corekit's rows."""
    yield [
        "input",
        "corekit",
        "scratch MB",
        "scatter: disk s",
        "memory s",
        "decode s",
        "gather: disk s",
        "memory s",
        "encode s",
        "bound s",
        "seconds",
        "of bound",
    ]
    for case in cases:
        for row in timed(case, tool="corekit"):
            least, seconds = stages(row, case), median(row, "wall_seconds")
            if least is None:
                continue
            parts = [
                part
                for stage in least
                for part in (stage.disk_seconds, stage.memory_seconds, stage.codec_seconds)
            ]
            yield [
                _titled(case),
                _limit(row),
                f"{row['report']['scratch_bytes'] / 1e6:.0f}",
                *(f"{part:.2f}" for part in parts),
                *_bound(sum(stage.seconds for stage in least), seconds)[:1],
                f"{seconds:.2f}",
                *_bound(sum(stage.seconds for stage in least), seconds)[1:],
            ]


def rates(case: Record) -> str:
    """Return the measured rates of the machine as a sentence."""
    measured = case["rates"]
    words = [
        f"{key.replace('_', ' ')} {value / 1e9:.2f} GB/s" if value else f"no {key}"
        for key, value in measured.items()
        if not key.startswith("fresh")
    ]
    words += [
        f"{key.replace('_', ' ')}s {measured[key] * 1e9:.2f} s/GB"
        for key in ("fresh_page", "fresh_huge_page")
    ]
    return ", ".join(words)


def document(cases: Sequence[Record]) -> Iterator[str]:
    """Yield the tables of a results file as Markdown, with what belongs to them."""
    yield markdown(summary(cases))
    for case in cases:
        yield f"**{_titled(case)}**, {_provenance(case)}"
        yield markdown(details(case))
        yield listed(notes(case))
        yield f"Rates: {rates(case)}. {basis(case)}".rstrip()
    yield markdown(bounds(cases))


def documented(job: str, paths: Sequence[Path]) -> str:
    """Return the tables of all results files of a job, each below what machine it is from."""
    found = [read(path) for path in paths]
    pieces = [
        piece
        for each in found
        if each["cases"]
        for piece in (caption(each["machine"]), *DOCUMENTS[job](each["cases"]))
        if piece
    ]
    return "\n\n".join(pieces) + "\n"


def summarised(paths: Mapping[str, Sequence[Path]]) -> str:
    """Return a few rows of every job as one table, and the machines that they are from.

    Of several machines the last by name: processors count their families upwards.
    """
    rows = [["what", "corekit", "other tool", "ratio", "of bound"]]
    machines: dict[str, list[str]] = {}
    for job, briefly in BRIEFS.items():
        found = read(paths[job][-1])
        rows += briefly(found["cases"])
        machines.setdefault(described(found["machine"]), []).append(job)
    told = "; ".join(f"{' and '.join(jobs)}: {machine}" for machine, jobs in machines.items())
    return f"{markdown(rows)}\n\n{told[0].upper()}{told[1:]}.\n"


def _provenance(case: Record) -> str:
    versions = "; ".join(version for version in case["versions"].values() if version)
    return f"{case['date']}, commit {case['commit']}, load {case['load']} before: {versions}"


def _input(case: Record) -> str:
    return f"{case['input_bytes'] / 1e9:g} GB {case['input']}, {case['cache']}"


def _titled(case: Record) -> str:
    what = case.get("task", {}).get("what")
    return f"{_input(case)}, {what}" if what else _input(case)


def _limit(row: Record) -> str:
    return f"{row['limit_bytes'] / (1 << 20):.0f} MiB" if row["limit_bytes"] else "none"


def _rate(case: Record, row: Record) -> str:
    return f"{case['input_bytes'] / 1e6 / median(row, 'wall_seconds'):.0f}"


def _peak(row: Record) -> str:
    peak = max(values(row, "peak_memory_bytes"))
    over = row["limit_bytes"] and peak - row["idle_memory_bytes"] > row["limit_bytes"]
    return f"{peak / 1e6:.0f}{' (over)' if over else ''}"


def _bound(least: float | None, seconds: float) -> list[str]:
    return [f"{least:.2f}", f"{times(seconds / least)}x"] if least else ["", ""]


def _ratio(other: Record, own: Record) -> str:
    """Return how many times as long the other took."""
    return shown(ratios(other, own))


def _beside(case: Record, role: str) -> tuple[Record | None, Record | None, float | None]:
    """Return corekit's row in a role, the quickest of the others, and the bound's seconds."""
    rows = timed(case, role=role)
    own = next((row for row in rows if row["tool"] == "corekit"), None)
    least = stages(own, case) if own else None
    best = quickest(row for row in rows if row["tool"] != "corekit")
    return own, best, sum(stage.seconds for stage in least) if least else None


def _against_own(case: Record, row: Record) -> str:
    task = own_task(case)
    if task is not None:
        return "" if row is task else _ratio(row, task)
    own = next(iter(timed(case, tool="corekit", role=row["role"])), None)
    if own is None or row["tool"] == "corekit":
        return ""
    return _ratio(row, own)


def _task(case: Record) -> Iterator[list[str]]:
    """Yield the row of a case with a task: its peers need not have corekit's limit."""
    own = own_task(case)
    if own is None:
        return
    best = quickest(row for row in timed(case, role="task") if row is not own)
    seconds, least = median(own, "wall_seconds"), floor(case)
    if least is not None:
        of_bound = [f"{median(least, 'wall_seconds'):.2f}", _ratio(own, least)]
    else:
        parts = stages(own, case)
        of_bound = _bound(parts and sum(stage.seconds for stage in parts), seconds)
    free = "" if best is None or best["limit_bytes"] else " without limit"
    yield [
        _input(case),
        f"{case['task']['what']}, {_limit(own)}",
        f"{seconds:.2f}",
        _rate(case, own),
        f"{best['tool']}{free} {median(best, 'wall_seconds'):.2f} s" if best else "none",
        _ratio(best, own) if best else "",
        *of_bound,
    ]


def _cliff(case: Record) -> Iterator[list[str]]:
    pair = sorted(timed(case, role="cliff"), key=lambda row: int(row["limit_bytes"]))
    if len(pair) == 2:
        limits = " against ".join(map(_limit, pair))
        yield [
            _input(case),
            f"no cliff: {limits}",
            f"{median(pair[0], 'wall_seconds'):.2f}",
            _rate(case, pair[0]),
            f"corekit {median(pair[1], 'wall_seconds'):.2f} s",
            f"{_ratio(*pair)} the time",
            "",
            "",
        ]


DOCUMENTS = {
    "shuffle": document,
    "projection": projections.figures.document,
    "attention": attentions.figures.document,
}
BRIEFS = {
    "shuffle": brief,
    "projection": projections.figures.brief,
    "attention": attentions.figures.brief,
}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("results", nargs="*", type=Path, help="default: all in benches/results")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", type=Path, metavar="FILE")
    action.add_argument("--check", type=Path, metavar="FILE")
    options = parser.parse_args()
    paths = {job: _of_job(job, options.results) for job in DOCUMENTS}
    if not any(paths.values()):
        parser.error("there are no results yet: run benches/run.py")
    target: Path | None = options.write or options.check
    if target is None:
        found = [documented(job, paths[job]) for job in DOCUMENTS if paths[job]]
        print("\n".join(found), end="")
        return 0
    old = target.read_text()
    marked = {match[2] for match in MARKED.finditer(old)}
    if not marked:
        parser.error(f"{target} has no <!-- bench:shuffle --> ... <!-- /bench -->")
    for job in DOCUMENTS if "summary" in marked else sorted(marked):
        if not paths[job]:
            parser.error(f"{target} wants results of the {job}, of which there are none yet")

    def filled(found: re.Match[str]) -> str:
        job = found[2]
        text = summarised(paths) if job == "summary" else documented(job, paths[job])
        return f"{found[1]}\n{text}\n{found[3]}"

    new = MARKED.sub(filled, old)
    if options.write:
        target.write_text(new)
    elif new != old:
        print(f"{target}: its figures are not those of the results files", file=sys.stderr)
        return 1
    return 0


def _of_job(job: str, named: Sequence[Path]) -> list[Path]:
    """Return the results files of a job: those named, or all that there are."""
    paths = named or sorted(RESULTS.glob(f"{job}-*.json"))
    return [path for path in paths if read(path)["job"] == job]


if __name__ == "__main__":
    raise SystemExit(main())
