"""Maps chunks on all cores: in this process, and in others that are started for it and wait for the next job.

Other processes begin to help when they have loaded the libraries and the model, which takes seconds; until then this
one goes on alone, so nothing is lost by them. They die with it.
"""

from __future__ import annotations

import atexit
import queue
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from .chunk_process import ChunkProcess
from .chunks import chunks_of, mapper_of
from .fitted import Fitted, save
from .neighbours import cores
from .vectors import Matrix

LEAST_CHUNKS = 4
"""With fewer chunks no process is started: they are done before it could help."""


class LocalProcesses:
    """Maps chunks with as many processes as there are cores, of which this is one.

    Args:
        processes: how many, with this one; as many as there are cores if nothing is said.
        least_chunks: with fewer chunks none is started, but those that wait are asked from two on.
    """

    def __init__(self, processes: int | None = None, *, least_chunks: int = LEAST_CHUNKS) -> None:
        self._least_chunks = least_chunks
        self._others = [_OtherProcess(number) for number in range((processes or cores()) - 1)]

    def map(self, fitted: Fitted, rows: Matrix) -> Iterator[Matrix]:
        """Gives the map of each chunk.

        Raises:
            ChildProcessError: a process died.
            MemoryError: or had not memory enough.
        """
        work = _Work(fitted.kind, chunks_of(fitted, rows))
        least = self._least_chunks
        others = [one for one in self._others if len(work.chunks) >= (2 if one.is_waiting() else least)]
        if not others or fitted.kind == "pca":
            mapper = mapper_of(fitted)
            yield from map(mapper, work.chunks)
            return
        with _on_disk(fitted) as path:
            try:
                for other in others[: len(work.chunks) - 1]:
                    other.ask(work, path)
                yield from work.carry_out(fitted)
            finally:
                work.end()

    def close(self) -> None:
        """Ends the other processes; from then on this one maps alone."""
        others, self._others = self._others, []
        for other in others:
            other.close()


@cache
def local_processes() -> LocalProcesses:
    """Those of this process, which are started when they are first needed."""
    made = LocalProcesses()
    atexit.register(made.close)
    return made


class _Work:
    """The chunks of one call, which are taken one by one by whoever is free."""

    def __init__(self, kind: str, chunks: list[Matrix]) -> None:
        self.kind = kind
        self.chunks = chunks
        self._left = deque(range(len(chunks)))
        self._mapped: dict[int, Matrix] = {}
        self._fault: BaseException | None = None
        self._changed = threading.Condition()

    def carry_out(self, fitted: Fitted) -> Iterator[Matrix]:
        """Takes part itself, and gives what comes of the chunks in their order."""
        mapper = mapper_of(fitted)
        for wanted in range(len(self.chunks)):
            while (mapped := self._mapped_or_fault(wanted)) is None:
                if (number := self.take()) is not None:
                    self.give(number, mapper(self.chunks[number]))
                else:
                    self._wait_for(wanted)
            yield mapped

    def take(self) -> int | None:
        """Gives the number of a chunk that nobody has taken, if there is one."""
        try:
            return self._left.popleft()
        except IndexError:
            return None

    def give(self, number: int, mapped: Matrix) -> None:
        """Says what came of a chunk."""
        with self._changed:
            self._mapped[number] = mapped
            self._changed.notify_all()

    def fail(self, fault: BaseException) -> None:
        """Says that a chunk can't be mapped."""
        with self._changed:
            self._fault = fault
            self._changed.notify_all()

    def is_left(self) -> bool:
        """Whether there are chunks that nobody has taken."""
        return bool(self._left)

    def end(self) -> None:
        """Leaves no chunk for anybody."""
        self._left.clear()

    def _mapped_or_fault(self, wanted: int) -> Matrix | None:
        with self._changed:
            if self._fault is not None:
                raise self._fault
            return self._mapped.pop(wanted, None)

    def _wait_for(self, wanted: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: wanted in self._mapped or self._fault is not None)


class _OtherProcess:
    """A process and the thread that hands it chunks, which is its parent and lives as long as this process."""

    def __init__(self, number: int) -> None:
        self._asked: queue.SimpleQueue[tuple[_Work, Path] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"chunks-{number}", daemon=True)
        self._process: ChunkProcess | None = None
        self._closed = False
        self._lock = threading.Lock()

    def is_waiting(self) -> bool:
        """Whether its process has loaded everything and has nothing to do."""
        process = self._process
        return process is not None and process.is_ready()

    def ask(self, work: _Work, path: Path) -> None:
        """Has it take part in work, with the model that lies at a path."""
        if self._thread.ident is None:
            self._thread.start()
        self._asked.put((work, path))

    def close(self) -> None:
        """Ends the process and the thread."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
        self._asked.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _serve(self) -> None:
        while (asked := self._asked.get()) is not None:
            self._take_part(*asked)
            del asked  # it holds the rows

    def _take_part(self, work: _Work, path: Path) -> None:
        try:
            process = self._started()
            process.load(work.kind)
            if not work.is_left():  # it is for the next job
                return
            process.open(path)
            while (number := work.take()) is not None:
                work.give(number, process.map(work.chunks[number]))
        except BaseException as fault:
            work.fail(fault)

    def _started(self) -> ChunkProcess:
        with self._lock:
            if self._closed:
                raise ChildProcessError("the processes that map chunks are closed")
            if self._process is not None and not self._process.is_alive():
                self._process.kill()
                self._process = None
            if self._process is None:
                self._process = ChunkProcess()
            return self._process


@contextmanager
def _on_disk(fitted: Fitted) -> Iterator[Path]:
    """Where a model's file is: its own, or one that is written for as long as it is needed."""
    if fitted.path is not None and fitted.path.exists():
        yield fitted.path
        return
    with tempfile.TemporaryDirectory(prefix="rund-reducer-") as folder:
        path = Path(folder) / "model.arrow"
        # Of a copy: the model's own file, if it had one, stays what it says.
        save(replace(fitted), path)
        yield path
