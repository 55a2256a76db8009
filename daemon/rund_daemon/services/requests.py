"""What requests have in common: their id, their fingerprint and the project that they are about."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from google.protobuf.message import Message

from rund_daemon.errors import InvalidError
from rund_daemon.model import RequestKey

# Fields that hold the resource name of what a request is about, and of what else it reads.
_NAME_FIELDS = ("name", "parent", "run", "metrics_table", "reducer")
_FURTHER_NAME_FIELDS = ("table",)
_NAME_LIST_FIELDS = ("metrics_tables",)


def request_key(request: Any, method: str) -> RequestKey:
    """Gives what makes a retry of a request recognisable.

    Raises:
        InvalidError: the request id is no UUID.
    """
    request_id: str = request.request_id
    if request_id:
        try:
            request_id = str(uuid.UUID(request_id))
        except ValueError:
            raise InvalidError(
                "request_id", f"{request_id[:60]!r} is not a UUID; make a new one for each request"
            ) from None
    return RequestKey(request_id, method, fingerprint(request))


def fingerprint(request: Message) -> bytes:
    """Digest of a request without its id."""
    same = type(request)()
    same.CopyFrom(request)
    same.ClearField("request_id")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).digest()


def is_local(peer: str) -> bool:
    """Says whether a caller, by gRPC's name of its address, is on this host, where it may see the daemon's files."""
    return peer.startswith("unix:")


def projects_of(request: Any) -> tuple[str | None, ...]:
    """Gives the projects that a request is about, at least one: a name, `-` for all, or None if it names none."""
    if "open" in request.DESCRIPTOR.fields_by_name:
        request = request.open
    named = [_text(request, field) for field in (*_NAME_FIELDS, *_FURTHER_NAME_FIELDS)]
    named += [
        name
        for field in _NAME_LIST_FIELDS
        if field in request.DESCRIPTOR.fields_by_name
        for name in getattr(request, field)
    ]
    projects: list[str | None] = [text.split("/")[1] for text in named if text.startswith("projects/")]
    if target := _text(request, "project_name"):
        projects.append(target)
    if _text(request, "destination_url") or _text(request, "bundle_url"):
        projects.append(None)
    return tuple(projects) or (None,)


def _text(request: Any, field: str) -> str:
    if field not in request.DESCRIPTOR.fields_by_name:
        return ""
    value = getattr(request, field)
    text = getattr(value, "name", value)  # UpdateRun names its run in the run itself
    return text if isinstance(text, str) else ""
