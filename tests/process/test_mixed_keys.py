"""A key that is a list in one process and a single value in another: nothing stops, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest
import rund
from rund import Run

RANK = """
    import os, sys, rund
    run = rund.init("mixed", sys.argv[2], root_url=sys.argv[1], resume=True)
    values = {"list": [0.5, 2.0], "number": 0.5, "text": "a", "truth": True}
    for step in range(50):
        run.log({"k": values[sys.argv[3]], "loss": 1.0}, step)
        if sys.argv[3] == "list" and step % 10 == 0:
            run.log({"k": None})
    if sys.argv[4] == "dies":
        os.kill(os.getpid(), 9)
    run.flush()
"""


@pytest.fixture(scope="module")
def running(daemon: Any) -> Any:
    return daemon()


def rank(running: Any, name: str, kind: str, end: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    command = [sys.executable, "-Wignore", "-c", textwrap.dedent(RANK), str(running.root), name, kind, end]
    subprocess.run(command, env=environment, check=end != "dies", timeout=60)


def rows(run: Run) -> list[dict[str, Any]]:
    return run.metrics_tables[0].to_arrow().to_pylist() if run.metrics else []


@pytest.mark.parametrize("end", ["flushes", "dies"])
@pytest.mark.parametrize("first", ["list", "number"])
def test_each_rank_logs_what_it_has(running: Any, first: str, end: str) -> None:
    name = f"{first} first, {end}"
    others = [kind for kind in ("list", "number", "text", "truth") if kind != first]
    for kind in (first, *others):
        rank(running, name, kind, end)
    run = Run.from_names(name, "mixed", running.root)
    deadline = time.monotonic() + 60
    while len(rows(run)) < 205:
        assert time.monotonic() < deadline, "rows are missing"
        time.sleep(0.1)
    seen = [row["k"] for row in rows(run)]
    assert {text: seen.count(text) for text in set(seen)} == {"[0.5, 2.0]": 50, "0.5": 50, "a": 50, "True": 50, None: 5}
    assert [row["k"] for row in run.metrics_tables[0].to_arrow().to_pylist()] == seen, "and so they stay"
    while list((running.root / "journals").iterdir()):
        assert time.monotonic() < deadline, "the journals stay"
        time.sleep(0.05)


def test_one_process_may_mix_them_too(running: Any) -> None:
    with rund.init("mixed", "one", root_url=running.root) as run:
        for value in ([1.0], 2.5, "a", [3.0, 4.0]):
            run.log({"k": value})
        assert [row["k"] for row in rows(run)] == ["[1.0]", "2.5", "a", "[3.0, 4.0]"]
        run.log({"k": 5.0})
    run = Run.from_url(run.url)
    assert [row["k"] for row in rows(run)] == ["[1.0]", "2.5", "a", "[3.0, 4.0]", "5.0"]
