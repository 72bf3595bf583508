"""``corekit distortion``: what a projection did to the distances between rows."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

from corekit import _checks, _npy
from corekit.cli import streams
from corekit.cli.parser import Parser
from corekit.cli.values import number, seed_number, share, usage
from corekit.errors import FileError, InputFormatError, file_error

_DESCRIPTION = """\
Compare the distances between the rows of two .npy arrays, before and after a projection.

Row i of Y is the projection of row i of X. Pairs of rows are sampled, and the relative
error of the squared distance of each is taken: bias, RMS, quantiles, the worst pairs, and
the share beyond eps, next to what is expected. For some rows the 10 nearest neighbours in Y
are compared with those in X.
"""

_EPILOG = """\
The arrays are mapped, not loaded. Without queries, only the rows of the pairs are read.
"""


def run(argv: Sequence[str]) -> None:
    """Measure, and print the report."""
    arguments = _parser().parse_args(argv)
    # Half of a command's start would be spent on NumPy, so that it is loaded here.
    from corekit.projection import _distortion, _rows

    x, y = (_rows.rows_of(path, _mapped(path)) for path in (arguments.x, arguments.y))
    report = _distortion.measure(
        x,
        y,
        eps=arguments.eps,
        n_pairs=arguments.n_pairs,
        n_queries=arguments.n_queries,
        seed=arguments.seed,
    )
    # First, so that it is not lost with a figure that cannot be drawn.
    streams.write(f"{report.to_json() if arguments.json else report}\n")
    if arguments.plot is not None:
        report.plot(arguments.plot)


def _parser() -> Parser:
    parser = Parser(
        prog="corekit distortion",
        usage="corekit distortion [OPTION]... X.npy Y.npy",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("x", metavar="X.npy", help="the data, a row for each point")
    parser.add_argument("y", metavar="Y.npy", help="the projected data, in the same order")
    group = parser.add_argument_group("sample")
    group.add_argument(
        "--eps",
        metavar="E",
        type=usage(lambda text: _checks.fraction("eps", share(text))),
        default=0.1,
        help="the error that counts as too large, above 0 and below 1 (default: 0.1)",
    )
    group.add_argument(
        "--n-pairs",
        metavar="N",
        type=usage(lambda text: _checks.integer("n_pairs", number(text), low=1)),
        default=10_000,
        help="pairs to sample (default: 10000)",
    )
    group.add_argument(
        "--n-queries",
        metavar="N",
        type=number,
        default=200,
        help="rows whose nearest neighbours are compared; 0 for none (default: 200)",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=usage(seed_number),
        help="below 2**128 (default: drawn, and reported)",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print the report as a line of JSON")
    group.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the errors, as .png, .svg or .pdf; needs matplotlib",
    )
    return parser


def _mapped(path: str) -> Any:
    """Map a ``.npy`` file as an array."""
    from numpy.lib.format import open_memmap

    try:
        # What is none, and a FIFO above all, is refused in the words of other commands.
        _npy.read(os.fsencode(path))
        return open_memmap(path, mode="r")
    except FileError:
        raise
    except OSError as error:
        raise file_error(error.errno or 0, error.strerror or str(error), path) from None
    except Exception as error:  # noqa: BLE001 -- a damaged header makes NumPy raise nearly anything
        raise InputFormatError(
            errno.EBADMSG, f"is not a .npy file that NumPy can map: {error}", path
        ) from None
