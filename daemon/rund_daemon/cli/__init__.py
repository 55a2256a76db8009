"""The command line of rund: a client of the daemon, and the only room of this package that imports `rund`.

`rund --version` and `rund --help` must answer at once, so each command lives in a module of its own that is imported
when the command is run. That is the one place where rund imports late: see `app.py`.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Runs `rund` with this process's arguments and gives its exit code."""
    try:
        from .app import run  # noqa: PLC0415 - click comes with the extra; without it there is still something to say
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write("rund: the command line is not installed here; pip install 'rund[daemon]'\n")
        return 1
    return run(sys.argv[1:])
