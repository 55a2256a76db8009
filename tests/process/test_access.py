"""Over TCP a token decides; over the unix socket the file's mode does."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import pytest
import rund
from rund import Run
from rund_daemon.authorization import Scope, TokenFile


@dataclass(frozen=True)
class Doors:
    """A daemon with both doors open."""

    running: Any
    tcp: str

    def token(self, scope: Scope, project: str = "") -> str:
        return TokenFile(self.running.root).add(scope, project)[1]


@pytest.fixture(scope="module")
def doors(daemon: Any, tmp_path_factory: pytest.TempPathFactory) -> Doors:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        tcp = f"tcp:127.0.0.1:{free.getsockname()[1]}"
    unix = f"unix:{tmp_path_factory.mktemp('socket') / 's'}"
    return Doors(daemon("--listen", unix, "--listen", tcp), tcp)


def test_a_token_lets_in(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUND_TOKEN", doors.token(Scope.WRITE))
    with rund.init("p", address=doors.tcp) as run:
        run.log({"a": 1})
        run.add_metrics({"b": [1]})
        assert [len(table) for table in run.metrics_tables] == [1, 1]


@pytest.mark.parametrize("token", [None, "wrong"])
def test_no_token_or_a_wrong_one_does_not(doors: Doors, monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    monkeypatch.delenv("RUND_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("RUND_TOKEN", token)
    with pytest.raises(PermissionError) as caught:
        rund.init("p", address=doors.tcp)
    assert isinstance(caught.value, rund.UnauthenticatedError)
    assert caught.value.code == "UNAUTHENTICATED"


def test_a_token_to_read_does_not_write(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    with rund.init("p", address=doors.running.address) as run:
        pass
    monkeypatch.setenv("RUND_TOKEN", doors.token(Scope.READ))
    read = Run.from_url(run.url, address=doors.tcp)
    with pytest.raises(PermissionError) as caught:
        read.set_description("x")
    assert isinstance(caught.value, rund.PermissionDeniedError)
    assert caught.value.reason == "PERMISSION_DENIED"


def test_a_token_of_a_project_is_no_good_in_another(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUND_TOKEN", doors.token(Scope.WRITE, "mine"))
    with rund.init("mine", address=doors.tcp) as run:
        run.add_metrics({"a": [1]})
    with pytest.raises(rund.PermissionDeniedError):
        rund.init("theirs", address=doors.tcp)
