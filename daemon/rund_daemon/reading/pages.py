"""Page tokens: where a list goes on. A token belongs to the query that gave it."""

from __future__ import annotations

import base64
import binascii
import hashlib

from rund_daemon.errors import InvalidError, Reason

DEFAULT_PAGE_SIZE = 50


def check_page_size(size: int, limit: int) -> int:
    """Gives the size to use: 0 means the default, more than the limit means the limit (AIP-158).

    Raises:
        InvalidError: it is negative.
    """
    if size < 0:
        raise InvalidError("page_size", f"{size} is negative; use 1 to {limit}, or 0 for {DEFAULT_PAGE_SIZE}")
    return min(size or DEFAULT_PAGE_SIZE, limit)


def make_token(query: object, position: str) -> str:
    """Makes the token of the page that begins at a position."""
    data = f"{_fingerprint(query)}:{position}".encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_token(token: str, query: object) -> str:
    """Gives the position of a token; empty for the first page.

    Raises:
        InvalidError: INVALID_PAGE_TOKEN: it is no token, or one of another query.
    """
    if not token:
        return ""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        fingerprint, _, position = data.decode("utf-8", "surrogatepass").partition(":")
    except (binascii.Error, ValueError):
        raise invalid_token("is not one that this method gave") from None
    if fingerprint != _fingerprint(query):
        raise invalid_token("belongs to another query; repeat all other fields as they were")
    return position


def _fingerprint(query: object) -> str:
    return hashlib.sha256(repr(query).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def invalid_token(message: str) -> InvalidError:
    """The answer to a token that can't be gone on from."""
    return InvalidError("page_token", f"the token {message}; begin with an empty one", reason=Reason.INVALID_PAGE_TOKEN)
