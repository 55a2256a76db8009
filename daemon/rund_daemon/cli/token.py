"""`rund token`: who may call the daemon over TCP. Works on the root's files; a running daemon notices the change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from rund_daemon.authorization import TOKENS_FILE, Scope, Token, TokenFile
from rund_daemon.errors import InvalidError
from rund_daemon.names import check_project

from .exit_codes import ExitCode, Failure
from .options import takes_report, takes_root
from .report import Report, Shown
from .wording import count_text, local_time_text


@click.group(no_args_is_help=False)
def token() -> None:
    """Make, list and remove tokens for callers on TCP.

    Callers on a unix socket need none: the mode of its file guards it.
    """


@token.command()
@click.option(
    "--scope",
    type=click.Choice([scope.value for scope in Scope]),
    metavar="SCOPE",
    default=Scope.WRITE.value,
    show_default=True,
    help="What it allows: read, write (which is also read), or admin (which is everything).",
)
@click.option("--project", default="", metavar="PROJECT", help="The one project it is good for; all when not given.")
@takes_root
@takes_report
def create(*, scope: str, project: str, root: Path, report: Report) -> None:
    """Make a token and print its secret, which is kept nowhere."""
    if project:
        project = _checked(project)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    made, secret = _tokens(root).add(Scope(scope), project)
    if report.as_json:
        report.document({"token": _plain(made), "secret": secret})
        return
    report.hint(f"made token {made.token_id} ({_rights(made)}); this is the only time its secret is shown:")
    report.write(secret)


@token.command("ls")
@takes_root
@takes_report
def list_tokens(*, root: Path, report: Report) -> None:
    """List tokens, without their secrets."""
    tokens = _tokens(root).tokens()
    if report.as_json:
        report.document({"tokens": [_plain(entry) for entry in tokens]})
        return
    rows = [
        (
            entry.token_id,
            entry.scope.value,
            Shown(entry.project, entry.project or "all"),
            Shown(_time(entry), local_time_text(_time(entry))),
        )
        for entry in tokens
    ]
    report.table(("TOKEN", "SCOPE", "PROJECT", "CREATED"), rows)
    if not tokens:
        report.hint("no tokens")


@token.command("rm")
@click.argument("token_ids", nargs=-1, required=True, metavar="TOKEN...")
@takes_root
@takes_report
def remove(*, token_ids: Sequence[str], root: Path, report: Report) -> None:
    """Remove tokens, named as `rund token ls` names them. They are good for nothing from then on."""
    tokens = _tokens(root)
    known = {entry.token_id for entry in tokens.tokens()}
    if missing := [token_id for token_id in token_ids if token_id not in known]:
        raise Failure(f"there is no token {missing[0]!r}; `rund token ls` lists them", ExitCode.NOT_FOUND)
    removed = [token_id for token_id in dict.fromkeys(token_ids) if tokens.remove(token_id)]
    if report.as_json:
        report.document({"removed": removed})
        return
    report.say(f"removed {count_text(len(removed), 'token')}: {', '.join(removed)}")


def _tokens(root: Path) -> TokenFile:
    """The tokens of a root, after a first look that finds a damaged file."""
    tokens = TokenFile(root)
    try:
        tokens.tokens()
    except (json.JSONDecodeError, TypeError, KeyError, ValueError) as error:
        raise Failure(f"{root / TOKENS_FILE} can't be read ({error}); remove it and make new tokens") from error
    return tokens


def _checked(project: str) -> str:
    try:
        return check_project(project, "--project")
    except InvalidError as error:
        raise click.UsageError(str(error)) from None


def _plain(entry: Token) -> dict[str, object]:
    """A token as it may be shown: its digest is nobody's business."""
    return {"token_id": entry.token_id, "scope": entry.scope, "project": entry.project, "create_time": _time(entry)}


def _time(entry: Token) -> datetime:
    return datetime.fromtimestamp(entry.create_time / 1e6, UTC)


def _rights(entry: Token) -> str:
    return f"{entry.scope.value}, {f'project {entry.project}' if entry.project else 'all projects'}"
