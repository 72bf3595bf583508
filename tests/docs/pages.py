"""The pages whose blocks and links are checked."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Those with examples.
MANUAL = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

ALL = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benches/README.md",
    ROOT / "benches/projections/README.md",
    ROOT / "benches/attentions/README.md",
]


def name(page: Path) -> str:
    """Return a page's path in the repository, to name its test with."""
    return page.relative_to(ROOT).as_posix()
