"""Workers: a process for every tool, forked from one that holds the inputs of a case.

One process reads or makes the inputs and forks a worker for every tool, which then loads its
library. So all tools have the same arrays in the same (huge) pages, and an array of gigabytes is in
memory once. Both ends are here: `nursery` and `Worker` for the runner, `nurse` and `Served` for the
process that forks. They send each other JSON, a packet at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

BENCHES = Path(__file__).resolve().parent
TIMEOUT_SECONDS = 600.0
PACKET = 1 << 16
# Libraries for threads keep spinning for some hundredth of a second after their work is done, at
# the expense of whoever comes next.
SETTLE_SECONDS = 0.1


class FailedError(Exception):
    """A tool did not do its job."""


class MissingError(Exception):
    """A tool cannot be had here; the message says why."""


class Worker:
    """The process of one tool, as the runner sees it."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._requests.settimeout(TIMEOUT_SECONDS)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, unless it is empty, and return the answer."""
        if request:
            self._requests.send(json.dumps(request).encode())
        try:
            received = self._requests.recv(PACKET)
        except TimeoutError as error:
            raise FailedError(f"not done after {TIMEOUT_SECONDS:.0f} s") from error
        except ConnectionError as error:
            raise FailedError("it ended without an answer") from error
        if not received:
            raise FailedError("it ended without an answer")
        answer: dict[str, Any] = json.loads(received)
        if "failed" in answer:
            raise FailedError(answer["failed"])
        if "absent" in answer:
            raise MissingError(answer["absent"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._requests.close()


@dataclass(frozen=True)
class Nursery:
    """The process that has the inputs of a case and forks the workers."""

    facts: Mapping[str, Any]
    _control: socket.socket

    def start(self, request: Mapping[str, Any]) -> Worker:
        """Return a new worker; what it is comes as its first answer."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno()])
        return Worker(ours)


@contextlib.contextmanager
def nursery(
    python: Path, module: str, wanted: Mapping[str, Any], settings: Mapping[str, str]
) -> Iterator[Nursery]:
    """Start a module of the benches that calls `nurse`, and tell it what is wanted."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {key: word for key, word in os.environ.items() if key.startswith(_KEPT)} | {
        "PYTHONPATH": str(BENCHES),
        "PYTHONWARNINGS": "ignore",
        **settings,
    }
    argv = [str(python), "-m", module, str(theirs.fileno())]
    process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], env=env)
    theirs.close()
    try:
        ours.send(json.dumps(wanted).encode())
        received = ours.recv(PACKET)
        if not received:
            raise SystemExit("the inputs could not be read")
        yield Nursery(json.loads(received), ours)
    finally:
        ours.close()
        process.wait()


_KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "COREKIT_BENCH_")


class Served(Protocol):
    """A worker, as the process that it is."""

    def facts(self) -> dict[str, Any]:
        """Return what the runner must know before it asks for anything."""

    def do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do one request."""


def nurse(
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    make: Callable[[Mapping[str, Any]], Served],
) -> None:
    """Read the inputs, say what they are, and fork a worker whenever one is asked for.

    Libraries are loaded in the workers only, after the fork.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    facts = read(json.loads(control.recv(PACKET)))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers that have ended leave nothing behind
    control.send(json.dumps(facts).encode())
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, PACKET, 1)
        if not packet:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _serve(socket.socket(fileno=descriptors[0]), json.loads(packet), make)
            os._exit(0)
        os.close(descriptors[0])


def _serve(requests: socket.socket, request: Any, make: Callable[[Any], Served]) -> None:
    """Do one request after the other until there are no more."""
    worker: Served | None = None
    while request:
        answer: dict[str, Any]
        try:
            if worker is None:
                worker = make(request)
                _map_libraries()
                answer = worker.facts()
            else:
                answer = worker.do(request)
        except MissingError as error:
            answer = {"absent": str(error)}
        except Exception as error:  # noqa: BLE001 - a peer may raise anything: its row says so
            answer = {"failed": f"{type(error).__name__}: {error}"}
        requests.send(json.dumps(answer).encode()[:PACKET])
        received = requests.recv(PACKET)
        request = json.loads(received) if received else None


def _map_libraries() -> None:
    """Map every page of the libraries that are loaded, but for those of GPUs.

    A masked instruction whose operand lies on a page that nobody has touched does not fetch it when
    the mask is empty: it goes through microcode, some 700 cycles, each time anew. So a page of
    torch's constants that had left the page cache made its elu 13 times as slow.
    """
    madvise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, _, _, _, *path = line.split(maxsplit=5)
        name = "".join(path)
        if mode.startswith("r") and ".so" in name and not re.search("nvidia|cuda", name):
            start, end = (int(edge, 16) for edge in span.split("-"))
            # Where the kernel cannot, it says so, and nothing is lost.
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_POPULATE_READ)


_MADV_POPULATE_READ = 22


def scrubbed(text: str) -> str:
    """Return the first line, without this machine's paths."""
    line = text.splitlines()[0] if text else "no reason"
    for path, word in ((BENCHES.parent, "REPOSITORY"), (Path.home(), "~")):
        line = line.replace(str(path), word)
    return line[:300]
