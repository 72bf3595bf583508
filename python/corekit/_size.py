"""Sizes in bytes as people write and read them: "2GiB" in, "2.0 GiB" out."""

from __future__ import annotations

import re

from corekit.errors import InvalidArgumentError

_PREFIXES = "kmgtpe"

# A bare letter means 1024, as in GNU sort's -S, where such sizes are met most
# often. "kB" is the SI unit and "KiB" the IEC one; case never decides.
_UNITS: dict[str, int] = {"": 1, "b": 1}
for _power, _letter in enumerate(_PREFIXES, start=1):
    _UNITS[_letter] = _UNITS[f"{_letter}ib"] = 1024**_power
    _UNITS[f"{_letter}b"] = 1000**_power

_SIZE = re.compile(r"\s*([0-9]{1,40})(?:\.([0-9]{1,40}))?\s*([A-Za-z]*)\s*", re.ASCII)


def parse(name: str, text: str) -> int:
    """Read a size such as ``"2GiB"``, ``"1.5 GB"``, ``"512M"`` or ``"65536"``.

    A fraction of a byte is dropped.

    Raises
    ------
    InvalidArgumentError
        The text is not a number with a known unit.
    """
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match[3].lower()) if match else None
    if match is None or unit is None:
        raise InvalidArgumentError(
            f"{name} must be a number of bytes, or a number with a unit "
            f"(KiB, MiB, GiB, ... and K, M, G, ... are powers of 1024; "
            f"KB, MB, GB, ... of 1000), got {text!r}"
        )
    decimals = match[2] or ""
    scale: int = 10 ** len(decimals)
    return int(match[1] + decimals) * unit // scale


def human(size: int) -> str:
    """Write a size with the unit that keeps it below 1024: ``"61.2 MiB"``."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    unit = "B"
    for letter in _PREFIXES:
        if value < 1023.95:  # above this one decimal would round to 1024.0
            break
        value /= 1024
        unit = f"{letter.upper()}iB"
    return f"{value:.1f} {unit}"
