"""Entry point: find the command, run it, and turn errors into a line and a status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from corekit.cli import attention, distortion, failures, info, parser, project, shuffle, streams

_COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "shuffle": shuffle.run,
    "project": project.run,
    "distortion": distortion.run,
    "attention": attention.run,
    "info": info.run,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    streams.occupy_standard_descriptors()
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        # Only the first word is the top level's business: a parser per command
        # keeps GNU's order of arguments, options after operands included.
        _COMMANDS[parser.command(parser.top_level(), arguments, list(_COMMANDS))](arguments[1:])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return streams.die_of_closed_pipe()
    except failures.EXPECTED as error:
        streams.say(failures.line(error))
        return 1
    return 0
