"""Writes the protocol reference: one Markdown page for each ``.proto`` file, made of its comments.

    python docs/make_protocol.py FOLDER

buf parses the files; nothing here knows the syntax of proto.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

REPOSITORY = Path(__file__).parent.parent
PACKAGE = "rund.v1"

# Numbers of fields in descriptor.proto: a comment is found by the path of such numbers that leads to its owner.
_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES, _FILE_SYNTAX = 4, 5, 6, 12
_MESSAGE_FIELDS, _MESSAGE_NESTED, _MESSAGE_ENUMS = 2, 3, 4
_ENUM_VALUES, _SERVICE_METHODS = 2, 2


@dataclass(frozen=True)
class ProtoFile:
    """One file, with its comments by path."""

    descriptor: FileDescriptorProto
    comments: dict[tuple[int, ...], str]

    @property
    def page(self) -> str:
        """Name of its page, without a suffix."""
        return Path(self.descriptor.name).stem

    def comment(self, *path: int) -> str:
        """The comment above what lies at a path."""
        return self.comments.get(path, "")


def main(folder: Path) -> None:
    """Writes the pages."""
    files = read_files(REPOSITORY)
    pages = pages_of_types(files)
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        text = "\n\n".join(page_lines(file, pages)) + "\n"
        (folder / f"{file.page}.md").write_text(text)


def read_files(repository: Path) -> list[ProtoFile]:
    """Has buf parse the files of the public package."""
    buf = Path(sys.executable).parent / "buf"
    image = subprocess.run(  # noqa: S603 - a fixed command of this environment
        [buf, "build", "-o", "-#format=binpb"], cwd=repository, check=True, capture_output=True
    )
    parsed = FileDescriptorSet.FromString(image.stdout)
    return [ProtoFile(file, comments_of(file)) for file in parsed.file if file.package == PACKAGE]


def comments_of(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """The comments of a file by the path of what they stand above."""
    found = {}
    for location in file.source_code_info.location:
        text = "\n".join(line.removeprefix(" ") for line in location.leading_comments.splitlines())
        found[tuple(location.path)] = text.strip()
    return found


def pages_of_types(files: Sequence[ProtoFile]) -> dict[str, str]:
    """Where each message and enum is described: a link by its full name."""
    links = {}
    for file in files:
        for name, _, _ in messages_of(file):
            links[f".{PACKAGE}.{name}"] = f"{file.page}.md#{anchor(name)}"
        for name, _, _ in enums_of(file):
            links[f".{PACKAGE}.{name}"] = f"{file.page}.md#{anchor(name)}"
    return links


def page_lines(file: ProtoFile, links: dict[str, str]) -> Iterator[str]:
    """The paragraphs of one page."""
    yield f"# {file.page}.proto"
    yield prose(file.comment(_FILE_SYNTAX))
    for number, service in enumerate(file.descriptor.service):
        yield from service_lines(file, service, (_FILE_SERVICES, number), links)
    for name, message, path in messages_of(file):
        yield heading(name)
        yield prose(file.comment(*path))
        yield field_table(file, message, path, links)
    for name, enum, path in enums_of(file):
        yield heading(name)
        yield prose(file.comment(*path))
        yield value_table(file, enum, path)


def service_lines(
    file: ProtoFile, service: ServiceDescriptorProto, path: tuple[int, ...], links: dict[str, str]
) -> Iterator[str]:
    """A service and its methods."""
    yield heading(service.name)
    yield prose(file.comment(*path))
    for number, method in enumerate(service.method):
        yield f"### {method.name} {{ #{anchor(f'{service.name}.{method.name}')} }}"
        yield signature(method, links)
        yield prose(file.comment(*path, _SERVICE_METHODS, number))


def signature(method: MethodDescriptorProto, links: dict[str, str]) -> str:
    """What goes in and what comes out."""
    asked = type_link(method.input_type, links)
    answer = type_link(method.output_type, links)
    return (
        f"{'stream of ' if method.client_streaming else ''}{asked} → "
        f"{'stream of ' if method.server_streaming else ''}{answer}"
    )


def field_table(file: ProtoFile, message: DescriptorProto, path: tuple[int, ...], links: dict[str, str]) -> str:
    """The fields of a message."""
    if not message.field:
        return "*No fields.*"
    rows = ["| field | type | number | |", "|---|---|---|---|"]
    for number, field in enumerate(message.field):
        text = cell(file.comment(*path, _MESSAGE_FIELDS, number))
        if field.HasField("oneof_index") and not field.proto3_optional:
            text = f"*One of `{message.oneof_decl[field.oneof_index].name}`.* {text}"
        rows.append(f"| `{field.name}` | {field_type(field, message, links)} | {field.number} | {text} |")
    return "\n".join(rows)


def value_table(file: ProtoFile, enum: EnumDescriptorProto, path: tuple[int, ...]) -> str:
    """The values of an enum."""
    rows = ["| value | number | |", "|---|---|---|"]
    for number, value in enumerate(enum.value):
        text = cell(file.comment(*path, _ENUM_VALUES, number))
        rows.append(f"| `{value.name}` | {value.number} | {text} |")
    return "\n".join(rows)


def field_type(field: FieldDescriptorProto, message: DescriptorProto, links: dict[str, str]) -> str:
    """The type of a field, as it is written in proto."""
    entry = next((nested for nested in message.nested_type if field.type_name.endswith(f".{nested.name}")), None)
    if entry is not None and entry.options.map_entry:
        key, value = (field_type(part, entry, links) for part in entry.field)
        return f"map of {key} to {value}"
    if field.type_name:
        name = type_link(field.type_name, links)
    else:
        name = f"`{FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()}`"
    if field.proto3_optional:
        return f"optional {name}"
    return f"repeated {name}" if field.label == FieldDescriptorProto.LABEL_REPEATED else name


def type_link(name: str, links: dict[str, str]) -> str:
    """A type's name, linked to its description if it is one of ours."""
    shown = f"`{name.removeprefix('.').removeprefix(PACKAGE + '.')}`"
    return f"[{shown}]({links[name]})" if name in links else shown


def messages_of(file: ProtoFile) -> Iterator[tuple[str, DescriptorProto, tuple[int, ...]]]:
    """The messages of a file by their names in the package, the nested ones behind their owners."""
    for number, message in enumerate(file.descriptor.message_type):
        yield from _with_nested(message.name, message, (_FILE_MESSAGES, number))


def _with_nested(
    name: str, message: DescriptorProto, path: tuple[int, ...]
) -> Iterator[tuple[str, DescriptorProto, tuple[int, ...]]]:
    yield name, message, path
    for number, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _with_nested(f"{name}.{nested.name}", nested, (*path, _MESSAGE_NESTED, number))


def enums_of(file: ProtoFile) -> Iterator[tuple[str, EnumDescriptorProto, tuple[int, ...]]]:
    """The enums of a file by their names in the package, those within messages included."""
    for number, enum in enumerate(file.descriptor.enum_type):
        yield enum.name, enum, (_FILE_ENUMS, number)
    for name, message, path in messages_of(file):
        for number, enum in enumerate(message.enum_type):
            yield f"{name}.{enum.name}", enum, (*path, _MESSAGE_ENUMS, number)


def heading(name: str) -> str:
    """A heading with an anchor that does not depend on how the docs tool makes them."""
    return f"## {name} {{ #{anchor(name)} }}"


def anchor(name: str) -> str:
    """The anchor of a type, service or method."""
    return name.lower().replace(".", "-")


def prose(text: str) -> str:
    """A comment as paragraphs; the list of errors stands out."""
    return re.sub(r"^Errors: ", "**Errors:** ", text, flags=re.MULTILINE)


def cell(text: str) -> str:
    """A comment in one line of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
