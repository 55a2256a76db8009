"""Failpoints: each name stands for one place in the code, and a name that is none is refused."""

from __future__ import annotations

import errno
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import rund._failpoints
import rund_daemon.failpoints

SIDES = [rund_daemon.failpoints, rund._failpoints]


@pytest.fixture(params=SIDES, ids=["daemon", "client"])
def side(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_each_name_stands_at_one_place(side: Any) -> None:
    sources = (path.read_text() for path in Path(side.__file__).parent.rglob("*.py"))
    places = Counter(name for source in sources for name in re.findall(r'\bfailpoint\("([^"]+)"\)', source))
    assert set(places) == side.FAILPOINTS
    assert set(places.values()) == {1}


def test_without_the_variable_nothing_happens(side: Any) -> None:
    reach = side.armed(None)
    for name in side.FAILPOINTS:
        reach(name)


@pytest.mark.parametrize(("action", "number"), [("eio", errno.EIO), ("enospc", errno.ENOSPC)])
def test_a_point_fails_at_its_time_and_no_other_does(side: Any, action: str, number: int) -> None:
    name, other = sorted(side.FAILPOINTS)[:2]
    reach = side.armed(f"{name}={action}@2")
    reach(name)
    reach(other)
    with pytest.raises(OSError, match=r"Errno") as caught:
        reach(name)
    assert caught.value.errno == number
    reach(name)


def test_a_point_without_a_time_fails_every_time(side: Any) -> None:
    name, other = sorted(side.FAILPOINTS)[:2]
    reach = side.armed(f"{name}=eio, {other}=enospc@1")
    for _ in range(2):
        with pytest.raises(OSError, match="Errno 5"):
            reach(name)
    with pytest.raises(OSError, match="Errno 28"):
        reach(other)


@pytest.mark.parametrize("text", ["sink.misspelt=kill", "sink.synced=explode", "sink.synced", "sender.sent=eio@often"])
def test_what_would_do_nothing_is_refused(side: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"FAILPOINTS|invalid literal"):
        side.armed(text)


@pytest.mark.parametrize(
    ("module", "variable", "name"),
    [
        ("rund_daemon.failpoints", "RUND_FAILPOINTS", "sink.synced"),
        ("rund._failpoints", "RUND_CLIENT_FAILPOINTS", "sender.sent"),
    ],
)
def test_the_variable_has_a_process_killed(module: str, variable: str, name: str) -> None:
    code = (
        f"from {module} import failpoint\nfailpoint({name!r})\nprint('alive')\nfailpoint({name!r})\nprint('not dead')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env={variable: f"{name}=kill@2"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout in ("", "alive\n"), "the pipe may have kept it"
