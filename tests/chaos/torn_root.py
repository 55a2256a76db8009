"""A root with a file of every format in it, to be torn: a run, a table or a journal of its own has each of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rund_daemon.segments.salvage import salvage_segment
from rund_pb.v1 import table_service_pb2 as ts

from tests.process.raw_daemon import (
    RawDaemon,
    arrow_stream,
    closing,
    create_run,
    create_table,
    new_id,
    opening,
    write,
    write_table,
)

from .handing_over import HandOver
from .kill_rounds import wait_for

BATCHES = 12
ROWS_OF_A_BATCH = 500
ROWS = BATCHES * ROWS_OF_A_BATCH
# The run whose files nobody hurts, and one for each format of segments and of what lies beside them.
SOUND, RUNS = "sound", ("open", "sealed", "zstd", "placed", "log", "record")
FORMATS = ("parquet", "arrow", "csv")
INPUT = "projects/demo/datasets/d/tables/written"
LOGGED = 400

LOG_AND_WAIT = f"""
import sys, time, rund
run = rund.init("demo", "journal", root_url=sys.argv[1])
for step in range({LOGGED}):
    run.log({{"x": step}}, step)
print("logged", flush=True)
time.sleep(600)
"""


def numbers(begin: int, end: int) -> pa.RecordBatch:
    """Rows that say which they are, with noise beside them."""
    noise = np.random.default_rng(begin).random(end - begin)
    return pa.record_batch({"x": pa.array(range(begin, end), pa.int64()), "noise": noise, "even": [0.0] * len(noise)})


def batches() -> Iterator[pa.RecordBatch]:
    for begin in range(0, ROWS, ROWS_OF_A_BATCH):
        yield numbers(begin, begin + ROWS_OF_A_BATCH)


def table_name(run: str) -> str:
    return f"projects/demo/runs/{run}/metrics/t"


@dataclass
class TornRoot:
    """The root, and where its files lie.

    Attributes:
        daemon: does not run when the root is filled.
        outside: folder of the files that are registered.
        registered: names of their tables.
    """

    daemon: RawDaemon
    outside: Path
    registered: list[str] = field(default_factory=list)

    def fill(self) -> None:
        """Makes all of it; the daemon and a trainer are killed in the end."""
        daemon = self.daemon
        for run in (*RUNS, SOUND):
            create_table(daemon, create_run(daemon, run).name, "t")
        for run in ("open", "log", "record", SOUND):
            self._send(run)
        self._send("sealed", seal=True)
        self._hand_over()
        write_table(daemon, *batches(), table_id="written")
        self._register()
        assert daemon.stop() == 0  # which seals what is open; so what is to be open comes after it
        (daemon.root / "rund.toml").write_text('seal_compression = "zstd"\n')
        daemon.start()
        self._send("zstd", seal=True)
        wait_for(lambda: [path.suffix for path in self.metrics("zstd")] == [".arrow"], lambda: "it is not sealed")
        self._send("open", "more", begin=ROWS)
        self._leave_a_journal()

    def metrics(self, run: str) -> list[Path]:
        """Segments of a run's table."""
        return sorted(self.run(run).glob("metrics/t/*.arrow*"))

    def run(self, name: str) -> Path:
        return self.daemon.root / "demo/runs" / name

    def victims(self) -> list[Path]:
        """Every file that is hurt."""
        segments = [path for run in ("open", "sealed", "zstd", "placed") for path in self.metrics(run)]
        table = self.daemon.root / "demo/datasets/d/tables/written"
        return [
            *segments,
            self.run("log") / "commits/t.jsonl",
            self.run("record") / "run.json",
            table / "data.arrow",
            table / "table.json",
            *sorted(self.daemon.root.glob("journals/*.journal*")),
            *sorted(self.outside.iterdir()),
        ]

    def _send(self, run: str, stream_id: str = "w", *, begin: int = 0, seal: bool = False) -> None:
        messages = [
            arrow_stream(sequence, numbers(begin + at, begin + at + ROWS_OF_A_BATCH))
            for sequence, at in enumerate(range(0, ROWS, ROWS_OF_A_BATCH), 1)
        ]
        write(self.daemon, opening(table_name(run), stream_id), *messages, closing(seal=seal))

    def _hand_over(self) -> None:
        call = HandOver(self.daemon, table_name("placed"), numbers(0, 1).schema)
        for sequence, batch in enumerate(batches(), 1):
            call.put_down(sequence, batch)
            call.name(sequence)
        call.wait(BATCHES)
        call.close()

    def _register(self) -> None:
        table = pa.Table.from_batches(batches())
        self.outside.mkdir()
        pa.parquet.write_table(table, self.outside / "parquet.parquet", row_group_size=1_000)
        with pa.ipc.new_file(self.outside / "arrow.arrow", table.schema) as file:
            file.write_table(table, max_chunksize=ROWS_OF_A_BATCH)
        pa.csv.write_csv(table, self.outside / "csv.csv")
        for name in FORMATS:
            request = ts.RegisterTableRequest(url=str(self.outside / f"{name}.{name}"), request_id=new_id())
            self.registered.append(self.daemon.rpc.RegisterTable(request).table.name)

    def _leave_a_journal(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
        environment |= {"RUND_CLIENT_FAILPOINTS": "sender.cut_written=hang@1"}
        command = [sys.executable, "-c", LOG_AND_WAIT, str(self.daemon.root)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as trainer:
            assert trainer.stdout is not None
            assert trainer.stdout.readline() == b"logged\n"
            self.daemon.kill()
            trainer.send_signal(signal.SIGKILL)


def whole_rows(path: Path, hurt: bytes) -> int:
    """How many rows of a segment lie before the first byte that is not as it was. The file is still whole."""
    data = path.read_bytes()
    at = next((n for n, (a, b) in enumerate(zip(data, hurt, strict=False)) if a != b), min(len(data), len(hurt)))
    return sum(ref.rows for ref in salvage_segment(path, 0).refs if ref.offset + ref.length <= at)


def torn(data: bytes, chance: random.Random) -> bytes:
    """What is left of a file that was cut, or has a flipped bit, zeros or noise somewhere."""
    at = chance.randrange(len(data))
    match chance.randrange(4):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 2:
            return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]
        case _:
            noise = chance.randbytes(16)[: len(data) - at]
            return data[:at] + noise + data[at + len(noise) :]
