"""How fast this machine moves bytes, and how fast a shuffle could be if nothing else cost time.

The rates are the best of a few tries in the bench's own directory, so a bound made from them errs
towards too fast. Direct I/O is 1 MiB requests, four in flight. Then a run's bound is the sum over
its two stages, for no record can be placed before the last one has been read:

- scatter: the input is read (from the disk when cold, else copied out of the page cache), every
  byte is copied once into its block, what is not evicted takes fresh pages, the rest goes to disk;
- gather: what was evicted is read back, every byte is copied once more, the output goes to disk.

Within a stage disk and memory are taken to overlap perfectly, so the longer of the two counts; disk
time is the greatest of reads over read rate, writes over write rate, and all over the mixed rate.
Work on the CPU (finding delimiters, keys, sorting, digests) is left out: it is what the distance
from the bound measures, together with I/O that did not overlap.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import page_cache

MIB = 1 << 20
FILE_BYTES = 512 * MIB
MEMORY_BYTES = 256 * MIB
IN_FLIGHT = 4
TRIES = 3


@dataclass(frozen=True)
class Rates:
    """Bytes a second, but for the last two: seconds a byte. None: the file system cannot do it."""

    memory_copy: float
    warm_read: float
    cold_read: float
    buffered_write: float
    buffered_write_synced: float
    direct_read: float | None
    direct_write: float | None
    direct_mixed: float | None
    fresh_page: float
    fresh_huge_page: float


@dataclass(frozen=True)
class Stage:
    """The seconds that one stage needs of the disk and of the memory."""

    disk_seconds: float
    memory_seconds: float

    @property
    def seconds(self) -> float:
        """The longer of the two."""
        return max(self.disk_seconds, self.memory_seconds)


@dataclass(frozen=True)
class Traffic:
    """The bytes that a run moved: input read (all scans), scratch each way, output."""

    input_bytes: int
    read_bytes: int
    scratch_bytes: int
    output_bytes: int
    cold: bool


def bound(traffic: Traffic, rates: Rates) -> tuple[Stage, Stage]:
    """Return the scatter and the gather stage of the fastest run that moves these bytes."""
    resident = max(0, traffic.input_bytes - traffic.scratch_bytes)
    from_disk = traffic.input_bytes if traffic.cold else 0
    scatter = Stage(
        _disk_seconds(from_disk, traffic.scratch_bytes, rates),
        (traffic.read_bytes - from_disk) / rates.warm_read
        + traffic.input_bytes / rates.memory_copy
        + resident * min(rates.fresh_page, rates.fresh_huge_page),
    )
    gather = Stage(
        _disk_seconds(traffic.scratch_bytes, traffic.output_bytes, rates),
        traffic.output_bytes / rates.memory_copy,
    )
    return scatter, gather


def _disk_seconds(read: int, written: int, rates: Rates) -> float:
    read_rate = max(rates.direct_read or 0.0, rates.cold_read)
    # Through the page cache only with a sync: what stays there is memory, not disk.
    write_rate = max(rates.direct_write or 0.0, rates.buffered_write_synced)
    seconds = max(read / read_rate, written / write_rate)
    if read and written and rates.direct_mixed:
        seconds = max(seconds, (read + written) / max(rates.direct_mixed, read_rate, write_rate))
    return seconds


def measure_rates(directory: Path, threads: int) -> dict[str, float | None]:
    """Measure the rates with files in `directory`; takes about a quarter of a minute."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=directory) as folder,
        ThreadPoolExecutor(IN_FLIGHT) as pool,
    ):
        files = _Files(Path(folder), pool)
        direct_write = files.direct(write=True)
        rates = Rates(
            memory_copy=_memory_copy(pool, threads),
            buffered_write=files.buffered_write(synced=False),
            buffered_write_synced=files.buffered_write(synced=True),
            warm_read=files.warm_read(threads),
            cold_read=files.cold_read(),
            direct_write=direct_write,
            direct_read=files.direct(write=False) if direct_write else None,
            direct_mixed=files.direct_mixed() if direct_write else None,
            fresh_page=_fresh_page(pool, threads, huge=False),
            fresh_huge_page=_fresh_page(pool, threads, huge=True),
        )
    return {name: value and float(f"{value:.4g}") for name, value in asdict(rates).items()}


def _best(action: Callable[[], float], tries: int = TRIES) -> float:
    """Return the shortest of the times that `action` reports."""
    return min(action() for _ in range(tries))


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


class _Files:
    """The file rates; every try writes a file of its own, as a job does."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._folder = folder
        self._pool = pool
        # Anonymous maps start on a page, which is all the alignment that direct I/O asks for.
        self._buffers = [mmap.mmap(-1, MIB) for _ in range(IN_FLIGHT)]
        for number, buffer in enumerate(self._buffers):
            buffer[:] = np.random.default_rng(number).bytes(MIB)

    def _move(self, descriptor: int, lanes: range, *, write: bool) -> None:
        """Move a whole file, each lane taking its turn of the 1 MiB blocks."""

        def lane(number: int) -> None:
            buffer = [self._buffers[number]]
            for offset in range((number - lanes.start) * MIB, FILE_BYTES, len(lanes) * MIB):
                moved = (os.pwritev if write else os.preadv)(descriptor, buffer, offset)
                if moved != MIB:
                    raise OSError(f"moved {moved} bytes of {MIB}")

        list(self._pool.map(lane, lanes))

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | flags, 0o600)

    def direct(self, *, write: bool) -> float | None:
        def once() -> float:
            if write:
                (self._folder / "direct").unlink(missing_ok=True)
            descriptor = self._open("direct", os.O_DIRECT)
            try:
                if write:
                    os.posix_fallocate(descriptor, 0, FILE_BYTES)
                return _timed(lambda: self._move(descriptor, range(IN_FLIGHT), write=write))
            finally:
                os.close(descriptor)

        try:
            return FILE_BYTES / _best(once)
        except OSError:
            return None

    def direct_mixed(self) -> float:
        """Read one file and write another at once; the rate of both together."""

        def once() -> float:
            (self._folder / "second").unlink(missing_ok=True)
            first, second = self._open("direct", os.O_DIRECT), self._open("second", os.O_DIRECT)
            os.posix_fallocate(second, 0, FILE_BYTES)
            half = IN_FLIGHT // 2
            try:
                with ThreadPoolExecutor(2) as both:
                    return _timed(
                        lambda: list(
                            both.map(
                                lambda side: self._move(side[0], side[1], write=side[2]),
                                (
                                    (first, range(half), False),
                                    (second, range(half, IN_FLIGHT), True),
                                ),
                            )
                        )
                    )
            finally:
                os.close(first)
                os.close(second)

        return 2 * FILE_BYTES / _best(once)

    def buffered_write(self, *, synced: bool) -> float:
        def once() -> float:
            (self._folder / "buffered").unlink(missing_ok=True)
            descriptor = self._open("buffered", 0)
            try:
                seconds = _timed(lambda: self._move(descriptor, range(1), write=True))
                syncing = _timed(lambda: os.fsync(descriptor))
                return seconds + syncing if synced else seconds
            finally:
                os.close(descriptor)

        return FILE_BYTES / _best(once, tries=2)

    def warm_read(self, threads: int) -> float:
        return self._buffered_read(range(min(threads, IN_FLIGHT)), cold=False)

    def cold_read(self) -> float:
        return self._buffered_read(range(1), cold=True)

    def _buffered_read(self, lanes: range, *, cold: bool) -> float:
        path = self._folder / "buffered"

        def once() -> float:
            (page_cache.drop if cold else page_cache.warm)(path)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                return _timed(lambda: self._move(descriptor, lanes, write=False))
            finally:
                os.close(descriptor)

        return FILE_BYTES / _best(once)


def _memory_copy(pool: ThreadPoolExecutor, threads: int) -> float:
    """Return the bytes a second that all threads together copy between arrays that do not fit."""
    source = np.ones((threads, MEMORY_BYTES // threads), dtype=np.uint8)
    target = np.zeros_like(source)

    def once() -> float:
        return _timed(lambda: list(pool.map(np.copyto, target, source)))

    return source.nbytes / _best(once)


def _fresh_page(pool: ThreadPoolExecutor, threads: int, *, huge: bool) -> float:
    """Return the seconds a byte that the first write to a page costs beyond a later one."""
    share = MEMORY_BYTES // threads
    advice = mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE

    def once() -> float:
        maps = [mmap.mmap(-1, share, flags=mmap.MAP_PRIVATE) for _ in range(threads)]
        for area in maps:
            area.madvise(advice)
        arrays = [np.frombuffer(area, dtype=np.uint8) for area in maps]

        def fill() -> None:
            list(pool.map(lambda array: array.fill(1), arrays))

        return max(0.0, _timed(fill) - _timed(fill))

    return _best(once) / MEMORY_BYTES
