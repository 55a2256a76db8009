"""A training process, as simple as it can be: logs steps into a run that others log into too.

Prints `ready` when the run is there, and now and then how many rows `log` has returned for. A program of its own,
because it is killed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import rund

STEP_S = 0.0002
"""What a step of training takes: without any, the rows would be there before the first kill."""


def main() -> None:
    """Arguments: root, rank, steps; a fourth one keeps the process going until it is killed."""
    root, rank, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    run = rund.init("chaos", "many", root_url=root, if_exists="reuse")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for step in range(steps):
        run.log({"loss": 1.0 / (step + 1), "writer": rank}, step)
        time.sleep(STEP_S)
        if len(sys.argv) > 4 and step % 50 == 0:
            # What stands here was returned before: the reader of this pipe may hold `log` to it.
            sys.stdout.write(f"{step + 1}\n")
            sys.stdout.flush()
    run.finish(timeout=120)
    sys.stdout.write("finished\n")


if __name__ == "__main__":
    main()
