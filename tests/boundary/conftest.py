"""A core that runs nothing and remembers what it was asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from corekit import _core
from corekit.shuffle import ShufflePlan
from corekit.shuffle._job import Job

PLAN = ShufflePlan(
    strategy="memory",
    passes=1,
    buckets=1,
    workers=1,
    block_bytes=4096,
    chunk_bytes=4096,
    memory_limit=1,
    memory_bytes=1,
    resident_bytes=1,
    scratch_bytes=0,
    input_bytes=1,
    bytes_read=1,
    bytes_written=1,
    seconds=0.1,
    reason="none",
    estimated=False,
)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Put the stub in the core's place, and return the list of its jobs."""
    seen: list[Job] = []
    plan = dataclasses.asdict(PLAN)

    def shuffle_plan(job: Job) -> dict[str, Any]:
        seen.append(job)
        return plan

    def shuffle_run(jobs: list[Job], progress: object) -> list[dict[str, Any]]:
        seen.extend(jobs)
        numbers = dict.fromkeys(
            (
                "records",
                "bytes",
                "digest",
                "input_records",
                "input_bytes",
                "input_digest",
                "output_size",
                "algorithm",
                "passes",
                "peak_memory",
                "scratch_bytes",
            ),
            0,
        )
        rest = {"files": [], "seconds": {}, "plan": plan}
        return [{**numbers, "seed": job["seed"], **rest} for job in jobs]

    monkeypatch.setattr(_core, "shuffle_plan", shuffle_plan)
    monkeypatch.setattr(_core, "shuffle_run", shuffle_run)
    return seen
