"""The runner of terminal blocks finds what is wrong with one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from docs import console


def problem(block: str, folder: Path, *, varying: bool = False) -> str:
    return console.problem(block, folder=str(folder), environment=os.environ, varying=varying)


@pytest.mark.parametrize(
    "block",
    [
        "$ echo a\na\n",
        "$ echo a > file\n$ cat file\na\n",
        "$ printf a\na\n",
        "$ seq 5\n1\n...\n5\n",
        "$ seq 5 | tail -n 2 | tr '\\n' ' '\n...5 \n",
        "$ echo a >&2\na\n",
        "$ false\n$ echo $?\n1\n",
        "$ echo a; echo; echo b\na\n\nb\n",
        "$ true\n",
    ],
)
def test_what_is_as_shown_passes(block: str, tmp_path: Path) -> None:
    assert problem(block, tmp_path) == ""


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("$ echo a\nb\n", "said:\na"),
        ("$ echo a\n", "said:\na"),
        ("$ true\na\n", "shown:\na"),
        ("$ echo a; echo b\na\n", "said:\na\nb"),
        ("$ seq 5\n1\n...\n6\n", "said:"),
        ("$ echo one two three\none ... four\n", "said:"),
        ("$ false\n", "status 1"),
        ("$ false\n$ echo a\na\n", "status 1"),
        ("$ exit 3\n$ echo a\na\n", "ended early"),
        ("$ echo 12\n13\n", "said:\n12"),
    ],
)
def test_what_is_not_is_found(block: str, why: str, tmp_path: Path) -> None:
    assert why in problem(block, tmp_path)


def test_numbers_may_vary_where_that_is_said(tmp_path: Path) -> None:
    block = "$ echo 'in 1.25 s, 3.0 MiB (3,145,728 bytes)'\nin 7 s, 900 B (900 bytes)\n"
    assert problem(block, tmp_path, varying=True) == ""
    assert problem(block, tmp_path) != ""
    assert problem(block.replace("in 7 s", "in 7 h"), tmp_path, varying=True) != ""


def test_a_block_begins_with_a_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must begin"):
        problem("echo a\n", tmp_path)
