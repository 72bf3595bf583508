"""``corekit shuffle``: the command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from corekit import _paths, _seed
from corekit._job import Options
from corekit._paths import Descriptor
from corekit.cli import shuffle_arguments, streams
from corekit.errors import FileError
from corekit.shuffle import _plan, _run

_STANDARD_INPUT = Descriptor(0)
_STANDARD_OUTPUT = Descriptor(1)


def run(argv: Sequence[str]) -> None:
    """Shuffle, or explain how it would be done."""
    arguments = shuffle_arguments.parse(argv)
    try:
        if arguments.explain:
            _explain(arguments)
        else:
            _shuffle(arguments)
    except FileError as error:
        error.filename = _as_typed(error.filename, arguments)
        raise


def _as_typed(name: str | None, arguments: argparse.Namespace) -> str | None:
    """Undo that a relative output was made absolute on its way; say what the user typed."""
    if name is None or arguments.output is None or os.path.isabs(arguments.output):
        return name
    here = os.path.join(os.getcwd(), "")
    return name.removeprefix(here) if name not in arguments.inputs else name


def _explain(arguments: argparse.Namespace) -> None:
    plan = _plan(_inputs(arguments), _output(arguments), **_options(arguments))
    streams.write(f"{plan.to_json() if arguments.json else plan}\n")


def _shuffle(arguments: argparse.Namespace) -> None:
    options = _options(arguments)
    if options["seed"] is None:
        options["seed"] = _seed.draw()
        # Before the run: who interrupts it or loses the output may want it again.
        if not arguments.quiet:
            streams.say(f"corekit: seed {options['seed']}")
    show = streams.is_watched() if arguments.progress is None else arguments.progress
    show = show and not arguments.quiet
    report = _run(_inputs(arguments), _output(arguments), progress=show, **options)
    if show:
        streams.say(f"corekit: {report}")
    if arguments.json:
        streams.say(report.to_json())


def _inputs(arguments: argparse.Namespace) -> list[_paths.Input]:
    return [_STANDARD_INPUT if name == "-" else name for name in arguments.inputs or ["-"]]


def _output(arguments: argparse.Namespace) -> _paths.Path | Descriptor:
    return _STANDARD_OUTPUT if arguments.output is None else arguments.output


def _options(arguments: argparse.Namespace) -> Options:
    return {
        "seed": arguments.seed,
        "memory_limit": arguments.memory_limit,
        "threads": arguments.threads,
        "scratch": arguments.scratch,
        "delimiter": arguments.delimiter,
        "sample": arguments.head_count,
    }
