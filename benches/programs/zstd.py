"""Stand in for the zstd command where there is none, with the package zstandard.

zstd.py -dcq FILE...        decode the files, or standard input, to standard output
zstd.py -qc -LEVEL -TN      encode standard input to standard output
"""

import importlib
import shutil
import sys

zstandard = importlib.import_module("zstandard")  # only in the peers' environment


def main(words: list[str]) -> None:
    """Do as the words say."""
    if "-dcq" in words:
        names = [word for word in words if not word.startswith("-")]
        for name in names or ["/dev/stdin"]:
            with open(name, "rb") as source:
                decoder = zstandard.ZstdDecompressor()
                with decoder.stream_reader(source, read_across_frames=True) as plain:
                    shutil.copyfileobj(plain, sys.stdout.buffer, 1 << 20)
        return
    threads = next(int(word[2:]) for word in words if word.startswith("-T"))
    level = next(int(word[1:]) for word in words if word[1:].isdigit())
    encoder = zstandard.ZstdCompressor(level=level, threads=threads)
    encoder.copy_stream(sys.stdin.buffer, sys.stdout.buffer)


main(sys.argv[1:])
