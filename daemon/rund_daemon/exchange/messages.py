"""The few fields of other tools' protobuf messages that are read or written here.

The numbers are those of the tools' public .proto files. They live in a pool of their own, so that they can't collide
with what the tools themselves have loaded. A field that is not listed is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FieldProto = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _FieldProto.TYPE_DOUBLE,
    "float": _FieldProto.TYPE_FLOAT,
    "int32": _FieldProto.TYPE_INT32,
    "int64": _FieldProto.TYPE_INT64,
    "bool": _FieldProto.TYPE_BOOL,
    "string": _FieldProto.TYPE_STRING,
    "bytes": _FieldProto.TYPE_BYTES,
}
Fields = Mapping[str, tuple[int, str]]
"""Number and type by name. `*` in front of a type: repeated; `?`: presence is known."""

_TENSORBOARD: Mapping[str, Fields] = {
    "Event": {
        "wall_time": (1, "double"),
        "step": (2, "int64"),
        "file_version": (3, "?string"),
        "graph_def": (4, "?bytes"),
        "summary": (5, "Summary"),
    },
    "Summary": {"value": (1, "*Value")},
    "Value": {
        "tag": (1, "string"),
        "simple_value": (2, "?float"),
        "image": (4, "?bytes"),
        "histo": (5, "?bytes"),
        "audio": (6, "?bytes"),
        "tensor": (8, "Tensor"),
        "metadata": (9, "Metadata"),
    },
    "Metadata": {"plugin_data": (1, "PluginData")},
    "PluginData": {"plugin_name": (1, "string"), "content": (2, "bytes")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "Shape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "*float"),
        "double_val": (6, "*double"),
        "int_val": (7, "*int32"),
        "string_val": (8, "*bytes"),
        "int64_val": (10, "*int64"),
    },
    "Shape": {"dim": (2, "*Dim")},
    "Dim": {"size": (1, "int64")},
    "HParams": {
        "version": (1, "int32"),
        "session_start_info": (3, "SessionStart"),
        "session_end_info": (4, "SessionEnd"),
    },
    "SessionStart": {"hparams": (1, "*HParam"), "group_name": (4, "string"), "start_time_secs": (5, "double")},
    "HParam": {"key": (1, "string"), "value": (2, "HValue")},
    "HValue": {"number_value": (2, "?double"), "string_value": (3, "?string"), "bool_value": (4, "?bool")},
    "SessionEnd": {"status": (1, "int32"), "end_time_secs": (2, "double")},
}
_WANDB: Mapping[str, Fields] = {
    "Record": {
        "num": (1, "int64"),
        "history": (2, "Items"),
        "summary": (3, "Update"),
        "output": (4, "?bytes"),
        "config": (5, "Update"),
        "files": (6, "?bytes"),
        "stats": (7, "Stats"),
        "artifact": (8, "?bytes"),
        "alert": (10, "?bytes"),
        "output_raw": (13, "?bytes"),
        "run": (17, "Run"),
        "exit": (18, "Exit"),
    },
    "Items": {"item": (1, "*Item"), "step": (2, "Step")},
    "Step": {"num": (1, "int64")},
    "Item": {"key": (1, "string"), "nested_key": (2, "*string"), "value_json": (16, "string")},
    "Update": {"update": (1, "*Item"), "remove": (2, "*Item")},
    "Stats": {"timestamp": (2, "Time"), "item": (3, "*Item")},
    "Time": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    "Run": {
        "run_id": (1, "string"),
        "entity": (2, "string"),
        "project": (3, "string"),
        "config": (4, "Update"),
        "summary": (5, "Update"),
        "run_group": (6, "string"),
        "job_type": (7, "string"),
        "display_name": (8, "string"),
        "notes": (9, "string"),
        "tags": (10, "*string"),
        "sweep_id": (12, "string"),
        "host": (13, "string"),
        "start_time": (17, "Time"),
    },
    "Exit": {"exit_code": (1, "int32"), "runtime": (2, "int32")},
}


def _classes(package: str, messages: Mapping[str, Fields]) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, package, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def _add_field(message: Any, package: str, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    bare = kind.lstrip("*?")
    field.label = _FieldProto.LABEL_REPEATED if kind.startswith("*") else _FieldProto.LABEL_OPTIONAL
    if bare in _SCALARS:
        field.type = _SCALARS[bare]
    else:
        field.type, field.type_name = _FieldProto.TYPE_MESSAGE, f".{package}.{bare}"
    if kind.startswith("?"):
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


# Any: classes that are made of a table have no static type.
_tensorboard = _classes("rund.foreign.tensorboard", _TENSORBOARD)
Event: Any = _tensorboard["Event"]
HParams: Any = _tensorboard["HParams"]
_wandb = _classes("rund.foreign.wandb", _WANDB)
WandbRecord: Any = _wandb["Record"]
