"""The daemon's settings.

Flags come before RUND_* variables, those before `<root>/rund.toml`, and that before the defaults.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

GIB = 1024**3
MIB = 1024**2

CONFIG_FILE = "rund.toml"
ENVIRONMENT_PREFIX = "RUND_"


class ConfigError(Exception):
    """A setting is unknown or has a value that can't be used; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one daemon.

    Attributes:
        root: folder that the daemon owns.
        listen: addresses, `unix:PATH` or `tcp:HOST:PORT`. Empty: a unix socket in $XDG_RUNTIME_DIR, else in the root.
        tls_certificate: PEM file of the certificate; needed for TCP beyond loopback.
        tls_key: PEM file of its key.
        grace_seconds: how long a stop may take to commit and seal.
        writer_silence_seconds: how long a writer that can't be watched as a process may be silent.
        min_free_bytes: floor of free disk space under which rows are refused.
        seal_compression: `none` or `zstd`, of the bodies of sealed segments that shrink by it.
        trash_days: how long what is deleted can be restored; then it is removed for good.
        project_trash_days: the same by project, where it is another time.
        run_days: how long a run is kept after its end; then it goes to trash, but with a label `keep`. 0: for ever.
        project_run_days: the same by project, where it is another time.
        quota: bytes that each project may hold; beyond that it gets no new run. 0: as many as it likes.
        project_quota: the same by project, where it is another number.
        map_size: address space reserved for the catalog, which bounds its size.
        reduction_memory: bytes that a reduction of embeddings may hold; 0 is half of the host's memory.
        reduction_cpus: threads that it computes on; 0 is all cores. They give way to everything else.
        url_prefixes: folders and URLs of object stores that requests may name besides the root, and all below them.
            Unset: all if there is no TCP listener, none if there is.
        s3_endpoint: URL of the server behind `s3://`, if it is not Amazon's.
        aliases: folders by the NAME of `<NAME>/…` in URLs.
        log_level: DEBUG, INFO, WARNING or ERROR.
    """

    root: Path
    listen: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    grace_seconds: float = 10.0
    writer_silence_seconds: float = 120.0
    min_free_bytes: int = 64 * MIB
    seal_compression: str = "none"
    map_size: int = 64 * GIB
    trash_days: float = 30.0
    project_trash_days: Mapping[str, float] = field(default_factory=dict)
    reduction_memory: int = 0
    reduction_cpus: int = 0
    run_days: float = 0.0
    project_run_days: Mapping[str, float] = field(default_factory=dict)
    quota: int = 0
    project_quota: Mapping[str, int] = field(default_factory=dict)
    url_prefixes: tuple[str, ...] | None = None
    s3_endpoint: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    log_level: str = "INFO"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting with where its value came from: `flag`, `environment`, `file` or `default`."""

    name: str
    value: object
    source: str


def default_root(environment: Mapping[str, str]) -> Path:
    """Gives the root that is used when none is named: RUND_ROOT, else the user's data folder."""
    if root := environment.get("RUND_ROOT"):
        return Path(root).expanduser().absolute()
    data = environment.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser().absolute() / "rund"


def load(flags: Mapping[str, object], environment: Mapping[str, str]) -> tuple[Config, tuple[Setting, ...]]:
    """Gives the settings, and where each came from.

    Args:
        flags: settings named on the command line; None values are left out.
        environment: the process's variables.

    Raises:
        ConfigError: a setting is unknown or can't be used.
    """
    root = Path(str(flags["root"])).expanduser().absolute() if flags.get("root") else default_root(environment)
    given: dict[str, tuple[object, str]] = {}
    file = _read_file(root / CONFIG_FILE)
    for item in fields(Config):
        name = item.name
        variable = environment.get(ENVIRONMENT_PREFIX + name.upper())
        if name == "root":
            source = "flag" if flags.get("root") else "environment" if variable else "default"
            given[name] = (root, source)
        elif flags.get(name) is not None:
            given[name] = (_parsed(name, flags[name], "flag"), "flag")
        elif variable:
            given[name] = (_parsed(name, variable, ENVIRONMENT_PREFIX + name.upper()), "environment")
        elif name in file:
            given[name] = (_parsed(name, file[name], CONFIG_FILE), "file")
    config = Config(**{name: value for name, (value, _) in given.items()})  # type: ignore[arg-type]  # by _parsed
    settings = tuple(
        Setting(item.name, getattr(config, item.name), given.get(item.name, (None, "default"))[1])
        for item in fields(Config)
    )
    return config, settings


def _read_file(path: Path) -> dict[str, object]:
    try:
        content = tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from error
    known = {item.name for item in fields(Config)} - {"root"}
    if unknown := sorted(set(content) - known):
        raise ConfigError(f"{path}: {unknown[0]!r} is no setting; the settings are {', '.join(sorted(known))}")
    return content


def _parsed(name: str, value: object, source: str) -> object:
    try:
        return _PARSERS[name](value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{source}: {name} can't be {value!r}: {error}") from error


def _texts(value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise TypeError("give a list of texts")
    return tuple(item.strip() for item in items if item.strip())


_UNITS: Mapping[str, int] = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1024,
    "mib": MIB,
    "gib": GIB,
    "tib": 1024 * GIB,
}


def _number_of_bytes(value: object) -> int:
    """Reads 1000000, "64MiB" or "2 GB"."""
    text = str(value).strip().lower()
    digits = text.rstrip("bgikmt ")
    unit = text[len(digits) :].strip()
    if unit not in _UNITS or isinstance(value, bool):
        raise ValueError("give a number of bytes, such as 64MiB")
    size = int(float(digits) * _UNITS[unit])
    if size < 0:
        raise ValueError("give a number of bytes that is not negative")
    return size


def _seconds(value: object) -> float:
    seconds = float(str(value))
    if not 0 <= seconds <= 3600:
        raise ValueError("give seconds from 0 to 3600")
    return seconds


def _silence(value: object) -> float:
    seconds = float(str(value))
    if not 1 <= seconds <= 7 * 86_400:
        raise ValueError("give seconds from 1 to 604800, a week")
    return seconds


def _days(value: object) -> float:
    days = float(str(value))
    if not 0 <= days <= 36_500:
        raise ValueError("give days from 0 to 36500, a century")
    return days


def _days_by_name(value: object) -> dict[str, float]:
    return {name: _days(days) for name, days in _by_project(value, "days").items()}


def _bytes_by_name(value: object) -> dict[str, int]:
    return {name: _number_of_bytes(size) for name, size in _by_project(value, "bytes").items()}


def _by_project(value: object, what: str) -> dict[str, object]:
    if isinstance(value, str):
        value = dict(pair.partition("=")[::2] for pair in value.split(",") if pair)
    if not isinstance(value, dict):
        raise TypeError(f"give a table of PROJECT = {what}")
    return {str(name): item for name, item in value.items()}


def _cpus(value: object) -> int:
    count = int(str(value))
    if not 0 <= count <= 1024:
        raise ValueError("give a number of threads from 1 to 1024, or 0 for all cores")
    return count


def _compression(value: object) -> str:
    name = str(value).lower()
    if name not in ("none", "zstd"):
        raise ValueError("give none or zstd")
    return name


def _aliases(value: object) -> dict[str, str]:
    if isinstance(value, str):
        value = dict(pair.partition("=")[::2] for pair in value.split(",") if pair)
    if not isinstance(value, dict) or not all(isinstance(folder, str) for folder in value.values()):
        raise TypeError("give a table of NAME = folder")
    return {str(name): str(folder) for name, folder in value.items()}


def _log_level(value: object) -> str:
    level = str(value).upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("give DEBUG, INFO, WARNING or ERROR")
    return level


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "listen": _texts,
    "tls_certificate": str,
    "tls_key": str,
    "grace_seconds": _seconds,
    "writer_silence_seconds": _silence,
    "min_free_bytes": _number_of_bytes,
    "seal_compression": _compression,
    "map_size": _number_of_bytes,
    "trash_days": _days,
    "project_trash_days": _days_by_name,
    "reduction_memory": _number_of_bytes,
    "reduction_cpus": _cpus,
    "run_days": _days,
    "project_run_days": _days_by_name,
    "quota": _number_of_bytes,
    "project_quota": _bytes_by_name,
    "url_prefixes": _texts,
    "s3_endpoint": str,
    "aliases": _aliases,
    "log_level": _log_level,
}


def from_process(flags: Mapping[str, object]) -> tuple[Config, tuple[Setting, ...]]:
    """As `load`, with this process's variables."""
    return load(flags, os.environ)
