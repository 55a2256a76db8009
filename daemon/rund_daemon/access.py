"""Which files a request may name: aliases are expanded, and what lies outside the allowed prefixes is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import AccessError, InvalidError, Reason
from .segments.object_stores import ObjectPath, checked_object_url, object_path
from .urls import is_object_url, local_path


@dataclass(frozen=True, slots=True)
class FileAccess:
    """The files that requests may name.

    Attributes:
        root: always allowed.
        prefixes: absolute paths of folders that are allowed too.
        aliases: folders by the NAME of `<NAME>/…`.
        object_prefixes: URLs of places in object stores that are allowed; an empty one allows all.
        s3_endpoint: the server behind `s3://`, if it is not Amazon's.
    """

    root: Path
    prefixes: Sequence[Path]
    aliases: Mapping[str, str]
    object_prefixes: Sequence[str] = ()
    s3_endpoint: str = ""

    def place_of(self, url: str, field: str) -> Path | ObjectPath:
        """Gives what a URL of files or of an object store names. Raises as `path_of`."""
        expanded = self._expanded(url, field)
        if not is_object_url(expanded):
            return self.path_of(url, field)
        self.check_object_url(checked_object_url(expanded, field), field)
        return object_path(expanded, self.s3_endpoint, field)

    def path_of(self, url: str, field: str) -> Path:
        """Gives the path of a URL.

        Raises:
            InvalidError: INVALID_URL: it can't be parsed, or its alias is not configured.
            AccessError: PERMISSION_DENIED: it lies outside what is allowed.
        """
        path = Path(local_path(self._expanded(url, field), field))
        # Links are followed first: a link inside an allowed folder must not lead out of it.
        real = path.resolve()
        for prefix in (self.root, *self.prefixes):
            if real.is_relative_to(prefix.resolve()):
                return path
        raise AccessError(
            Reason.PERMISSION_DENIED,
            f"{field}: {url[:200]!r} lies outside the folders that this daemon may use; "
            "add its folder to url_prefixes in the configuration",
            field=field,
        )

    def check_object_url(self, url: str, field: str) -> None:
        """Checks a URL of an object store, which has no slash at its end.

        Raises:
            AccessError: PERMISSION_DENIED: it lies outside what is allowed.
        """
        if not any(not prefix or f"{url}/".startswith(f"{prefix.rstrip('/')}/") for prefix in self.object_prefixes):
            raise AccessError(
                Reason.PERMISSION_DENIED,
                f"{field}: {url[:200]!r} lies outside the URLs that this daemon may use; "
                "add it, or what it begins with, to url_prefixes in the configuration",
                field=field,
            )

    def _expanded(self, url: str, field: str) -> str:
        if not url.startswith("<"):
            return url
        name, closed, rest = url[1:].partition(">")
        if not closed or name not in self.aliases:
            raise InvalidError(
                field,
                f"the alias of {url[:200]!r} is not configured; add it to [aliases] in the configuration",
                reason=Reason.INVALID_URL,
            )
        return self.aliases[name].rstrip("/") + rest
