"""What a folder says of its run or table is what the catalog said, and nonsense is told from it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from rund_daemon.documents import (
    DocumentError,
    input_table_document,
    input_table_of,
    run_document,
    run_of,
    table_document,
    table_of,
    values_document,
    values_of,
)
from rund_daemon.model import (
    Cause,
    CauseKind,
    ColumnRole,
    ColumnSchema,
    InputTable,
    MetricsTable,
    Micros,
    Revision,
    Run,
    RunEnd,
    RunStatus,
    TableFormat,
    Uid,
    Writer,
)

PARAMETERS: dict[str, Any] = {
    "big": 2**80,
    "float": 1.0,
    "int": 1,
    "inf": math.inf,
    "raw": b"\0\xff",
    "none": None,
    "$bytes": {"$double": "not one", "$$": [True, {"$bytes": b"x"}]},
    "nested": [[1], {"a": "ü"}],
}
CAUSE = Cause(CauseKind.SIGNAL, "gone", signal=9, last_heartbeat=Micros(5))
RUN = Run(
    uid=Uid(bytes(range(16))),
    project="p",
    name="r",
    create_time=Micros(1),
    update_time=Micros(2),
    revision=Revision(3),
    description="d",
    status=RunStatus.FAILED,
    cause=CAUSE,
    labels={"k": "v"},
    parameters=PARAMETERS,
    init_parameters={"a": 1},
    input_table_urls=("/a", "/b"),
    delete_time=Micros(4),
    expire_time=Micros(5),
    writers=(Writer("w", "h", "b", 1, 2, 3, Micros(4), RunStatus.FAILED, CAUSE), Writer("v")),
    ends=(RunEnd(RunStatus.COMPLETED, None, Micros(6)), RunEnd(RunStatus.FAILED, CAUSE, Micros(7))),
    next_value=8,
    next_table=9,
)
COLUMN = ColumnSchema("c", ColumnRole.LABEL, "C", "what", "m", {-1: "none", 7: "seven"}, writable=True)
TABLE = MetricsTable(
    uid=Uid(bytes(16)),
    run_uid=RUN.uid,
    number=2,
    name="t",
    create_time=Micros(1),
    foreign_table_url="/f",
    foreign_row_count=7,
    columns=(COLUMN,),
    constants=PARAMETERS,
    sealed=True,
    arrow_schema=b"\1\2",
)
INPUT = InputTable(
    Uid(b"u" * 16), "p", "d", "t", Micros(1), 2, 3, TableFormat.PARQUET, 4, b"s", "d", "/x.parquet", (COLUMN,), b"h"
)


def through_json(document: object) -> Any:
    return json.loads(json.dumps(document))


def test_records_come_back_as_they_went() -> None:
    assert run_of(through_json(run_document(RUN))) == RUN
    assert table_of(through_json(table_document(TABLE))) == TABLE
    assert input_table_of(through_json(input_table_document(INPUT))) == INPUT
    (values,) = values_of(through_json(values_document([PARAMETERS])))
    assert values == PARAMETERS
    assert isinstance(values["float"], float)
    assert isinstance(values["int"], int)


def test_a_field_of_another_version_is_left_out_and_one_that_is_not_there_has_its_default() -> None:
    document = through_json(run_document(RUN))
    del document["labels"]
    assert run_of({**document, "colour": "red"}).labels == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"uid": "x"},
        {"name": 3},
        {"status": "SLEEPING"},
        {"create_time": "now"},
        {"writers": 3},
        {"writers": [{}]},
        {"cause": {"kind": "?"}},
        {"input_table_urls": [1]},
        {"parameters": {"a": {"$bytes": "%"}}},
        {"labels": []},
    ],
    ids=str,
)
def test_nonsense_is_told_from_a_record(wrong: dict[str, object]) -> None:
    with pytest.raises(DocumentError):
        run_of({**through_json(run_document(RUN)), **wrong})
    for nothing in (None, [], 3, "x", {}):
        with pytest.raises(DocumentError):
            run_of(nothing)
