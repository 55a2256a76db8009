"""``python -m rund._adopt``: what a daemon begins when journals are left in its root. Prints a JSON line a journal."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ._adoption import Adoption, follow
from ._locate import daemon_at


def main() -> int:
    """Drains the journals of a root until none is left that could be."""
    parser = argparse.ArgumentParser(prog="python -m rund._adopt")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--address", required=True)
    arguments = parser.parse_args()
    follow(arguments.directory, daemon_at(arguments.address).transport, _report)
    return 0


def _report(adoption: Adoption) -> None:
    line = {
        "journal": adoption.path.name,
        "outcome": adoption.outcome,
        "rows": adoption.rows,
        "detail": adoption.message,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
