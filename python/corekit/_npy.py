"""The headers of ``.npy`` files."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
from typing import TYPE_CHECKING, Any

from corekit.errors import InputFormatError, file_error

# Half of the command's start would be spent on NumPy, which few inputs need.
if TYPE_CHECKING:
    import numpy as np

MAGIC = b"\x93NUMPY"

# NumPy itself takes 10,000 characters unasked: what is longer may be slow to parse.
_LONGEST = 64 << 10


def read(path: bytes) -> tuple[int, bytes, int]:
    """Return a file's version, its header with the length in front, and its size."""
    try:
        # Before opening it: to open a FIFO is to wait for its writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise wrong(path, "is not a regular file, as a .npy input must be")
        with open(path, "rb") as file:
            magic = file.read(len(MAGIC))
            version = tuple(file.read(2))
            if magic != MAGIC:
                raise wrong(path, "is not a .npy file: it does not begin as one")
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise wrong(path, f"is of an unknown version of .npy files, {version}")
            layout = "<H" if version[0] == 1 else "<I"
            field = file.read(struct.calcsize(layout))
            if len(field) < struct.calcsize(layout):
                raise wrong(path, "ends within its header")
            (length,) = struct.unpack(layout, field)
            if length > _LONGEST:
                raise wrong(path, f"has a header of more than {_LONGEST} bytes")
            text = file.read(length)
            if len(text) < length:
                raise wrong(path, "ends within its header")
            return version[0], field + text, os.fstat(file.fileno()).st_size
    except InputFormatError:
        raise
    except OSError as error:
        raise file_error(error.errno or 0, error.strerror or "", path) from None


def parsed(path: bytes, version: int, data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether the order is Fortran's, and the type."""
    from numpy.lib import format as npy

    try:
        if version == 1:
            return npy.read_array_header_1_0(io.BytesIO(data), max_header_size=_LONGEST)
        if version == 3:
            # NumPy has no public function for it. It is version 2 in UTF-8, and whatever
            # is not ASCII stands in a name, where an escape means the same.
            text = data[4:].decode("utf-8").encode("ascii", "backslashreplace")
            data = struct.pack("<I", len(text)) + text
        return npy.read_array_header_2_0(io.BytesIO(data), max_header_size=10 * _LONGEST)
    except Exception as error:  # noqa: BLE001 -- a damaged text makes NumPy raise nearly anything
        raise wrong(path, f"has a header that NumPy cannot read: {error}") from None


def wrong(path: str | bytes, how: str) -> InputFormatError:
    """Make the error for a file that is not what it should be."""
    return InputFormatError(errno.EBADMSG, how, os.fsdecode(path))
