"""URLs of runs and files: a plain absolute path, or the same as a `file:` URL."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from .errors import InvalidError, Reason
from .names import MetricsTableName, RunName, TableName, check_name, check_project


def run_name_of_url(url: str, root_url: str, field: str) -> RunName:
    """Gives the name of the run with a URL.

    Raises:
        InvalidError: INVALID_URL: it is no URL of a run of this root.
    """
    path = local_path(url, field)
    try:
        parts = path.relative_to(root_url).parts
    except ValueError:
        parts = ()
    if len(parts) != 3 or parts[1] != "runs":
        raise InvalidError(
            field,
            f"{url[:200]!r} is not the URL of a run of this daemon; it would be {root_url}/<project>/runs/<run>",
            reason=Reason.INVALID_URL,
        )
    return RunName(check_project(parts[0], field), check_name(parts[2], field))


def is_object_url(url: str) -> bool:
    """Whether a URL is one of an object store: of another scheme than `file`."""
    return "://" in url and not url.startswith("file:")


def local_path(url: str, field: str) -> PurePosixPath:
    """Gives the absolute path of a `file:` URL or a plain path.

    Raises:
        InvalidError: INVALID_URL: it has another scheme, a host, or is relative.
    """
    path = url
    if url.startswith("file:"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise InvalidError(field, f"{url[:200]!r} names another host", reason=Reason.INVALID_URL)
        path = unquote(parts.path)
    pure = PurePosixPath(path)
    if "\0" in path or "://" in path or not pure.is_absolute() or ".." in pure.parts:
        raise InvalidError(
            field,
            f"{url[:200]!r} is not an absolute path or file: URL without '..'",
            reason=Reason.INVALID_URL,
        )
    return pure


def metrics_table_of_url(url: str, root_url: str, field: str) -> MetricsTableName | None:
    """Gives the name of the metrics table of this root with a URL, or None if it is none."""
    parts = _parts_below(url, root_url, field)
    if len(parts) == 5 and parts[1] == "runs" and parts[3] == "metrics":
        return MetricsTableName(parts[0], parts[2], parts[4])
    return None


def table_of_url(url: str, root_url: str, field: str) -> TableName | None:
    """Gives the name of the input table of this root with a URL, or None if it is none."""
    parts = _parts_below(url, root_url, field)
    if len(parts) == 5 and parts[1] == "datasets" and parts[3] == "tables":
        return TableName(parts[0], parts[2], parts[4])
    return None


def _parts_below(url: str, root_url: str, field: str) -> tuple[str, ...]:
    try:
        return local_path(url, field).relative_to(root_url).parts
    except ValueError:
        return ()
