"""Bundles in object stores, through pyarrow.fs, with the credentials that the stores' own tools find.

Each copy puts its files below `<url>/<copy id>/`, so that two of them never mix, and `<url>/bundle.json` says whose
files count. That one object is all that is ever replaced.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from pyarrow import fs

from rund_daemon.failpoints import failpoint
from rund_daemon.model import IfExists
from rund_daemon.segments.object_stores import checked_object_url, file_system

from .manifest import MANIFEST, FileEntry, Manifest, read_manifest
from .stores import URL_FIELD, Passed, blaming, missing, pour, taken
from .uploads import S3Uploads

logger = logging.getLogger(__name__)


class ObjectStore:
    """A place in an object store."""

    def __init__(self, url: str, files: fs.FileSystem, path: str, uploads: S3Uploads | None = None) -> None:
        self._url = url
        self._files = files
        self._path = path
        self._uploads = uploads

    @classmethod
    def of(cls, url: str, s3_endpoint: str) -> ObjectStore:
        """Opens the place at a URL; nothing is asked of the store yet.

        Raises:
            InvalidError: INVALID_URL.
        """
        checked = checked_object_url(url, URL_FIELD)
        parts = urlsplit(checked)
        uploads = S3Uploads.of(s3_endpoint, parts.netloc, os.environ) if parts.scheme == "s3" else None
        return cls(checked, *file_system(checked, s3_endpoint, URL_FIELD), uploads)

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
        self._end_uploads(copy_id)

    def open(self, manifest: Manifest, path: str) -> BinaryIO:
        """Opens a file of the bundle."""
        whole = "/".join(part for part in (self._path, manifest.folder, path) if part)
        with blaming(self._url):
            try:
                return cast(BinaryIO, self._files.open_input_stream(whole))
            except FileNotFoundError:
                raise missing(self._url, path) from None

    def _end_uploads(self, copy_id: str) -> None:
        if self._uploads is not None:
            try:
                self._uploads.end(f"{self._path.partition('/')[2]}/{copy_id}/")
            except OSError as error:
                # It may not be allowed, or unknown to this store: then they are the bucket's own rule's.
                logger.warning("uploads_not_ended", extra={"url": self._url, "error": str(error)[:300]})

    def _remove(self, parts: Iterable[str]) -> None:
        for part in parts:
            try:
                if part.endswith("/"):
                    self._files.delete_dir(f"{self._path}/{part.rstrip('/')}")
                else:
                    self._files.delete_file(f"{self._path}/{part}")
            except FileNotFoundError:
                continue
