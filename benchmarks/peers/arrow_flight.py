"""A limit: Arrow Flight's DoPut over a unix socket, into files of the server's. Nothing is synced or resumed."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import flight

from . import Columns, Scalars, Vectors
from ._arrow_batches import RowBuffer, scalars_schema, table_batch, vectors_batch

_servers: dict[Path, subprocess.Popen[bytes]] = {}


class Server(flight.FlightServerBase):
    """Writes what is put into a file, one for each upload."""

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__(address)
        self._folder = folder

    def do_put(self, _context: Any, _descriptor: Any, reader: Any, _writer: Any) -> None:
        """Takes one upload."""
        path = self._folder / f"{uuid.uuid4().hex}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
            for chunk in reader:
                writer.write_batch(chunk.data)


class Upload:
    """One DoPut."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._client = flight.connect(_address(folder))
        self._writer, answers = self._client.do_put(flight.FlightDescriptor.for_path("rows"), schema)
        self._answers: Any = answers  # it has a `read` of its own kind, which its stubs leave out
        self.write = self._writer.write_batch

    def finish(self) -> None:
        """Returns when the server has written all of it, into the page cache."""
        self._writer.done_writing()
        while self._answers.read() is not None:
            pass
        self._writer.close()
        self._client.close()


def prepare(folder: Path) -> None:
    """Starts the server."""
    (folder / "files").mkdir(parents=True)
    serve = "import sys; from pathlib import Path; from peers.arrow_flight import Server; "
    serve += "Server(sys.argv[1], Path(sys.argv[2])).serve()"
    command = [sys.executable, "-c", serve, _address(folder), str(folder / "files")]
    _servers[folder] = subprocess.Popen(command, cwd=Path(__file__).parent.parent)
    while not (folder / "flight.sock").exists():
        if _servers[folder].poll() is not None:
            raise SystemExit("the Flight server has ended")
        time.sleep(0.02)


def open_scalars(folder: Path, _rank: int) -> Scalars:
    """An upload of this process."""
    begun = Upload(folder, scalars_schema())
    return RowBuffer(begun.write, begun.finish)


def write_table(folder: Path, batches: Sequence[Columns]) -> None:
    """One upload."""
    upload(folder, map(table_batch, batches))


def write_vectors(folder: Path, batches: Sequence[Vectors]) -> None:
    """One upload."""
    upload(folder, map(vectors_batch, batches))


def upload(folder: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Returns when the server has written all batches of an upload, into the page cache."""
    begun: Upload | None = None
    for batch in batches:
        begun = begun or Upload(folder, batch.schema)
        begun.write(batch)
    assert begun is not None
    begun.finish()


def close(folder: Path) -> dict[str, float]:
    """Ends the server."""
    process = _servers.pop(folder)
    process.kill()
    process.wait()
    return {}


def data(folder: Path) -> Path:
    """The files."""
    return folder / "files"


def _address(folder: Path) -> str:
    return f"grpc+unix://{folder}/flight.sock"
