"""``corekit shuffle``: its arguments. Where GNU shuf has the same flag, it means the same."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from corekit import _memory, _threads
from corekit.cli import refused, splits
from corekit.cli.delimiter import unescape
from corekit.cli.parser import Parser, add_messages
from corekit.cli.values import number, seed_number, usage
from corekit.shuffle import _compress, _records, _selection, _sets

_DESCRIPTION = """\
Write a uniformly random permutation of the input records (lines, unless an option
says otherwise) to standard output.

Inputs may be larger than memory. Without INPUT, or when INPUT is -, read standard
input. The same inputs and seed give the same bytes, whatever memory, threads and scratch.
"""

_EPILOG = """\
Sizes: 512M, 2GiB, 2GB; K, M, G and KiB, MiB, GiB are powers of 1024; KB, MB, GB of 1000.
Fractions: 0.1, 1e-3, 1/3; they are exact.
OUTPUT is replaced in one step when everything is written; it may be one of the inputs.
Devices and pipes are streamed to. With --shards, --shard-records, --shard-bytes or --split
OUTPUT is a pattern, such as part-{index}.txt or {split}.txt; with --epochs it may be one.
"""

# What makes a set of files, which a stream cannot hold.
_SETS = {
    "shards": ("--shards", "{index}"),
    "shard_records": ("--shard-records", "{index}"),
    "shard_bytes": ("--shard-bytes", "{index}"),
    "splits": ("--split", "{split}"),
}


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
    problem = _problem(arguments)
    if problem is not None:
        parser.error(problem)
    return arguments


def _problem(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with the arguments taken together."""
    inputs, outputs = arguments.inputs, arguments.outputs
    if inputs.count("-") > 1:
        return "standard input ('-') was given twice"
    if arguments.aligned:
        if not inputs or "-" in inputs:
            return "--aligned needs inputs with names, not standard input"
        if len(outputs) != len(inputs):
            return f"--aligned needs one -o for each INPUT, {len(inputs)}, got {len(outputs)}"
        if arguments.shard_bytes is not None:
            return "argument --shard-bytes: not allowed with argument --aligned"
        return None
    # As shuf's -o, it may be repeated only with the same value.
    if len(set(outputs)) > 1:
        return "multiple output files specified"
    if not outputs:
        for name, (option, field) in _SETS.items():
            if getattr(arguments, name) is not None:
                return f"argument {option}: needs -o with {field} in its name, not standard output"
    return None


def _parser() -> Parser:
    parser = Parser(
        prog="corekit shuffle",
        usage="corekit shuffle [OPTION]... [INPUT]...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    _add_input(parser)
    _add_output(parser)
    _add_selection(parser)
    _add_resources(parser)
    _add_messages(parser)
    refused.add_to(parser)
    return parser


def _add_input(parser: Parser) -> None:
    group = parser.add_argument_group("input")
    group.add_argument("inputs", metavar="INPUT", nargs="*", default=[], help="a file, or -")
    records = group.add_mutually_exclusive_group()
    records.add_argument(
        "-z",
        "--zero-terminated",
        dest="delimiter",
        action="store_const",
        const=b"\0",
        default=_records.NEWLINE,
        help="records end with NUL, not newline",
    )
    records.add_argument(
        "--delimiter",
        metavar="BYTES",
        type=usage(unescape),
        default=_records.NEWLINE,
        help=r"records end with BYTES; understands \n \r \t \0 \\ \xHH",
    )
    records.add_argument(
        "--record-bytes",
        metavar="N",
        type=usage(lambda text: _records.size(number(text))),
        help="every record has N bytes, and no delimiter",
    )
    group.add_argument(
        "--header",
        metavar="N",
        type=usage(lambda text: _records.headers(number(text))),
        default=0,
        help="keep the first N records, the same in every INPUT, on top of every output",
    )
    group.add_argument(
        "--input-format",
        choices=_records.FORMATS,
        default="auto",
        help="how inputs are stored (default: auto, by their first bytes)",
    )
    group.add_argument(
        "--any-expansion",
        action="store_true",
        help="read compressed inputs however much they expand",
    )
    group.add_argument(
        "--aligned",
        action="store_true",
        help="shuffle inputs of equally many records in step; give -o for each, in order",
    )


def _add_output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o",
        "--output",
        metavar="OUTPUT",
        dest="outputs",
        action=_Append,
        default=[],
        help="write there, not to standard output",
    )
    pieces = group.add_mutually_exclusive_group()
    pieces.add_argument(
        "--shards",
        metavar="K",
        type=usage(lambda text: _sets.count("shards", number(text))),
        help="cut the output into K files",
    )
    pieces.add_argument(
        "--shard-records",
        metavar="N",
        type=usage(lambda text: _sets.count("shard_records", number(text))),
        help="cut the output into files of N records",
    )
    pieces.add_argument(
        "--shard-bytes",
        metavar="SIZE",
        type=usage(_sets.size),
        help="cut the output into files of about SIZE before compression",
    )
    group.add_argument(
        "--compress",
        metavar="CODEC[:LEVEL]",
        type=usage(_checked_codec),
        help="gzip, zstd or none (default: by the name of OUTPUT, .gz or .zst)",
    )


def _add_selection(parser: Parser) -> None:
    group = parser.add_argument_group("order and selection")
    group.add_argument(
        "--seed",
        metavar="N",
        type=usage(seed_number),
        help="below 2**128 (default: drawn, and printed)",
    )
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument(
        "-n",
        "--head-count",
        metavar="COUNT",
        type=_count,
        action=_Least,
        help="write at most COUNT records",
    )
    chosen.add_argument(
        "--fraction",
        metavar="P",
        type=usage(splits.fraction),
        help="write each record with probability P",
    )
    chosen.add_argument(
        "--split",
        metavar="NAME=P,...",
        dest="splits",
        type=usage(splits.read),
        help="write each record to one split, to NAME with probability P",
    )
    group.add_argument(
        "--epochs",
        metavar="K",
        type=usage(lambda text: _selection.rounds(number(text))),
        help="write all records K times, each time in another order",
    )


def _add_resources(parser: Parser) -> None:
    group = parser.add_argument_group("resources")
    group.add_argument(
        "--memory-limit",
        "--memory",
        metavar="SIZE",
        type=usage(_memory.limit),
        help="the most memory to use (default: half of what is available)",
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=usage(lambda text: _threads.count(number(text))),
        help=f"the most threads to use (default: {_threads.VARIABLE}, or the usable CPUs)",
    )
    group.add_argument(
        "--scratch",
        metavar="DIR",
        help="directory for what does not fit in memory, or 'none' (default: beside OUTPUT)",
    )


def _add_messages(parser: Parser) -> None:
    group = parser.add_argument_group("messages")
    group.add_argument("--explain", action="store_true", help="print the plan and do nothing else")
    add_messages(group)
    group.add_argument(
        "--json",
        action="store_true",
        help="print the report as JSON, the last line on standard error",
    )


class _Append(argparse.Action):
    """An option whose values are kept in order; the default list is left as it is."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        *_: object,
    ) -> None:
        if not values:
            parser.error("-o/--output must be a path, got an empty one")
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), values])


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


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]+", text):
        raise argparse.ArgumentTypeError(f"must be a number of records, got {text!r}")
    return int(text)


def _checked_codec(text: str) -> str:
    _compress.asked_for(text)
    return text
