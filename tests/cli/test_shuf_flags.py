"""Where GNU shuf has the flag, it means the same; the order is the published formula."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import run
from reference import reference_shuffle

A, B = b"one\ntwo\nthree\n", b"four\nfive"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(A)
    second.write_bytes(B)
    return first, second


def shuffled(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    done = run("shuffle", "--seed", "7", *arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_one_file(files: tuple[Path, Path]) -> None:
    assert shuffled(files[0]) == reference_shuffle([A], 7)


def test_several_files_are_shuffled_together(files: tuple[Path, Path]) -> None:
    assert shuffled(*files) == reference_shuffle([A, B], 7)


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_standard_input(arguments: tuple[str, ...]) -> None:
    assert shuffled(*arguments, stdin=A) == reference_shuffle([A], 7)


def test_standard_input_among_files(files: tuple[Path, Path]) -> None:
    stdin = b"x\ny\nz\n"
    assert shuffled(files[0], "-", files[1], stdin=stdin) == reference_shuffle([A, stdin, B], 7)


def test_standard_input_that_is_a_file(files: tuple[Path, Path]) -> None:
    import subprocess

    from command import words

    with files[0].open("rb") as file:
        out = subprocess.run(
            words("shuffle", "--seed", "7"), stdin=file, capture_output=True, check=True
        ).stdout
    assert out == reference_shuffle([A], 7)


def test_nothing_in_nothing_out() -> None:
    assert shuffled(stdin=b"") == b""


def test_options_may_follow_operands(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert shuffled(files[0], "-n", "4", files[1], "--output", out) == b""
    assert out.read_bytes() == reference_shuffle([A, B], 7, sample=4)


def test_two_dashes_end_the_options(tmp_path: Path) -> None:
    (tmp_path / "-n").write_bytes(A)
    done = run("shuffle", "--seed=7", "--", "-n", cwd=tmp_path)
    assert done.stdout == reference_shuffle([A], 7)


@pytest.mark.parametrize("flag", ["-n3", "-n 3", "--head-count=3"])
def test_head_count_is_the_beginning_of_the_shuffle(flag: str) -> None:
    stdin = b"".join(b"%d\n" % number for number in range(100))
    out = shuffled(*flag.split(), stdin=stdin)
    assert out == reference_shuffle([stdin], 7, sample=3)
    assert shuffled(stdin=stdin).startswith(out)


def test_head_count_of_nothing() -> None:
    assert shuffled("-n", "0", stdin=A) == b""


def test_head_count_of_more_than_there_is() -> None:
    assert shuffled("-n", str(10**30), stdin=A) == reference_shuffle([A], 7)


def test_the_least_head_count_holds_as_in_shuf() -> None:
    assert shuffled("-n", "2", "-n", "1", "-n", "3", stdin=A) == reference_shuffle([A], 7, sample=1)


@pytest.mark.parametrize("flag", ["-z", "--zero-terminated"])
def test_zero_terminated(flag: str) -> None:
    stdin = b"a\nb\0c\0\0d"
    assert shuffled(flag, stdin=stdin) == reference_shuffle([stdin], 7, delimiter=b"\0")


def test_clustered_flags() -> None:
    stdin = b"a\0b\0c\0"
    assert shuffled("-zn2", stdin=stdin) == reference_shuffle([stdin], 7, delimiter=b"\0", sample=2)


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        (",", b","),
        (r"\n", b"\n"),
        (r"\r\n", b"\r\n"),
        (r"\t", b"\t"),
        (r"\0", b"\0"),
        (r"\\", b"\\"),
        (r"\xff\xFE", b"\xff\xfe"),
        (r"a\x41\\n", b"aA\\n"),
        ("--", b"--"),
        ("é", "é".encode()),
    ],
)
def test_delimiters(text: str, delimiter: bytes) -> None:
    stdin = delimiter.join([b"one", b"", b"two\nlines", b"three", b"four"])
    out = shuffled(f"--delimiter={text}", stdin=stdin)
    assert out == reference_shuffle([stdin], 7, delimiter=delimiter)


def test_crlf_stays() -> None:
    stdin = b"a\r\nb\r\nc"
    assert shuffled(stdin=stdin) == reference_shuffle([stdin], 7)


def test_all_bytes_pass() -> None:
    stdin = bytes(byte for byte in range(256) if byte != 10) + b"\n" + b"\xff\n\xff\xff\n"
    assert shuffled(stdin=stdin) == reference_shuffle([stdin], 7)
