"""A daemon that lives as long as what is measured with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rund
from rund_daemon.cli.app import run as rund_command


@contextmanager
def daemon(root: Path) -> Iterator[rund.Client]:
    """A daemon of its own, which the client starts."""
    try:
        yield rund.connect(root)
    finally:
        rund_command(["stop", "--root", str(root)])
