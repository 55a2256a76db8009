"""What a bundle says of itself: `bundle.json`, which is written last, so that a bundle without it is none.

docs/storage.md tells other tools how to write one. The client reads bundles with code of its own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from rund_daemon.errors import CorruptError
from rund_daemon.model import Micros

MANIFEST = "bundle.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a bundle: its path below the bundle's files, its bytes and their SHA-256 in hexadecimal digits.

    `rows` is -1 for a file that is not of a metrics table.
    """

    path: str
    size: int
    sha256: str
    rows: int = -1


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `bundle.json`.

    Attributes:
        copy_id: which copy made it.
        create_time: when.
        folder: where its files lie, relative to `bundle.json`; empty: beside it.
        replaces: what lies there of the bundle that it took the place of, until that is removed: files, and folders
            with a slash at the end.
        files: all of its files; those of a metrics table in the order of their rows.
        left_out: files of `bulk_data` that are not in it, because they are links or were removed meanwhile.
    """

    copy_id: str
    create_time: Micros
    folder: str
    replaces: tuple[str, ...]
    files: tuple[FileEntry, ...]
    left_out: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """What lies beside its `bundle.json`."""
        return (f"{self.folder}/",) if self.folder else tuple(entry.path for entry in self.files)

    def to_bytes(self) -> bytes:
        """Writes it."""
        files = [{key: value for key, value in asdict(entry).items() if value != -1} for entry in self.files]
        document = {"format": FORMAT, **asdict(self), "files": files}
        return json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")


def read_manifest(data: bytes, url: str) -> Manifest:
    """Reads one.

    Raises:
        CorruptError: it is none of this version.
    """
    try:
        content: Any = json.loads(data)
        if content["format"] != FORMAT:
            raise CorruptError(f"{url}/{MANIFEST} has format {content['format']!r}; this version reads {FORMAT}")
        files = tuple(
            FileEntry(_inside(item["path"]), int(item["size"]), str(item["sha256"]), int(item.get("rows", -1)))
            for item in content["files"]
        )
        return Manifest(
            str(content.get("copy_id", "")),
            Micros(int(content.get("create_time", 0))),
            _inside(content.get("folder", "")),
            tuple(map(_inside, content.get("replaces", ()))),
            files,
            tuple(map(str, content.get("left_out", ()))),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"{url}/{MANIFEST} can't be read: {type(error).__name__}: {str(error)[:200]}") from error


def _inside(path: str) -> str:
    """A path that does not lead out of the bundle, whoever wrote it."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise ValueError(f"{path[:200]!r} leads out of the bundle")
    return path
