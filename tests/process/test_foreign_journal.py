"""docs/journal.md is enough: what a stranger to rund has written from it alone is adopted, with every row and type."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import rund

from tests.process.harmless import wait_until
from tests.process.raw_daemon import new_id

WRITER = Path(__file__).with_name("foreign_writer.py")
ROWS = 5000
TIME = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_the_writer_is_a_stranger() -> None:
    assert not [line for line in WRITER.read_text().splitlines() if "import" in line and "rund" in line]


def expected(step: int) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("flag", "count", "loss", "nothing", "text", "list"))
    row |= {"step": step, "rank": 7}
    if step % 10 == 9:
        return row | {
            "time": TIME.replace(microsecond=step // 1000),
            "text": f"grüße {step}",
            "list": [step, 0.5, -1.0],
        }
    return row | {
        "time": TIME.replace(microsecond=123_456),
        "flag": bool(step % 2),
        "count": step * 10**15,
        "loss": step / 4,
    }


@pytest.fixture(scope="module")
def running(daemon: Any) -> Any:
    return daemon()


@pytest.mark.parametrize("how", ["closes", "dies", "stays"])
def test_every_row_arrives_with_its_types(running: Any, how: str) -> None:
    run = rund.init("foreign", how, root_url=running.root)
    ids = [new_id(), new_id()]
    command = [sys.executable, "-I", str(WRITER), str(running.root), run.resource_name, *ids, str(ROWS), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        wait_until(lambda: sum(map(len, run.metrics_tables)) == ROWS, "rows are missing")
        process.kill()
    table = run.metrics_tables[0].to_arrow()
    assert table.to_pylist() == [expected(step) for step in range(ROWS)]
    kinds = {"flag": pa.bool_(), "count": pa.int64(), "loss": pa.float64(), "text": pa.string()}
    assert {name: table.schema.field(name).type for name in kinds} == kinds
    assert table.schema.field("list").type.value_type == pa.float64()
    wait_until(lambda: not list((running.root / "journals").glob(f"{ids[0]}*")), "the journal stays")
    run.finish()
    assert sum(map(len, run.metrics_tables)) == ROWS
