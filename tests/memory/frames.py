"""zstd frames made by hand (RFC 8878), for windows that no compressor would choose.

Blocks are stored as they are, or are one byte over and over. The window that the header
declares is what a decoder has to make room for, whatever the blocks need.
"""

from __future__ import annotations

import itertools

MAGIC = b"\x28\xb5\x2f\xfd"
BLOCK = 128 << 10
WINDOW_LOG = 20


def frame(data: bytes, window_log: int = WINDOW_LOG) -> bytes:
    """Return a frame of stored blocks with a window of 2**window_log bytes."""
    pieces = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)] or [b""]
    return _frame(window_log, [(len(piece), 0, piece) for piece in pieces])


def long_lines(count: int, window_log: int = WINDOW_LOG) -> bytes:
    """Return a frame of so many lines of 128 KiB, which take next to no time to make."""
    line = [(BLOCK - 1, 1, b"x"), (1, 0, b"\n")]
    return _frame(window_log, list(itertools.chain.from_iterable([line] * count)))


def _frame(window_log: int, blocks: list[tuple[int, int, bytes]]) -> bytes:
    head = MAGIC + bytes([0, window_log - 10 << 3])
    last = len(blocks) - 1
    return head + b"".join(
        (size << 3 | kind << 1 | (number == last)).to_bytes(3, "little") + content
        for number, (size, kind, content) in enumerate(blocks)
    )
