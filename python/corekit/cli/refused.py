"""Flags of GNU shuf that corekit has no use for: refused by name, with the way to go."""

from __future__ import annotations

import argparse
from typing import Any

_INSTEAD: dict[tuple[str, ...], str] = {
    ("-e", "--echo"): (
        "give the lines on standard input: printf '%%s\\n' LINE... | corekit shuffle"
    ),
    ("-i", "--input-range"): (
        "use 'seq LO HI | corekit shuffle', or corekit.shuffle.permutation in Python"
    ),
    ("-r", "--repeat"): (
        "a shuffle draws each record once; use -n COUNT for a sample, "
        "or numpy.random.Generator.choice to draw with replacement"
    ),
    ("--random-source",): "use --seed N; the same seed gives the same order",
}


class _Refusal(argparse.Action):
    """An option whose only effect is a usage error."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, *_: object
    ) -> None:
        names = "/".join(self.option_strings)
        instead = _INSTEAD[tuple(self.option_strings)].replace("%%", "%")
        parser.error(f"{names} is not supported: {instead}")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Teach a parser to refuse them."""
    # nargs "?" takes the flag's argument along in every spelling (-i1-9, -i 1-9,
    # --input-range=1-9), so that no other error is found first.
    options: dict[str, Any] = {"nargs": "?", "action": _Refusal, "help": argparse.SUPPRESS}
    for names in _INSTEAD:
        parser.add_argument(*names, **options)
