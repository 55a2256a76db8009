"""Who may do what. A unix socket is guarded by its file mode; TCP callers show a token.

Tokens are kept as SHA-256 digests in `<root>/tokens.json`, each with a scope and, if it is bound to one, a project. The
file is read again when it changes.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import AccessError, Reason
from .identity import now
from .segments.layout import write_durable_file

TOKENS_FILE = "tokens.json"
_ADMINISTERING = frozenset({"CollectTrash"})
_READING = ("Get", "List", "Read", "Watch", "Wait")


class Scope(enum.StrEnum):
    """What a token allows; each allows what those before it do."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept."""

    token_id: str
    digest: str
    scope: Scope
    project: str
    create_time: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may do. An empty project means all."""

    scope: Scope
    project: str = ""

    def check_method(self, method: str) -> None:
        """Raises AccessError if the scope does not allow a method."""
        if method in _ADMINISTERING and self.scope is not Scope.ADMIN:
            raise AccessError(Reason.PERMISSION_DENIED, f"{method} needs a token of scope admin")
        if self.scope is Scope.READ and not method.startswith(_READING):
            raise AccessError(Reason.PERMISSION_DENIED, f"this token may only read; {method} needs one of scope write")

    def check_project(self, method: str, project: str | None) -> None:
        """Raises AccessError if the caller is bound to another project. Any token may ask who the daemon is."""
        if self.project and project != self.project and method != "GetServerInfo":
            raise AccessError(
                Reason.PERMISSION_DENIED,
                f"this token is bound to project {self.project!r}; name that project in the request",
            )


class TokenFile:
    """The tokens of a root."""

    def __init__(self, root: Path) -> None:
        self._path = root / TOKENS_FILE
        self._seen: tuple[int, int] = (-1, -1)
        self._tokens: tuple[Token, ...] = ()

    def tokens(self) -> Sequence[Token]:
        """Gives the tokens; reads the file again if it has changed."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return ()
        seen = (state.st_mtime_ns, state.st_size)
        if seen != self._seen:
            entries = json.loads(self._path.read_text())
            self._tokens = tuple(Token(**{**entry, "scope": Scope(entry["scope"])}) for entry in entries)
            self._seen = seen
        return self._tokens

    def add(self, scope: Scope, project: str) -> tuple[Token, str]:
        """Makes a token and gives it with its secret, which is kept nowhere."""
        secret = secrets.token_urlsafe(32)
        token = Token(secrets.token_hex(4), _digest(secret), scope, project, now())
        self._write([*self.tokens(), token])
        return token, secret

    def remove(self, token_id: str) -> bool:
        """Removes a token and says whether it was there."""
        left = [token for token in self.tokens() if token.token_id != token_id]
        removed = len(left) < len(self.tokens())
        if removed:
            self._write(left)
        return removed

    def _write(self, tokens: Sequence[Token]) -> None:
        data = json.dumps([asdict(token) for token in tokens], indent=1)
        write_durable_file(self._path, data.encode())
        self._path.chmod(0o600)


class Authorizer:
    """Decides what a caller may do."""

    def __init__(self, tokens: TokenFile) -> None:
        self._tokens = tokens

    def grant(self, peer: str, authorization: str) -> Grant:
        """Gives what a caller may do.

        Args:
            peer: gRPC's name of the caller's address.
            authorization: the metadata of that name.

        Raises:
            AccessError: UNAUTHENTICATED.
        """
        if peer.startswith("unix:"):
            return Grant(Scope.ADMIN)
        secret = authorization.removeprefix("Bearer ").strip()
        digest = _digest(secret)
        for token in self._tokens.tokens():
            if hmac.compare_digest(token.digest, digest):
                return Grant(token.scope, token.project)
        raise AccessError(
            Reason.UNAUTHENTICATED,
            "no token that this daemon knows; make one with `rund token create` and send it as "
            "`authorization: Bearer TOKEN` (RUND_TOKEN)",
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
