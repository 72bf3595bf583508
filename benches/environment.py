"""The peers' own environment: a venv and a cargo root, made on demand and kept.

Peers never enter the environment that corekit is tested in. A peer that cannot be had becomes a
reason, which its rows carry into the results; it never just disappears.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


class AbsentError(Exception):
    """A peer cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class PeerEnvironment:
    """A directory of installed peers."""

    root: Path

    def python_with(self, package: str) -> Path:
        """Return an interpreter that can import `package`, installing it from PyPI if need be."""
        python = self.root / "venv" / "bin" / "python"
        if not python.exists():
            _install([sys.executable, "-m", "venv", str(self.root / "venv")])
        if not _succeeds([str(python), "-c", f"import {package}"]):
            _install([str(python), "-m", "pip", "install", "--quiet", package])
        return python

    def zstd(self) -> tuple[str, ...]:
        """Return what to call as zstd: the command, or the package zstandard in its dress."""
        if shutil.which("zstd") is not None:
            return ("zstd",)
        return (str(self.python_with("zstandard")), str(PROGRAMS / "zstd.py"))

    def cargo_binary(self, crate: str, binary: str) -> Path:
        """Return a program that `cargo install` built, with the profile its project releases by."""
        root = self.root / "cargo" / crate
        path = root / "bin" / binary
        if not path.exists():
            cargo = shutil.which("cargo")
            if cargo is None:
                raise AbsentError("cargo is not installed")
            _install(
                [cargo, "install", "--quiet", "--locked", "--root", str(root), crate],
                CARGO_PROFILE_RELEASE_LTO="true",
                CARGO_PROFILE_RELEASE_CODEGEN_UNITS="1",
                CARGO_PROFILE_RELEASE_PANIC="abort",
            )
        return path


def printed(*argv: object) -> list[str]:
    """Return the lines that a program prints, such as its version."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True).returncode == 0


def _install(argv: list[str], **settings: str) -> None:
    print(f"installing a peer: {Path(argv[0]).name} {' '.join(argv[1:])}", file=sys.stderr)
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **settings})
    if done.returncode != 0:
        # The installer's own words stay here: they may name hosts and paths.
        print(done.stderr, file=sys.stderr)
        raise AbsentError(f"could not be installed: {Path(argv[0]).name} exits {done.returncode}")
