"""The options that commands share, and what they mean: flags come before RUND_* variables."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import click

from rund_daemon.config import default_root

from .report import report_for

Command: TypeAlias = Callable[..., None]
"""A command's function. Its parameters are click's business, which has no types for them."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which daemon is meant.

    Attributes:
        root: its root; with an address, only where a root was named too.
        address: where it listens; empty: where the root's `daemon.json` says.
        token: shown to a daemon on TCP.
        named: whether it was named by address or flag; if not, the URL of a run leads to the daemon of its own root.
    """

    root: Path | None
    address: str = ""
    token: str = ""
    named: bool = True


def target_of(root: str | None, address: str | None, token: str | None, environment: Mapping[str, str]) -> Target:
    """Gives the daemon that flags and variables name; a root that is named by flag outweighs RUND_ADDRESS."""
    secret = token or environment.get("RUND_TOKEN", "")
    place = address or ("" if root else environment.get("RUND_ADDRESS", ""))
    folder = Path(root).expanduser().absolute() if root else None
    if place:
        return Target(folder, place, secret)
    return Target(folder or default_root(environment), "", secret, named=bool(root))


def takes_target(command: Command) -> Command:
    """Adds `--root`, `--address` and `--token`, and hands them over as `target`."""

    @root_option
    @click.option("--address", metavar="ADDRESS", help="Where it listens: unix:PATH, tcp:HOST:PORT or tls:HOST:PORT.")
    @click.option("--token", metavar="TOKEN", help="Token for a daemon on TCP; better given as RUND_TOKEN.")
    @functools.wraps(command)
    def wrapped(*, root: str | None, address: str | None, token: str | None, **rest: Any) -> None:
        command(target=target_of(root, address, token, os.environ), **rest)

    return wrapped


def takes_root(command: Command) -> Command:
    """Adds `--root` to a command that works on the root's files, and hands it over as a path."""

    @root_option
    @functools.wraps(command)
    def wrapped(*, root: str | None, **rest: Any) -> None:
        target = target_of(root, None, None, {**os.environ, "RUND_ADDRESS": ""})
        command(root=target.root, **rest)

    return wrapped


def takes_report(command: Command) -> Command:
    """Adds `--json`, and hands over the `report` to write to."""

    @click.option("--json", "as_json", is_flag=True, help="Write JSON instead of text.")
    @functools.wraps(command)
    def wrapped(*, as_json: bool, **rest: Any) -> None:
        command(report=report_for(as_json=as_json), **rest)

    return wrapped


root_option = click.option("--root", metavar="DIR", help="Folder that the daemon owns.")
