"""What the parsers of all commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from corekit import __version__
from corekit.cli import streams


class Parser(argparse.ArgumentParser):
    """An argument parser that keeps corekit's promises about output.

    Abbreviated options are off, so that a new option never changes what an old
    script means; a usage error is one line and a hint; help goes through an
    unbuffered write, so that a full device or a closed pipe is noticed.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **keywords
        )

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the usage and exit with status 2."""
        subject = ": ".join(self.prog.split())
        streams.say(f"{subject}: {message}\nTry '{self.prog} --help' for more information.")
        self.exit(2)

    def print_help(self, file: Any = None) -> None:
        """Write the help text."""
        streams.write(self.format_help())


class Version(argparse.Action):
    """``--version``: write it and exit."""

    def __init__(self, option_strings: list[str], dest: str, **keywords: Any) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, **keywords)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Write the version and exit with status 0."""
        streams.write(f"corekit {__version__}\n")
        parser.exit()


def add_messages(group: argparse._ArgumentGroup) -> None:
    """Add the options about what a run says, which `shows_progress` reads."""
    group.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show a bar on standard error (default: if it is a terminal)",
    )
    group.add_argument(
        "--quiet", action="store_true", help="print errors only, not even the seed drawn"
    )


def shows_progress(arguments: argparse.Namespace) -> bool:
    """Whether there is to be a bar: when asked for, or unasked on a terminal; never if quiet."""
    wanted: bool = streams.is_watched() if arguments.progress is None else arguments.progress
    return wanted and not arguments.quiet


def top_level() -> Parser:
    """Return the parser of the first word."""
    parser = Parser(
        prog="corekit",
        usage="corekit COMMAND [ARGUMENT]...",
        description="Fast, exact kernels for data and models.",
        epilog="commands:\n"
        "  shuffle     shuffle the records of files that do not fit in memory\n"
        "  project     project the rows of a matrix to fewer columns that keep distances\n"
        "  distortion  what a projection did to the distances\n"
        "  attention   from which length linear attention pays on this machine\n"
        "  info        show the build, the SIMD level, threads and the default memory limit\n"
        "\n'corekit COMMAND --help' says more about one of them.",
    )
    parser.add_argument("--version", action=Version, help="show the version and exit")
    return parser


def command(parser: Parser, argv: Sequence[str], commands: Sequence[str]) -> str:
    """Return the command that the first word names; without one the help is the error."""
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    word: str | None = parser.parse_args(argv[:1]).command
    if word is None:
        streams.say(parser.format_help().removesuffix("\n"))
        parser.exit(2)
    if word not in commands:
        *others, last = commands
        there = f"there are {', '.join(others)} and {last}" if others else f"there is {last}"
        parser.error(f"no command {word!r}: {there}")
    return word
