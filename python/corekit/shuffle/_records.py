"""What a record is, and how the inputs that hold them are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from corekit import _checks
from corekit.errors import InvalidArgumentError

# Final, so that the type checker knows them by their letters.
FORMATS: Final = ("auto", "raw", "gzip", "zstd", "npy")
NEWLINE = b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The options about records, checked one by one and against each other."""

    input_format: Literal["auto", "raw", "gzip", "zstd", "npy"]
    delimiter: bytes
    record_bytes: int | None
    header: int


def check(
    *, input_format: object, delimiter: object, record_bytes: object, header: object
) -> Records:
    """Check what the inputs are said to hold."""
    records = Records(
        input_format=_input_format(input_format),
        delimiter=_delimiter(delimiter),
        record_bytes=None if record_bytes is None else size(record_bytes),
        header=headers(header),
    )
    if records.record_bytes is not None and records.delimiter != NEWLINE:
        raise InvalidArgumentError("record_bytes must be given without delimiter, got both")
    return records


def size(record_bytes: object) -> int:
    """Check the size of records that have no delimiter."""
    return _checks.integer("record_bytes", record_bytes, low=1, high=1 << 63)


def headers(header: object) -> int:
    """Check the number of records that stay on top."""
    return _checks.integer("header", header, low=0, high=1 << 63)


def _input_format(value: object) -> Literal["auto", "raw", "gzip", "zstd", "npy"]:
    if not isinstance(value, str):
        raise _checks.wrong_type("input_format", "a str", value)
    for known in FORMATS:
        if value == known:
            return known
    raise InvalidArgumentError(f"input_format must be one of {', '.join(FORMATS)}, got {value!r}")


def _delimiter(delimiter: object) -> bytes:
    if not isinstance(delimiter, bytes):
        raise _checks.wrong_type("delimiter", "bytes", delimiter)
    if not delimiter:
        raise InvalidArgumentError("delimiter must be at least one byte, got none")
    return delimiter
