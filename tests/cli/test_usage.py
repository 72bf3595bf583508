"""Wrong usage: status 2, the name of the culprit, and no output."""

from __future__ import annotations

import re

import pytest

import corekit
from command import error_lines, run
from corekit import _core


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["shufle"], "no command 'shufle': there are shuffle, "),
        (["attention", "cross"], "attention: no command 'cross': there is crossover"),
        (["--sed"], "--sed"),
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
        (["shuffle", "--record-bytes", "0"], "--record-bytes"),
        (["shuffle", "--record-bytes", "4K"], "--record-bytes"),
        (["shuffle", "--record-bytes", "4", "-z"], "--record-bytes"),
        (["shuffle", "--record-bytes", "4", "--delimiter", ","], "--record-bytes"),
        (["shuffle", "--header", "-1"], "--header"),
        (["shuffle", "--header", "one"], "--header"),
        (["shuffle", "--input-format", "bz2"], "--input-format"),
        (["shuffle", "--any-expansion=1"], "--any-expansion"),
        (["shuffle", "--fraction", "1.5"], "--fraction"),
        (["shuffle", "--fraction", "10%"], "--fraction"),
        (["shuffle", "--fraction", "0.5", "-n", "3"], "--fraction"),
        (["shuffle", "--fraction", "0.5", "--split", "a=1", "-o", "{split}"], "--fraction"),
        (["shuffle", "-n", "3", "--split", "a=1", "-o", "{split}"], "--head-count"),
        (["shuffle", "--split", "a", "-o", "{split}"], "NAME=FRACTION"),
        (["shuffle", "--split", "a=0.5,", "-o", "{split}"], "NAME=FRACTION"),
        (["shuffle", "--split", "a=0.5,b=0.4", "-o", "{split}"], "9/10"),
        (["shuffle", "--split", "a=0.5,a=0.5", "-o", "{split}"], "'a' twice"),
        (["shuffle", "--split", "a b=1", "-o", "{split}"], "'a b'"),
        (["shuffle", "--split", "a=1"], "{split}"),
        (["shuffle", "--shards", "4"], "{index}"),
        (["shuffle", "--shard-records", "4"], "{index}"),
        (["shuffle", "--shard-bytes", "4K"], "{index}"),
        (["shuffle", "--shards", "0", "-o", "{index}"], "--shards"),
        (["shuffle", "--shard-records", "1K", "-o", "{index}"], "--shard-records"),
        (["shuffle", "--shard-bytes", "lots", "-o", "{index}"], "--shard-bytes"),
        (["shuffle", "--shards", "4", "--shard-bytes", "4K", "-o", "{index}"], "--shards"),
        (["shuffle", "--compress", "bzip2"], "--compress"),
        (["shuffle", "--compress", "zstd:0"], "-7 to 22"),
        (["shuffle", "--epochs", "0"], "--epochs"),
        (["shuffle", "--epochs", "1.5"], "--epochs"),
        (["shuffle", "--aligned"], "--aligned"),
        (["shuffle", "--aligned", "-", "-o", "x"], "--aligned"),
        (["shuffle", "--aligned", "a", "b", "-o", "x"], "one -o for each INPUT, 2, got 1"),
        (["shuffle", "--aligned", "a", "-o", "x", "-o", "y"], "one -o for each INPUT, 1, got 2"),
        (["shuffle", "--aligned", "a", "-o", ""], "--output"),
        (["shuffle", "--aligned", "a", "-o", "{index}", "--shard-bytes", "4K"], "--shard-bytes"),
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


@pytest.mark.parametrize("arguments", [[], ["attention"]])
def test_without_a_command_the_help_is_the_error(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == run(*arguments, "--help").stdout


def test_the_help_lists_every_command() -> None:
    listed = re.findall(r"^  ([a-z]+) ", run("--help").stdout.decode(), re.MULTILINE)
    assert listed == ["shuffle", "project", "distortion", "attention", "info"]


def test_help_names_every_option() -> None:
    text = run("shuffle", "--help").stdout.decode()
    options = (
        "-o --output -n --head-count -z --zero-terminated --seed --memory-limit --memory --threads "
        "--scratch --delimiter --explain --quiet --progress --no-progress --json --input-format "
        "--header --record-bytes --any-expansion --shards --shard-records --shard-bytes --compress "
        "--fraction --split --epochs --aligned"
    )
    assert [option for option in options.split() if option not in text] == []


def test_help_is_in_groups() -> None:
    text = run("shuffle", "--help").stdout.decode()
    groups = ["input", "output", "order and selection", "resources", "messages"]
    places = [text.index(f"\n{group}:\n") for group in groups]
    assert places == sorted(places)
    assert "positional arguments" not in text


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"corekit {corekit.__version__}\n".encode())


def test_info_says_what_a_run_would_use() -> None:
    done = run("info", env={"COREKIT_NUM_THREADS": "7"})
    assert done.returncode == 0
    rows = {line[:14].strip(): line[14:] for line in done.stdout.decode().splitlines()}
    assert rows["version"] == corekit.__version__
    assert rows["threads"] == "7"
    assert rows["simd"] == _core.build_info()["simd_level"]
    assert rows["build"]
    assert "iB" in rows["memory limit"]


def test_info_knows_a_level_that_was_lowered() -> None:
    for level in _core.build_info()["simd_levels"]:
        done = run("info", env={"COREKIT_SIMD": level})
        assert f"simd          {level}\n" in done.stdout.decode()
    done = run("info", env={"COREKIT_SIMD": "avx9"})
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = error_lines(done)
    assert "COREKIT_SIMD must be a level that this machine has" in line
