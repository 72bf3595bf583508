"""From checked arguments to the core and back, also for open descriptors.

`tuning` sets the core's block, chunk and pool sizes. It is for tests, which shrink
them until tiny inputs cross every boundary; the output never depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

from corekit import _core, _progress
from corekit._paths import Descriptor, Input, Path
from corekit._progress import Progress
from corekit.shuffle import _job
from corekit.shuffle._job import Options
from corekit.shuffle._plan import ShufflePlan
from corekit.shuffle._report import ShuffleReport


def run(
    inputs: Input | Sequence[Input],
    output: Path | Descriptor,
    *,
    progress: Progress = None,
    tuning: Mapping[str, int] | None = None,
    **options: Unpack[Options],
) -> ShuffleReport:
    """Run a shuffle into one output."""
    _progress.check(progress)
    (report,) = _reports(_job.prepare(inputs, output, tuning=tuning, **options), progress)
    return report


def run_aligned(
    inputs: Sequence[Input],
    outputs: Sequence[Path | Descriptor],
    *,
    progress: Progress = None,
    tuning: Mapping[str, int] | None = None,
    **options: Unpack[Options],
) -> tuple[ShuffleReport, ...]:
    """Run a shuffle of each input into its own output, all in the same order."""
    _progress.check(progress)
    jobs = _job.prepare(inputs, outputs, aligned=True, tuning=tuning, **options)
    return _reports(jobs, progress)


def plan(
    inputs: Input | Sequence[Input],
    output: Path | Descriptor,
    *,
    progress: Progress = None,
    tuning: Mapping[str, int] | None = None,
    **options: Unpack[Options],
) -> ShufflePlan:
    """Plan a shuffle; the twin of `run`."""
    _progress.check(progress)
    (planned,) = _plans(_job.prepare(inputs, output, tuning=tuning, **options))
    return planned


def plan_aligned(
    inputs: Sequence[Input],
    outputs: Sequence[Path | Descriptor],
    *,
    progress: Progress = None,
    tuning: Mapping[str, int] | None = None,
    **options: Unpack[Options],
) -> tuple[ShufflePlan, ...]:
    """Plan an aligned shuffle; the twin of `run_aligned`."""
    _progress.check(progress)
    return _plans(_job.prepare(inputs, outputs, aligned=True, tuning=tuning, **options))


def _reports(jobs: list[_job.Job], progress: Progress) -> tuple[ShuffleReport, ...]:
    with _progress.reporting(progress) as callback:
        raw = _core.shuffle_run(jobs, callback)
    return tuple(map(ShuffleReport._from_core, raw))


def _plans(jobs: list[_job.Job]) -> tuple[ShufflePlan, ...]:
    return tuple(ShufflePlan(**_core.shuffle_plan(job)) for job in jobs)
