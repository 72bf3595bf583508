"""What pages repeat from the sources is what the sources say."""

from __future__ import annotations

import builtins
import re
import tomllib

from corekit import errors
from docs import pages

ROW = re.compile(r"^\| `(\w+Error)` \| ([^|]+) \|", re.MULTILINE)
RUST = re.compile(r"Rust(?: toolchain)? \(?>= ([0-9.]+)")


def test_the_table_of_errors_is_complete() -> None:
    page = (pages.ROOT / "docs/files-and-faults.md").read_text(encoding="utf-8")
    rows = ROW.findall(page)
    assert sorted(name for name, _ in rows) == sorted({*errors.__all__} - {"file_error"})
    for name, others in rows:
        for other in re.findall(r"\w+", others):
            assert issubclass(getattr(errors, name), getattr(builtins, other)), name


def test_pages_name_the_oldest_rust_that_will_do() -> None:
    cargo = tomllib.loads((pages.ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    named = [version for page in pages.ALL for version in RUST.findall(page.read_text("utf-8"))]
    assert len(named) >= 4
    assert set(named) == {cargo["workspace"]["package"]["rust-version"]}
