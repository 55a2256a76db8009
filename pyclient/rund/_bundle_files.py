"""The files of a bundle, in a folder or an object store. Each is checked against its SHA-256 before it is used."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from ._errors import (
    CorruptDataError,
    InvalidUrlError,
    PermissionDeniedError,
    RunNotFoundError,
    StorageFailedError,
)
from ._root import local_path

MANIFEST = "bundle.json"
FORMAT = 1
_SCHEMES = ("s3", "gs", "abfs", "abfss")
_CHUNK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file as the manifest names it; ``rows`` is -1 for one that is not of a metrics table."""

    path: str
    size: int
    sha256: str
    rows: int = -1


@dataclass(frozen=True, slots=True)
class BundleFiles:
    """What a manifest names.

    Attributes:
        url: The bundle's own URL.
        folder: Path of its files in ``store``.
        store: The file system that it lies in.
        entries: Its files by path, in the manifest's order.
    """

    url: str
    folder: str
    store: fs.FileSystem
    entries: Mapping[str, BundleFile]
    _checked: dict[str, pa.Buffer] = field(default_factory=dict, repr=False)

    def read(self, path: str) -> pa.Buffer:
        """The content of a file, checked once; one of a folder is mapped, not copied.

        Raises:
            CorruptDataError: It is not as it was written, or not there.
        """
        if (known := self._checked.get(path)) is not None:
            return known
        entry = self.entries.get(path)
        if entry is None:
            raise CorruptDataError(f"{self.url}: {MANIFEST} names no file {path}")
        content = self._load(path)
        _check(f"{self.url}/{path}", entry, content)
        if isinstance(self.store, fs.LocalFileSystem):
            # Mapped pages are the system's; what came from an object store would be kept in memory for ever.
            self._checked[path] = content
        return content

    def _load(self, path: str) -> pa.Buffer:
        whole = f"{self.folder}/{path}"
        try:
            if isinstance(self.store, fs.LocalFileSystem):
                with pa.memory_map(whole) as mapped:
                    return mapped.read_buffer()
            with self.store.open_input_file(whole) as file:
                return file.read_buffer()
        except FileNotFoundError:
            raise CorruptDataError(
                f"{self.url}/{path} is not there: the bundle is damaged, or was replaced since it was opened"
            ) from None
        except OSError as error:
            raise _unreadable(self.url, error) from error


def files_at(url: str) -> BundleFiles | None:
    """The files of the bundle at a URL; None if it is a folder without a manifest.

    Raises:
        RunNotFoundError: There is no bundle in the object store.
        CorruptDataError: Its manifest can't be read.
        InvalidUrlError: The URL is none of a folder or an object store.
    """
    store, path, plain = _place(url)
    try:
        with store.open_input_stream(f"{path}/{MANIFEST}") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        if isinstance(store, fs.LocalFileSystem):
            return None
        raise RunNotFoundError(f"there is no bundle at {plain}: it has no {MANIFEST}") from None
    except OSError as error:
        raise _unreadable(plain, error) from error
    try:
        content: Any = json.loads(data)
        if content["format"] != FORMAT:
            raise CorruptDataError(f"{plain} is a bundle of format {content['format']!r}; this version reads {FORMAT}")
        folder = _inside(content.get("folder", ""))
        entries = [
            BundleFile(_inside(item["path"]), int(item["size"]), str(item["sha256"]), int(item.get("rows", -1)))
            for item in content["files"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptDataError(f"{plain}/{MANIFEST} can't be read: {type(error).__name__}: {error}") from error
    return BundleFiles(plain, f"{path}/{folder}".rstrip("/"), store, {entry.path: entry for entry in entries})


def is_object_url(url: str) -> bool:
    """Whether a URL is one of an object store."""
    return "://" in url and not url.startswith("file:")


def _place(url: str) -> tuple[fs.FileSystem, str, str]:
    if not is_object_url(url):
        path = str(local_path(url))
        return fs.LocalFileSystem(), path, path
    parts = urlsplit(url)
    path = parts.path.strip("/")
    if parts.scheme not in _SCHEMES or parts.query or not parts.netloc or not path:
        raise InvalidUrlError(f"{url!r} is no URL of a bundle: a folder, or {'://…, '.join(_SCHEMES)}://…")
    plain = f"{parts.scheme}://{parts.netloc}/{path}"
    try:
        if parts.scheme == "s3":
            return _s3(os.environ.get("RUND_S3_ENDPOINT", "")), f"{parts.netloc}/{path}", plain
        return (*fs.FileSystem.from_uri(plain), plain)
    except (ValueError, NotImplementedError) as error:
        raise InvalidUrlError(f"{url!r}: {error}") from error


def _s3(endpoint: str) -> fs.FileSystem:
    if not endpoint:
        return fs.S3FileSystem()
    _, _, host = endpoint.rpartition("://")
    return fs.S3FileSystem(endpoint_override=host, scheme="http" if endpoint.startswith("http://") else "https")


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise ValueError(f"{path!r} leads out of the bundle")
    return path


def _check(url: str, entry: BundleFile, content: pa.Buffer) -> None:
    if content.size != entry.size:
        raise CorruptDataError(f"{url} is damaged: it has {content.size} bytes instead of {entry.size}")
    digest, view = hashlib.sha256(), memoryview(content)
    for begin in range(0, len(view), _CHUNK_BYTES):
        digest.update(view[begin : begin + _CHUNK_BYTES])
    if digest.hexdigest() != entry.sha256:
        raise CorruptDataError(f"{url} is damaged: its content does not match its checksum")


def _unreadable(url: str, error: OSError) -> Exception:
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in str(error):
        return PermissionDeniedError(f"{url} may not be read: {error}")
    return StorageFailedError(f"{url} could not be read: {error}")


def folder_url(files: BundleFiles, name: str) -> str:
    """URL of a folder of the bundle."""
    if isinstance(files.store, fs.LocalFileSystem):
        return str(Path(files.folder) / name)
    scheme = urlsplit(files.url).scheme
    return f"{scheme}://{files.folder}/{name}"
