"""`rund config`: the daemon's settings, and who decided each."""

from __future__ import annotations

from pathlib import Path

import click

from rund_daemon.config import CONFIG_FILE, ENVIRONMENT_PREFIX, Setting, from_process

from .options import takes_report
from .report import Cell, Report, Shown
from .settings import flag_of, takes_settings


@click.group(no_args_is_help=False)
def config() -> None:
    """Show the settings of a daemon.

    They are set by flags of `rund serve`, by RUND_* variables and by rund.toml in the root.
    """


@config.command()
@takes_settings
@takes_report
def show(*, report: Report, **flags: object) -> None:
    """Show each setting that `rund serve` would have with the same flags, and where it comes from.

    Flags come before variables, variables before the file, the file before the defaults. A daemon that runs has the
    settings that it was started with.
    """
    effective, settings = from_process(flags)
    file = effective.root / CONFIG_FILE
    if report.as_json:
        report.document(
            {"file": file, "file_exists": file.exists(), "settings": [_plain(entry, file) for entry in settings]}
        )
        return
    report.table(
        ("SETTING", "VALUE", "FROM"), [(entry.name, _shown(entry.value), _origin(entry, file)) for entry in settings]
    )
    if not file.exists():
        report.hint(f"there is no {file}; it may set any of these but root")


def _plain(setting: Setting, file: Path) -> dict[str, object]:
    return {
        "name": setting.name,
        "value": setting.value,
        "source": setting.source,
        "origin": _origin(setting, file),
    }


def _shown(value: object) -> Cell:
    if isinstance(value, Path):
        return str(value)
    return Shown(value, "not set") if value in (None, "", (), {}) else value


def _origin(setting: Setting, file: Path) -> str:
    """What to change to change the setting."""
    match setting.source:
        case "flag":
            return flag_of(setting.name)
        case "environment":
            return ENVIRONMENT_PREFIX + setting.name.upper()
        case "file":
            return str(file)
        case _:
            return "default"
