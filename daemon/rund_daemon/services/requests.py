"""What requests have in common: their id, their fingerprint and the project that they are about."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from google.protobuf.message import Message

from rund_daemon.errors import InvalidError
from rund_daemon.model import RequestKey

# Fields that hold a resource name, in any request; the first that is set says which project it is about.
_NAME_FIELDS = ("name", "parent", "run", "metrics_table", "reducer")


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


def project_of(request: Any) -> str | None:
    """Gives the project that a request is about: its name, `-` for all, or None if it names none."""
    if "open" in request.DESCRIPTOR.fields_by_name:
        request = request.open
    for field in (*_NAME_FIELDS, "run"):
        descriptor = request.DESCRIPTOR.fields_by_name.get(field)
        if descriptor is None:
            continue
        value = getattr(request, field)
        text = getattr(value, "name", value)  # UpdateRun names its run in the run itself
        if isinstance(text, str) and text.startswith("projects/"):
            return text.split("/")[1]
    return None
