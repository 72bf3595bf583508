"""Sizes as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit import _size
from corekit.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("12B", 12),
        ("1K", 1024),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1kb", 1000),
        ("1KB", 1000),
        ("2GiB", 2 << 30),
        ("2 GiB", 2 << 30),
        ("2GB", 2 * 10**9),
        ("1.5G", 3 << 29),
        ("0.1KB", 100),
        ("1T", 1 << 40),
        ("1P", 1 << 50),
        (" 7 ", 7),
    ],
)
def test_parse(text: str, size: int) -> None:
    assert _size.parse("memory_limit", text) == size


@pytest.mark.parametrize(
    "text", ["", "G", "1X", "1 G i B", "-1", "+1", "1e9", "1,5G", "50%", "1.G", "٣", "9" * 50]
)
def test_nonsense_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="memory_limit must be a number"):
        _size.parse("memory_limit", text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (256 << 20, "256.0 MiB"),
        (1 << 60, "1.0 EiB"),
    ],
)
def test_human(size: int, text: str) -> None:
    assert _size.human(size) == text


@given(st.integers(0, 1 << 62))
def test_what_is_shown_can_be_read_again(size: int) -> None:
    assert abs(_size.parse("size", _size.human(size)) - size) <= size / 20
