"""The default memory limit: half of what the kernel and every control group leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from corekit import _memory
from corekit.errors import ArgumentTypeError, InvalidArgumentError

GIB = 1 << 30
MIB = 1 << 20
V2_MOUNT = "31 23 0:28 {root} {point} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "35 31 0:32 {root} {point} rw,relatime - cgroup cgroup rw,memory"


class System:
    """A made-up /proc and /sys with 8 GiB available."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
        self.write("proc/self/cgroup", "")
        self.write("proc/self/mountinfo", "")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def v2(self, membership: str, *, root: str = "/", point: str = "/sys/fs/cgroup") -> None:
        self.write("proc/self/cgroup", f"0::{membership}\n")
        self.write("proc/self/mountinfo", V2_MOUNT.format(root=root, point=point) + "\n")

    def v1(self, membership: str, *, root: str = "/") -> None:
        self.write("proc/self/cgroup", f"9:cpu:/\n4:memory:{membership}\n0::/\n")
        mounts = V1_MOUNT.format(root=root, point="/sys/fs/cgroup/memory")
        self.write("proc/self/mountinfo", mounts + "\n")

    def group(self, path: str, **files: str | int) -> None:
        for name, text in files.items():
            self.write(f"sys/fs/cgroup/{path}/memory.{name}", f"{text}\n")

    def available(self) -> int:
        return _memory.available(str(self.root))


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_without_groups_the_kernel_decides(system: System) -> None:
    assert system.available() == 8 * GIB


def test_v2_limit(system: System) -> None:
    system.v2("/job")
    system.group("job", max=3 * GIB, current=GIB)
    assert system.available() == 2 * GIB


def test_v2_without_a_limit(system: System) -> None:
    system.v2("/job")
    system.group("job", max="max", high="max", current=GIB)
    assert system.available() == 8 * GIB


def test_v2_high_binds_too(system: System) -> None:
    system.v2("/job")
    system.group("job", max=3 * GIB, high=2 * GIB, current=GIB)
    assert system.available() == GIB


@pytest.mark.parametrize("limited", ["slice", "slice/service", "slice/service/job"])
def test_v2_a_limit_anywhere_up_the_tree_binds(system: System, limited: str) -> None:
    system.v2("/slice/service/job")
    for path in ("slice", "slice/service", "slice/service/job"):
        limit = 2 * GIB if path == limited else "max"
        system.group(path, max=limit, current=GIB)
    assert system.available() == GIB


def test_v2_page_cache_that_lies_idle_counts_as_free(system: System) -> None:
    system.v2("/job")
    system.group("job", max=3 * GIB, current=3 * GIB)
    system.group("job", stat=f"anon {GIB}\ninactive_file {2 * GIB}")
    assert system.available() == 2 * GIB


def test_v2_in_a_container_that_sees_only_itself(system: System) -> None:
    system.v2("/")
    system.group("", max=GIB, current=0)
    assert system.available() == GIB


@pytest.mark.parametrize("membership", ["/docker/abc", "/docker/abc/child", "/../../elsewhere"])
def test_v2_a_mount_that_shows_the_containers_group_as_root(
    system: System, membership: str
) -> None:
    system.v2(membership, root="/docker/abc")
    system.group("", max=GIB, current=0)
    assert system.available() == GIB


def test_v1_limit_and_idle_cache(system: System) -> None:
    system.v1("/job")
    system.group("memory/job", limit_in_bytes=3 * GIB, usage_in_bytes=2 * GIB)
    system.group("memory/job", stat=f"inactive_file 1\ntotal_inactive_file {GIB}")
    assert system.available() == 2 * GIB


def test_v1_a_limit_up_the_tree_binds(system: System) -> None:
    system.v1("/a/b")
    unlimited = 9223372036854771712
    system.group("memory/a", limit_in_bytes=GIB, usage_in_bytes=0)
    system.group("memory/a/b", limit_in_bytes=unlimited, usage_in_bytes=0)
    assert system.available() == GIB


def test_a_mount_point_with_a_blank(system: System) -> None:
    system.v2("/job", point="/sys/fs/my\\040groups")
    system.write("sys/fs/my groups/job/memory.max", str(GIB))
    system.write("sys/fs/my groups/job/memory.current", "0")
    assert system.available() == GIB


def test_a_group_beyond_its_limit_leaves_nothing(system: System) -> None:
    system.v2("/job")
    system.group("job", max=GIB, current=2 * GIB)
    assert system.available() == 0


def test_a_system_that_tells_nothing_gets_a_guess(tmp_path: Path) -> None:
    assert _memory.available(str(tmp_path)) > 0


def test_the_default_is_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "available", lambda: 8 * GIB)
    assert _memory.limit(None) == 4 * GIB


def test_the_default_does_not_go_below_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "available", lambda: 0)
    assert _memory.limit(None) == 32 * MIB


def test_this_machine_has_some() -> None:
    assert _memory.limit(None) >= 32 * MIB


@pytest.mark.parametrize(("given", "size"), [(1 << 20, MIB), ("2GiB", 2 * GIB), ("64M", 64 * MIB)])
def test_an_argument_is_taken(given: int | str, size: int) -> None:
    assert _memory.limit(given) == size


@pytest.mark.parametrize("given", [True, 1.5, b"1G", [1]])
def test_a_wrong_type_is_refused(given: object) -> None:
    with pytest.raises(ArgumentTypeError, match=r"memory_limit must be .*int.*str.*, got"):
        _memory.limit(given)


@pytest.mark.parametrize("given", [0, -1, "0", 1 << 63, "many"])
def test_a_wrong_value_is_refused(given: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"memory_limit must be .*, got"):
        _memory.limit(given)
