"""Which places outside the root a request may name for a bundle, and what stands behind them."""

from __future__ import annotations

from pathlib import Path

from rund_daemon.access import FileAccess
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import IfExists
from rund_daemon.names import with_number
from rund_daemon.segments.object_stores import checked_object_url
from rund_daemon.urls import is_object_url

from .folders import FolderStore
from .objects import ObjectStore
from .stores import URL_FIELD, Store

# Lies in every root, for as long as it is one.
_MARK_OF_A_ROOT = "daemon.lock"
# What another daemon is to import may lie there: its next start removes what is left of it.
_INCOMING = "incoming"


class Places:
    """Makes stores of URLs that are allowed."""

    def __init__(self, access: FileAccess, min_free_bytes: int, s3_endpoint: str) -> None:
        self._access = access
        self._min_free_bytes = min_free_bytes
        self._s3_endpoint = s3_endpoint

    def destination(self, url: str, if_exists: IfExists) -> tuple[str, Store]:
        """Gives where a bundle goes: the URL in the form in which it is kept, and the store there.

        With RENAME it is the first free one of `url`, `url_0001` and so on, which the store is asked for.

        Raises:
            InvalidError: INVALID_URL: it can't be parsed, or lies in a root.
            AccessError: PERMISSION_DENIED: the configuration does not allow it.
        """
        free = self._free(self._checked(url, URL_FIELD), if_exists)
        return free, self.store(free)

    def source(self, url: str) -> Store:
        """Gives the store at a URL that a bundle is read from. Raises as `destination` does."""
        return self.store(self._checked(url, "bundle_url"))

    def store(self, url: str) -> Store:
        """Gives the store at a URL that was checked. Nothing is asked of it yet."""
        if is_object_url(url):
            return ObjectStore.of(url, self._s3_endpoint)
        return FolderStore(Path(url), self._min_free_bytes)

    def _checked(self, url: str, field: str) -> str:
        if is_object_url(url):
            plain = checked_object_url(url, field)
            self._access.check_object_url(plain, field)
            return plain
        path = self._access.path_of(url, field)
        for folder in (real := path.resolve()).parents:
            if (folder / _MARK_OF_A_ROOT).exists() and real.parent != folder / _INCOMING:
                raise InvalidError(
                    field,
                    f"{url[:200]!r} lies in the root {folder}; a run there is named by root_url, project_name and "
                    "run_name, and a bundle lies outside of every root",
                    reason=Reason.INVALID_URL,
                )
        return str(real)

    def _free(self, url: str, if_exists: IfExists) -> str:
        if if_exists is not IfExists.RENAME:
            return url
        parent, _, name = url.rpartition("/")
        candidate, number = url, 0
        while self.store(candidate).is_taken():
            number += 1
            candidate = f"{parent}/{with_number(name, number)}"
        return candidate
