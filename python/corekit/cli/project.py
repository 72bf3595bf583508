"""``corekit project``: the command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from corekit import _checks, _memory, _seed, _size, _threads
from corekit.cli import streams
from corekit.cli.parser import Parser, add_messages, shows_progress
from corekit.cli.values import number, seed_number, share, usage
from corekit.errors import CorekitError, InvalidArgumentError

if TYPE_CHECKING:
    from corekit.projection import SparseProjection
    from corekit.projection._file import Source

_KINDS = ("block-stack", "stack", "countsketch", "iid", "gaussian", "srht")

_DESCRIPTION = """\
Project the rows of a matrix to fewer columns, so that the distances between rows stay
nearly the same (Johnson and Lindenstrauss). INPUT is a .npy file and may be larger than
memory.
"""

_EPILOG = """\
The same INPUT, -k, --kind, its options and --seed give the same OUTPUT, whatever memory and
threads. OUTPUT is replaced in one step when everything is written.
"""

# Deviations that --explain answers for.
_EPSILONS = (0.05, 0.1, 0.2, 0.5)


def run(argv: Sequence[str]) -> None:
    """Project, or explain what would come of it."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    _check(parser, arguments)
    # NumPy is loaded when the usage is known to be right.
    from corekit.projection import SparseProjection, _file

    drawn = arguments.seed is None
    seed = _seed.draw() if drawn else arguments.seed
    source = _file.open_source(_named(arguments.input, "/dev/stdin"), None, arguments.dtype)
    try:
        projection = SparseProjection(
            source.shape[1],
            arguments.n_components,
            kind=arguments.kind,
            column_nnz=arguments.column_nnz,
            density=arguments.density,
            seed=seed,
        )
    except InvalidArgumentError as error:
        parser.error(str(error))
    if arguments.explain:
        streams.write(_explanation(projection, source, arguments))
        return
    # Before the run: who interrupts it or loses the output may want it again.
    if drawn and not arguments.quiet:
        streams.say(f"corekit: seed {seed}")
    projection.project_file(
        source.path,
        _named(arguments.output, "/dev/stdout"),
        dtype=arguments.dtype,
        memory_limit=arguments.memory_limit,
        threads=arguments.threads,
        progress=shows_progress(arguments),
    )


def _parser() -> Parser:
    parser = Parser(
        prog="corekit project",
        usage="corekit project INPUT.npy -o OUTPUT.npy -k K [OPTION]...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    group = parser.add_argument_group("files")
    group.add_argument(
        "input",
        metavar="INPUT.npy",
        help="the matrix, a row for each sample; - for a file that standard input is",
    )
    group.add_argument(
        "-o",
        "--output",
        metavar="OUTPUT.npy",
        help="where the projected rows go; - for standard output",
    )
    group.add_argument(
        "--dtype",
        choices=("bfloat16",),
        help="what INPUT holds where NumPy has no name for it: two bytes, V2",
    )
    group = parser.add_argument_group("matrix")
    group.add_argument(
        "-k",
        "--n-components",
        metavar="K",
        type=_count("n_components"),
        required=True,
        help="columns of the output",
    )
    group.add_argument(
        "--kind",
        choices=_KINDS,
        default="block-stack",
        help="distribution of the matrix (default: block-stack)",
    )
    group.add_argument(
        "--column-nnz",
        metavar="S",
        type=_count("column_nnz"),
        help="non-zeros for each column of INPUT, for the stacks (default: 8, at most K)",
    )
    group.add_argument(
        "--density",
        metavar="P",
        type=share,
        help="probability of an entry to be non-zero, for --kind=iid (default: 1/3)",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=usage(seed_number),
        help="below 2**128 (default: drawn, and printed to standard error)",
    )
    group = parser.add_argument_group("resources")
    group.add_argument(
        "--memory-limit",
        metavar="SIZE",
        type=usage(_memory.limit),
        help="the most memory to use (default: half of what is available)",
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=usage(lambda text: _threads.count(number(text))),
        help="the most threads to use (default: COREKIT_NUM_THREADS, or the usable CPUs)",
    )
    group = parser.add_argument_group("messages")
    group.add_argument(
        "--explain",
        action="store_true",
        help="print what to expect of distances, time and memory; write no file",
    )
    add_messages(group)
    return parser


def _check(parser: Parser, arguments: argparse.Namespace) -> None:
    """Refuse an output that is missing or has no name."""
    if arguments.output is None and not arguments.explain:
        parser.error("the following arguments are required: -o/--output")
    if arguments.output == "":
        parser.error("-o/--output must be a path, got an empty one")


def _named(path: str, standard: str) -> str:
    return standard if path == "-" else path


def _count(name: str) -> Callable[[str], int]:
    return usage(lambda text: _checks.integer(name, number(text), low=1))


def _explanation(
    projection: SparseProjection, source: Source, arguments: argparse.Namespace
) -> str:
    """Return what the matrix does to distances, and what the run would take."""
    from corekit.projection import _file
    from corekit.projection._variance import variances

    rows, columns = source.shape
    k = projection.n_components
    count = _threads.count(arguments.threads)
    work = _file.plan(source, projection, arguments.memory_limit, count)
    seconds = projection._file_seconds(work, threads=work.threads)
    many, most = (variance**0.5 for variance in variances(projection))
    more = f", up to {most:.4g} where few features differ" if most > many else ""
    table = {
        "input": f"{rows} x {columns} {source.dtype}, {_size.human(rows * source.row_bytes)}",
        "output": f"{rows} x {k} {work.result_dtype}, {_size.human(work.output_bytes)}",
        "matrix": repr(projection),
        "memory": f"{_size.human(work.memory_bytes)}, {work.block_rows} rows at a time",
        "threads": f"{work.threads}",
        "time": "not tried, as a row alone takes long"
        if seconds is None
        else f"about {seconds:.2g} s, by a trial on the first rows",
        "distortion": f"{many:.4g}, root mean square error of squared distances{more}",
    }
    lines = [f"{label:<12}{text}\n" for label, text in table.items()]
    return "".join(lines + (_guarantees(rows, k) if rows >= 2 else []))


def _guarantees(rows: int, k: int) -> list[str]:
    from corekit.projection import epsilon_for, min_components

    try:
        here = f"eps = {epsilon_for(rows, k):.4f}"
    except CorekitError:
        here = "no eps below 1"
    return [
        f"\nAll {rows * (rows - 1) // 2} pairs of rows keep their squared distance to within a "
        "factor of 1 ± eps,\nwith probability 0.95 (proved for kind gaussian, a rule of thumb for "
        "the others):\n",
        f"  -k {k:<10} {here}\n",
        *(f"  -k {min_components(rows, eps):<10} eps = {eps}\n" for eps in _EPSILONS),
    ]
