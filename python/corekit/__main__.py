"""``python -m corekit``: the command line."""

import sys

from corekit.cli import main

if __name__ == "__main__":
    sys.exit(main())
