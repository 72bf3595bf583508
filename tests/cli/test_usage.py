"""Wrong usage: status 2, the name of the culprit, and no output."""

from __future__ import annotations

import pytest

import corekit
from command import error_lines, run


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "command"),
        (["shufle"], "shufle"),
        (["shuffle", "--sed", "1"], "--sed"),
        (["shuffle", "--seed"], "--seed"),
        (["shuffle", "--seed", "-1"], "--seed"),
        (["shuffle", "--seed", "one"], "--seed"),
        (["shuffle", "--seed", str(2**128)], "2**128"),
        (["shuffle", "-n", "-1"], "-n"),
        (["shuffle", "-n", "1.5"], "-n"),
        (["shuffle", "--threads", "0"], "--threads"),
        (["shuffle", "--memory-limit", "lots"], "--memory-limit"),
        (["shuffle", "--memory", "0"], "--memory"),
        (["shuffle", "--delimiter", ""], "--delimiter"),
        (["shuffle", "--delimiter", r"\q"], r"\q"),
        (["shuffle", "--delimiter", r"\x4"], r"\x"),
        (["shuffle", "--delimiter", "\\"], "--delimiter"),
        (["shuffle", "-z", "--delimiter", ","], "--delimiter"),
        (["shuffle", "-o", "a", "-o", "b"], "multiple output files"),
        (["shuffle", "-o", ""], "--output"),
        (["shuffle", "-", "-"], "standard input"),
        (["info", "extra"], "extra"),
    ],
)
def test_is_refused_by_name(arguments: list[str], named: str) -> None:
    done = run(*arguments, stdin=b"a\n")
    assert done.returncode == 2
    assert done.stdout == b""
    reason, hint = error_lines(done)
    assert reason.startswith("corekit: ")
    assert named in reason
    assert "--help" in hint


@pytest.mark.parametrize(
    "option", ["--memory-lim=1G", "--delim=x", "--zero", "--head=1", "--thr=1", "--out=x", "--expl"]
)
def test_abbreviated_options_are_off(option: str) -> None:
    done = run("shuffle", option, stdin=b"a\n")
    assert done.returncode == 2
    assert option.partition("=")[0] in error_lines(done)[0]


@pytest.mark.parametrize(
    ("arguments", "named", "instead"),
    [
        (["-e", "a", "b"], "-e/--echo", "standard input"),
        (["--echo", "a"], "-e/--echo", "standard input"),
        (["-i", "1-9"], "-i/--input-range", "seq"),
        (["-i1-9"], "-i/--input-range", "seq"),
        (["--input-range=1-9"], "-i/--input-range", "seq"),
        (["-r"], "-r/--repeat", "-n"),
        (["-rn5"], "-r/--repeat", "-n"),
        (["--repeat"], "-r/--repeat", "-n"),
        (["--random-source=x"], "--random-source", "--seed"),
        (["--random-source", "x"], "--random-source", "--seed"),
    ],
)
def test_shufs_other_flags_are_refused_with_what_to_use(
    arguments: list[str], named: str, instead: str
) -> None:
    done = run("shuffle", *arguments, stdin=b"a\n")
    assert done.returncode == 2
    reason = error_lines(done)[0]
    assert f"{named} is not supported" in reason
    assert instead in reason


@pytest.mark.parametrize("arguments", [["--help"], ["shuffle", "--help"], ["info", "-h"]])
def test_help_succeeds(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"usage: corekit")


def test_help_names_every_option() -> None:
    text = run("shuffle", "--help").stdout.decode()
    options = (
        "-o --output -n --head-count -z --zero-terminated --seed --memory-limit --memory --threads "
        "--scratch --delimiter --explain --quiet --progress --no-progress --json"
    )
    assert [option for option in options.split() if option not in text] == []


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"corekit {corekit.__version__}\n".encode())


def test_info_says_what_a_run_would_use() -> None:
    done = run("info", env={"COREKIT_NUM_THREADS": "7"})
    assert done.returncode == 0
    rows = {line[:14].strip(): line[14:] for line in done.stdout.decode().splitlines()}
    assert rows["version"] == corekit.__version__
    assert rows["threads"] == "7"
    assert rows["simd"]
    assert rows["build"]
    assert "iB" in rows["memory limit"]
