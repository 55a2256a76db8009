"""`rund serve`: the same as `python -m rund_daemon serve`, which clients run when they start a daemon."""

from __future__ import annotations

import click

from rund_daemon.__main__ import ExitCode
from rund_daemon.__main__ import serve as run_daemon

from .settings import takes_settings

_EXIT_CODES = ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode)


@click.command(epilog=f"It exits with a code of its own: {_EXIT_CODES}.")
@takes_settings
def serve(**flags: object) -> None:
    """Run a daemon until it is told to stop.

    The first SIGTERM or Ctrl-C commits what was sent, seals and ends; a second one ends at once, and nothing acked is
    lost. Its log goes to stderr, one JSON object a line; the event `ready` names the addresses.
    """
    click.get_current_context().exit(run_daemon(flags))
