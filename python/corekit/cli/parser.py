"""What the parsers of all commands have in common."""

from __future__ import annotations

import argparse
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
    parser.add_argument(
        "command",
        choices=["shuffle", "project", "distortion", "attention", "info"],
        help=argparse.SUPPRESS,
    )
    return parser
