"""The promise: damaged and hostile inputs are refused, with their name and the place.

Nothing is published, nothing is left behind, and nothing crashes: a run gives the records
that were stored, or an error. (A flipped bit in the length of a skippable frame of zstd is
the exception that no decoder can see, so there are none here.)
"""

from __future__ import annotations

import errno
import functools
import gzip
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit._paths import Descriptor
from corekit.errors import CorekitError, InputFormatError, MemoryLimitError
from corekit.shuffle import _call, plan, shuffle_files
from properties.engine import TINY, disk
from properties.formats import gzip_member, zstd_frame, zstd_run
from reference import reference_shuffle

PARTS = [b"one\ntwo\nthree\n", b"four\nfive\nsix"]
TEXT = b"".join(PARTS)

T = TypeVar("T")
U = TypeVar("U")

Codec = Literal["gzip", "zstd"]
CODECS: list[Codec] = ["gzip", "zstd"]

# In blocks of ten bytes, so that there is something between them.
PIECES: Mapping[Codec, list[bytes]] = {
    "gzip": [gzip_member(part) for part in PARTS],
    "zstd": [zstd_frame(part, block=10) for part in PARTS],
}
STORED: Mapping[Codec, bytes] = {codec: b"".join(pieces) for codec, pieces in PIECES.items()}

Attempt = Callable[..., bytes]


def tried(folder: Path, data: bytes, *, by_pipe: bool = False, **options: Any) -> bytes:
    """Shuffle bytes, by a file or a pipe, and return the output, or make sure there is none."""
    source, target = folder / "in", folder / "out"
    source.write_bytes(data)
    target.write_bytes(b"before")
    if by_pipe:
        reading, writing = os.pipe()
        os.write(writing, data)  # few enough to fit
        os.close(writing)
    given: Any = Descriptor(reading) if by_pipe else source
    try:
        _call.run(given, target, seed=1, **{"threads": 2, "memory_limit": "256MiB", **options})
    except CorekitError:
        assert target.read_bytes() == b"before"
        raise
    finally:
        if by_pipe:
            os.close(reading)
        assert sorted(os.listdir(folder)) == ["in", "out"]
    return target.read_bytes()


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return functools.partial(tried, tmp_path)


def side_by_side(folder: Path, many: Sequence[T], body: Callable[[Path, T], U]) -> list[U]:
    """Do this for each of many, several at a time, each time in an empty folder of its own."""

    def one(number: int, item: T) -> U:
        own = folder / str(number)
        own.mkdir()
        return body(own, item)

    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(one, range(len(many)), many))


def refused(folder: Path, data: bytes, **options: Any) -> str:
    """Return the message about bytes that must be refused at a place inside of them."""
    with pytest.raises(InputFormatError) as caught:
        tried(folder, data, **options)
    error = caught.value
    name = r"/dev/fd/\d+" if options.get("by_pipe") else re.escape(str(folder / "in"))
    assert error.filename is not None
    assert re.fullmatch(name, error.filename)
    assert error.errno == errno.EBADMSG
    message = str(error)
    place = re.search(r"at byte (\d+)", message)
    assert place is not None, message
    assert int(place[1]) <= len(data)
    return message


@pytest.mark.parametrize("codec", CODECS)
def test_pieces_are_read(attempt: Attempt, codec: Codec) -> None:
    expected = reference_shuffle([TEXT], 1)
    for by_pipe in (False, True):
        for tuning in (None, TINY, {**TINY, "chunk": 1, "spill": 1}):
            assert attempt(STORED[codec], by_pipe=by_pipe, tuning=tuning) == expected
        assert attempt(STORED[codec], by_pipe=by_pipe, input_format=codec) == expected


@pytest.mark.parametrize("by_pipe", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_an_end_at_every_byte(tmp_path: Path, codec: Codec, by_pipe: bool) -> None:
    def cut(folder: Path, end: int) -> None:
        data = STORED[codec][:end]
        if end == len(PIECES[codec][0]):
            found = tried(folder, data, by_pipe=by_pipe, input_format=codec)
            assert found == reference_shuffle([PARTS[0]], 1)
            return
        assert codec in refused(folder, data, by_pipe=by_pipe, input_format=codec)
        # The same when the format was guessed, once there is enough to guess by.
        if end >= 4:
            refused(folder, data, by_pipe=by_pipe, tuning=TINY)

    side_by_side(tmp_path, range(len(STORED[codec])), cut)


@pytest.mark.parametrize("codec", CODECS)
def test_every_flipped_bit(tmp_path: Path, codec: Codec) -> None:
    expected = reference_shuffle([TEXT], 1)

    def flipped(folder: Path, at: int) -> bool:
        data = bytearray(STORED[codec])
        data[at // 8] ^= 1 << at % 8
        try:
            found = tried(folder, bytes(data), input_format=codec)
        except InputFormatError as error:
            assert error.filename == str(folder / "in")  # noqa: PT017
            assert re.search(r"at byte \d+", str(error))  # noqa: PT017
            return False
        except MemoryLimitError as error:
            # In a frame's header the size of the window may have become a large one.
            assert codec == "zstd" and "window" in str(error)  # noqa: PT017, PT018
            return False
        assert found == expected, f"bit {at} made other records"
        return True

    good = sum(side_by_side(tmp_path, range(8 * len(STORED[codec])), flipped))
    # A gzip header has a time, a system, a level and a flag for text, and a member's last byte
    # of deflated data may end in bits that are nothing. A zstd header has one free bit, and
    # the one that says "a single segment" makes the size a window that is large enough.
    least, most = {"gzip": (2 * 49, 2 * (49 + 7)), "zstd": (4, 4)}[codec]
    assert least <= good <= most


@given(
    codec=st.sampled_from(CODECS),
    edits=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 30), st.binary(max_size=30)),
        min_size=1,
        max_size=4,
    ),
    by_name=st.booleans(),
)
def test_any_damage(codec: Codec, edits: list[tuple[int, int, bytes]], by_name: bool) -> None:
    import tempfile

    text = b"".join(b"%d\n" % (number * number) for number in range(2000))
    whole = gzip_member(text) if codec == "gzip" else zstd_frame(text)
    data = whole
    for at, gone, new in edits:
        at %= len(data) + 1
        data = data[:at] + new + data[at + gone :]
    with tempfile.TemporaryDirectory(dir=disk()) as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.write_bytes(data)
        try:
            options: Any = {"input_format": codec} if by_name else {}
            shuffle_files(source, target, seed=1, **options)
        except CorekitError:
            assert os.listdir(folder) == ["in"]
            return
        if not by_name and not data.startswith(whole[:4]):
            text = data  # it is not known as compressed any more
        assert target.read_bytes() == reference_shuffle([text], 1) or data == b""


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("other", [b"", b"\n", b"plain\n", b"BZh91AY", b"\x1f\x9d\x90", b"\0" * 64])
@pytest.mark.parametrize("by_pipe", [False, True])
def test_another_format(
    attempt: Attempt, tmp_path: Path, codec: Codec, other: bytes, by_pipe: bool
) -> None:
    message = refused(tmp_path, other, by_pipe=by_pipe, input_format=codec)
    assert re.search(rf"(is not|holds no) {codec} data.*at byte 0", message)


@pytest.mark.parametrize("codec", CODECS)
def test_one_for_the_other(attempt: Attempt, tmp_path: Path, codec: Codec) -> None:
    (other,) = set(CODECS) - {codec}
    assert "is not" in refused(tmp_path, STORED[other], input_format=codec)
    message = refused(tmp_path, STORED[codec] + STORED[other])
    assert f"at byte {len(STORED[codec])}" in message
    # As they are stored they are bytes like others.
    raw = attempt(STORED[codec], input_format="raw", record_bytes=1)
    assert sorted(raw) == sorted(STORED[codec])


@pytest.mark.parametrize("garbage", [b"x", b"garbage" * 100, b"\n", b"\0\0\0x", b"\x1f", b"\x28"])
@pytest.mark.parametrize("codec", CODECS)
def test_bytes_behind(attempt: Attempt, tmp_path: Path, codec: Codec, garbage: bytes) -> None:
    for by_pipe in (False, True):
        message = refused(tmp_path, STORED[codec] + garbage, by_pipe=by_pipe)
        assert re.search("followed by bytes that are not|ends early", message)


def test_zeros_behind_gzip_are_the_padding_of_tapes(attempt: Attempt, tmp_path: Path) -> None:
    data = STORED["gzip"] + b"\0" * 10_000
    for by_pipe in (False, True):
        assert attempt(data, by_pipe=by_pipe) == reference_shuffle([TEXT], 1)
    refused(tmp_path, STORED["zstd"] + b"\0" * 16)


def test_whatever_a_gzip_header_may_hold(attempt: Attempt, tmp_path: Path) -> None:
    body = gzip_member(TEXT)[10:]
    start = b"\x1f\x8b\x08"
    rest = b"\0\0\0\0\0\xff"
    extra = struct.pack("<H", 300) + b"\0\n" * 150
    fields = b"name.txt\0" + b"a comment\0"
    header = start + b"\x1e" + rest + extra + fields
    checked = header + struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    for data in (
        start + b"\x01" + rest + body,
        start + b"\x04" + rest + extra + body,
        start + b"\x18" + rest + fields + body,
        checked + body,
    ):
        assert gzip.decompress(data) == TEXT
        assert attempt(data) == reference_shuffle([TEXT], 1)
    refused(tmp_path, start + b"\x20" + rest + body)
    refused(tmp_path, header + b"\0\0" + body)
    ends = range(4, len(checked))
    side_by_side(tmp_path, ends, lambda folder, end: refused(folder, checked[:end]))


@pytest.mark.parametrize("options", [{"sample": 0}, {"fraction": "0"}, {"sample": 1}])
@pytest.mark.parametrize("codec", CODECS)
def test_all_of_an_input_is_checked_whatever_is_wanted(
    attempt: Attempt, tmp_path: Path, codec: Codec, options: Mapping[str, Any]
) -> None:
    refused(tmp_path, STORED[codec][:-1], **options)


@pytest.mark.parametrize("codec", CODECS)
def test_sets_stay_as_they_were(tmp_path: Path, codec: Codec) -> None:
    source = tmp_path / "in"
    source.write_bytes(STORED[codec])
    options: Any = {"seed": 1, "shards": 2, "splits": {"a": 0.5, "b": 0.5}}
    shuffle_files(source, tmp_path / "{split}-{index}", **options)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    source.write_bytes(STORED[codec][:-1])
    before["in"] = source.read_bytes()
    with pytest.raises(InputFormatError):
        shuffle_files(source, tmp_path / "{split}-{index}", **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def bomb(codec: Codec) -> bytes:
    """Return a few kilobytes that are some megabytes: lines of nothing."""
    if codec == "zstd":
        return zstd_run(b"\n", 40)
    data = gzip.compress(b"\n" * (5 << 20), 9, mtime=0)
    # Deflate reaches 1032:1, which the members' own bytes are not to spoil.
    assert 1010 * len(data) < 5 << 20
    return data


@pytest.mark.parametrize("by_pipe", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_bombs(attempt: Attempt, tmp_path: Path, codec: Codec, by_pipe: bool) -> None:
    data = bomb(codec)
    small: Any = {"by_pipe": by_pipe, "tuning": {"expansion": 1 << 20}}
    with pytest.raises(InputFormatError, match=r"expands from .* any_expansion allows") as caught:
        attempt(data, **small)
    assert caught.value.filename is not None
    assert attempt(data, any_expansion=True, **small) == b"\n" * (5 << 20)
    # What expands no further than the floor is nobody's bomb.
    floor = {"expansion": 5 << 20}
    assert attempt(data, by_pipe=by_pipe, tuning=floor) == b"\n" * (5 << 20)
    assert attempt(data, by_pipe=by_pipe) == b"\n" * (5 << 20)


def test_text_that_compresses_well_is_no_bomb(attempt: Attempt) -> None:
    text = b"the same line again and again\n" * 100_000
    assert attempt(gzip.compress(text), tuning={"expansion": 1000}) == text


def test_windows_and_dictionaries(attempt: Attempt, tmp_path: Path) -> None:
    magic = b"\x28\xb5\x2f\xfd"
    # A window of 3.75 TiB, the largest that can be written down; and a content of 2**63 bytes.
    for header in (b"\x00\xff", b"\xe0" + b"\0" * 7 + b"\x80"):
        with pytest.raises(CorekitError):
            attempt(magic + header + b"\x01\0\0")
    with pytest.raises(InputFormatError, match="dictionary"):
        attempt(magic + b"\x21\x07\x02" + b"\x11\0\0ab")


def test_a_plan_of_damaged_inputs(tmp_path: Path) -> None:
    # Planning looks only at the front; what is wrong is told when it is read.
    for codec in CODECS:
        (tmp_path / "in").write_bytes(STORED[codec][:-1])
        assert plan(tmp_path / "in", tmp_path / "out").strategy == "memory"


@pytest.mark.parametrize(
    ("data", "options", "told"),
    [
        (b"abcd" * 5 + b"x", {"record_bytes": 4}, "21 bytes.*not a multiple"),
        (b"a\n", {"header": 2}, "fewer records than its header"),
        (b"", {"header": 1}, "fewer records than its header"),
        (b"x" * 300_000, {"header": 1}, "header of more than"),
    ],
)
@pytest.mark.parametrize("encoding", ["raw", "gzip", "zstd"])
def test_records_that_are_not_what_was_said(
    attempt: Attempt, data: bytes, options: Mapping[str, Any], told: str, encoding: str
) -> None:
    from properties.formats import stored

    for tuning in (None, TINY):
        with pytest.raises(InputFormatError, match=told):
            attempt(stored(data, encoding), tuning=tuning, **options)


def test_headers_that_differ(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"id,text\n1,a\n")
    for other in (b"id,tent\n2,b\n", b"", gzip_member(b"id;text\n"), zstd_frame(b"x\n")):
        (tmp_path / "b").write_bytes(other)
        with pytest.raises(InputFormatError, match="header") as caught:
            shuffle_files([tmp_path / "a", tmp_path / "b"], tmp_path / "out", header=1)
        assert caught.value.filename == str(tmp_path / "b")
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]
