"""The ``run.json`` of a bundle as the client's own records. Times in it are microseconds since 1970 UTC."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from ._errors import CorruptDataError
from ._types import Cause, CauseKind, ColumnRole, ColumnSchema, MetricTableInfo, RunEnd, RunInfo, RunStatus

RUN_DOCUMENT = "run.json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def run_of(data: bytes, url: str, bulk_data_url: str, sizes: Mapping[str, int]) -> RunInfo:
    """The run of a document.

    Args:
        data: The document.
        url: The bundle's.
        bulk_data_url: Its folder of side files.
        sizes: Bytes of each metrics table, by its URL.

    Raises:
        CorruptDataError: It is none.
    """
    try:
        document: Any = json.loads(data)
        run = document["run"]
        name = f"projects/{run['project']}/runs/{run['name']}"
        return RunInfo(
            resource_name=name,
            uid=run["uid"],
            url=url,
            project_name=run["project"],
            name=run["name"],
            description=run.get("description", ""),
            status=RunStatus[run["status"]],
            cause=_cause(run.get("cause")),
            created=_time(run.get("create_time", 0)),
            last_modified=_time(run.get("update_time", 0)),
            labels=_value(run.get("labels", {})),
            parameters=_value(run.get("parameters", {})),
            init_parameters=_value(run.get("init_parameters", {})),
            input_table_urls=tuple(run.get("input_table_urls", ())),
            inputs=tuple(map(_value, document.get("inputs", ()))),
            outputs=tuple(map(_value, document.get("outputs", ()))),
            metrics=tuple(
                _table(item, name, sizes) for item in document.get("metrics", ()) if not item.get("replaced")
            ),
            bulk_data_url=bulk_data_url,
            etag=f"{run.get('revision', 0):x}",
            ends=tuple(_end(item) for item in run.get("ends", ())),
            ended=_time(run.get("end_time", 0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise CorruptDataError(f"{url}/{RUN_DOCUMENT} can't be read: {type(error).__name__}: {error}") from error


def _table(item: Mapping[str, Any], run: str, sizes: Mapping[str, int]) -> MetricTableInfo:
    name, schema = item["name"], _value(item.get("arrow_schema", b""))
    url = item.get("reference_url") or f"metrics/{name}"
    return MetricTableInfo(
        url=url,
        file_size=sizes.get(url, item.get("reference_file_size", 0)),
        stream_name=item.get("stream_name", "default_stream"),
        row_count=item.get("row_count", 0) if name else item.get("reference_row_count", 0),
        name=name,
        created=_time(item.get("create_time", 0)),
        foreign_table_url=item.get("foreign_table_url", ""),
        columns=_columns(item.get("columns", ()), schema),
        sealed=True,
        resource_name=f"{run}/metrics/{name}" if name else "",
        uid=item["uid"],
        foreign_table_display_name=item.get("foreign_table_display_name", ""),
        input_table_id=item.get("input_table_id", 0),
        constants=_value(item.get("constants", {})),
        arrow_schema=schema,
    )


def _columns(items: Sequence[Mapping[str, Any]], head: bytes) -> tuple[ColumnSchema, ...]:
    """What is known of the columns: what their creator said, else what their own fields say."""
    said = {item["name"]: _column(item) for item in items}
    if not head:
        return tuple(said.values())
    schema = pa.ipc.read_schema(pa.py_buffer(head))
    return tuple(_described(field, said) for field in schema)


def _described(field: pa.Field[Any], said: Mapping[str, ColumnSchema]) -> ColumnSchema:
    item = json.loads((field.metadata or {}).get(b"rund:column", b"{}"))
    return _column({**item, "name": field.name}, str(field.type))


def _column(item: Mapping[str, Any], arrow_type: str = "") -> ColumnSchema:
    role = item.get("role", "UNSPECIFIED")
    return ColumnSchema(
        name=item["name"],
        role=ColumnRole[role],
        display_name=item.get("display_name", ""),
        description=item.get("description", ""),
        unit=item.get("unit", ""),
        value_map={int(key): text for key, text in item.get("value_map", {}).items()},
        writable=item.get("writable", False),
        arrow_type=arrow_type,
    )


def _cause(item: Mapping[str, Any] | None) -> Cause | None:
    if item is None:
        return None
    return Cause(
        CauseKind[item.get("kind", "UNSPECIFIED")],
        item.get("message", ""),
        item.get("exit_code", 0),
        item.get("signal", 0),
        _time(item.get("last_heartbeat", 0)),
    )


def _end(item: Mapping[str, Any]) -> RunEnd:
    return RunEnd(RunStatus[item["status"]], _cause(item.get("cause")), _time(item.get("end_time", 0)))


def _time(micros: int) -> datetime | None:
    return _EPOCH + timedelta(microseconds=micros) if micros else None


def _value(item: Any) -> Any:
    """A value of the user's: JSON has neither bytes nor NaN, and a key with a ``$`` in front has one more."""
    if isinstance(item, list):
        return [_value(part) for part in item]
    if not isinstance(item, dict):
        return item
    if item.keys() == {"$bytes"}:
        return base64.b64decode(item["$bytes"], validate=True)
    if item.keys() == {"$double"}:
        return float(item["$double"])
    return {key[1:] if key.startswith("$$") else key: _value(part) for key, part in item.items()}
