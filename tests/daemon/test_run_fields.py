"""Fields of runs that are read without the rest are those that the whole record has."""

from google.protobuf.descriptor import FieldDescriptor
from rund_daemon.catalog.run_fields import RunFields
from rund_pb.store.v1 import records_pb2 as pb


def test_parts_lie_where_the_run_has_them() -> None:
    whole = pb.Run.DESCRIPTOR.fields_by_number
    for part in pb.RunParts.DESCRIPTOR.fields:
        assert whole[part.number].name == part.name
        if part.name == "parameters":
            assert (part.type, whole[part.number].message_type.name) == (FieldDescriptor.TYPE_BYTES, "MapValue")
        else:
            assert (part.type, part.is_repeated) == (whole[part.number].type, whole[part.number].is_repeated)


def test_a_value_is_known_by_its_bytes_and_its_place() -> None:
    """The same bytes at two paths, and equal values of two kinds."""
    one = pb.MapValue(entries=[pb.MapEntry(key="x", value=pb.Value(int_value=1))])
    values = {
        "a": pb.Value(map_value=one),
        "b": pb.Value(int_value=1),
        "c": pb.Value(bool_value=True),
        "d": pb.Value(),
        "": pb.Value(string_value="no key"),
        "e.f": pb.Value(double_value=1.0),
    }
    parameters = pb.MapValue(entries=[pb.MapEntry(key=key, value=value) for key, value in values.items()])
    record = pb.RunParts.FromString(pb.Run(parameters=parameters).SerializeToString())
    paths = [("a",), ("a", "x"), ("b",), ("b", "x"), ("c",), ("d",), ("",), ("e", "f"), ("e",), ("none",)]
    fields = RunFields([("parameters", *path) for path in paths] + [("parameters",)])
    for _ in range(2):
        columns = fields._columns([record], [])
        *found, keys = [column[0] for column in columns]
        assert [repr(value) for value in found] == [
            *("{'x': 1}", "1", "1", "None", "True", "None", "'no key'", "1.0", "None", "None")
        ]
        assert isinstance(keys, dict)
        assert set(keys) == set(values)
