"""What kind of machine a result comes from. Never which one: no host name, no path."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def describe(directory: Path) -> dict[str, str | int | float]:
    """Return the facts that a figure depends on; `directory` is where the files lie."""
    return {
        "cpu": _cpu_model(),
        "cpus": cpus(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.system(),
        "kernel": ".".join(re.findall(r"\d+", platform.release())[:2]),
        "virtual": "hypervisor" in _cpu_flags(),
        "filesystem": _filesystem(directory.resolve()),
    }


def slug(directory: Path) -> str:
    """Return a file name for results of this kind of machine."""
    facts = describe(directory)
    cpu = re.sub(r"[^a-z0-9]+", "-", str(facts["cpu"]).lower()).strip("-")
    return f"{cpu}-{facts['cpus']}cpu-{round(float(facts['memory_gib']))}gib"


def available_bytes() -> int:
    """Return how much memory can be had without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return int(found["MemAvailable"].split()[0]) * 1024


def load() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def commit(repository: Path) -> str:
    """Return the commit of the sources, with ``+`` when they differ from it."""
    head = _git(repository, "rev-parse", "--short=12", "HEAD")
    changed = _git(repository, "status", "--porcelain", "--", ".", ":!benches", ":!docs", ":!*.md")
    return f"{head}+" if head and changed else head or "unknown"


def refuse_changed(commit: str, otherwise: str = "") -> None:
    """Stop where figures would be kept of sources that no commit holds."""
    if commit.endswith("+"):
        raise SystemExit(
            f"the sources differ from commit {commit[:-1]}, and figures that are kept must be "
            f"those of a commit: commit the changes first{otherwise}"
        )


def _git(repository: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *words], capture_output=True, text=True
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu_field(name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else ""


def _cpu_model() -> str:
    """Return the processor's name; with its numbers, since virtual machines hide generations."""
    name = _cpu_field("model name")
    family, model = _cpu_field(r"cpu family"), _cpu_field("model")
    numbers = f" (family {family}, model {model})" if family and model else ""
    return f"{name}{numbers}" if name else platform.machine()


def _cpu_flags() -> list[str]:
    return _cpu_field("flags").split()


def _filesystem(directory: Path) -> str:
    """Return the type of the mount with the longest path above `directory`."""
    best, kind = -1, "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        mount, after = fields[4], fields[fields.index("-") + 1 :]
        if directory.is_relative_to(mount) and len(mount) >= best:
            best, kind = len(mount), after[0]
    return kind
