"""Compressed, binary and array inputs; shards, splits and epochs: as a user types them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from command import error_lines, run, words
from properties.formats import decoded, zstd_frame
from reference import reference_order, reference_parts, reference_shards, reference_shuffle

N = 1000
TEXT = b"".join(b"%d\n" % number for number in range(N))
RECORDS = [b"%d" % number for number in range(N)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_bytes(TEXT)
    return path


def shuffled(*arguments: str | Path, cwd: Path | None = None, stdin: bytes = b"") -> bytes:
    done = run("shuffle", "--seed", "7", *arguments, cwd=cwd, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def listed(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("data", [gzip.compress(TEXT), zstd_frame(TEXT)], ids=["gzip", "zstd"])
def test_compressed_input_by_name_and_by_pipe(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in").write_bytes(data)
    assert shuffled(tmp_path / "in") == reference_shuffle([TEXT], 7)
    with subprocess.Popen(["cat", tmp_path / "in"], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            words("shuffle", "--seed", "7"), stdin=cat.stdout, capture_output=True, check=True
        )
    assert done.stdout == reference_shuffle([TEXT], 7)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_the_format_of_standard_input_may_be_said(encoding: str) -> None:
    data = gzip.compress(TEXT) if encoding == "gzip" else zstd_frame(TEXT)
    assert shuffled("--input-format", encoding, stdin=data) == reference_shuffle([TEXT], 7)


def test_the_systems_own_tools(tmp_path: Path, source: Path) -> None:
    for tool, ending in (("gzip", "gz"), ("zstd", "zst")):
        if shutil.which(tool) is None:
            continue
        packed = subprocess.run([tool, "-c", source], capture_output=True, check=True).stdout
        assert shuffled(stdin=packed + packed) == reference_shuffle([TEXT + TEXT], 7)
        shuffled("-o", f"out.{ending}", source, cwd=tmp_path)
        subprocess.run([tool, "-tq", tmp_path / f"out.{ending}"], check=True)


@pytest.mark.parametrize("codec", ["gzip", "gzip:9", "zstd", "zstd:-1"])
def test_compressed_standard_output(source: Path, codec: str) -> None:
    found = shuffled("--compress", codec, source)
    assert decoded(found, codec.partition(":")[0]) == reference_shuffle([TEXT], 7)
    assert shuffled("--compress", "none", source) == reference_shuffle([TEXT], 7)


def test_names_say_how_an_output_is_compressed(tmp_path: Path, source: Path) -> None:
    expected = reference_shuffle([TEXT], 7)
    for name, codec in (("a.gz", "gzip"), ("a.zst", "zstd"), ("a.txt", "none")):
        assert shuffled("-o", name, source, cwd=tmp_path) == b""
        assert decoded((tmp_path / name).read_bytes(), codec) == expected
    shuffled("-o", "b.gz", "--compress", "none", source, cwd=tmp_path)
    assert (tmp_path / "b.gz").read_bytes() == expected


def test_shards_and_their_manifest(tmp_path: Path, source: Path) -> None:
    (tmp_path / "out").mkdir()
    pattern = "out/part-{index:05d}.txt.gz"
    done = run(
        "shuffle", "--seed", "7", "--shards", "3", "-o", pattern, source, "--json", cwd=tmp_path
    )
    assert done.returncode == 0
    report = json.loads(error_lines(done)[-1])
    names = [f"part-{index:05d}.txt.gz" for index in range(3)]
    assert listed(tmp_path / "out") == [*names, "part.manifest.json"]
    (order,) = reference_parts([RECORDS], 7)
    manifest = json.loads((tmp_path / "out" / "part.manifest.json").read_bytes())
    parts = reference_shards(order, shards=3)
    for index, (name, records) in enumerate(zip(names, parts, strict=True)):
        raw = (tmp_path / "out" / name).read_bytes()
        assert gzip.decompress(raw).split() == records
        item = manifest["files"][index]
        assert item["name"] == name
        assert (item["index"], item["records"], item["size"]) == (index, len(records), len(raw))
        assert item["bytes"] == sum(map(len, records)) + len(records)
        assert item["digest"] == report["files"][index]["digest"]
    assert (manifest["seed"], manifest["records"], manifest["bytes"]) == ("7", N, len(TEXT))
    assert (manifest["digest"], manifest["compression"]) == (report["digest"], "gzip")
    # Fewer of them the next time: none of the old ones stays.
    shuffled("--shards", "2", "-o", pattern, source, cwd=tmp_path)
    assert listed(tmp_path / "out") == [*names[:2], "part.manifest.json"]


def test_files_of_others_are_not_overwritten(tmp_path: Path, source: Path) -> None:
    (tmp_path / "part-1.txt").write_bytes(b"mine")
    done = run(
        "shuffle", "--shards", "3", "-o", "part-{index}.txt", source, "--quiet", cwd=tmp_path
    )
    assert done.returncode == 1
    assert b"part-1.txt" in done.stderr
    assert listed(tmp_path) == ["in.txt", "part-1.txt"]
    assert (tmp_path / "part-1.txt").read_bytes() == b"mine"


@pytest.mark.parametrize(("option", "value"), [("shard_records", 300), ("shard_bytes", 1024)])
def test_shards_by_size(tmp_path: Path, source: Path, option: str, value: int) -> None:
    text = "1K" if option == "shard_bytes" else str(value)
    shuffled(f"--{option.replace('_', '-')}", text, "-o", "part-{index}.txt", source, cwd=tmp_path)
    (order,) = reference_parts([RECORDS], 7)
    parts = reference_shards(order, **{option: value})  # type: ignore[arg-type]
    assert len(listed(tmp_path)) == len(parts) + 2
    for index, records in enumerate(parts):
        assert (tmp_path / f"part-{index}.txt").read_bytes().split() == records


def test_train_valid_test(tmp_path: Path, source: Path) -> None:
    split = "train=0.98,valid=0.01,test=0.01"
    folder = tmp_path / "parts"
    folder.mkdir()
    shuffled("--split", split, "-o", "parts/{split}.txt", source, cwd=tmp_path)
    cuts = [98 * 2**64 // 100, 99 * 2**64 // 100, 2**64]
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert [file["split"] for file in manifest["files"]] == ["train", "valid", "test"]
    parts = reference_parts([RECORDS], 7, cuts=cuts)
    for name, records in zip(("train", "valid", "test"), parts, strict=True):
        assert (folder / f"{name}.txt").read_bytes().split() == records


@pytest.mark.parametrize(("text", "cut"), [("0.25", 2**62), ("1/3", 2**64 // 3), ("0", 0)])
def test_a_fraction(source: Path, text: str, cut: int) -> None:
    (records,) = reference_parts([RECORDS], 7, cuts=[cut])
    assert shuffled("--fraction", text, source).split() == records


def test_epochs(tmp_path: Path, source: Path) -> None:
    epochs = [reference_shuffle([TEXT], 7, epoch=epoch) for epoch in range(3)]
    assert shuffled("--epochs", "3", source) == b"".join(epochs)
    shuffled("--epochs", "3", "-o", "epoch-{epoch:02d}.txt.zst", source, cwd=tmp_path)
    for number, expected in enumerate(epochs):
        raw = (tmp_path / f"epoch-{number:02d}.txt.zst").read_bytes()
        assert decoded(raw, "zstd") == expected
    firsts = b"".join(b"".join(text.splitlines(keepends=True)[:5]) for text in epochs[:2])
    assert shuffled("--epochs", "2", "-n", "5", source) == firsts
    done = run("shuffle", "--epochs", "2", stdin=TEXT)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"read again" in done.stderr


def test_aligned(tmp_path: Path, source: Path) -> None:
    words_of = b"".join(b"word %d\n" % (number * 3) for number in range(N))
    (tmp_path / "b.gz").write_bytes(gzip.compress(words_of))
    shuffled("--aligned", "in.txt", "b.gz", "-o", "x.txt", "-o", "y.zst", cwd=tmp_path)
    first = (tmp_path / "x.txt").read_bytes()
    second = decoded((tmp_path / "y.zst").read_bytes(), "zstd")
    assert first == reference_shuffle([TEXT], 7)
    assert second == b"".join(b"word %d\n" % (int(line) * 3) for line in first.split())
    # It is said which of them has not as many, and nothing is written.
    (tmp_path / "b.gz").write_bytes(gzip.compress(words_of + b"more\n"))
    done = run(
        *("shuffle", "--aligned", "in.txt", "b.gz", "-o", "p", "-o", "q", "--quiet"), cwd=tmp_path
    )
    assert done.returncode == 1
    (line,) = error_lines(done)
    assert "b.gz" in line
    assert "1001 records" in line
    assert listed(tmp_path) == ["b.gz", "in.txt", "x.txt", "y.zst"]


def test_a_header_stays_on_top(tmp_path: Path) -> None:
    head = b"id,text\n"
    (tmp_path / "a.csv").write_bytes(head + b"1,a\n2,b\n3,c\n")
    (tmp_path / "b.csv").write_bytes(head + b"4,d\n5,e")
    expected = head + reference_shuffle([b"1,a\n2,b\n3,c\n", b"4,d\n5,e"], 7)
    assert shuffled("--header", "1", "a.csv", "b.csv", cwd=tmp_path) == expected
    shuffled("--header", "1", "--shards", "2", "-o", "out-{index}", "a.csv", cwd=tmp_path)
    parts = [(tmp_path / f"out-{index}").read_bytes() for index in range(2)]
    assert all(part.startswith(head) for part in parts)
    joined = b"".join(part.removeprefix(head) for part in parts)
    assert joined == reference_shuffle([b"1,a\n2,b\n3,c\n"], 7)
    done = run("shuffle", "--header", "2", "a.csv", "b.csv", "--quiet", cwd=tmp_path)
    assert done.returncode == 1
    assert b"b.csv" in done.stderr


def test_records_of_bytes(tmp_path: Path) -> None:
    data = np.arange(500, dtype="<u4")
    expected = data[reference_order([500], 7)].tobytes()
    assert shuffled("--record-bytes", "4", stdin=data.tobytes()) == expected
    (tmp_path / "in").write_bytes(data.tobytes() + b"x")
    done = run("shuffle", "--record-bytes", "4", "in", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"2001 bytes" in done.stderr


def test_arrays(tmp_path: Path) -> None:
    array = np.arange(600, dtype=">i2").reshape(200, 3)
    np.save(tmp_path / "in.npy", array)
    shuffled("-o", "out.npy", "in.npy", cwd=tmp_path)
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == array.dtype
    assert np.array_equal(found, array[reference_order([200], 7)])


@pytest.mark.parametrize("by_pipe", [False, True])
def test_what_is_damaged_is_said_in_one_line(tmp_path: Path, by_pipe: bool) -> None:
    data = gzip.compress(TEXT)[:-3]
    (tmp_path / "in.gz").write_bytes(data)
    words_of = [] if by_pipe else ["in.gz"]
    done = run("shuffle", "--quiet", "-o", "out", *words_of, cwd=tmp_path, stdin=data)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = error_lines(done)
    assert ("standard input" if by_pipe else "in.gz") in line
    assert f"at byte {len(data)}" in line
    assert listed(tmp_path) == ["in.gz"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--shards", "2", "-o", "out.txt"], "{index}"),
        (["--split", "a=1", "-o", "out.txt"], "{split}"),
        (["--shards", "2", "-o", "{index}-{epoch}"], "{epoch}"),
        (["--shards", "2", "-o", "{indx}"], "{indx}"),
        (["--shards", "2", "-o", "{index"], "not closed"),
        (["--split", "a=0.5,b=0.5", "--epochs", "2", "-o", "out-{split}.txt"], "{epoch}"),
        (["--shards", "2", "-o", "{index}/part"], "directory"),
    ],
)
def test_patterns_that_are_none(source: Path, arguments: list[str], named: str) -> None:
    done = run("shuffle", "--quiet", *arguments, source, cwd=source.parent)
    assert done.returncode != 0
    assert named in error_lines(done)[0]
    assert listed(source.parent) == ["in.txt"]
