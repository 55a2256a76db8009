"""Files in object stores, through pyarrow.fs, with the credentials that the stores' own tools find."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit

from pyarrow import fs

from rund_daemon.errors import InvalidError, Reason

SCHEMES = ("s3", "gs", "abfs", "abfss")
_CONNECT_SECONDS, _REQUEST_SECONDS = 5.0, 30.0


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """A file or folder in an object store; it has those members of a Path that readers of tables use."""

    url: str
    files: fs.FileSystem
    path: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def suffix(self) -> str:
        """As a Path has it."""
        return PurePosixPath(self.path).suffix

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Opens it to be read, at any place. What Arrow gives does all that is asked of a BufferedReader here."""
        assert mode == "rb"
        return cast(io.BufferedReader, self.files.open_input_file(self.path))

    def info(self) -> fs.FileInfo:
        """What it is."""
        info: fs.FileInfo = self.files.get_file_info(self.path)
        return info

    def entries(self) -> list[fs.FileInfo]:
        """What lies directly in it."""
        found: list[fs.FileInfo] = self.files.get_file_info(fs.FileSelector(self.path))
        return found

    def entry(self, name: str) -> ObjectPath:
        """A file directly in it."""
        return ObjectPath(f"{self.url}/{name}", self.files, f"{self.path}/{name}")


def object_path(url: str, s3_endpoint: str, field: str) -> ObjectPath:
    """Gives the place at a URL; nothing is asked of the store yet. Raises InvalidError: INVALID_URL."""
    checked = checked_object_url(url, field)
    return ObjectPath(checked, *file_system(checked, s3_endpoint, field))


def checked_object_url(url: str, field: str) -> str:
    """Gives the URL without a slash at its end.

    Raises:
        InvalidError: INVALID_URL: another scheme, no path, or options, which could send the daemon's credentials away.
    """
    parts = urlsplit(url)
    path = [part for part in parts.path.split("/") if part]
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise InvalidError(field, f"{url[:200]!r} is no folder and none of {known}", reason=Reason.INVALID_URL)
    plain = not (parts.query or parts.fragment or parts.username or parts.password or "\0" in url)
    if not plain or not parts.netloc or not path or {".", ".."} & set(path):
        raise InvalidError(
            field,
            f"{url[:200]!r} is not of the form {parts.scheme}://BUCKET/PATH; credentials come from the environment and "
            "the endpoint from s3_endpoint in the configuration",
            reason=Reason.INVALID_URL,
        )
    return f"{parts.scheme}://{parts.netloc}/{'/'.join(path)}"


def file_system(url: str, s3_endpoint: str, field: str) -> tuple[fs.FileSystem, str]:
    """Gives the file system of a URL that was checked, and the path in it. Raises InvalidError: INVALID_URL."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "s3":
            return _s3(s3_endpoint), parts.netloc + parts.path
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(url)
    except (ValueError, OSError, NotImplementedError) as error:
        raise InvalidError(field, f"{url[:200]!r}: {str(error)[:300]}", reason=Reason.INVALID_URL) from error
    return found


def _s3(endpoint: str) -> fs.FileSystem:
    options: dict[str, Any] = {
        # Parts are sent as they are filled: what waits to be sent would have no bound otherwise. A small file is one
        # request.
        "background_writes": False,
        "allow_delayed_open": True,
    }
    if endpoint:
        scheme, separator, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host, "scheme": scheme if separator else "https"}
    return fs.S3FileSystem(connect_timeout=_CONNECT_SECONDS, request_timeout=_REQUEST_SECONDS, **options)
