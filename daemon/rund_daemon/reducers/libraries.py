"""What is said when a library is not there."""

from __future__ import annotations

from rund_daemon.errors import InvalidError, Reason


def not_installed(kind: str, error: ImportError) -> InvalidError:
    """A method can't be carried out, for want of a library."""
    return InvalidError(
        "spec.method",
        f"{kind} is not installed where the daemon runs ({error.name} is missing): pip install 'rund[reduce]'",
        reason=Reason.NOT_IMPLEMENTED,
    )
