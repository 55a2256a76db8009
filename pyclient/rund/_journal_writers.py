"""Functions that write rows of one shape, made when the shape is declared.

For each row the general way builds a tuple of keys and types, looks it up, hands the values on in another tuple, and
takes a lock. A function with a variable for each value does without. Its text depends on the number of values and on
nothing else: what belongs to a shape is handed in.

Where the interpreter has its lock no other is taken for a row that has its step. The room is claimed and filled without
a call, and CPython lets another thread or a signal handler come only at calls and at the ends of loops. Where somebody
traces, they come at the beginnings of lines, too: so the whole function is one line.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from textwrap import indent
from time import time_ns
from typing import TYPE_CHECKING, Any, TypeAlias
from zlib import crc32

if TYPE_CHECKING:
    from ._journal import Journal
    from ._journal_files import DataFile, Plan

MOST_VALUES = 64
"""Longer rows gain little, and their functions would be long, too."""

RowWriter: TypeAlias = "Callable[[Journal, DataFile, Mapping[str, object], int | None], bool]"
"""Writes a row of the shape. False, and nothing was done: it is no dict, the row has other keys, a value is of another
type, the step is no plain int, or the file has no room. It raises what ``pack`` raises."""

# The same as in `Journal._append_planned`.
_APPEND = """\
body = pack(step, time_ns(), {values})
word = (crc32(body, seed) << 32) + low
begin = file.claimed
end = begin + size
if end > file.limit:
    return False
# From here on nothing is called, so neither a signal handler nor another thread comes between.
file.claimed = end
try:
    file.memory[begin + 8 : end] = body
    file.words[begin >> 3] = word
except BaseException:
    file.void(begin, end)
    raise
if file.tail == begin:
    file.tail = file.claimed
journal.next_step = step + 1
return True
"""
_LOCKED = f"with journal.lock:\n{indent(_APPEND, '    ')}"

_TEXT = """\
def of_shape(pack, seed, low, size, {names}, {types}):
    def write_row(journal, file, values, step):
        # Other mappings may make up what they do not have.
        if type(values) is not dict or len(values) != {count}:
            return False
        try:
            {take}
        except KeyError:
            return False
        if {other_types}:
            return False
        if type(step) is int:
{append}
        if step is None:
            with journal.lock:
                step = journal.next_step
{append_in_turn}
        return False
    return write_row
"""


def no_writer(_journal: Journal, _file: DataFile, _values: Mapping[str, object], _step: int | None) -> bool:
    """The one of a file in which no shape has one yet."""
    return False


def row_writer(keys: tuple[str, ...], types: tuple[type, ...], plan: Plan) -> RowWriter:
    """The function for rows with these keys, and values of these types: at least one, at most ``MOST_VALUES``."""
    return _maker(len(keys))(plan.pack, plan.seed, plan.low, plan.size, *keys, *types)


@lru_cache
def _maker(count: int) -> Callable[..., RowWriter]:
    def all_of(each: str, between: str = ", ") -> str:
        return between.join(each.format(number) for number in range(count))

    has_lock: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    values = all_of("v{0}")
    text = _TEXT.format(
        count=count,
        names=all_of("n{0}"),
        types=all_of("t{0}"),
        take=all_of("v{0} = values[n{0}]", "; "),
        values=values,
        other_types=all_of("type(v{0}) is not t{0}", " or "),
        append=indent((_APPEND if has_lock else _LOCKED).format(values=values), 12 * " "),
        append_in_turn=indent(_APPEND.format(values=values), 16 * " "),
    )
    scope: dict[str, Any] = {"time_ns": time_ns, "crc32": crc32}
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr | ast.excepthandler | ast.arg | ast.keyword):
            node.lineno = node.end_lineno = 1
    exec(compile(tree, __file__, "exec"), scope)  # noqa: S102 - the text above, with numbers in it
    made: Callable[..., RowWriter] = scope["of_shape"]
    return made
