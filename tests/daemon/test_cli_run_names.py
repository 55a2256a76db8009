"""How runs and tables are named on the command line, and which daemon is asked for them."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from rund_daemon.cli.options import Target, target_of
from rund_daemon.cli.run_names import parse_run, parse_table

UID = "01a20924-bd7b-7fe8-b556-0b5c9e8c8226"
HOME = {"XDG_DATA_HOME": "/home/me/data"}


class TestRunNames:
    @pytest.mark.parametrize("text", ["p/my run é", "projects/p/runs/my run é", "p/my run é/"])
    def test_by_names(self, text: str) -> None:
        assert parse_run(text).name == "projects/p/runs/my run é"

    @pytest.mark.parametrize(
        "text",
        ["/home/me/rund/p/runs/r%20 1", "file:///home/me/rund/p/runs/r%2520%201", "/home/me/rund/p/runs/r%20 1/"],
    )
    def test_by_url(self, text: str) -> None:
        name = parse_run(text)
        assert (name.url, name.root) == ("/home/me/rund/p/runs/r%20 1", Path("/home/me/rund"))

    def test_by_alias(self) -> None:
        name = parse_run("<DATA>/p/runs/r")
        assert (name.url, name.root) == ("<DATA>/p/runs/r", None)

    def test_by_uid(self) -> None:
        assert parse_run(UID.upper()).uid == UID

    @pytest.mark.parametrize(
        ("text", "run", "table"),
        [
            ("p/r", "projects/p/runs/r", ""),
            ("p/r/val", "projects/p/runs/r", "val"),
            ("projects/p/runs/r/metrics/val", "projects/p/runs/r", "val"),
            ("projects/r", "projects/projects/runs/r", ""),
            ("projects/p/runs", "projects/projects/runs/p", "runs"),
            (f"{UID}/val", UID, "val"),
            ("/root/p/runs/r/metrics/val", "/root/p/runs/r", "val"),
        ],
    )
    def test_tables(self, text: str, run: str, table: str) -> None:
        name = parse_table(text)
        assert name.name + name.url + name.uid == run
        assert name.table == table

    @pytest.mark.parametrize("text", ["", "r", "p//r", "/", "/root/r", "a/b/c/d", "file://host/root/p/runs/r", "<A>/r"])
    def test_what_names_no_run(self, text: str) -> None:
        with pytest.raises(click.UsageError):
            parse_table(text)

    def test_a_table_is_no_run(self) -> None:
        with pytest.raises(click.UsageError, match="names a table"):
            parse_run("p/r/val")


class TestTarget:
    def test_flags_come_before_variables(self) -> None:
        environment = {**HOME, "RUND_ROOT": "/env", "RUND_ADDRESS": "unix:/env.sock", "RUND_TOKEN": "env"}
        assert target_of("/flag", None, None, environment) == Target(Path("/flag"), "", "env")
        assert target_of("/flag", "unix:/flag.sock", "flag", environment) == Target(
            Path("/flag"), "unix:/flag.sock", "flag"
        )
        assert target_of(None, None, None, environment) == Target(None, "unix:/env.sock", "env")

    def test_without_anything_it_is_the_default_root(self) -> None:
        assert target_of(None, None, None, HOME) == Target(Path("/home/me/data/rund"), named=False)
        assert target_of(None, None, None, {**HOME, "RUND_ROOT": "/env"}) == Target(Path("/env"), named=False)

    def test_a_url_leads_to_its_own_root_unless_a_daemon_is_named(self) -> None:
        name = parse_run("/other/p/runs/r")
        assert name.daemon(target_of(None, None, None, HOME)).root == Path("/other")
        assert name.daemon(target_of("/flag", None, None, HOME)).root == Path("/flag")
        assert name.daemon(target_of(None, "unix:/s", None, HOME)).address == "unix:/s"
