"""Has rows of a Parquet file read by a process of their own, because Arrow may end the process that reads them.

A broken page under lists of a fixed size has Arrow abort (one of some thousand files with flipped bytes), where it
raises for other types. So these columns are read here: `python -m rund_daemon.segments.parquet_child` writes an Arrow
stream to its standard output, and if it dies, that is an error like any other. A read costs 0.3 s more, and the memory
of an interpreter with Arrow in it.
"""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import types

from rund_daemon.segments import parquet_rows
from rund_daemon.segments.registered_files import Place
from rund_daemon.segments.row_window import RowWindow


def needs_child(schema: pa.Schema, names: Sequence[str]) -> bool:
    """Whether a column has lists of a fixed size in it, at any depth."""
    return any(_has_fixed_lists(schema.field(name).type) for name in names)


def read_apart(path: Place, names: Sequence[str], first: int, count: int) -> Iterator[pa.RecordBatch]:
    """Reads columns of the rows from `first` on, as `parquet_rows.read` does.

    Raises:
        ValueError: the process can't read them, or has died of it.
        ArrowException: what it wrote is not whole.
    """
    with _child(path, names, first, count) as child:
        assert child.stdout is not None
        try:
            with pa.ipc.open_stream(child.stdout) as stream:  # type: ignore[arg-type]  # it is the IOBase that is asked for
                for batch in stream:
                    batch.validate(full=True)
                    yield batch
        except (pa.ArrowInvalid, EOFError, OSError):
            _check_end(child)
            raise
        _check_end(child)


@contextmanager
def _child(path: Place, names: Sequence[str], first: int, count: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-I", "-m", __name__]
    with subprocess.Popen(  # noqa: S603  # this interpreter and a module of ours
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        try:
            # Not as an argument: a place in an object store may know its credentials.
            with child.stdin as request:
                request.write(pickle.dumps((path, list(names), first, count)))
            yield child
        finally:
            child.kill()  # whoever reads may have had enough


def _check_end(child: subprocess.Popen[bytes]) -> None:
    assert child.stderr is not None
    said = child.stderr.read().decode(errors="replace").strip()
    code = child.wait()
    if code < 0:
        raise ValueError(f"reading it ends the process in signal {-code}: {said[-200:]}")
    if code:
        raise ValueError(said.splitlines()[-1][-400:] if said else f"its reader ended with code {code}")


def _has_fixed_lists(data_type: Any) -> bool:
    if types.is_fixed_size_list(data_type):
        return True
    return any(_has_fixed_lists(data_type.field(number).type) for number in range(data_type.num_fields))


def main() -> int:
    """Writes the rows that are asked for."""
    request = pickle.load(sys.stdin.buffer)  # noqa: S301  # the daemon has written it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its death is expected, and no news
    try:
        _write(*request)
    except BrokenPipeError:
        return 0  # nobody wants more
    except Exception as error:  # Arrow raises at least seven kinds on broken files
        sys.stderr.write(str(error)[:500].replace("\n", " "))
        return 1
    return 0


def _write(path: Place, names: Sequence[str], first: int, count: int) -> None:
    writer = None
    for batch in parquet_rows.read(path, names, RowWindow(first, count)):
        if writer is None:
            writer = pa.ipc.new_stream(sys.stdout.buffer, batch.schema)  # type: ignore[arg-type]  # likewise
        writer.write_batch(batch)
        sys.stdout.buffer.flush()
    if writer is not None:
        writer.close()


if __name__ == "__main__":
    sys.exit(main())
