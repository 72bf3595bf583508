"""The figures of the README and the docs are those of the results files, and make sense."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import pages

MARK = re.compile(r"<!-- bench:([\w-]+) -->")
# What is measured by itself, and the program that puts its table into a page; benches/figures.py
# does it for all others.
STUDIES = {
    "attention-crossover": "attention_crossover.py",
    "attention-quality": "attention_quality.py",
    "projection-quality": "projection_quality.py",
    "uniformity": "uniformity.py",
}
MARKED = {
    (page, STUDIES.get(job, "figures.py"))
    for page in pages.MANUAL
    for job in MARK.findall(page.read_text(encoding="utf-8"))
}
# A median with the ends of its rounds, perhaps followed by the deviation from it.
RANGED = re.compile(r"([\d.]+)x? \(([\d.]+)-([\d.]+)[,)]")


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter where the benches' modules can be imported."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    benches = pages.ROOT / "benches"
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=benches, env=environment
    )


@pytest.mark.parametrize(
    ("page", "program"),
    sorted(MARKED),
    ids=lambda value: value if isinstance(value, str) else pages.name(value),
)
def test_figures_are_those_of_the_results(page: Path, program: str) -> None:
    done = python(program, "--check", str(page))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["README.md", "docs/measured.md"])
def test_medians_lie_within_their_ranges(name: str) -> None:
    rows = [row for row in (pages.ROOT / name).read_text().splitlines() if RANGED.search(row)]
    assert rows
    for row in rows:
        for middle, low, high in RANGED.findall(row):
            assert float(low) <= float(middle) <= float(high), row


@pytest.mark.parametrize(("name", "kept"), [("results/none.json", False), ("{tmp}/a.json", True)])
def test_results_of_changed_sources_are_not_kept(name: str, kept: bool, tmp_path: Path) -> None:
    path = name.format(tmp=tmp_path)
    case = {"name": "a", "commit": "0123456789ab+"}
    program = f"from pathlib import Path; import results; results.add(Path({path!r}), {{}}, {case})"
    done = python("-c", program)
    refused = "the sources differ from commit 0123456789ab" in done.stderr
    assert (refused, (pages.ROOT / "benches" / path).exists()) == (not kept, kept)


def test_ratios_are_of_the_rounds_that_both_have() -> None:
    # A slow tool's only round was one in which the machine was slow for both.
    program = (
        "from ratios import *; print(shown(paired([30], [3, 1, 1])), paired([None, 8], [2, 4]))"
    )
    assert python("-c", program).stdout == "10.0x [2.0]\n"


def test_rows_with_fewer_rounds_have_the_first_ones() -> None:
    program = """
from types import SimpleNamespace
from turns import interleaved
rows = [SimpleNamespace(status="ok") for _ in "abc"]
for number, entry, row in interleaved("abc", rows, [3, 1, 3]):
    print(number, entry, end=" ")
    row.status = "failed" if (number, entry) == (1, "c") else row.status
"""
    # Each round starts one entry later; b has one round, and c fails in its second.
    assert python("-c", program).stdout == "0 a 0 b 0 c 1 c 1 a 2 a "
