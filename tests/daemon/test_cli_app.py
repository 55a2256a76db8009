"""The tree of commands: its help, its errors, its exit codes, and that it answers at once."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import pytest
from rund._errors import (
    DaemonUnavailableError,
    EtagMismatchError,
    InternalError,
    PermissionDeniedError,
    RunNotFoundError,
    UnauthenticatedError,
    WaitTimeoutError,
)
from rund_daemon.cli import app
from rund_daemon.cli.exit_codes import ExitCode, Failure
from rund_daemon.config import ConfigError

HEAVY = ("rund", "grpc", "pyarrow", "numpy", "rich", "lmdb", "google.protobuf", "rund_daemon.server")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUND_ROOT", "RUND_ADDRESS", "RUND_TOKEN", "RUND_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))


class TestHelp:
    @pytest.mark.parametrize("path", [(), *all_commands(app.rund)], ids=" ".join)
    def test_every_command_has_help(self, path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
        assert app.run([*path, "--help"]) == 0
        assert capsys.readouterr().out.startswith("Usage: rund")

    @pytest.mark.parametrize("name", app.SUMMARIES)
    def test_summaries_say_what_the_commands_say(self, name: str) -> None:
        command = app.rund.get_command(click.Context(app.rund), name)
        assert command is not None
        assert command.name == name
        assert (command.help or "").partition("\n")[0] == app.SUMMARIES[name][1]

    @pytest.mark.parametrize("path", list(all_commands(app.rund)), ids=" ".join)
    def test_every_command_but_serve_takes_json(self, path: tuple[str, ...]) -> None:
        command: Any = app.rund
        for name in path:
            command = command.get_command(click.Context(command), name)
        options = {option for parameter in command.params for option in parameter.opts}
        if path != ("serve",) and not isinstance(command, click.Group):
            assert {"--json", "--root"} <= options

    def test_without_a_command_it_prints_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert app.run([]) == 0
        assert "Commands:" in capsys.readouterr().out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert app.run(["--version"]) == 0
        assert capsys.readouterr().out == f"rund {metadata.version('rund')}\n"

    @pytest.mark.parametrize("argument", ["--version", "--help", "--nonsense"])
    def test_it_answers_without_importing_what_is_slow(self, argument: str) -> None:
        code = (
            "import sys; from rund_daemon.cli.app import run; run(sys.argv[1:]); "
            f"sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nonsense"], "No such command 'nonsense'"),
            (["ls", "--nonsense"], "No such option"),
            (["token"], "Missing command"),
            (["show"], "Missing argument"),
            (["show", "run"], "'run' names no run"),
            (["ls", "--limit", "-1"], "--limit"),
            (["ls", "--address", "nonsense"], "no address of a daemon"),
            (["call", "WatchRuns"], "no unary method"),
            (["call", "GetRun", "{"], "no GetRunRequest"),
            (["call", "GetRun", '{"nonsense": 1}'], "nonsense"),
            (["config", "show", "--log-level", "loud"], "log_level"),
            (["token", "create", "--project", "a/b"], "--project"),
        ],
    )
    def test_the_command_line_is_to_blame(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert app.run(arguments) == ExitCode.USAGE
        captured = capsys.readouterr()
        assert captured.err.startswith("rund: ")
        assert captured.err.count("\n") == 1
        assert message in captured.err
        assert captured.out == ""


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (Failure("no"), 1, "no"),
            (Failure("gone", ExitCode.NOT_FOUND), 3, "gone"),
            (ConfigError("bad setting"), 2, "bad setting"),
            (EtagMismatchError("changed"), 1, "changed"),
            (RunNotFoundError("no run"), 3, "no run"),
            (DaemonUnavailableError("nobody"), 4, "nobody"),
            (UnauthenticatedError("who?"), 5, "who?"),
            (PermissionDeniedError("not you"), 5, "not you"),
            (WaitTimeoutError("too late"), 6, "too late"),
            (InternalError("oops"), 70, "oops"),
            (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "Permission denied: '/x'"),
            (ZeroDivisionError("secret"), 70, "RUND_DEBUG=1"),
            (Failure("two\nlines \x1b[31m"), 1, "two\\nlines \\x1b[31m"),
        ],
    )
    def test_an_error_is_one_line_and_a_code(
        self,
        error: Exception,
        code: int,
        message: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        failing(error, monkeypatch)
        assert app.run([]) == code
        written = capsys.readouterr().err
        assert written.startswith("rund: ")
        assert written.count("\n") == 1
        assert message in written
        assert "Traceback" not in written

    def test_a_traceback_is_there_for_who_asks(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("RUND_DEBUG", "1")
        failing(ZeroDivisionError(), monkeypatch)
        assert app.run([]) == ExitCode.INTERNAL
        assert "Traceback" in capsys.readouterr().err

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
    def test_an_interrupt_says_nothing(
        self, error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        failing(error, monkeypatch)
        assert app.run([]) == ExitCode.INTERRUPTED
        assert capsys.readouterr().err == ""

    def test_a_terminal_of_another_encoding_can_show_every_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stderr", stream)
        failing(Failure("näme"), monkeypatch)
        assert app.run([]) == ExitCode.REFUSED
        stream.flush()
        assert stream.buffer.getvalue() == b"rund: n\\xe4me\n"


class TestWithoutTheExtra:
    def test_it_says_what_to_install(self) -> None:
        code = "import sys; sys.modules['click'] = None; from rund_daemon.cli import main; sys.exit(main())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == "rund: the command line is not installed here; pip install 'rund[daemon]'\n"


def test_the_documentation_is_current() -> None:
    repository = Path(__file__).parents[2]
    made = subprocess.run(
        [sys.executable, repository / "docs/make_cli.py", "/dev/stdout"], capture_output=True, text=True, check=True
    )
    assert (repository / "docs/cli.md").read_text() == made.stdout, "run python docs/make_cli.py docs/cli.md"


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the command line end with an error."""

    def invoke(_: click.Context) -> None:
        raise error

    monkeypatch.setattr(app.rund, "invoke", invoke)
