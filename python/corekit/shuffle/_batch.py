"""A batch of records, without a Python object for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from corekit import _checks, _core

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class RecordBatch:
    r"""Records one behind the other in one buffer.

    Record i is ``data[offsets[i]:offsets[i + 1]]``. Both arrays are the batch's own: they
    stay valid, and other libraries can take them without a copy.

    Attributes
    ----------
    data : numpy.ndarray
        The records' bytes without delimiters, one-dimensional uint8. For records of one
        size, ``batch.data.view(dtype).reshape(len(batch), -1)`` is a row for each.
    offsets : numpy.ndarray
        Where they begin and the last one ends, int64, one more than there are records.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from corekit.shuffle import ShuffledReader
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "in.txt"
    >>> _ = path.write_bytes(b"a\nbb\nccc\n")
    >>> with ShuffledReader(path, seed=7) as reader:
    ...     batch = next(reader.iter_batches(2))
    >>> len(batch), batch[0], batch.tolist()
    (2, b'bb', [b'bb', b'ccc'])
    >>> batch.data.tobytes(), batch.offsets.tolist()
    (b'bbccc', [0, 2, 5])
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self.data = data
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        """Return one record."""
        number = _checks.integer("index", index, low=-(1 << 63), high=1 << 63)
        if not -len(self) <= number < len(self):
            raise IndexError(f"index must be within the batch of {len(self)} records, got {number}")
        number %= len(self)
        start, end = self.offsets[number : number + 2].tolist()
        return self.data[start:end].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.tolist())

    def tolist(self) -> list[bytes]:
        """Return the records as a list of bytes."""
        return _core.split_records(self.data, self.offsets)

    def to_arrow(self) -> Any:
        """Return the records as a ``pyarrow.LargeBinaryArray`` on the same memory."""
        import pyarrow as pa

        buffers = [None, pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self), buffers)

    def __repr__(self) -> str:
        return f"RecordBatch({len(self)} records, {len(self.data)} bytes)"
