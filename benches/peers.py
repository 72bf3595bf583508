"""The registry: corekit and its peers, each as a command for one job.

A tool says how it shuffles one file of lines into another under a memory limit, with scratch in a
given directory and a given number of threads. Where a tool has no such knob, it goes without.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from environment import AbsentError, PeerEnvironment, printed
from measure import Command

TERASHUF_VARIABLE = "COREKIT_BENCH_TERASHUF"
PROGRAMS = Path(__file__).parent / "programs"
MIB = 1 << 20

# mawk, gawk and BusyBox awk all take this; a decorated sort is exact but for equal keys.
_DECORATED_SORT = (
    """awk 'BEGIN { srand(1) } { printf "%.9f\\t%s\\n", rand(), $0 }' "$1" """
    """| sort -k1,1 -S "$3" -T "$4" --parallel="$5" | cut -f2- > "$2\""""
)


@dataclass(frozen=True)
class Job:
    """One shuffle to be done. A limit of None means as much memory as the tool likes."""

    source: Path
    target: Path
    scratch: Path
    limit_bytes: int | None
    threads: int

    @property
    def limit_mib(self) -> int:
        """The limit in MiB, the unit that every tool with a limit understands."""
        if self.limit_bytes is None:
            raise ValueError("this tool needs a memory limit")
        return self.limit_bytes // MIB


@dataclass(frozen=True)
class Tool:
    """A shuffler on this machine: what it is, and how to call it."""

    version: str
    command: Callable[[Job], Command]
    idle: tuple[str, ...] | None = None  # loads the tool and its interpreter, and does nothing

    def shown(self, job: Job) -> str:
        """Return the command as a person would type it, without this machine's paths."""
        command = self.command(job)
        program = Path(command.argv[0]).name
        words = [*(f"{key}={value}" for key, value in command.env.items()), program]
        words += [shlex.quote(word) for word in command.argv[1:]]
        words += [f"< {command.stdin}"] if command.stdin else []
        words += [f"> {command.stdout}"] if command.stdout else []
        return scrub(" ".join(words), job)


def scrub(text: str, job: Job) -> str:
    """Replace the job's paths, and those of the bench's own programs, by plain words."""
    for path, word in (
        (job.source, "INPUT"),
        (job.target, "OUTPUT"),
        (job.scratch, "SCRATCH"),
        (job.target.parent.parent, "DIRECTORY"),
        (PROGRAMS, "programs"),
        (Path.home(), "~"),
    ):
        text = text.replace(str(path), word)
    return text


def corekit(program: Path) -> Tool:
    """corekit's command line."""
    if not program.exists():
        raise AbsentError("corekit is not installed beside this interpreter; name it by --corekit")

    def command(job: Job) -> Command:
        argv = [program, "shuffle", job.source, "-o", job.target, "--seed", "1"]
        argv += ["--memory-limit", f"{job.limit_mib}MiB", "--threads", job.threads]
        return Command((*map(str, argv), "--quiet", "--json"))

    return Tool(_version(program), command, idle=(str(program), "info"))


def gnu_shuf() -> Tool:
    """GNU shuf: the whole input in memory, one thread."""
    program = _system("shuf")
    return Tool(_gnu(program), lambda job: _command(program, job.source, "-o", job.target))


def uutils_shuf(environment: PeerEnvironment) -> Tool:
    """uutils shuf: the whole input in memory, one thread, in Rust."""
    program = environment.cargo_binary("uu_shuf", "shuf")
    return Tool(_version(program), lambda job: _command(program, job.source, "-o", job.target))


def sort_random() -> Tool:
    """``sort -R``: sorts by a hash of each line, so equal lines end side by side."""
    program = _system("sort")

    def command(job: Job) -> Command:
        limit, threads = f"{job.limit_mib}M", f"--parallel={job.threads}"
        argv = ("-R", "-S", limit, threads, "-T", job.scratch, "-o", job.target, job.source)
        return _command(program, *argv)

    return Tool(_gnu(program), command)


def decorated_sort() -> Tool:
    """A random key before each line, an external sort, and the key cut off again."""
    version, shell = _gnu(_system("sort")), _system("sh")
    _system("awk")

    def command(job: Job) -> Command:
        limit = f"{job.limit_mib}M"
        arguments = (job.source, job.target, limit, job.scratch, job.threads)
        return _command(shell, "-c", _DECORATED_SORT, "sh", *arguments)

    return Tool(f"awk, {version}, cut", command)


def duckdb(environment: PeerEnvironment) -> Tool:
    """DuckDB: ``ORDER BY random()``, spilling to scratch."""
    python = environment.python_with("duckdb")

    def command(job: Job) -> Command:
        limit = f"{job.limit_mib}MiB"
        program = PROGRAMS / "duckdb_shuffle.py"
        return _command(python, program, job.source, job.target, limit, job.scratch, job.threads)

    idle = (str(python), "-c", "import duckdb")
    return Tool(_package_version(python, "duckdb"), command, idle)


def polars(environment: PeerEnvironment) -> Tool:
    """polars: reads all lines, samples all of them in random order, writes them."""
    python = environment.python_with("polars")

    def command(job: Job) -> Command:
        argv = tuple(map(str, (python, PROGRAMS / "polars_shuffle.py", job.source, job.target)))
        return Command(argv, env={"POLARS_MAX_THREADS": str(job.threads)})

    idle = (str(python), "-c", "import polars")
    return Tool(_package_version(python, "polars"), command, idle)


def terashuf() -> Tool:
    """terashuf: shuffled runs in scratch, merged at random; MEMORY is the size of its buffer."""
    named = os.environ.get(TERASHUF_VARIABLE)
    if not named:
        raise AbsentError(f"{TERASHUF_VARIABLE} does not name its binary")
    program = Path(named).resolve()
    if not os.access(program, os.X_OK):
        raise AbsentError(f"what {TERASHUF_VARIABLE} names is not a program")

    def command(job: Job) -> Command:
        env = {"MEMORY": f"{job.limit_mib / 1024:g}", "TMPDIR": str(job.scratch), "SEED": "1"}
        return Command((str(program),), env=env, stdin=job.source, stdout=job.target)

    return Tool("terashuf (gives no version)", command)


def registry(environment: PeerEnvironment, corekit_program: Path) -> dict[str, Callable[[], Tool]]:
    """Return what finds each tool, by the tool's name; a finder may raise `AbsentError`."""
    return {
        "corekit": lambda: corekit(corekit_program),
        "terashuf": terashuf,
        "duckdb": lambda: duckdb(environment),
        "awk-sort-cut": decorated_sort,
        "gnu-shuf": gnu_shuf,
        "uutils-shuf": lambda: uutils_shuf(environment),
        "polars": lambda: polars(environment),
        "sort-R": sort_random,
    }


def _command(*argv: object) -> Command:
    return Command(tuple(map(str, argv)))


def _system(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise AbsentError(f"{name} is not installed")
    return program


def _version(program: str | Path) -> str:
    return next(iter(printed(program, "--version")), "")


def _gnu(program: str) -> str:
    version = _version(program)
    if "GNU" not in version:
        raise AbsentError(f"{Path(program).name} is not GNU's: {version or 'no version'}")
    return version


def _package_version(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return f"{package} {next(iter(printed(python, '-c', code)), '')}"
