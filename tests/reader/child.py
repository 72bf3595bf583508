"""A process that reads in a situation that its arguments name, as JSON, and says what it found.

Signals and the memory of a process are the whole process's: the tests' own is left alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from corekit.shuffle import ShuffledReader
from reader.runs import PLANS, descriptors, expected, joined, threads, until
from reference import split_records

NUMBERS = b"".join(b"%d\n" % number for number in range(100_000))
# A page that holds a few records: a batch of many takes its time, and never waits long.
SLOW = {"page": 64, "workers": 1}


@contextmanager
def ctrl_c(after: float) -> Iterator[list[float]]:
    """Press Ctrl-C on this process in a while; the list is what it took until it was noticed."""
    sent: list[float] = []
    took: list[float] = []

    def press() -> None:
        time.sleep(after)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield took
    except KeyboardInterrupt:
        took.append(time.monotonic() - sent[0])
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        thread.join()
        raise SystemExit("it came to its end before Ctrl-C")
    thread.join()


def interrupted(folder: Path, situation: str) -> dict[str, Any]:
    """Be interrupted in a situation, go on behind it, and leave nothing."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    open_before, threads_before = descriptors(), threads()
    source = folder / "in"
    source.write_bytes(NUMBERS)
    order = [] if "FIFO" in situation else expected([split_records(NUMBERS)], 1)
    reader = ShuffledReader(source, seed=1, memory_limit="64MiB", threads=2, scratch=folder)
    found: list[bytes] = []
    match situation:
        case (
            "a FIFO that nobody writes to"
            | "a FIFO that delivers nothing"
            | "a FIFO that delivers some bytes"
        ):
            os.mkfifo(folder / "fifo")
            writing = -1
            if situation != "a FIFO that nobody writes to":
                writing = os.open(folder / "fifo", os.O_RDWR)
                if situation == "a FIFO that delivers some bytes":
                    os.write(writing, b"some\nbytes")
            reader = ShuffledReader(folder / "fifo", seed=1)
            with ctrl_c(0.1) as took:
                next(iter(reader))
            assert reader.position == 0
            if writing < 0:
                writing = os.open(folder / "fifo", os.O_RDWR)
            # It still waits, and what arrived is not lost.
            until(lambda: any("fifo" in name for name in descriptors()))
            waiting = threading.Timer(0.1, os.close, [writing])
            os.write(writing, b"\nx\n")
            if situation != "a FIFO that nobody writes to":
                # The reader's own end must be open before the last writer leaves.
                waiting.start()
                n = len(list(reader))
                assert n == (3 if situation == "a FIFO that delivers some bytes" else 2), n
                waiting.join()
            else:
                os.close(writing)
            reader.close()
        case "between batches":
            with ctrl_c(0.1) as took:
                for batch in reader.iter_batches(1000):
                    found += batch
                    if len(found) == 5000:
                        time.sleep(30)
            assert reader.position == len(found) == 5000
        case "in a large batch":
            source.write_bytes(b"\n" * 3_000_000)
            order = [b""] * 3_000_000
            reader._tuning = SLOW
            found += next(reader.iter_batches(1))
            with ctrl_c(0.1) as took:
                found += next(reader.iter_batches(1 << 30))
        case "behind fetched records":
            many = b"".join(b"%d\n" % number for number in range(1_500_000))
            source.write_bytes(many)
            order = expected([split_records(many)], 1)
            reader._tuning = SLOW
            found.append(next(iter(reader)))
            # Its batch is not enough, and it waits for more or takes what is there.
            with ctrl_c(0.03) as took:
                found += next(reader.iter_batches(1 << 30))
        case _:
            raise ValueError(situation)
    if "FIFO" not in situation:
        assert reader.position == len(found)
        found += joined(reader.iter_batches(10_000))
        assert len(found) == len(order), f"{len(found)} records of {len(order)}"
        assert found == order
        reader.close()
    assert descriptors() == open_before
    until(lambda: threads() == threads_before)
    return {"took": took[0]}


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")


def _written() -> int:
    """Return the bytes that this process sent to disks."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise AssertionError("no write_bytes")


def memory(
    source: str,
    way: str,
    size: int,
    pause: float,
    tuning: dict[str, int] | None,
    options: dict[str, Any],
) -> Any:
    """Read all, slowly, and say how much memory that took and how much scratch there was."""
    assert np.__name__
    try:
        Path("/proc/self/clear_refs").write_text("5")
        exact = True
    except OSError:
        exact = False
    before = _status("VmRSS")
    written = _written()
    n = number_of_bytes = 0
    with ShuffledReader(source, **options) as reader:
        reader._tuning = tuning
        if way == "iter":
            for record in reader:
                n += 1
                number_of_bytes += len(record)
        else:
            for number, batch in enumerate(reader.iter_batches(size)):
                n += len(batch)
                number_of_bytes += len(batch.data)
                if number % 200 == 0:
                    time.sleep(pause)
    added = _status("VmHWM") - before
    return {
        "added": added,
        "after": _status("VmRSS") - before,
        "exact": exact,
        "records": n,
        "bytes": number_of_bytes,
        "scratch": _written() - written,
    }


def _unlinked(folder: str | None) -> int:
    """Return the bytes on disk of this process's files without a name in a folder."""
    total = 0
    seen = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target, stat = os.readlink(f"/proc/self/fd/{name}"), os.stat(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if folder and target.startswith(folder) and target.endswith("(deleted)"):
            if stat.st_ino not in seen:
                total += stat.st_blocks * 512
            seen.add(stat.st_ino)
    return total


def killed(source: str, tuning: dict[str, int], options: dict[str, Any]) -> None:
    """Read a little, say so, and wait for the end."""
    reader = ShuffledReader(source, **options)
    reader._tuning = {**PLANS["scratch"], **tuning}
    next(reader.iter_batches(10))
    print(_unlinked(options["scratch"]), flush=True)
    time.sleep(60)


if __name__ == "__main__":
    what, arguments = sys.argv[1], json.loads(sys.argv[2])
    said: Any = None
    if what == "interrupted":
        said = interrupted(Path(arguments["folder"]), arguments["situation"])
    elif what == "memory":
        said = memory(**arguments)
    else:
        killed(**arguments)
    print(json.dumps(said))
