"""``corekit attention``: from which length linear attention pays on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from corekit import _checks, _threads
from corekit.cli import streams
from corekit.cli.parser import Parser, command
from corekit.cli.values import number, usage

_DESCRIPTION = """\
Time softmax attention and linear attention in turns, for each length, and print from which
length on linear attention is faster here, and from which it needs fewer multiplications.
"""

_EPILOG = """\
The same in Python, with more options, is corekit.attention.cost.measure_crossover.
"""


def run(argv: Sequence[str]) -> None:
    """Run the one command that there is about attention."""
    command(_top_level(), argv, ["crossover"])
    arguments = _crossover().parse_args(argv[1:])
    # Half of a command's start would be spent on NumPy, so that it is loaded here.
    from corekit.attention.cost import measure_crossover

    report = measure_crossover(
        heads=arguments.heads,
        dim=arguments.dim,
        lengths=arguments.lengths,
        threads=arguments.threads,
    )
    # First, so that it is not lost with a figure that cannot be drawn.
    streams.write(f"{report.to_json() if arguments.json else report}\n")
    if arguments.plot is not None:
        report.plot(arguments.plot)


def _top_level() -> Parser:
    return Parser(
        prog="corekit attention",
        usage="corekit attention crossover [OPTION]...",
        description="Linear attention, measured.",
        epilog="commands:\n"
        "  crossover  from which length linear attention pays on this machine\n"
        "\n'corekit attention crossover --help' says more.",
    )


def _crossover() -> Parser:
    parser = Parser(
        prog="corekit attention crossover",
        usage="corekit attention crossover [OPTION]...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    group = parser.add_argument_group("layer")
    group.add_argument(
        "--heads",
        metavar="N",
        type=usage(lambda text: _checks.integer("heads", number(text), low=1)),
        default=8,
        help="heads (default: 8)",
    )
    group.add_argument(
        "--dim",
        metavar="N",
        type=usage(lambda text: _checks.integer("dim", number(text), low=1)),
        default=64,
        help="the size of a head (default: 64)",
    )
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--lengths",
        metavar="N,...",
        type=usage(_lengths),
        help="tokens, rising (default: powers of two from 16 to 4096)",
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=usage(lambda text: _threads.count(number(text))),
        help="the most threads to use (default: COREKIT_NUM_THREADS, or the usable CPUs)",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print the report as a line of JSON")
    group.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the times, as .png, .svg or .pdf; needs matplotlib",
    )
    return parser


def _lengths(text: str) -> list[int]:
    lengths = [_checks.integer("lengths", number(word), low=1) for word in text.split(",")]
    if lengths != sorted(set(lengths)):
        raise argparse.ArgumentTypeError(f"must rise, got {text!r}")
    return lengths
