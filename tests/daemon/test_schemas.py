"""Types that are taken, types that several make together, and batches that are given another schema."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rund_daemon.errors import ExhaustedError, InvalidError, Reason
from rund_daemon.segments.plain_types import is_wire_type, plain_schema, plain_type, to_plain
from rund_daemon.segments.schemas import check_schema, conform, unify
from rund_daemon.segments.type_lattice import unify_types

UNITS = ("s", "ms", "us", "ns")
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
DECIMALS = [
    pa.decimal128(10, 2),
    pa.decimal128(38, 0),
    pa.decimal128(38, 38),
    pa.decimal128(5, -2),
    pa.decimal256(10, 2),
    pa.decimal256(76, 0),
]
TIMES = [
    pa.date32(),
    pa.date64(),
    *(pa.timestamp(unit, zone) for unit in UNITS for zone in (None, "UTC", "Europe/Berlin")),
    pa.time32("s"),
    pa.time32("ms"),
    pa.time64("us"),
    pa.time64("ns"),
    *(pa.duration(unit) for unit in UNITS),
]
TEXTS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.binary(2), pa.binary(3)]
SCALARS = [pa.null(), pa.bool_(), *INTEGERS, *FLOATS, *DECIMALS, *TIMES, *TEXTS]


def nested(children: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    """Types with other types in them."""
    fields = st.builds(
        lambda kind, nullable: pa.field("item", kind, nullable or pa.types.is_null(kind)), children, st.booleans()
    )
    names = st.lists(st.sampled_from("abc"), unique=True, max_size=3)
    return st.one_of(
        fields.map(pa.list_),
        fields.map(pa.large_list),
        st.builds(pa.list_, fields, st.integers(1, 2)),
        st.builds(pa.map_, st.sampled_from([pa.string(), pa.int32()]), children),
        names.flatmap(
            lambda chosen: st.tuples(*(children for _ in chosen)).map(
                lambda kinds: pa.struct(list(zip(chosen, kinds, strict=True)))
            )
        ),
    )


SCALAR_TYPES = st.sampled_from(SCALARS)
WIRE_TYPES = st.recursive(SCALAR_TYPES, nested, max_leaves=5)


def schema_of(*kinds: pa.DataType) -> pa.Schema:
    return pa.schema([("x", kind) for kind in kinds])


def batch_of(array: pa.Array, name: str = "x") -> pa.RecordBatch:
    return pa.record_batch([array], names=[name])


def conformed(array: pa.Array, kind: pa.DataType) -> list[object]:
    result = conform(batch_of(array), schema_of(kind))
    result.validate(full=True)
    assert result.schema == schema_of(kind)
    return result.column(0).to_pylist()


class TestWireTypes:
    @pytest.mark.parametrize("kind", SCALARS, ids=str)
    def test_scalars_are_taken(self, kind: pa.DataType):
        assert is_wire_type(kind)
        assert plain_type(kind) == kind
        check_schema(schema_of(kind), 1)

    @given(WIRE_TYPES)
    def test_nested_types_are_taken_and_plain(self, kind: pa.DataType):
        assert is_wire_type(kind)
        assert plain_type(kind) == kind
        check_schema(schema_of(kind), 1)

    @pytest.mark.parametrize(
        ("kind", "plain", "remedy"),
        [
            (pa.dictionary(pa.int8(), pa.string()), pa.string(), "decode it to string"),
            (pa.run_end_encoded(pa.int32(), pa.int8()), pa.int8(), "decode it to int8"),
            (pa.string_view(), pa.string(), "cast it to string"),
            (pa.binary_view(), pa.binary(), "cast it to binary"),
            (pa.list_view(pa.int8()), pa.list_(pa.int8()), "cast it"),
            (pa.large_list_view(pa.int8()), pa.large_list(pa.int8()), "cast it"),
            (pa.uuid(), pa.binary(16), "send the storage type, fixed_size_binary[16]"),
            (pa.json_(), pa.string(), "send the storage type, string"),
            (pa.fixed_shape_tensor(pa.int8(), [2, 3]), pa.list_(pa.int8(), 6), "send the storage type"),
            (pa.decimal32(5, 2), pa.decimal128(5, 2), "cast it to a number"),
            (pa.decimal64(5, 2), pa.decimal128(5, 2), "cast it to a number"),
            (pa.dictionary(pa.int8(), pa.string_view()), pa.string(), "decode it"),
        ],
        ids=str,
    )
    def test_encoded_types_are_refused_and_have_a_plain_form(self, kind: pa.DataType, plain: pa.DataType, remedy: str):
        for refused, expected in (
            (kind, plain),
            (pa.list_(kind), pa.list_(plain)),
            (pa.struct([("a", pa.list_(kind, 2))]), pa.struct([("a", pa.list_(plain, 2))])),
            (pa.map_(pa.string(), kind), pa.map_(pa.string(), plain)),
        ):
            assert not is_wire_type(refused)
            assert plain_type(refused) == expected
            assert is_wire_type(expected)
            with pytest.raises(InvalidError, match="'x' has type") as caught:
                check_schema(schema_of(refused), 1)
            assert caught.value.reason is Reason.INVALID_COLUMN
            assert caught.value.field == "arrow_schema"
            assert remedy in caught.value.message

    @pytest.mark.parametrize(
        "kind",
        [
            pa.sparse_union([pa.field("a", pa.int8())]),
            pa.dense_union([pa.field("a", pa.int8())]),
            pa.month_day_nano_interval(),
        ],
        ids=str,
    )
    def test_types_without_a_plain_form_are_refused(self, kind: pa.DataType):
        assert plain_type(kind) == kind
        with pytest.raises(InvalidError, match="is not taken"):
            check_schema(schema_of(pa.list_(kind)), 1)


class TestNames:
    @pytest.mark.parametrize("name", ["a", "train/loss", "größe", "a.b", "x" * 255, "with space", "損失", "*"])
    def test_taken(self, name: str):
        check_schema(pa.schema([(name, pa.int8())]), 1)

    @pytest.mark.parametrize(
        ("name", "why"),
        [("", "empty"), ("x" * 256, "256 bytes"), ("ß" * 128, "256 bytes"), ("a\nb", "control"), ("\x7f", "control")],
    )
    def test_refused(self, name: str, why: str):
        with pytest.raises(InvalidError, match=why) as caught:
            check_schema(pa.schema([(name, pa.int8())]), 1)
        assert caught.value.reason is Reason.INVALID_COLUMN
        assert len(caught.value.message) < 500

    def test_duplicates_are_refused(self):
        with pytest.raises(InvalidError, match="two columns 'x'"):
            check_schema(schema_of(pa.int8(), pa.int8()), 2)
        with pytest.raises(InvalidError, match="two fields of one name"):
            check_schema(schema_of(pa.list_(pa.struct([("a", pa.int8()), ("a", pa.int8())]))), 2)

    @pytest.mark.parametrize("kind", [pa.int8(), pa.struct([("abcd", pa.int8())])], ids=str)
    def test_names_that_are_not_utf8_are_refused(self, kind: pa.DataType):
        name = "abcd" if pa.types.is_integer(kind) else "outer"
        message = bytearray(pa.schema([(name, kind)]).serialize())
        at = message.index(b"abcd")
        message[at : at + 4] = b"\xff\xfe\xff\xfe"
        with pytest.raises(InvalidError, match="not UTF-8"):
            check_schema(pa.ipc.read_schema(pa.py_buffer(bytes(message))), 2)

    def test_too_many_columns_pass_a_limit(self):
        schema = pa.schema([(f"c{n}", pa.int8()) for n in range(5)])
        check_schema(schema, 5)
        with pytest.raises(ExhaustedError, match="5 columns and the limit is 4") as caught:
            check_schema(schema, 4)
        assert caught.value.reason is Reason.OVER_LIMIT
        assert caught.value.metadata == {"limit": "max_columns=4", "value": "5"}


class TestLattice:
    def test_scalars_form_a_semilattice(self):
        for a, b in itertools.product(SCALARS, SCALARS):
            assert unify_types(a, b) == unify_types(b, a)
        for a in SCALARS:
            assert unify_types(a, a) == a
            assert unify_types(a, pa.null()) == a
        for a, b, c in itertools.product(SCALARS, SCALARS, SCALARS):
            assert unify_types(unify_types(a, b), c) == unify_types(a, unify_types(b, c)), (a, b, c)

    @given(WIRE_TYPES, WIRE_TYPES, WIRE_TYPES)
    def test_nested_types_are_associative(self, a: pa.DataType, b: pa.DataType, c: pa.DataType):
        def unified(x: pa.DataType | None, y: pa.DataType | None) -> pa.DataType | None:
            return None if x is None or y is None else unify_types(x, y)

        left, right = unified(unified(a, b), c), unified(a, unified(b, c))
        assert left == right
        if left is not None:
            assert is_wire_type(left)

    @given(WIRE_TYPES)
    def test_nested_types_are_idempotent(self, a: pa.DataType):
        once = unify_types(a, a)
        assert once is not None
        assert unify_types(once, once).equals(once, check_metadata=True)
        assert unify_types(a, pa.null()) == once
        assert unify_types(once, a) == once

    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            (pa.bool_(), pa.int64(), pa.int64()),
            (pa.bool_(), pa.string(), pa.string()),
            (pa.int8(), pa.uint8(), pa.int16()),
            (pa.int32(), pa.uint32(), pa.int64()),
            (pa.int8(), pa.uint64(), pa.float64()),
            (pa.int64(), pa.float32(), pa.float64()),
            (pa.int16(), pa.float32(), pa.float32()),
            (pa.int8(), pa.float16(), pa.float32()),
            (pa.int32(), pa.float32(), pa.float64()),
            (pa.float16(), pa.float32(), pa.float32()),
            (pa.decimal128(10, 2), pa.decimal128(10, 4), pa.decimal128(12, 4)),
            (pa.decimal128(38, 0), pa.decimal128(38, 10), pa.decimal256(48, 10)),
            (pa.decimal256(76, 0), pa.decimal256(76, 10), pa.float64()),
            (pa.decimal128(10, 2), pa.int64(), pa.float64()),
            (pa.date32(), pa.timestamp("us"), pa.timestamp("us")),
            (pa.date64(), pa.timestamp("s"), pa.timestamp("ms")),
            (pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("ns")),
            (pa.timestamp("s", "UTC"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("us", "UTC")),
            (pa.timestamp("s", "UTC"), pa.timestamp("us"), pa.string()),
            (pa.time32("s"), pa.time64("us"), pa.time64("us")),
            (pa.binary(2), pa.binary(3), pa.binary()),
            (pa.binary(2), pa.large_string(), pa.large_string()),
            (pa.int64(), pa.large_string(), pa.large_string()),
            (pa.int64(), pa.date32(), pa.string()),
            (pa.list_(pa.int8(), 2), pa.list_(pa.float32(), 2), pa.list_(pa.float32(), 2)),
            (pa.list_(pa.int8(), 2), pa.list_(pa.int8(), 3), pa.list_(pa.int8())),
            (pa.list_(pa.int8(), 2), pa.large_list(pa.int8()), pa.large_list(pa.int8())),
            (pa.list_(pa.int8()), pa.int8(), pa.string()),
            (pa.list_(pa.int8(), 2), pa.large_string(), pa.large_string()),
            (pa.list_(pa.list_(pa.int8())), pa.int8(), None),
            (pa.list_(pa.int8()), pa.struct([]), None),
            (pa.list_(pa.int8()), pa.list_(pa.list_(pa.int8())), None),
        ],
        ids=str,
    )
    def test_examples(self, a: pa.DataType, b: pa.DataType, expected: object):
        assert unify_types(a, b) == expected
        assert unify_types(b, a) == expected


class TestUnify:
    def test_columns_keep_their_order_and_new_ones_follow(self):
        a = pa.schema([("b", pa.int8()), ("a", pa.int64())])
        b = pa.schema([("c", pa.string()), ("a", pa.float64())])
        assert unify(a, b) == pa.schema([("b", pa.int8()), ("a", pa.float64()), ("c", pa.string())])
        assert unify(pa.schema([]), a) == a

    def test_everything_is_nullable(self):
        inner = pa.field("element", pa.int8(), nullable=False)
        kind = pa.struct([pa.field("a", pa.list_(inner), nullable=False)])
        unified = unify(pa.schema([pa.field("x", kind, nullable=False)]), pa.schema([]))
        assert unified.field("x").nullable
        assert unified.field("x").type == pa.struct([("a", pa.list_(pa.int8()))])
        assert unified.field("x").type.field("a").nullable

    def test_the_first_metadata_wins(self):
        bare, first, second = (
            pa.schema([pa.field("x", pa.int8(), metadata=metadata)])
            for metadata in (None, {"rund:column": "1"}, {"rund:column": "2"})
        )
        assert unify(first, second).field("x").metadata == {b"rund:column": b"1"}
        assert unify(unify(bare, first), second).field("x").metadata == {b"rund:column": b"1"}
        assert unify(bare, unify(first, second)).field("x").metadata == {b"rund:column": b"1"}

    def test_a_struct_grows(self):
        a = schema_of(pa.struct([("p", pa.int8())]))
        b = schema_of(pa.struct([("q", pa.string()), ("p", pa.float64())]))
        assert unify(a, b) == schema_of(pa.struct([("p", pa.float64()), ("q", pa.string())]))

    def test_a_scalar_and_a_list_are_refused_by_name(self):
        with pytest.raises(InvalidError, match=r"'x' has type int8 so far and can't take list<item: int8>") as caught:
            unify(schema_of(pa.int8()), schema_of(pa.list_(pa.int8())))
        assert caught.value.reason is Reason.INVALID_COLUMN
        assert caught.value.metadata == {"column": "x"}


SAMPLES = {
    pa.bool_(): [True, None, False],
    pa.int64(): [2**53 + 1, None, -(2**63), 0],
    pa.uint64(): [2**64 - 1, None, 0],
    pa.int16(): [-(2**15), None, 2**15 - 1],
    pa.float16(): [0.5, None, math.inf],
    pa.float32(): [0.10000000149011612, None, -1e30],
    pa.float64(): [0.1, None, 1e16, 1e-5, 1.0],
    pa.decimal128(10, 2): [Decimal("12.50"), None],
    pa.date32(): [dt.date(2026, 11, 23), None, dt.date(9999, 12, 31)],
    pa.timestamp("us"): [dt.datetime(2026, 11, 23, 12, 0, 0, 5), None],  # noqa: DTZ001  # naive on purpose
    pa.timestamp("s", "Europe/Berlin"): [dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC), None],
    pa.time32("s"): [dt.time(1, 2, 3), None],
    pa.duration("ms"): [dt.timedelta(milliseconds=1500), None, dt.timedelta(0)],
    pa.string(): ["a", None, ""],
    pa.binary(): [b"text", None, b"\xff\x00"],
    pa.binary(2): [b"ab", None],
}


class TestConform:
    @pytest.mark.parametrize("a", SAMPLES, ids=str)
    @pytest.mark.parametrize("b", SCALARS, ids=str)
    def test_no_logged_row_becomes_unreadable(self, a: pa.DataType, b: pa.DataType):
        """Whatever else is logged into a column, what is there can be read and nulls stay nulls."""
        target = unify_types(a, b)
        array = pa.array([None, *SAMPLES[a], None], a)
        found = conformed(array.slice(1, len(array) - 2), target)
        overflows = a == pa.date32() and target == pa.timestamp("ns")
        expected_nulls = [value is None or (overflows and value.year == 9999) for value in SAMPLES[a]]
        assert [value is None for value in found] == expected_nulls

    @pytest.mark.parametrize(
        ("array", "target", "expected"),
        [
            (pa.array([2**53 + 1, None]), pa.float64(), [float(2**53), None]),
            (pa.array([2**64 - 1], pa.uint64()), pa.float64(), [2.0**64]),
            (pa.array([Decimal("1.25"), None]), pa.float64(), [1.25, None]),
            (pa.array([True, None]), pa.float16(), [1.0, None]),
            (pa.array([True, None, False]), pa.string(), ["True", None, "False"]),
            (pa.array([1, -7, None]), pa.string(), ["1", "-7", None]),
            (pa.array([0.1, 1.0, 1e16, 1e-5, 1e22, math.nan, -math.inf, None]), pa.string(),
             ["0.1", "1.0", "1e+16", "1e-05", "1e+22", "nan", "-inf", None]),
            (pa.array([0.1, None], pa.float32()), pa.large_string(), ["0.1", None]),
            (pa.array([0.5, None], pa.float16()), pa.string(), ["0.5", None]),
            (pa.array([Decimal("1.50")]), pa.string(), ["1.50"]),
            (pa.array([dt.date(2026, 1, 2)]), pa.string(), ["2026-01-02"]),
            (pa.array([0], pa.timestamp("s", "Europe/Berlin")), pa.string(), ["1970-01-01 00:00:00Z"]),
            (pa.array([0], pa.timestamp("s")), pa.string(), ["1970-01-01 00:00:00"]),
            (pa.array([1500, 0, -2000, None], pa.duration("ms")), pa.string(), ["1.5s", "0s", "-2s", None]),
            (pa.array([b"text", b"\xff", None]), pa.string(), ["text", "\\xff", None]),
            (pa.array([b"ab"], pa.binary(2)), pa.string(), ["ab"]),
            (pa.array([253_402_300_799, 0, None], pa.timestamp("s")), pa.timestamp("ns"), [None, 0, None]),
        ],
        ids=str,
    )  # fmt: skip
    def test_values(self, array: pa.Array, target: pa.DataType, expected: object):
        found = conform(batch_of(array), schema_of(target)).column(0)
        assert found.type == target
        values = found.cast(pa.int64()) if pa.types.is_timestamp(target) else found
        assert values.to_pylist() == expected

    @given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False))))
    def test_floats_are_printed_as_python_prints_them(self, values: list[float | None]):
        expected = [None if value is None else repr(value) for value in values]
        assert conformed(pa.array(values, pa.float64()), pa.string()) == expected

    def test_columns_are_added_left_out_and_put_in_order(self):
        batch = pa.record_batch({"a": [1, 2], "extra": [0, 0]})
        schema = pa.schema([("new", pa.list_(pa.float32(), 2)), ("a", pa.float64())])
        found = conform(batch, schema)
        assert found.schema.equals(schema, check_metadata=True)
        assert found.to_pydict() == {"new": [None, None], "a": [1.0, 2.0]}

    def test_no_columns_keep_the_rows(self):
        assert conform(pa.record_batch({"a": [1, 2]}), pa.schema([])).num_rows == 2

    def test_what_fits_is_not_copied(self):
        batch = pa.record_batch({"a": np.arange(3)})
        assert conform(batch, batch.schema) is batch
        found = conform(batch, pa.schema([("a", pa.int64()), ("b", pa.string())]))
        assert found.column(0).buffers()[1].address == batch.column(0).buffers()[1].address

    @pytest.mark.parametrize(
        ("array", "target"),
        [
            (pa.array([1.5]), pa.int64()),
            (pa.array(["a"]), pa.int64()),
            (pa.array([1]), pa.list_(pa.int64())),
            (pa.array([[1]]), pa.int64()),
            (pa.array([[1]]), pa.struct([("a", pa.int64())])),
            (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), pa.list_(pa.int64(), 3)),
            (pa.array([[1, 2]]), pa.list_(pa.int64(), 2)),
        ],
        ids=str,
    )
    def test_casts_go_up_only(self, array: pa.Array, target: pa.DataType):
        with pytest.raises(InvalidError, match="can't take") as caught:
            conform(batch_of(array), schema_of(target))
        assert caught.value.reason is Reason.INVALID_COLUMN


VECTORS = [[1, 2], None, [3, 4], None, [5, 6]]


class TestNested:
    @pytest.mark.parametrize(
        ("source", "target"),
        [
            (pa.list_(pa.int8(), 2), pa.list_(pa.int64(), 2)),
            *itertools.product(
                [pa.list_(pa.int8(), 2), pa.list_(pa.int8()), pa.large_list(pa.int8())],
                [pa.list_(pa.float32()), pa.large_list(pa.string())],
            ),
        ],
        ids=str,
    )
    @pytest.mark.parametrize(("first", "rows"), [(0, 5), (1, 3), (2, 2), (3, 1), (5, 0)])
    def test_vectors_keep_their_rows_under_slices_and_nulls(
        self, source: pa.DataType, target: pa.DataType, first: int, rows: int
    ):
        shown = str if pa.types.is_string(target.value_type) else target.value_type.to_pandas_dtype()
        expected = [None if row is None else [shown(value) for value in row] for row in VECTORS[first : first + rows]]
        assert conformed(pa.array(VECTORS, source).slice(first, rows), target) == expected

    def test_vectors_of_two_widths_share_a_list(self):
        two, three = pa.list_(pa.float32(), 2), pa.list_(pa.float32(), 3)
        target = unify_types(two, three)
        assert conformed(pa.array([[1, 2], None], two), target) == [[1, 2], None]
        assert conformed(pa.array([None, [1, 2, 3]], three), target) == [None, [1, 2, 3]]

    def test_vectors_of_width_0(self):
        array = pa.array([[], None, []], pa.list_(pa.int8(), 0))
        assert conformed(array.slice(1), pa.list_(pa.float32(), 0)) == [None, []]
        assert conformed(array, pa.list_(pa.int8())) == [[], None, []]

    def test_hidden_values_under_null_vectors_stay_hidden(self):
        values = pa.array(np.arange(6, dtype=np.float32))
        array = pa.FixedSizeListArray.from_arrays(values, 2, mask=pa.array([False, True, False]))
        assert conformed(array.slice(1), pa.list_(pa.float64(), 2)) == [None, [4, 5]]
        assert conformed(array.slice(1), pa.list_(pa.float64())) == [None, [4, 5]]

    def test_structs_and_maps(self):
        source = pa.struct([("a", pa.int8()), ("m", pa.map_(pa.string(), pa.int8()))])
        target = pa.struct([("a", pa.float64()), ("new", pa.string()), ("m", pa.map_(pa.string(), pa.string()))])
        rows = [{"a": 1, "m": [("k", 1)]}, None, {"a": None, "m": None}, {"a": 4, "m": []}, {"a": 5, "m": [("l", 2)]}]
        expected = [
            None,
            {"a": None, "new": None, "m": None},
            {"a": 4.0, "new": None, "m": []},
            {"a": 5.0, "new": None, "m": [("l", "2")]},
        ]
        assert conformed(pa.array(rows, source).slice(1), target) == expected

    def test_maps_with_entries_before_the_slice_and_under_nulls(self):
        kind = pa.map_(pa.string(), pa.int8())
        offsets, keys, items = (
            pa.array([0, 1, 2, 3], pa.int32()),
            pa.array(["a", "b", "c"]),
            pa.array([1, 2, 3], pa.int8()),
        )
        array = pa.MapArray.from_arrays(offsets, keys, items, type=kind, mask=pa.array([False, True, False]))
        assert conformed(array.slice(1), pa.map_(pa.string(), pa.int64())) == [None, [("c", 3)]]

    def test_nested_nullability_and_names_do_not_matter(self):
        source = pa.list_(pa.field("element", pa.int8(), nullable=False))
        assert conformed(pa.array([[1], None], source), pa.list_(pa.int8())) == [[1], None]

    @given(st.data())
    def test_rows_survive_any_promotion(self, data: st.DataObject):
        """Lists of integers in any kind of list, sliced anywhere, become lists of a wider item."""
        rows = data.draw(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-9, 9)), max_size=3))))
        first = data.draw(st.integers(0, len(rows)))
        source = data.draw(st.sampled_from([pa.list_, pa.large_list, pa.list_view, pa.large_list_view]))(pa.int8())
        target = data.draw(st.sampled_from([pa.large_list(pa.int64()), pa.large_list(pa.float32())]))
        assert conformed(pa.array(rows, source).slice(first), target) == rows[first:]


class TestPlain:
    @pytest.mark.parametrize("first", [0, 1, 2, 4])
    @pytest.mark.parametrize(
        ("array", "plain"),
        [
            (pa.array(["a", None, "b", "a"]).dictionary_encode(), pa.string()),
            (pa.DictionaryArray.from_arrays([0, None, 1, 0], pa.array(["a", "b"], pa.string_view())), pa.string()),
            (pa.DictionaryArray.from_arrays([0, 1, None, 1], pa.array(["a", None])), pa.string()),
            (pa.DictionaryArray.from_arrays([0, 1, None, 1], pa.array([[1], [2, 3]])), pa.list_(pa.int64())),
            (pa.compute.run_end_encode(pa.array([1, 1, None, 2])), pa.int64()),
            (pa.array(["a", None, "a text that is too long for a view", ""], pa.string_view()), pa.string()),
            (pa.array([b"a", None, b"bytes that are too long for a view", b""], pa.binary_view()), pa.binary()),
            (pa.array([[1, 2], None, [], [3]], pa.list_view(pa.int8())), pa.list_(pa.int8())),
            (pa.array([["a"], None, [None], ["b"]], pa.large_list_view(pa.string_view())), pa.large_list(pa.string())),
            (pa.array([b"0123456789abcdef", None, b"f" * 16, None], pa.uuid()), pa.binary(16)),
            (pa.array([["a", "b"], None, ["a", None], ["c", "c"]], pa.list_(pa.dictionary(pa.int8(), pa.string()), 2)),
             pa.list_(pa.string(), 2)),
            (pa.array([Decimal("1.50"), None, Decimal(0), Decimal(1)], pa.decimal32(5, 2)), pa.decimal128(5, 2)),
            (pa.array([{"a": "x"}, None, {"a": None}, {"a": "y"}], pa.struct([("a", pa.string_view())])),
             pa.struct([("a", pa.string())])),
            (pa.array([[("k", "x")], None, [], [("l", None)]], pa.map_(pa.string(), pa.string_view())),
             pa.map_(pa.string(), pa.string())),
        ],
        ids=lambda value: str(getattr(value, "type", value)),
    )  # fmt: skip
    def test_encoded_columns_are_decoded(self, array: pa.Array, plain: pa.DataType, first: int):
        batch = batch_of(array).slice(first)
        schema = plain_schema(batch.schema)
        assert schema == schema_of(plain)
        found = to_plain(batch, schema)
        found.validate(full=True)
        storage = array.storage if isinstance(array, pa.ExtensionArray) else array
        assert found.column(0).to_pylist() == storage.to_pylist()[first:]
        assert conform(batch, schema).equals(found)

    @pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view()], ids=str)
    def test_views_of_null_rows_are_not_followed(self, kind: pa.DataType) -> None:
        array = pa.array(["a", None, "a text that is too long for a view"], kind)
        validity, views, *texts = array.buffers()
        wild = bytearray(views.to_pybytes())
        wild[16:32] = b"\x7f" * 16
        array = pa.Array.from_buffers(kind, 3, [validity, pa.py_buffer(wild), *texts])
        batch_of(array).validate(full=True)
        found = to_plain(batch_of(array).slice(1), schema_of(plain_type(kind)))
        assert found.column(0).cast(pa.string()).to_pylist() == [None, "a text that is too long for a view"]

    def test_list_views_out_of_order(self):
        array = pa.ListViewArray.from_arrays(
            pa.array([3, 0, 1], pa.int32()), pa.array([2, 3, 1], pa.int32()), pa.array([1, 2, 3, 4, 5])
        )
        found = to_plain(batch_of(array).slice(1), schema_of(pa.list_(pa.int64())))
        assert found.column(0).to_pylist() == [[1, 2, 3], [2]]

    def test_only_metadata_of_rund_is_kept(self):
        field = pa.field("x", pa.string_view(), nullable=False, metadata={"rund:column": "{}", "PARQUET:field_id": "1"})
        found = plain_schema(pa.schema([field], metadata={"pandas": "{}"}))
        assert found.field("x").metadata == {b"rund:column": b"{}"}
        assert found.field("x").nullable
        assert found.metadata is None
