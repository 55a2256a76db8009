"""The process that carries out jobs: `python -m rund_daemon.reducing.worker`.

A line on its standard input is the path of an order; lines of JSON on its standard output tell how far it is and how it
ended. It ends when its input does, so it never outlives the daemon, and it is killed when a job is cancelled. It waits
for another job when it has ended one, because what it has imported and compiled took most of the first one's time.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import queue
import resource
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO

from rund_daemon.errors import ExhaustedError, Reason, RundError
from rund_daemon.reducing.orders import Order

RESULT = "made"
"""Name of the file with what was made, beside the order."""

_NICENESS = 19
_SPARE_BYTES = 1024**3
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Carries out orders until there are no more."""
    answers = _take_stdout()
    _die_with_parent()
    _give_way()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), name="orders", daemon=True).start()
    while True:
        _answer(Path(orders.get()), answers)


def _listen(orders: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        orders.put(line.rstrip("\n"))
    os._exit(0)  # whoever asked is gone, and with them the wish for what is being made


def _answer(path: Path, answers: IO[str]) -> None:
    try:
        _carry_out(path, answers)
        _say(answers, done=True)
    except RundError as error:
        _say(answers, reason=error.reason, field=error.field, message=error.message)
    except MemoryError:
        refusal = too_large(pickle.loads(path.read_bytes()).memory)  # noqa: S301  # the daemon has written it
        _say(answers, reason=refusal.reason, field=refusal.field, message=refusal.message)
    except Exception as fault:
        traceback.print_exc()
        _say(
            answers, reason=Reason.INTERNAL, field="", message=f"the job failed: {type(fault).__name__}: {fault}"[:500]
        )


def _carry_out(path: Path, answers: IO[str]) -> None:
    from rund_daemon.reducing.carrying_out import carry_out  # noqa: PLC0415  # a cap on memory counts from here on

    order: Order = pickle.loads(path.read_bytes())  # noqa: S301  # the daemon has written it
    # The daemon measures what is in use; this is for what grows faster than it looks.
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory + _SPARE_BYTES, resource.RLIM_INFINITY))
    made = carry_out(order, lambda share, message: _say(answers, share=share, message=message))
    path.with_name(RESULT).write_bytes(pickle.dumps(made))


def too_large(memory: int) -> ExhaustedError:
    """The job needs more memory than it may have."""
    return ExhaustedError(
        Reason.OVER_LIMIT,
        f"the reduction needs more memory than the {memory // 1024**2} MiB that it may have; raise reduction_memory in "
        "the daemon's configuration, fit on a table with fewer rows (fit_table_url), or reduce narrower vectors",
        limit=f"reduction_memory={memory}",
    )


def _say(answers: IO[str], **words: object) -> None:
    answers.write(json.dumps(words) + "\n")
    answers.flush()


def _take_stdout() -> IO[str]:
    """Keeps the standard output for answers; what libraries print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _give_way() -> None:
    """Lets every other process go first, also where the kernel shares the time among sessions (autogroups)."""
    os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICENESS))


def _die_with_parent() -> None:
    """On Linux at once, also while compiled code runs that lets no thread see the end of the input."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
