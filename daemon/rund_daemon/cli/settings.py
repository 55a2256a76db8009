"""The flags of the daemon's settings, as `rund serve` takes them and `rund config show` explains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import click

from .options import Command, root_option


@dataclass(frozen=True, slots=True)
class _Flag:
    """One flag: what stands for its value, and what it is for."""

    metavar: str
    help: str
    multiple: bool = False


_FLAGS: Mapping[str, _Flag] = {
    "listen": _Flag(
        "ADDRESS",
        "unix:PATH or tcp:HOST:PORT; may be given again. A unix socket of the root's own when not given. "
        "TCP callers need a token, and hosts other than this one TLS.",
        multiple=True,
    ),
    "tls_certificate": _Flag("FILE", "Certificate for TCP, as PEM."),
    "tls_key": _Flag("FILE", "Its key, as PEM."),
    "grace_seconds": _Flag("SECONDS", "How long a stop may take to commit and seal."),
    "writer_silence_seconds": _Flag(
        "SECONDS", "How long a writer on another host may be silent before it counts as dead; 120 when not given."
    ),
    "min_free_bytes": _Flag("BYTES", "Free disk space under which rows are refused, such as 64MiB."),
    "trash_days": _Flag("DAYS", "How long what is deleted can be restored."),
    "seal_compression": _Flag("KIND", "none or zstd: how sealed files are compressed where they shrink by it."),
    "log_level": _Flag("LEVEL", "DEBUG, INFO, WARNING or ERROR."),
}


def takes_settings(command: Command) -> Command:
    """Adds the flags of the settings. One that is not given is None: variables, file and defaults decide."""
    for name, flag in reversed(tuple(_FLAGS.items())):
        option = click.option(
            flag_of(name), name, metavar=flag.metavar, help=flag.help, multiple=flag.multiple, callback=_none_if_empty
        )
        command = option(command)
    return root_option(command)


def flag_of(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def _none_if_empty(_: click.Context, __: click.Parameter, value: object) -> object:
    return value or None
