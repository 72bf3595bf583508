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

Codecs are the exception, since nobody can read a compressed input without decoding it. Their rates
are those of other programs on all CPUs at once: inflating by Python's zlib in threads, zstd by its
own command, one process for each CPU; counted in plain bytes, each byte decoded or encoded once,
before or after moving it (the same CPUs do both). A quicker decoder than these would make the bound
lower.
"""

from __future__ import annotations

import functools
import mmap
import os
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import page_cache

MIB = 1 << 20
FILE_BYTES = 512 * MIB
MEMORY_BYTES = 256 * MIB
CODEC_BYTES = 64 * MIB  # to encode, for each CPU
IN_FLIGHT = 4
CODEC_RATES = ("gzip_decode", "zstd_decode", "zstd_encode")  # by `measure_codecs`
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
    # Plain bytes a second on all CPUs; measured only where a case needs them.
    gzip_decode: float | None = None
    zstd_decode: float | None = None
    zstd_encode: float | None = None

    def codec(self, name: str) -> float | None:
        """Return a codec's rate, such as ``gzip_decode``; None for "" and where it is unknown."""
        rate: float | None = getattr(self, name) if name else None
        return rate


@dataclass(frozen=True)
class Stage:
    """The seconds that one stage needs of the disk, of the memory, and of the CPUs for a codec."""

    disk_seconds: float
    memory_seconds: float
    codec_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """The longer of what the disk does, and of what memory and CPUs do."""
        return max(self.disk_seconds, self.memory_seconds + self.codec_seconds)


@dataclass(frozen=True)
class Traffic:
    """The bytes that a run moved: input read (all scans), scratch each way, output.

    `input_bytes` are those of the records; stored or written they may be fewer. Codecs are named as
    their rates are.
    """

    input_bytes: int
    read_bytes: int
    scratch_bytes: int
    output_bytes: int
    cold: bool
    stored_bytes: int
    decode: str = ""
    encode: str = ""


def bound(traffic: Traffic, rates: Rates) -> tuple[Stage, Stage]:
    """Return the scatter and the gather stage of the fastest run that moves these bytes."""
    resident = max(0, traffic.input_bytes - traffic.scratch_bytes)
    from_disk = traffic.stored_bytes if traffic.cold else 0
    scatter = Stage(
        _disk_seconds(from_disk, traffic.scratch_bytes, rates),
        (traffic.read_bytes - from_disk) / rates.warm_read
        + traffic.input_bytes / rates.memory_copy
        + resident * min(rates.fresh_page, rates.fresh_huge_page),
        _codec_seconds(traffic.input_bytes, rates.codec(traffic.decode)),
    )
    gather = Stage(
        _disk_seconds(traffic.scratch_bytes, traffic.output_bytes, rates),
        traffic.input_bytes / rates.memory_copy,
        _codec_seconds(traffic.input_bytes, rates.codec(traffic.encode)),
    )
    return scatter, gather


def _codec_seconds(size: int, rate: float | None) -> float:
    return size / rate if rate else 0.0


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
    return {
        name: value and float(f"{value:.4g}")
        for name, value in asdict(rates).items()
        if name not in CODEC_RATES
    }


@dataclass(frozen=True)
class Codecs:
    """What to measure the rates of codecs with; what is empty is not measured."""

    zstd: tuple[str, ...] = ()
    gzip_files: tuple[Path, ...] = ()
    zstd_files: tuple[Path, ...] = ()
    plain: Path | None = None  # lines to be encoded


def measure_codecs(codecs: Codecs, directory: Path, threads: int) -> dict[str, float]:
    """Measure the rates of codecs on all CPUs at once, each with a file or a piece of its own."""
    measured: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(dir=directory) as folder,
        ThreadPoolExecutor(threads) as pool,
    ):
        if codecs.gzip_files:
            measured["gzip_decode"] = _together(pool, _inflate, codecs.gzip_files[:threads])
        if codecs.zstd_files:
            decode = functools.partial(_through, (*codecs.zstd, "-dcq"))
            measured["zstd_decode"] = _together(pool, decode, codecs.zstd_files[:threads])
        if codecs.plain is not None:
            encode = functools.partial(_through, (*codecs.zstd, "-qc", "-3", "-T1"))
            pieces = [Path(folder, str(number)) for number in range(threads)]
            with open(codecs.plain, "rb") as file:
                for piece in pieces:
                    piece.write_bytes(file.read(CODEC_BYTES))
            seconds = _best(lambda: _timed(lambda: list(pool.map(encode, pieces))))
            measured["zstd_encode"] = sum(piece.stat().st_size for piece in pieces) / seconds
    return {name: float(f"{value:.4g}") for name, value in measured.items()}


def _together(
    pool: ThreadPoolExecutor, decode: Callable[[Path], int], paths: Sequence[Path]
) -> float:
    """Return the plain bytes a second of decoding all the files at the same time."""
    size = sum(pool.map(decode, paths))
    return size / _best(lambda: _timed(lambda: list(pool.map(decode, paths))))


def _inflate(path: Path) -> int:
    """Decode a gzip file and return its plain size; zlib lets other threads run meanwhile."""
    decoder, size = zlib.decompressobj(wbits=31), 0
    with open(path, "rb", buffering=0) as file:
        while read := file.read(256 << 10):
            size += len(decoder.decompress(read))
    return size


def _through(argv: Sequence[str], path: Path) -> int:
    """Put a file through a command and return how many bytes came out."""
    size = 0
    with (
        open(path, "rb") as file,
        subprocess.Popen(argv, stdin=file, stdout=subprocess.PIPE, bufsize=0) as process,
    ):
        assert process.stdout is not None
        buffer = bytearray(MIB)
        while count := process.stdout.readinto(buffer):  # type: ignore[attr-defined]
            size += count
    if process.returncode != 0:
        raise OSError(f"{argv[0]} exits {process.returncode}")
    return size


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
