"""The tree of commands, and the one place where a failure becomes a line on stderr and an exit code."""

from __future__ import annotations

import importlib
import io
import keyword
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata

import click

from rund_daemon.config import ConfigError

from .exit_codes import ExitCode, Failure, exit_code_of_status
from .wording import printable

SUMMARIES: Mapping[str, tuple[str, str]] = {
    "serve": ("serve", "Run a daemon until it is told to stop."),
    "status": ("status", "Show whether a daemon runs, and which."),
    "stop": ("stop", "Stop the daemon of a root."),
    "ls": ("runs", "List runs, newest first."),
    "show": ("runs", "Show a run: its status, its values and its tables."),
    "tail": ("tail", "Print the last rows of a run's table, and follow it."),
    "query": ("query", "Carry out SQL over runs."),
    "plot": ("plot", "Draw pictures of runs."),
    "export": ("export", "Write runs to Parquet, CSV or TensorBoard files."),
    "copy": ("copying", "Copy a run, within its root or out of it."),
    "import": ("imports", "Import bundles, and runs of 3LC, TensorBoard, MLflow, W&B or Trackio."),
    "jobs": ("jobs", "List long-running jobs: reductions, copies and imports."),
    "cancel": ("jobs", "Cancel a job."),
    "reducers": ("reducers", "List the reducers that are kept, and remove them."),
    "rm": ("trash", "Move runs to trash."),
    "undelete": ("trash", "Take runs out of trash, or a metrics table of a run."),
    "gc": ("gc", "Remove for good what has expired in trash."),
    "usage": ("usage", "Show how much each project holds, and how much it may."),
    "recover": ("recover", "Send the rows that dead trainers have left in their journals."),
    "fsck": ("fsck", "Check what a root keeps against its catalog."),
    "token": ("token", "Make, list and remove tokens for callers on TCP."),
    "config": ("config", "Show the settings of a daemon."),
    "call": ("call", "Call any unary method of rund.v1."),
}
"""The module of each command, and its line in the list: `rund --help` imports none of them."""

_EPILOG = "RUND_ROOT, RUND_ADDRESS and RUND_TOKEN stand in for --root, --address and --token."


class _LateGroup(click.Group):
    """Imports the module of a command when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUMMARIES:
            return None
        module = importlib.import_module(f"{__package__}.{SUMMARIES[cmd_name][0]}")
        command = getattr(module, f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in SUMMARIES.items()])


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"rund {metadata.version('rund')}")
        context.exit()


@click.group(
    "rund",
    cls=_LateGroup,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.pass_context
def rund(context: click.Context) -> None:
    """Keeps what trainings record, and shows it."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and gives its exit code. Nothing is raised."""
    _write_any_text()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        if "_RUND_COMPLETE" in os.environ:
            rund.main(list(arguments), prog_name="rund")  # the shell asks what could follow; click answers and exits
        with rund.make_context("rund", list(arguments)) as context:
            rund.invoke(context)
    except click.exceptions.Exit as wish:
        return wish.exit_code
    except (click.Abort, KeyboardInterrupt, EOFError):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("RUND_DEBUG"):
            traceback.print_exc()
        message, code = _explained(error)
        sys.stderr.write(f"rund: {printable(message)}\n")
        return code
    return ExitCode.OK


def _explained(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, click.UsageError):
        path = "rund" if error.ctx is None else error.ctx.command_path
        return f"{error.format_message().rstrip('.')}; see `{path} --help`", ExitCode.USAGE
    if isinstance(error, Failure):
        return error.message, error.code
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, ConfigError):
        return str(error), ExitCode.USAGE
    # Only a command that talks to a daemon has imported the client, and only then can the error be the client's.
    client = sys.modules.get("rund")
    if client is not None and isinstance(error, client.RundError):
        return str(error), exit_code_of_status(error.code)
    if isinstance(error, OSError):
        return str(error), ExitCode.REFUSED
    return f"a fault of rund itself, {error!r}; RUND_DEBUG=1 shows where", ExitCode.INTERNAL


def _write_any_text() -> None:
    """Lets every name be written to a terminal of any encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
