"""``corekit shuffle``: its arguments. Where GNU shuf has the same flag, it means the same."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from corekit import _memory, _seed, _threads
from corekit.cli import refused
from corekit.cli.delimiter import unescape
from corekit.cli.parser import Parser
from corekit.errors import CorekitError

_T = TypeVar("_T")

_DESCRIPTION = """\
Write a uniformly random permutation of the input lines to standard output.

Inputs may be larger than memory. Without INPUT, or when INPUT is -, read standard
input. The same inputs and seed give the same bytes, whatever the other options say.
"""

_EPILOG = """\
Sizes: 512M, 2GiB, 2GB; K, M, G and KiB, MiB, GiB are powers of 1024; KB, MB, GB of 1000.
OUTPUT is replaced in one step when everything is written; it may be one of the inputs.
Devices and pipes are streamed to.
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the words after ``shuffle``; wrong usage ends the process with status 2."""
    parser = _parser()
    # What follows "--" is operands only. argparse knows, but forgets it when options
    # and operands are mixed, so the words are parted here. It also drops a value that
    # looks like one; as a delimiter it is a good value, and is written differently.
    words = list(argv)
    end = words.index("--") if "--" in words else len(words)
    options = [r"--delimiter=\x2d-" if word == "--delimiter=--" else word for word in words[:end]]
    arguments = parser.parse_intermixed_args(options)
    arguments.inputs += words[end + 1 :]
    if arguments.inputs.count("-") > 1:
        parser.error("standard input ('-') was given twice")
    return arguments


def _parser() -> Parser:
    parser = Parser(
        prog="corekit shuffle",
        usage="corekit shuffle [OPTION]... [INPUT]...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="*", default=[], help="a file, or -")
    parser.add_argument(
        "-o", "--output", metavar="OUTPUT", action=_Once, help="write there, not to standard output"
    )
    parser.add_argument(
        "-n",
        "--head-count",
        metavar="COUNT",
        type=_count,
        action=_Least,
        help="write at most COUNT lines",
    )
    delimiters = parser.add_mutually_exclusive_group()
    delimiters.add_argument(
        "-z",
        "--zero-terminated",
        dest="delimiter",
        action="store_const",
        const=b"\0",
        default=b"\n",
        help="lines end with NUL, not newline",
    )
    delimiters.add_argument(
        "--delimiter",
        metavar="BYTES",
        type=_usage(unescape),
        default=b"\n",
        help=r"lines end with BYTES; understands \n \r \t \0 \\ \xHH",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=_usage(_seed_number),
        help="below 2**128 (default: drawn)",
    )
    parser.add_argument(
        "--memory-limit",
        "--memory",
        metavar="SIZE",
        type=_usage(_memory.limit),
        help="most memory to take (default: half of what is available)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_usage(_thread_number),
        help=f"threads to use (default: {_threads.VARIABLE}, or the usable CPUs)",
    )
    parser.add_argument(
        "--scratch",
        metavar="DIR",
        help="directory for what does not fit in memory, or 'none' (default: beside OUTPUT)",
    )
    parser.add_argument("--explain", action="store_true", help="print the plan and do nothing else")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show a bar on standard error (default: if it is a terminal)",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="say nothing but errors, not even the seed drawn"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the report as a last line on standard error"
    )
    refused.add_to(parser)
    return parser


class _Once(argparse.Action):
    """An option that may be repeated only with the same value, as shuf's -o."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        *_: object,
    ) -> None:
        if getattr(namespace, self.dest) not in (None, values):
            parser.error("multiple output files specified")
        if not values:
            parser.error("-o/--output must be a path, got an empty one")
        setattr(namespace, self.dest, values)


class _Least(argparse.Action):
    """An option of which the least value given counts, as shuf's -n."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        *_: object,
    ) -> None:
        if not isinstance(values, int):
            raise TypeError("this action is for numbers")
        earlier = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if earlier is None else min(earlier, values))


def _usage(function: Callable[[str], _T]) -> Callable[[str], _T]:
    """Let argparse show the reason that a check gives, instead of its own general one."""

    def converted(text: str) -> _T:
        try:
            return function(text)
        except CorekitError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return converted


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]+", text):
        raise argparse.ArgumentTypeError(f"must be a number of lines, got {text!r}")
    return int(text)


def _seed_number(text: str) -> int:
    if not re.fullmatch("[0-9]+|0[xX][0-9a-fA-F]+", text):
        raise argparse.ArgumentTypeError(f"must be a decimal or 0x... number, got {text!r}")
    return _seed.resolve(int(text, 16 if text[:2] in ("0x", "0X") else 10))


def _thread_number(text: str) -> int:
    if not re.fullmatch("[0-9]+", text):
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}")
    return _threads.count(int(text))
