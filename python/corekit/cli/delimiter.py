r"""The escapes of ``--delimiter``: ``\n \r \t \0 \\ \xHH``."""

from __future__ import annotations

import os
import re

from corekit.errors import InvalidArgumentError

_NAMED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.?))", re.DOTALL)


def unescape(text: str) -> bytes:
    """Return the bytes that the text of a ``--delimiter`` stands for.

    What is not an escape stands for itself, in the bytes it was typed in.
    """
    if not text:
        raise InvalidArgumentError("must be at least one byte")
    return _ESCAPE.sub(_byte, os.fsencode(text))


def _byte(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return bytes([int(match[1], 16)])
    known = _NAMED.get(match[2])
    if known is None:
        raise InvalidArgumentError(
            rf"has an unknown escape {os.fsdecode(match[0])!s}; known are \n \r \t \0 \\ \xHH"
        )
    return known
