"""Which batches a filter can skip without reading them, by the ranges that are kept of their columns.

A filter over rows is rewritten as one over ranges: `step >= 100` may hold somewhere in a batch if its greatest step is
`>= 100`. That is compared by the same code and in the same type as the rows are, so rounding and promotion make no
difference: both are monotone. What is not known, and what is not of this form, may hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types
from rund_rows.casts import promote
from rund_rows.column_filters import to_expression
from rund_rows.filter_grammar import And, Comparison, Filter, Operator, Or
from rund_rows.row_filter import keep_rows

from rund_daemon.model import RANGED_COLUMNS, BatchRef
from rund_daemon.segments.ranges import has_range

_LEAST, _GREATEST, _UNKNOWN = "least", "greatest", "unknown"
_ANYWHERE = And(())

_ENDS: dict[Operator, tuple[tuple[str, Operator], ...]] = {
    Operator.LESS: ((_LEAST, Operator.LESS),),
    Operator.LESS_OR_EQUAL: ((_LEAST, Operator.LESS_OR_EQUAL),),
    Operator.GREATER: ((_GREATEST, Operator.GREATER),),
    Operator.GREATER_OR_EQUAL: ((_GREATEST, Operator.GREATER_OR_EQUAL),),
    Operator.EQUAL: ((_LEAST, Operator.LESS_OR_EQUAL), (_GREATEST, Operator.GREATER_OR_EQUAL)),
}


@dataclass(frozen=True, slots=True)
class Pruning:
    """What must hold of a batch's ranges for a filter to hold of one of its rows.

    Attributes:
        kinds: the type in which the ends of each column's ranges are compared: the one that readers see, or any
            integers as int64.
        predicate: over the columns `<column> least`, `<column> greatest` and `<column> unknown`.
    """

    kinds: dict[str, pa.DataType]
    predicate: pc.Expression

    @classmethod
    def of(cls, tree: Filter, stored: pa.Schema) -> Pruning | None:
        """Makes the pruning of a filter; None if it can't skip anything.

        Args:
            tree: the filter, which fits the table.
            stored: the columns that are stored, in the types that readers see.
        """
        kinds: dict[str, pa.DataType] = {
            field.name: pa.int64() if types.is_integer(field.type) else field.type
            for field in stored
            if field.name in RANGED_COLUMNS and has_range(field.type)
        }
        bounds = _bounds(tree, kinds)
        if bounds == _ANYWHERE:
            return None
        return cls(kinds, to_expression(bounds, _schema(kinds)))

    def keep(self, refs: Sequence[BatchRef]) -> list[BatchRef]:
        """Gives the batches in which the filter may hold."""
        columns: dict[str, Any] = {"number": pa.array(range(len(refs)), pa.int64())}
        for name, kind in self.kinds.items():
            least, greatest = _ends(refs, name, kind)
            columns |= {f"{name} {_LEAST}": least, f"{name} {_GREATEST}": greatest}
            columns[f"{name} {_UNKNOWN}"] = least.is_null()
        kept: Any = keep_rows(pa.table(columns), self.predicate).column("number")
        return [refs[number] for number in kept.to_pylist()]


def _bounds(tree: Filter, kinds: dict[str, pa.DataType]) -> Filter:
    if isinstance(tree, And):
        parts = tuple(part for part in (_bounds(operand, kinds) for operand in tree.operands) if part != _ANYWHERE)
        return And(parts)
    if isinstance(tree, Or):
        choices = tuple(_bounds(operand, kinds) for operand in tree.operands)
        return _ANYWHERE if _ANYWHERE in choices else Or(choices)
    if isinstance(tree, Comparison):
        return _bounds_of(tree, kinds)
    return _ANYWHERE


def _bounds_of(comparison: Comparison, kinds: dict[str, pa.DataType]) -> Filter:
    ends, number = _ENDS.get(comparison.operator), comparison.literal.number
    name = comparison.path[0]
    # NaN equals NaN, and ranges know nothing of those.
    if ends is None or len(comparison.path) > 1 or name not in kinds or number is None or number != number:  # noqa: PLR0124  # as in `ranges`
        return _ANYWHERE
    known = And(tuple(replace(comparison, path=(f"{name} {end}",), operator=operator) for end, operator in ends))
    literal = replace(comparison.literal, text="true", number=None, truth=True)
    return Or((Comparison((f"{name} {_UNKNOWN}",), Operator.EQUAL, literal, comparison.position), known))


def _schema(kinds: dict[str, pa.DataType]) -> pa.Schema:
    fields: list[pa.Field[Any]] = []
    for name, kind in kinds.items():
        fields += [pa.field(f"{name} {end}", kind) for end in (_LEAST, _GREATEST)]
        fields.append(pa.field(f"{name} {_UNKNOWN}", pa.bool_()))
    return pa.schema(fields)


def _ends(refs: Sequence[BatchRef], name: str, kind: Any) -> tuple[Any, Any]:
    """The least and the greatest values of a column in each batch, null where they are not known."""
    found = [next((item for item in ref.ranges if item.column == name), None) for ref in refs]
    least = _array([item.least if item else None for item in found], kind)
    return least, _array([item.greatest if item else None for item in found], kind)


def _array(ends: Sequence[int | float | None], kind: Any) -> Any:
    integers = promote(pa.array([end if isinstance(end, int) else None for end in ends], pa.int64()), kind)
    if types.is_integer(kind):
        # Floats among them are of rows that came after those that are read, and lie in one batch with them.
        return integers
    floats = pa.array([end if isinstance(end, float) else None for end in ends], pa.float64())
    return pc.coalesce(integers, floats.cast(kind, safe=False))
