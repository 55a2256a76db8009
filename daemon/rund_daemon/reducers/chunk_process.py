"""A process that maps chunks for another, from both sides: `python -m rund_daemon.reducers.chunk_process PARENT`.

Over its standard input go lines of JSON, and after the line of a chunk its float32 numbers as they are; answers come
the same way. It maps the model's file instead of being handed the model. When its input ends it ends, and on Linux it
is killed with the thread that started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import IO, Any

import numpy as np

from .chunks import mapper_of
from .fitted import load
from .methods import reducer_of
from .one_thread import environment_of_one_thread
from .vectors import Matrix

_PR_SET_PDEATHSIG = 1
_LAST_WORDS = 400


class ChunkProcess:
    """The other process. Start it from a thread that stays."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # kept as long as the process: its standard error
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter and a module of ours
            [sys.executable, "-I", "-m", __name__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment_of_one_thread(),
        )
        self._ready = False
        self._answering = False

    def is_alive(self) -> bool:
        """Whether it can be asked: it lives, and has answered all that it was asked."""
        return self._process.poll() is None and not self._answering

    def is_ready(self) -> bool:
        """Whether it has libraries loaded, besides."""
        return self._ready and self.is_alive()

    def load(self, kind: str) -> None:
        """Has it load the libraries of a method.

        Raises:
            ChildProcessError: it can't, or it died.
            MemoryError: it has not memory enough.
        """
        self._ask({"kind": kind})
        self._ready = True

    def open(self, path: Path) -> None:
        """Has it load a model, if that is not the one that it has.

        Raises:
            ChildProcessError: it can't, or it died.
            MemoryError: it has not memory enough.
        """
        self._ask({"model": str(path), "file": _identity(path)})

    def map(self, rows: Matrix) -> Matrix:
        """Has it map a chunk.

        Raises:
            ChildProcessError: it can't, or it died.
            MemoryError: it has not memory enough.
        """
        return self._ask({"shape": rows.shape}, np.ascontiguousarray(rows, dtype=np.float32))

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was left to be written is for nobody

    def _ask(self, question: dict[str, Any], rows: Matrix | None = None) -> Matrix:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        self._answering = True
        try:
            _send(requests, question, rows)
            answer, mapped = _receive(answers)
        except (OSError, EOFError, ValueError) as error:
            raise ChildProcessError(self._how_it_ended()) from error
        self._answering = False
        if answer.get("memory"):
            raise MemoryError(answer["error"])
        if "error" in answer:
            raise ChildProcessError(f"a process that maps chunks failed: {answer['error']}")
        return mapped

    def _how_it_ended(self) -> str:
        self._process.kill()
        code = self._process.wait()
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip()[-_LAST_WORDS:]
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"a process that maps chunks {how}; run the reduction again{': ' if words else ''}{words}"


def main() -> int:
    """Maps the chunks that it is handed, until there are no more."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    _die_with_parent(int(sys.argv[1]))
    threading.Thread(target=_watch, args=(requests.fileno(),), daemon=True).start()
    loaded = _Loaded()
    while True:
        try:
            question, rows = _receive(requests)
        except EOFError:
            return 0
        try:
            if "kind" in question:
                reducer_of(question["kind"])
                _send(answers, {})
            elif "model" in question:
                loaded.open(Path(question["model"]), question["file"])
                _send(answers, {})
            else:
                mapped = loaded.mapper(rows)
                _send(answers, {"shape": mapped.shape}, mapped)
        except MemoryError as error:
            _send(answers, {"error": str(error), "memory": True})
        except Exception as error:
            traceback.print_exc()
            _send(answers, {"error": f"{type(error).__name__}: {error}"})


class _Loaded:
    """The model that was last asked for."""

    def __init__(self) -> None:
        self._key: object = None

    def open(self, path: Path, identity: list[int]) -> None:
        if self._key == (path, identity):
            return
        self._key = None
        fitted = load(path)
        if _identity(path) != identity:
            raise ValueError(f"{path} is another file than before")
        self.mapper = mapper_of(fitted)
        self._key = (path, identity)


def _identity(path: Path) -> list[int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return []
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def _send(stream: IO[bytes], line: dict[str, Any], rows: Matrix | None = None) -> None:
    stream.write(json.dumps(line).encode() + b"\n")
    if rows is not None and rows.size:
        stream.write(memoryview(np.ascontiguousarray(rows)).cast("B"))  # type: ignore[arg-type]  # numpy's arrays are buffers
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], Matrix]:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    words: dict[str, Any] = json.loads(line)
    rows = np.empty(words.get("shape", (0, 0)), dtype=np.float32)
    rest = memoryview(rows).cast("B") if rows.size else memoryview(b"")  # type: ignore[arg-type]  # the same
    while len(rest):
        count = stream.readinto(rest)  # type: ignore[attr-defined]  # streams of bytes have it
        if not count:
            raise EOFError
        rest = rest[count:]
    return words, rows


def _watch(requests: int) -> None:
    """Ends this process when nobody can ask it any more, also in the middle of a chunk."""
    poll = select.poll()
    poll.register(requests, 0)
    while not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
        pass
    os._exit(0)


def _die_with_parent(parent: int) -> None:
    """On Linux at once, also while compiled code runs that lets no thread watch."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
