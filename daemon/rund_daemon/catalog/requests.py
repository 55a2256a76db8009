"""Requests that were carried out, so that a retry changes nothing a second time (AIP-155)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import KeptRequest, Micros, RequestKey, Uid

from . import keys, shelves
from .transaction import Change, Snapshot

T = TypeVar("T")

KEPT_MICROS = 24 * 3600 * 1_000_000
"""How long a request is remembered."""


def find_request(snapshot: Snapshot, request: RequestKey) -> KeptRequest | None:
    """Gives what is kept of a request, or None if it is new.

    Raises:
        InvalidError: the id was used for another request.
    """
    if not request.request_id:
        return None
    kept = snapshot.get(shelves.REQUESTS, request.request_id.encode())
    if kept is not None and (kept.method, kept.fingerprint) != (request.method, request.fingerprint):
        raise InvalidError(
            "request_id",
            f"{request.request_id!r} was used for another request ({kept.method}); make a new UUID for each request",
            reason=Reason.REQUEST_ID_REUSED,
        )
    return kept


def is_known(snapshot: Snapshot, request: RequestKey) -> bool:
    """Whether a request of this id was carried out, whatever it was."""
    return bool(request.request_id) and snapshot.has(shelves.REQUESTS, request.request_id.encode())


def keep_request(change: Change, request: RequestKey, kept: KeptRequest) -> None:
    """Remembers a request in the transaction that carries it out."""
    if request.request_id:
        key = request.request_id.encode()
        change.put(shelves.REQUESTS, key, kept)
        change.put(shelves.REQUEST_TIMES, keys.u64(kept.time) + key, b"")


def forget_requests(change: Change, now: Micros, limit: int) -> int:
    """Forgets requests that are old enough, at most `limit` of them, and gives their number."""
    forgotten: list[bytes] = []
    for key, _ in change.scan(shelves.REQUEST_TIMES):
        if int.from_bytes(key[:8], "big") > now - KEPT_MICROS or len(forgotten) == limit:
            break
        forgotten.append(key)
    for key in forgotten:
        change.delete(shelves.REQUEST_TIMES, key)
        change.delete(shelves.REQUESTS, key[8:])
    return len(forgotten)


def once(
    change: Change,
    request: RequestKey,
    now: Micros,
    carry_out: Callable[[], T],
    uid_of: Callable[[T], Uid],
    load: Callable[[Uid], T | None],
) -> tuple[T, bool]:
    """Carries a request out, or gives what it gave when it was carried out before.

    Args:
        change: the transaction that remembers it.
        request: the request.
        now: the time.
        carry_out: does it.
        uid_of: gives the uid of its result.
        load: gives a result of a uid as it is now, or None if it is gone.

    Returns:
        The result, and whether it was carried out just now.
    """
    kept = find_request(change, request)
    if kept is not None and (before := load(kept.result_uid)) is not None:
        return before, False
    result = carry_out()
    keep_request(change, request, KeptRequest(request.method, request.fingerprint, uid_of(result), now))
    return result, True
