"""Bundles in object stores, through pyarrow.fs, with the credentials that the stores' own tools find.

Each copy puts its files below `<url>/<copy id>/`, so that two of them never mix, and `<url>/bundle.json` says whose
files count. That one object is all that is ever replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from pyarrow import fs

from rund_daemon.errors import InvalidError, Reason
from rund_daemon.failpoints import failpoint
from rund_daemon.model import IfExists

from .manifest import MANIFEST, FileEntry, Manifest, read_manifest
from .stores import URL_FIELD, Passed, blaming, missing, pour, taken

SCHEMES = ("s3", "gs", "abfs", "abfss")
_CONNECT_SECONDS, _REQUEST_SECONDS = 5.0, 30.0


class ObjectStore:
    """A place in an object store."""

    def __init__(self, url: str, files: fs.FileSystem, path: str) -> None:
        self._url = url
        self._files = files
        self._path = path

    @classmethod
    def of(cls, url: str, s3_endpoint: str) -> ObjectStore:
        """Opens the place at a URL; nothing is asked of the store yet.

        Raises:
            InvalidError: INVALID_URL.
        """
        checked = checked_url(url, URL_FIELD)
        parts = urlsplit(checked)
        try:
            if parts.scheme == "s3":
                return cls(checked, _s3(s3_endpoint), parts.netloc + parts.path)
            files, path = fs.FileSystem.from_uri(checked)
        except (ValueError, OSError, NotImplementedError) as error:
            raise InvalidError(URL_FIELD, f"{url[:200]!r}: {str(error)[:300]}", reason=Reason.INVALID_URL) from error
        return cls(checked, files, path)

    @property
    def url(self) -> str:
        """Its URL."""
        return self._url

    @staticmethod
    def folder(copy_id: str) -> str:
        """Its files lie in a folder of their own."""
        return copy_id

    def current(self) -> Manifest | None:
        """The manifest of the bundle that is there."""
        with blaming(self._url):
            try:
                with self._files.open_input_stream(f"{self._path}/{MANIFEST}") as file:
                    return read_manifest(file.read(), self._url)
            except FileNotFoundError:
                return None

    def is_taken(self) -> bool:
        """Whether there is a bundle."""
        with blaming(self._url):
            (info,) = self._files.get_file_info([f"{self._path}/{MANIFEST}"])
        found: bool = info.type == fs.FileType.File
        return found

    def check_free(self, if_exists: IfExists) -> None:
        """Raises ExistsError if there is a bundle that is not to be replaced."""
        if if_exists is not IfExists.OVERWRITE and self.is_taken():
            raise taken(self._url)

    def add(self, copy_id: str, path: str, source: Path, passed: Passed, *, link: bool) -> FileEntry:
        """Puts a file aside."""
        del link  # there is no such thing
        target = f"{self._path}/{copy_id}/{path}"
        with source.open("rb") as file, blaming(self._url), self._files.open_output_stream(target) as sink:
            return pour(file, cast(BinaryIO, sink), path, passed)

    def publish(self, manifest: Manifest, if_exists: IfExists) -> None:
        """Writes the manifest, and removes the files of the bundle that it replaces."""
        with blaming(self._url):
            self.check_free(if_exists)
            failpoint("bundle.objects_written")
            with self._files.open_output_stream(f"{self._path}/{MANIFEST}") as file:
                file.write(manifest.to_bytes())
            failpoint("bundle.objects_published")
            self._remove(manifest.replaces)

    def discard(self, copy_id: str) -> None:
        """Removes what a copy has put aside; if it was published, what it replaced."""
        current = self.current()
        with blaming(self._url):
            published = current is not None and current.copy_id == copy_id
            self._remove(current.replaces if current is not None and published else (f"{copy_id}/",))

    def open(self, manifest: Manifest, path: str) -> BinaryIO:
        """Opens a file of the bundle."""
        whole = "/".join(part for part in (self._path, manifest.folder, path) if part)
        with blaming(self._url):
            try:
                return cast(BinaryIO, self._files.open_input_stream(whole))
            except FileNotFoundError:
                raise missing(self._url, path) from None

    def _remove(self, parts: Iterable[str]) -> None:
        for part in parts:
            try:
                if part.endswith("/"):
                    self._files.delete_dir(f"{self._path}/{part.rstrip('/')}")
                else:
                    self._files.delete_file(f"{self._path}/{part}")
            except FileNotFoundError:
                continue


def checked_url(url: str, field: str) -> str:
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
