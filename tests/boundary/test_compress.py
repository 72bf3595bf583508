"""Compression of outputs: asked for, or by the name."""

from __future__ import annotations

import pytest

from corekit.errors import ArgumentTypeError, InvalidArgumentError
from corekit.shuffle import _compress


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("none", None),
        ("gzip", ("gzip", 6)),
        ("gzip:0", ("gzip", 0)),
        ("gzip:12", ("gzip", 12)),
        ("zstd", ("zstd", 3)),
        ("zstd:22", ("zstd", 22)),
        ("zstd:-7", ("zstd", -7)),
        ("zstd:+1", ("zstd", 1)),
    ],
)
def test_what_is_asked_for(text: str, codec: tuple[str, int] | None) -> None:
    # It holds for every output, whatever the names say, and for streams.
    assert _compress.codecs(text, [b"/a.gz", b"/a", 1]) == [codec] * 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gz",
        "GZIP",
        "none:1",
        "gzip:",
        "gzip:13",
        "gzip:-1",
        "gzip:9.5",
        "gzip:9:9",
        "zstd:0",
        "zstd:-0",
        "zstd:23",
        "zstd:-8",
        "zstd: 3",
        "zstd:99999999999999999999",
        "zstd:٣",
    ],
)
def test_what_cannot_be_asked_for(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^compress must be .*, got ") as caught:
        _compress.asked_for(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", [b"gzip", 9, True, ("gzip", 9)])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^compress must be .*, got "):
        _compress.codecs(value, [b"/a"])


@pytest.mark.parametrize(
    ("output", "codec"),
    [
        (b"/a.gz", ("gzip", 6)),
        (b"/a.txt.zst", ("zstd", 3)),
        (b"/part-{index}.jsonl.zst", ("zstd", 3)),
        (b"/a.txt", None),
        (b"/a.gz/b", None),
        (b"/a.gzip", None),
        (1, None),
    ],
)
def test_the_name_says_it(output: bytes | int, codec: tuple[str, int] | None) -> None:
    assert _compress.codecs(None, [output]) == [codec]


def test_each_output_has_its_own_name() -> None:
    assert _compress.codecs(None, [b"/a.gz", b"/b", b"/c.zst"]) == [
        ("gzip", 6),
        None,
        ("zstd", 3),
    ]
