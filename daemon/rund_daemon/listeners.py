"""Where the daemon listens, and the rules of who may be let near: see docs/operations."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .config import Config, ConfigError

# Linux's sockaddr_un holds 108 bytes, the last of them zero.
_MAX_SOCKET_PATH = 107


@dataclass(frozen=True, slots=True)
class Listener:
    """One address. `target` is gRPC's name of it."""

    target: str
    socket: Path | None
    secure: bool

    def bound_to(self, port: int) -> Listener:
        """The same with the port that was bound: port 0 asks for any that is free."""
        return self if self.socket else replace(self, target=f"{self.target.rpartition(':')[0]}:{port}")


def listeners_of(config: Config, environment: Mapping[str, str]) -> tuple[Listener, ...]:
    """Gives the addresses to listen on.

    Raises:
        ConfigError: an address can't be parsed, or is open to others without TLS.
    """
    texts = config.listen or (f"unix:{default_socket(config.root, environment)}",)
    return tuple(_parse(text, config) for text in texts)


def default_socket(root: Path, environment: Mapping[str, str]) -> Path:
    """Gives the path of the socket of a root: in $XDG_RUNTIME_DIR, else in the root, else (too long) in /tmp.

    The folder is the user's alone (0700), because the mode of a socket follows the umask.
    """
    mark = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK):
        candidate = Path(runtime) / "rund" / f"{mark}.sock"
        if _fits(candidate):
            return candidate
    inside = root / "run" / "daemon.sock"
    if _fits(inside):
        return inside
    return Path(tempfile.gettempdir()) / f"rund-{os.getuid()}" / f"{mark}.sock"


def prepare_socket(path: Path) -> None:
    """Makes the folder of a socket and removes what a killed daemon left. The root's lock must be held."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise ConfigError(f"the folder {path.parent} belongs to another user; name another with --listen unix:PATH")
    path.unlink(missing_ok=True)


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _MAX_SOCKET_PATH


def _parse(text: str, config: Config) -> Listener:
    scheme, _, rest = text.partition(":")
    if scheme == "unix":
        path = Path(rest.removeprefix("//")).expanduser()
        if not path.is_absolute() or not _fits(path):
            raise ConfigError(f"listen: {text!r} is not an absolute path of at most {_MAX_SOCKET_PATH} bytes")
        return Listener(f"unix:{path}", path, secure=False)
    if scheme == "tcp":
        return _parse_tcp(text, rest, config)
    raise ConfigError(f"listen: {text!r} is neither unix:PATH nor tcp:HOST:PORT")


def _parse_tcp(text: str, rest: str, config: Config) -> Listener:
    host, _, port = rest.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"listen: {text!r} is not tcp:HOST:PORT")
    secure = bool(config.tls_certificate and config.tls_key)
    if not secure and not _is_loopback(host.strip("[]")):
        raise ConfigError(
            f"listen: {text!r} is open to other hosts; give tls_certificate and tls_key, or listen on 127.0.0.1"
        )
    return Listener(f"{host}:{port}", None, secure)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
