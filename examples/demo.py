"""`make demo`: shuffle 256 MB of real text in 64 MiB, and check the result independently.

The text is the Python standard library's own sources, which every machine with Python
has; each copy's lines get the copy's number in front, so that they are told apart.
The check shares no code with corekit: it counts lines and adds up their hashes.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from xxhash import xxh3_128_intdigest

SIZE = 256 * 10**6
LIMIT = "64MiB"
SEED = "2026"
BUILD = Path(__file__).resolve().parent.parent / "target"


def main() -> None:
    """Make the corpus, explain, shuffle, check, show."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="demo-", dir=BUILD) as name:
        folder = Path(name)
        corpus, shuffled = folder / "corpus.txt", folder / "shuffled.txt"

        copies = write_corpus(corpus)
        say(
            f"the corpus: {corpus.stat().st_size / 1e6:.0f} MB, "
            f"the standard library's sources {copies} times"
        )

        words = ["shuffle", corpus.name, "-o", shuffled.name]
        words += ["--seed", SEED, "--memory-limit", LIMIT]
        corekit([*words, "--explain"], folder)
        told = corekit([*words, "--progress"], folder)

        say("checking without corekit: number of lines, and the sum of their hashes")
        began = time.monotonic()
        before, after = census(corpus), census(shuffled)
        reported = re.search(r"digest ([0-9a-f]{32})", told)
        print(f"  read     {before[0]:,} lines, digest {before[1]:032x}")
        print(f"  written  {after[0]:,} lines, digest {after[1]:032x}")
        print(f"  reported                digest {reported[1] if reported else 'none'}")
        if before != after or not reported or int(reported[1], 16) != after[1]:
            sys.exit("the two files do not hold the same lines")
        print(f"  nothing was lost, nothing was invented ({time.monotonic() - began:.0f} s)")

        say("the first lines:")
        with shuffled.open("rb") as file:
            for line in islice(file, 8):
                print(f"  {line.decode('utf-8', 'replace').rstrip()[:90]}")


def write_corpus(path: Path) -> int:
    """Write copies of the sources until there are enough bytes; return how many copies."""
    text = b"".join(sources())
    copies = 0
    with path.open("wb") as file:
        while file.tell() < SIZE:
            copies += 1
            number = b"%04d " % copies
            file.write(number + text[:-1].replace(b"\n", b"\n" + number) + b"\n")
    return copies


def sources() -> Iterator[bytes]:
    """Yield the standard library's modules, each with a newline at its end."""
    for folder, folders, files in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        for name in sorted(files):
            if name.endswith(".py"):
                text = Path(folder, name).read_bytes()
                yield text if text.endswith(b"\n") or not text else text + b"\n"


def corekit(words: list[str], folder: Path) -> str:
    """Run the command as a user would, passing on what it says, and return that too."""
    say(f"$ corekit {shlex.join(words)}")
    command = [sys.executable, "-m", "corekit", *words]
    told = b""
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as process:
        assert process.stderr
        while part := os.read(process.stderr.fileno(), 1 << 16):
            told += part
            sys.stderr.buffer.write(part)
            sys.stderr.flush()
    if process.returncode:
        sys.exit(process.returncode)
    return told.decode("utf-8", "replace")


def census(path: Path) -> tuple[int, int]:
    """Count the lines of a file and add up their XXH3-128, so that order does not matter."""
    count = total = 0
    with path.open("rb") as file:
        for count, line in enumerate(file, start=1):  # noqa: B007 -- the last one is the count
            total += xxh3_128_intdigest(line[:-1])
    return count, total % 2**128


def say(text: str) -> None:
    """Print a heading, at once: the command writes to the same terminal."""
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
