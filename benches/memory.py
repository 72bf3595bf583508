"""How much memory a process has and has had, as the kernel counts it."""

from __future__ import annotations

import re
from pathlib import Path


class Growth:
    """The rise of a process's resident memory above what it is when this is made."""

    def __init__(self, pid: int) -> None:
        self._process = Path("/proc", str(pid))
        (self._process / "clear_refs").write_text("5")  # the high-water mark starts anew
        self._start = self._kib("VmRSS")
        self._start_file = self._kib("RssFile")

    def bytes(self) -> int:
        """Return the highest rise so far."""
        return max(0, self._kib("VmHWM") - self._start) * 1024

    def anonymous_bytes(self) -> int:
        """Return the same without the pages of files, such as those of a library's own code.

        Pages of files stay, so what there are more of at the end than there were was mapped at the
        highest point too, or soon after.
        """
        file = self._kib("RssFile") - self._start_file
        return max(0, self.bytes() - file * 1024)

    def _kib(self, name: str) -> int:
        found = re.search(rf"^{name}:\s*(\d+) kB$", (self._process / "status").read_text(), re.M)
        if found is None:
            raise OSError(f"the kernel does not tell {name}")
        return int(found[1])
