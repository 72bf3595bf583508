"""Plots as SVG, written by hand: the same bytes for the same figures, and nothing to install."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by all eyes
GREY = "#777"
RULE = "#ddd"


def picture(width: int, height: int, title: str, pieces: Iterable[str]) -> str:
    """Return the file of a plot."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="12" fill="#222">',
            f"<title>{title}</title>",
            # Pages may be dark.
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            *pieces,
            "</svg>\n",
        ]
    )


def line(
    points: Sequence[tuple[float, float]],
    colour: str,
    *,
    width: float = 1,
    dashes: str = "",
    fill: str = "",
) -> str:
    """Return a line through points, with the area that it encloses filled if asked for."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    filled = f'fill="{fill}" fill-opacity="0.25"' if fill else 'fill="none"'
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{path}" {filled} stroke="{colour}" stroke-width="{width}"{dashed}/>'


def dots(points: Iterable[tuple[float, float]], colour: str, *, radius: float = 3.5) -> str:
    """Return a dot at every point."""
    return "\n".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>' for x, y in points
    )


def label(
    x: float, y: float, words: str, anchor: str, colour: str = "#222", weight: str = "normal"
) -> str:
    """Return words that start, end or have their middle at a point."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}" font-weight="{weight}">{words}</text>'
