"""The default memory limit: a stated share of the memory that is available.

Available is the least of

- what the kernel says a new program can use (``MemAvailable``),
- what every control group above this process has left, from the group itself
  up to the root: a limit anywhere up the tree binds (cgroup v2 `memory.max` and
  `memory.high`, v1 `memory.limit_in_bytes`),
- what the process's own address space limit (``ulimit -v``) has left.

A group's page cache that has not been used lately counts as free, because the
kernel drops it first; otherwise a job that reads a large file would find its
own input in its way.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass

from corekit import _checks, _size

SHARE = 2  # one half: the rest is for the page cache and for everybody else
FLOOR = 32 << 20  # below this runs crawl; the default does not go there
_UNKNOWN = 1 << 30  # assumed to be available where nothing can be found out


def limit(memory_limit: object) -> int:
    """Return a call's memory limit in bytes: the argument, or the default when it is None."""
    if memory_limit is None:
        return default()
    if isinstance(memory_limit, str):
        memory_limit = _size.parse("memory_limit", memory_limit)
    elif isinstance(memory_limit, bool) or not hasattr(memory_limit, "__index__"):
        raise _checks.wrong_type("memory_limit", 'an int or a str such as "2GiB"', memory_limit)
    return _checks.integer("memory_limit", memory_limit, low=1, high=1 << 63)


def default() -> int:
    """Return half of the memory that is available, and at least 32 MiB."""
    return max(available() // SHARE, FLOOR)


def available(root: str = "/") -> int:
    """Return the bytes of memory that this process can still take.

    Parameters
    ----------
    root
        Where the system's files are looked up; tests put others there.
    """
    found = [_system(root), _address_space(root), *_groups(root)]
    return max(min((size for size in found if size is not None), default=_UNKNOWN), 0)


def _system(root: str) -> int | None:
    """Return the kernel's estimate, or else half of the physical memory."""
    kilobytes = _table(os.path.join(root, "proc/meminfo")).get("MemAvailable:")
    if kilobytes is not None:
        return kilobytes * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError):
        return None


def _address_space(root: str) -> int | None:
    """Return what RLIMIT_AS leaves, None without such a limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return None
    statm = _read(os.path.join(root, "proc/self/statm")).split()
    used = int(statm[0]) * resource.getpagesize() if statm else 0
    return soft - used


@dataclass(frozen=True, slots=True)
class _Version:
    """The file names of one version of the control groups."""

    file_system: str
    limits: tuple[str, ...]
    usage: str
    idle_cache: str


_V1 = _Version("cgroup", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Version("cgroup2", ("memory.max", "memory.high"), "memory.current", "inactive_file")


def _groups(root: str) -> Iterator[int]:
    """Yield what is left in each limited group, from this process's own up to the root."""
    membership = _read(os.path.join(root, "proc/self/cgroup")).splitlines()
    mounts = _read(os.path.join(root, "proc/self/mountinfo")).splitlines()
    for line in membership:
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0" and not controllers:
            version = _V2
        elif "memory" in controllers.split(","):
            version = _V1
        else:
            continue
        for mount_root, mount_point in _memory_mounts(mounts, version):
            top = os.path.join(root, mount_point.lstrip("/"))
            for directory in _upwards(top, _below(path, mount_root)):
                left = _left(directory, version)
                if left is not None:
                    yield left


def _memory_mounts(mounts: list[str], version: _Version) -> Iterator[tuple[str, str]]:
    """Yield (group shown, where) for each mount of this version that can hold memory groups."""
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        file_system, _, super_options, *_ = *rest.split(" "), "", "", ""
        if file_system != version.file_system:
            continue
        if version is _V1 and "memory" not in super_options.split(","):
            continue
        _, _, _, mount_root, mount_point = fields.split(" ")[:5]
        yield _unescaped(mount_root), _unescaped(mount_point)


def _below(path: str, mount_root: str) -> str:
    """Return the part of a group's path that lies below the group that is mounted.

    In a container the mount often shows only the container's own group, and
    the path, seen from outside, may lie elsewhere; then the mounted group is it.
    """
    if mount_root == "/":
        return "" if path.startswith("/..") else path.strip("/")
    if path == mount_root or path.startswith(mount_root + "/"):
        return path[len(mount_root) :].strip("/")
    return ""


def _upwards(top: str, below: str) -> Iterator[str]:
    """Yield the directory ``top/below`` and its parents down to `top`."""
    while below:
        yield os.path.join(top, below)
        below = os.path.dirname(below)
    yield top


def _left(directory: str, version: _Version) -> int | None:
    """Return the bytes a group may still take, None when it has no limit."""
    limits = [_number(os.path.join(directory, name)) for name in version.limits]
    usage = _number(os.path.join(directory, version.usage))
    known = [number for number in limits if number is not None]
    if not known or usage is None:
        return None
    idle = _table(os.path.join(directory, "memory.stat")).get(version.idle_cache, 0)
    return min(known) - max(usage - idle, 0)


def _number(path: str) -> int | None:
    """Return the number a file holds; None when it is missing or says "max"."""
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _table(path: str) -> dict[str, int]:
    """Return the "name number" lines of a file."""
    rows = (line.split() for line in _read(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdigit()}


def _unescaped(field: str) -> str:
    r"""Undo mountinfo's octal escapes of blanks, tabs, newlines and backslashes."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def _read(path: str) -> str:
    """Return a file's text, nothing when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
