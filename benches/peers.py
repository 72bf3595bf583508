"""The registry: corekit and its peers, each as a command for one job.

A tool says how it shuffles files of lines into another under a memory limit, with scratch in a
given directory and a given number of threads. Where a tool has no such knob, it goes without. For
tasks that shuf and terashuf cannot do themselves they stand in a pipeline, as a user types it.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cases import BATCH_RECORDS, MIB, SAMPLE_DIVISOR, SHARDS, Task
from environment import PROGRAMS, AbsentError, PeerEnvironment, printed
from measure import Command

TERASHUF_VARIABLE = "COREKIT_BENCH_TERASHUF"
BUFFER_RECORDS = 100_000

# mawk, gawk and BusyBox awk all take this; a decorated sort is exact but for equal keys.
_DECORATED_SORT = (
    """awk 'BEGIN { srand(1) } { printf "%.9f\\t%s\\n", rand(), $0 }' "$1" """
    """| sort -k1,1 -S "$3" -T "$4" --parallel="$5" | cut -f2- > "$2\""""
)


@dataclass(frozen=True)
class Job:
    """One shuffle to be done. A limit of None means as much memory as the tool likes.

    The target is a directory when the product is shards.
    """

    sources: tuple[Path, ...]
    target: Path
    scratch: Path
    limit_bytes: int | None
    threads: int
    task: Task
    records: int  # of the input

    @property
    def source(self) -> Path:
        """The input, of tasks whose input is one file."""
        (only,) = self.sources
        return only

    @property
    def sample(self) -> int:
        """How many records a sample is to have."""
        return self.records // SAMPLE_DIVISOR

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
    uniform: bool = True  # whether places in output and input must not correlate
    # For programs that give records to nobody: the same run, but with the records written out.
    proof: Callable[[Job], Command] | None = None

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
    sources = " ".join(map(str, job.sources))
    for path, word in (
        (sources, "INPUT" if len(job.sources) == 1 else "INPUTS"),
        (job.target, "OUTPUT"),
        (job.scratch, "SCRATCH"),
        (job.target.parent.parent, "DIRECTORY"),
        (PROGRAMS, "programs"),
        (Path.home(), "~"),
    ):
        text = text.replace(str(path), word)
    named = os.environ.get(TERASHUF_VARIABLE)
    return text.replace(str(Path(named).resolve()), "terashuf") if named else text


def corekit(program: Path) -> Tool:
    """corekit's command line."""
    _installed(program)

    def command(job: Job) -> Command:
        target = job.target / "part-{index}.txt" if job.task.product == "shards" else job.target
        options: dict[str, tuple[object, ...]] = {
            "zstd": ("--compress", "zstd:3"),
            "shards": ("--shards", SHARDS),
            "sample": ("-n", job.sample),
        }
        return _corekit(program, job, target, *options.get(job.task.product, ()))

    return Tool(_version(program), command, idle=(str(program), "info"))


def corekit_null(program: Path) -> Tool:
    """The same shuffle, to /dev/null: all but the writing of the output."""
    _installed(program)
    idle = (str(program), "info")
    return Tool(_version(program), lambda job: _corekit(program, job, "/dev/null"), idle)


def _installed(program: Path) -> None:
    if not program.exists():
        raise AbsentError("corekit is not installed beside this interpreter; name it by --corekit")


def _corekit(program: Path, job: Job, target: object, *options: object) -> Command:
    argv: list[object] = [program, "shuffle", *job.sources, "-o", target, "--seed", "1", *options]
    argv += ["--memory-limit", f"{job.limit_mib}MiB", "--threads", job.threads]
    argv += ["--scratch", job.target.parent] if target == "/dev/null" else []
    return _command(*argv, "--quiet", "--json")


def corekit_batches(program: Path) -> Tool:
    """corekit's iterator over shuffled batches, called from Python."""
    _installed(program)
    python = program.with_name("python")
    if not printed(python, "-c", "from corekit.shuffle import ShuffledReader; print(1)"):
        raise AbsentError("this corekit has no corekit.shuffle.ShuffledReader")

    def command(job: Job, target: object) -> Command:
        argv = (python, PROGRAMS / "corekit_batches.py", job.source, target, f"{job.limit_mib}MiB")
        counts = job.target.with_name("counts")
        env = {"COREKIT_NUM_THREADS": str(job.threads)}
        return replace(_command(*argv, BATCH_RECORDS), env=env, stdout=counts)

    return Tool(
        f"ShuffledReader of {_version(program)}",
        lambda job: command(job, "-"),
        idle=(str(python), "-c", "import corekit.shuffle"),
        proof=lambda job: command(job, job.target),
    )


def buffer_batches() -> Tool:
    """A shuffle buffer in Python, as loaders for training have it: not uniform."""
    python = sys.executable

    def command(job: Job, target: object) -> Command:
        argv = (python, PROGRAMS / "buffer_batches.py", job.source, target, BUFFER_RECORDS)
        counts = job.target.with_name("counts")
        return replace(_command(*argv, BATCH_RECORDS), stdout=counts)

    return Tool(
        f"a buffer of {BUFFER_RECORDS:,} lines in Python {platform.python_version()}",
        lambda job: command(job, "-"),
        uniform=False,
        proof=lambda job: command(job, job.target),
    )


def cat() -> Tool:
    """Reads the input once and does nothing with it."""
    program = _system("cat")
    return Tool(_version(program), lambda job: _command(program, *job.sources))


def gnu_shuf() -> Tool:
    """GNU shuf: the whole input in memory, one thread; a sample by a reservoir."""
    program = _system("shuf")

    def command(job: Job) -> Command:
        head = ("-n", job.sample) if job.task.product == "sample" else ()
        return _command(program, *head, job.source, "-o", job.target)

    return Tool(_gnu(program), command)


def uutils_shuf(environment: PeerEnvironment) -> Tool:
    """uutils shuf: the whole input in memory, one thread, in Rust."""
    program = environment.cargo_binary("uu_shuf", "shuf")
    return Tool(_version(program), lambda job: _command(program, job.source, "-o", job.target))


def decoded_shuf(decode: Sequence[str]) -> Tool:
    """A decoder piped into GNU shuf."""
    script = f"""out=$1; shift; {_words(decode)} "$@" | shuf -o "$out\""""
    return Tool(
        f"{_decoder(decode)}, {_gnu(_system('shuf'))}",
        lambda job: _command(_system("sh"), "-c", script, "sh", job.target, *job.sources),
    )


def decoded_terashuf(decode: Sequence[str]) -> Tool:
    """A decoder piped into terashuf."""
    tool, program = terashuf(), _terashuf()
    script = f"""out=$1; shift; {_words(decode)} "$@" | {_words([program])} > "$out\""""

    def command(job: Job) -> Command:
        argv = _command(_system("sh"), "-c", script, "sh", job.target, *job.sources)
        return replace(argv, env=_terashuf_settings(job))

    return Tool(f"{_decoder(decode)}, {tool.version}", command)


def encoded_shuf(zstd: Sequence[str]) -> Tool:
    """GNU shuf piped into zstd at level 3 with all threads."""
    script = f"""shuf "$1" | {_words(zstd)} -qc -3 -T"$3" > "$2\""""
    return Tool(
        f"{_gnu(_system('shuf'))}, {_decoder(zstd)}",
        lambda job: _command(
            _system("sh"), "-c", script, "sh", job.source, job.target, job.threads
        ),
    )


def split_shuf() -> Tool:
    """GNU shuf piped into split, which needs to know how many lines a file is to have."""
    script = """shuf "$1" | split -l "$3" - "$2/part-\""""
    return Tool(
        f"{_gnu(_system('shuf'))}, {_gnu(_system('split'))}",
        lambda job: _command(
            _system("sh"), "-c", script, "sh", job.source, job.target, _lines_of_shard(job)
        ),
    )


def split_terashuf() -> Tool:
    """Terashuf piped into split."""
    tool, program = terashuf(), _terashuf()
    script = f"""{_words([program])} < "$1" | split -l "$3" - "$2/part-\""""

    def command(job: Job) -> Command:
        arguments = (job.source, job.target, _lines_of_shard(job))
        argv = _command(_system("sh"), "-c", script, "sh", *arguments)
        return replace(argv, env=_terashuf_settings(job))

    return Tool(f"{tool.version}, {_gnu(_system('split'))}", command)


def _lines_of_shard(job: Job) -> int:
    return -(-job.records // SHARDS)


def _words(words: Sequence[object]) -> str:
    return shlex.join(map(str, words))


def _decoder(words: Sequence[str]) -> str:
    """Return the version of a decoder as far as it can be told in a line."""
    if words[0] in ("zcat", "zstd"):
        return _version(_system(words[0])).strip("* ")
    return _package_version(Path(words[0]), "zstandard")


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


def duckdb(environment: PeerEnvironment, *, sample: bool = False) -> Tool:
    """DuckDB: ``ORDER BY random()``, spilling to scratch; or ``USING SAMPLE``, in any order."""
    python = environment.python_with("duckdb")

    def command(job: Job) -> Command:
        argv: list[object] = [python, PROGRAMS / "duckdb_shuffle.py"]
        argv += ["--memory-limit", f"{job.limit_mib}MiB", "--temp-directory", job.scratch]
        argv += ["--threads", job.threads]
        if job.task.storage != "plain":
            argv += ["--stored", job.task.storage]
        if job.task.product == "zstd":
            argv += ["--compress", "zstd"]
        if job.task.product == "sample":
            argv += ["--sample" if sample else "--head", job.sample]
        return _command(*argv, job.target, *job.sources)

    idle = (str(python), "-c", "import duckdb")
    return Tool(_package_version(python, "duckdb"), command, idle, uniform=not sample)


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
    program = _terashuf()

    def command(job: Job) -> Command:
        env = _terashuf_settings(job)
        return Command((str(program),), env=env, stdin=job.source, stdout=job.target)

    return Tool("terashuf (gives no version)", command)


def _terashuf() -> Path:
    named = os.environ.get(TERASHUF_VARIABLE)
    if not named:
        raise AbsentError(f"{TERASHUF_VARIABLE} does not name its binary")
    program = Path(named).resolve()
    if not os.access(program, os.X_OK):
        raise AbsentError(f"what {TERASHUF_VARIABLE} names is not a program")
    return program


def _terashuf_settings(job: Job) -> dict[str, str]:
    return {"MEMORY": f"{job.limit_mib / 1024:g}", "TMPDIR": str(job.scratch), "SEED": "1"}


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
        "zcat-shuf": lambda: decoded_shuf(["zcat"]),
        "zcat-terashuf": lambda: decoded_terashuf(["zcat"]),
        "zstdcat-shuf": lambda: decoded_shuf([*environment.zstd(), "-dcq"]),
        "zstdcat-terashuf": lambda: decoded_terashuf([*environment.zstd(), "-dcq"]),
        "shuf-zstd": lambda: encoded_shuf(environment.zstd()),
        "shuf-split": split_shuf,
        "terashuf-split": split_terashuf,
        "duckdb-sample": lambda: duckdb(environment, sample=True),
        "cat": cat,
        "corekit-batches": lambda: corekit_batches(corekit_program),
        "corekit-null": lambda: corekit_null(corekit_program),
        "python-buffer": buffer_batches,
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
