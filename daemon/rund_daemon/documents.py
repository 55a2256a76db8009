"""Runs and tables as JSON: what their folders say of them, for people and for making a lost catalog again.

Times are microseconds since 1970 UTC. JSON has neither bytes nor NaN: they are `{"$bytes": base64}` and `{"$double":
text}`, and a key of the user's that begins with `$` has one more. Knows no files and no catalog.
"""

from __future__ import annotations

import base64
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import RundError
from .identity import parse_uid, uid_text
from .model import InputTable, MetricsTable, Run, Uid, Values

T = TypeVar("T")

_BYTES, _DOUBLE = "$bytes", "$double"


class DocumentError(ValueError):
    """A document is not what this version writes; the message says where."""


def run_document(run: Run) -> dict[str, object]:
    """The document of a run, without its values and tables."""
    return _record(run)


def table_document(table: MetricsTable) -> dict[str, object]:
    """The document of a metrics table, with its run's uid and its unified schema."""
    return {**_record(table), "run_uid": uid_text(table.run_uid), "url": table.url}


def input_table_document(table: InputTable) -> dict[str, object]:
    """The document of an input table."""
    return _record(table)


def values_document(values: Sequence[Values]) -> object:
    """The document of inputs or outputs."""
    return _plain(list(values))


def run_of(document: object) -> Run:
    """The run of a document. Raises DocumentError."""
    return _record_of(Run, document)


def table_of(document: object) -> MetricsTable:
    """The metrics table of a document. Raises DocumentError."""
    return _record_of(MetricsTable, document)


def input_table_of(document: object) -> InputTable:
    """The input table of a document. Raises DocumentError."""
    return _record_of(InputTable, document)


def values_of(document: object) -> tuple[Values, ...]:
    """Inputs or outputs of a document. Raises DocumentError."""
    try:
        return tuple(dict(values) for values in _unplain(document))
    except _FAULTS as error:
        raise DocumentError(f"{type(error).__name__}: {str(error)[:300]}") from error


def uid_of(text: str) -> Uid | None:
    """The uid of its text or hexadecimal digits, or None."""
    try:
        return parse_uid(text, "uid")
    except RundError:
        return None


def _record(record: Run | MetricsTable | InputTable) -> dict[str, object]:
    return {key: _plain(value) for key, value in asdict(record).items()} | {"uid": uid_text(record.uid)}


def _record_of(kind: type[T], document: Any) -> T:
    try:
        uids = {key: parse_uid(document[key], key) for key in ("uid", "run_uid") if key in document}
        record: T = _read(kind, {key: _unplain(value) for key, value in document.items()} | uids)
    except _FAULTS as error:
        raise DocumentError(f"{type(error).__name__}: {str(error)[:300]}") from error
    return record


# What is wrong in a document shows itself as any of these.
_FAULTS = (TypeError, ValueError, KeyError, AttributeError, RecursionError, RundError)


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _read(kind: Any, value: Any) -> Any:
    """Gives plain data the type that a record has there. Unknown fields are left out, and absent ones default."""
    if is_dataclass(kind):
        hints = _hints(kind)  # type: ignore[arg-type]  # it is a class here, not an instance
        return kind(**{key: _read(hints[key], item) for key, item in value.items() if key in hints})  # type: ignore[operator]  # likewise
    arguments = get_args(kind)
    if isinstance(kind, UnionType) and type(None) in arguments:
        return None if value is None else _read(arguments[0], value)
    if get_origin(kind) is tuple:
        return tuple(_read(arguments[0], item) for item in value)
    if get_origin(kind) in (dict, Mapping):
        whole_numbers = arguments[0] is int
        return {int(key) if whole_numbers else key: item for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    plain = getattr(kind, "__supertype__", kind)
    if isinstance(plain, type) and not isinstance(value, plain):
        raise TypeError(f"{value!r:.60} is no {plain.__name__}")
    return value


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {_escaped(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {_DOUBLE: repr(value)}
    return value


def _unplain(value: Any) -> Any:
    if isinstance(value, list):
        return [_unplain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_BYTES}:
        return base64.b64decode(value[_BYTES], validate=True)
    if value.keys() == {_DOUBLE}:
        return float(value[_DOUBLE])
    return {key[1:] if key.startswith("$$") else key: _unplain(item) for key, item in value.items()}


def _escaped(key: str) -> str:
    return f"${key}" if key.startswith("$") else key
