"""The command line: ``corekit COMMAND``, a module for each command.

Exit status: 0; 1 with one line ``corekit: SUBJECT: reason`` on standard error; 2 for
wrong usage; 130 after Ctrl-C; and a closed pipe ends the process as SIGPIPE ends any
other filter.
"""

from corekit.cli.main import main

__all__ = ["main"]
