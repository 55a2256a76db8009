"""Writes the reference of the command line from the commands themselves.

python docs/make_cli.py docs/cli.md
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from rund_daemon.__main__ import ExitCode as ServeExitCode
from rund_daemon.cli import json_form
from rund_daemon.cli.app import rund
from rund_daemon.cli.exit_codes import ExitCode

_WIDTH = 120

_INTRODUCTION = """\
# The command line

<!-- Made by docs/make_cli.py from the commands; do not edit. -->

`rund` shows what a daemon keeps, and runs one. It comes with `pip install 'rund[daemon]'`.

Every command that talks to a daemon takes `--root`, `--address` and `--token`; the variables `RUND_ROOT`,
`RUND_ADDRESS` and `RUND_TOKEN` stand in for them, and a flag comes before a variable. Without any, it is the daemon of
the default root, `$XDG_DATA_HOME/rund` or `~/.local/share/rund`. No command but `rund serve` starts one. A run is named
by `PROJECT/RUN`, by its resource name, its URL or its uid; the URL of a run leads to the daemon of its own root.

In a terminal output is tables, with colours unless `NO_COLOR` is set; elsewhere it is lines with tabs and times in UTC,
for programs to read. Results go to stdout; hints, progress and errors (`rund: …`) go to stderr. `RUND_DEBUG=1` adds a
traceback to an error."""


def main(page: Path) -> None:
    """Writes the page."""
    page.write_text(page_text())


def page_text() -> str:
    """The whole page."""
    context = click.Context(rund, info_name="rund", max_content_width=_WIDTH)
    parts = [_INTRODUCTION, *_commands(rund, context), *_json_part(), *_exit_code_part()]
    return "\n\n".join(parts) + "\n"


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        below = click.Context(command, info_name=name, parent=context, max_content_width=_WIDTH)
        yield from _command(command, below)
        if isinstance(command, click.Group):
            yield from _commands(command, below)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}"
    if not isinstance(command, click.Group):
        yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}"
    yield inspect.cleandoc(command.help or "")
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        yield "\n".join(["| option | meaning |", "|---|---|", *map(_option_line, options)])
    if command.epilog:
        yield inspect.cleandoc(command.epilog)


def _json_part() -> Iterator[str]:
    yield "## JSON"
    text = inspect.cleandoc(json_form.__doc__ or "")
    yield text.partition("\n\n")[2]
    yield "A command gives one document; `rund tail` gives one object a line."


def _exit_code_part() -> Iterator[str]:
    yield "## Exit codes"
    lines = [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    yield "\n".join(["| code | meaning |", "|---|---|", *lines])
    yield "`rund serve` has codes of its own:"
    lines = [f"| {code.value} | {code.name.lower().replace('_', ' ')} |" for code in ServeExitCode]
    yield "\n".join(["| code | meaning |", "|---|---|", *lines])


def _option_line(option: click.Option) -> str:
    # Not click's own words, which differ from version to version.
    names = ", ".join((*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" {option.metavar}"
    default = f" Default: {option.default}." if option.show_default else ""
    return f"| `{_cell(names + value)}` | {_cell((option.help or '') + default)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
