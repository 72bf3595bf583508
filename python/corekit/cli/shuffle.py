"""``corekit shuffle``: the command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from corekit import _paths, _seed
from corekit._paths import Descriptor
from corekit.cli import shuffle_arguments, streams
from corekit.cli.parser import shows_progress
from corekit.errors import FileError
from corekit.shuffle import _call
from corekit.shuffle._job import Options
from corekit.shuffle._plan import ShufflePlan
from corekit.shuffle._report import ShuffleReport

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
    if name is None or all(os.path.isabs(output) for output in arguments.outputs):
        return name
    here = os.path.join(os.getcwd(), "")
    was_typed = name in arguments.inputs or name in arguments.outputs
    return name if was_typed else name.removeprefix(here)


def _explain(arguments: argparse.Namespace) -> None:
    plans = _plans(arguments)
    if arguments.json:
        streams.write("".join(f"{plan.to_json()}\n" for plan in plans))
    else:
        streams.write("\n".join(f"{plan}\n" for plan in plans))


def _shuffle(arguments: argparse.Namespace) -> None:
    if arguments.seed is None:
        _look_for(arguments.inputs)
        arguments.seed = _seed.draw()
        # Before the run: who interrupts it or loses the output may want it again.
        if not arguments.quiet:
            streams.say(f"corekit: seed {arguments.seed}")
    show = shows_progress(arguments)
    reports = _reports(arguments, show=show)
    if show:
        for report in reports:
            streams.say(f"corekit: {report}")
    if arguments.json:
        for report in reports:
            streams.say(report.to_json())


def _look_for(inputs: Sequence[str]) -> None:
    """Notice what is not there before a seed is said that nothing will come of."""
    for name in inputs:
        if name not in ("", "-"):  # the one is refused by name later, the other is no file
            os.stat(name)


def _reports(arguments: argparse.Namespace, *, show: bool) -> tuple[ShuffleReport, ...]:
    options = _options(arguments)
    if arguments.aligned:
        return _call.run_aligned(arguments.inputs, arguments.outputs, progress=show, **options)
    return (_call.run(_inputs(arguments), _output(arguments), progress=show, **options),)


def _plans(arguments: argparse.Namespace) -> tuple[ShufflePlan, ...]:
    options = _options(arguments)
    if arguments.aligned:
        return _call.plan_aligned(arguments.inputs, arguments.outputs, **options)
    return (_call.plan(_inputs(arguments), _output(arguments), **options),)


def _inputs(arguments: argparse.Namespace) -> list[_paths.Input]:
    return [_STANDARD_INPUT if name == "-" else name for name in arguments.inputs or ["-"]]


def _output(arguments: argparse.Namespace) -> _paths.Path | Descriptor:
    return arguments.outputs[0] if arguments.outputs else _STANDARD_OUTPUT


def _options(arguments: argparse.Namespace) -> Options:
    return {
        "seed": arguments.seed,
        "memory_limit": arguments.memory_limit,
        "threads": arguments.threads,
        "scratch": arguments.scratch,
        "delimiter": arguments.delimiter,
        "record_bytes": arguments.record_bytes,
        "header": arguments.header,
        "input_format": arguments.input_format,
        "any_expansion": arguments.any_expansion,
        "sample": arguments.head_count,
        "fraction": arguments.fraction,
        "splits": arguments.splits,
        "epochs": arguments.epochs,
        "shards": arguments.shards,
        "shard_records": arguments.shard_records,
        "shard_bytes": arguments.shard_bytes,
        "compress": arguments.compress,
    }
