"""SIGKILL at every named point and at random moments, while trainers write in every way; then every row is counted."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rund._failpoints
import rund_daemon.failpoints
from rund_daemon.segments.salvage import salvage_segment

from tests.chaos.kill_rounds import Arena, TrainerProcess, adopt, wait_for
from tests.process.raw_daemon import RawDaemon

pytestmark = pytest.mark.chaos

# Copies that leave the root and come back are killed at theirs in tests/bundles, what empties the trash and reduces in
# test_collecting_kills.py and test_reducing_kills.py.
ELSEWHERE = ("bundle.", "importing.", "collecting.", "reducing.")
DAEMON_POINTS = sorted(name for name in rund_daemon.failpoints.FAILPOINTS if not name.startswith(ELSEWHERE))
TRAINER_POINTS = sorted(point for point in rund._failpoints.FAILPOINTS if not point.startswith("adoption."))

# These kill a start, which must find something of a kill before.
STARTING = {
    "recovery.cut": "sink.synced=kill@9",
    "recovery.link_removed": "segment.created=kill@3",
    "recovery.done": "catalog.committed=kill@5",
}
# A trainer that goes on for ever never comes to these.
ENDING = {"journal.closed", "journal.file_removed", "journal.head_removed"}
# Adopters of one journal die one after the other. What one of them has sent is not sent again: hence three journals.
ADOPTERS = (
    ("adoption.taken", "adoption.cut_written", "adoption.sent"),
    ("adoption.acked", "adoption.drained"),
    ("adoption.cursor_written", "adoption.file_removed", "adoption.head_removed"),
)
# Each point has its turn, a third of them in each of three roots.
PARTS = 3


def test_every_point_has_its_turn() -> None:
    """Each part ends with the proof that its points have killed; here, that the parts are all there is."""
    parts = range(PARTS)
    assert sorted(point for part in parts for point in DAEMON_POINTS[part::PARTS]) == DAEMON_POINTS
    clients = {point for part in parts for point in (*TRAINER_POINTS[part::PARTS], *ADOPTERS[part])}
    assert clients == rund._failpoints.FAILPOINTS


@pytest.fixture
def arena(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Arena]:
    daemon = RawDaemon(tmp_path / "root")
    arena = Arena(daemon, random.Random(request.node.name))
    arena.start_daemon()
    try:
        yield arena
    finally:
        daemon.end()


def kill_daemon_at(arena: Arena, point: str, at: int) -> None:
    """A daemon begins, and dies at a point; none runs afterwards."""
    if point in STARTING:
        arena.start_daemon(RUND_FAILPOINTS=STARTING[point])
        assert arena.daemon_dies(), f"{STARTING[point]} was never reached"
    begun = arena.killed["daemon at its start"]
    at = 1 if point in STARTING or point.startswith("drain.") else at
    arena.start_daemon(RUND_FAILPOINTS=f"{point}=kill@{at}")
    if arena.killed["daemon at its start"] > begun:
        arena.kill_daemon()
        return
    assert point not in STARTING, f"{point} was never reached"
    if point.startswith("drain."):
        time.sleep(arena.chance.uniform(0.1, 0.5))
        arena.daemon.process.send_signal(signal.SIGTERM)
    assert arena.daemon_dies(), f"{point}=kill@{at} was never reached"


def kill_at_daemon_points(arena: Arena, points: list[str], most: int) -> None:
    trainer = arena.start_trainer()
    trainer.wait_until("part-0", 1)
    arena.kill_daemon()
    for point in points:
        kill_daemon_at(arena, point, arena.chance.randint(1, most))
    arena.start_daemon()
    end_with_a_kill(arena, trainer)


def end_with_a_kill(arena: Arena, trainer: TrainerProcess) -> None:
    arena.daemon.process.kill()
    trainer.kill()
    arena.kill_daemon()
    arena.start_daemon()
    arena.check(trainer)


def kill_trainers_at(arena: Arena, points: list[str], most: int) -> None:
    """Trainers side by side, each of which dies at another point."""
    trainers = {}
    for point in points:
        at = arena.chance.randint(1, most) if point.startswith("sender.") else 1
        armed = f"{point}=kill@{at}"
        trainers[armed] = arena.start_trainer(8 if point in ENDING else 10_000, RUND_CLIENT_FAILPOINTS=armed)
    for armed, trainer in trainers.items():
        assert trainer.dies(), f"{armed} was never reached"
        arena.killed_at.add(armed.partition("=")[0])
    arena.check(*trainers.values())


def kill_adopters_at(arena: Arena, points: tuple[str, ...]) -> None:
    """A trainer dies whose sender stood still; the daemons after it begin adopters that die, and die themselves."""
    trainer = arena.start_trainer(RUND_CLIENT_FAILPOINTS="sender.cut_written=hang@3")
    trainer.wait_until_behind(300, cut=3)
    trainer.process.kill()
    arena.kill_daemon()
    trainer.kill()
    for point in points:
        deaths = len(arena.daemon.log("adopter_died"))
        arena.start_daemon(RUND_CLIENT_FAILPOINTS=f"{point}=kill")
        # It begins one after the other, and all die.
        wait_for(lambda: len(arena.daemon.log("adopter_died")) > deaths, lambda: f"{point} was never reached")  # noqa: B023
        died = arena.daemon.log("adopter_died")[deaths:]
        assert {line["code"] for line in died} == {-signal.SIGKILL}
        arena.killed["adopter"] += len(died)
        arena.killed_at.add(point)
        arena.kill_daemon()
    arena.start_daemon()
    arena.check(trainer)


@pytest.mark.timeout(600)
@pytest.mark.long
def test_a_daemon_dies_while_it_seals_compressed_files(arena: Arena) -> None:
    (arena.daemon.root / "rund.toml").write_text('seal_compression = "zstd"\n')
    kill_at_daemon_points(arena, [point for point in DAEMON_POINTS if point.startswith(("seal.", "sealing."))], 1)
    arena.daemon.stop()  # which seals all that is open
    files = arena.daemon.root.glob("**/metrics/*/*.arrow")
    assert any(ref.decoded_bytes for file in files for ref in salvage_segment(file, 1).refs)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_daemon_that_is_killed_at_each_point(arena: Arena, part: int) -> None:
    points = DAEMON_POINTS[part::PARTS]
    kill_at_daemon_points(arena, points, most=3)
    assert set(points) <= arena.killed_at
    arena.check_all()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_client_that_is_killed_at_each_point(arena: Arena, part: int) -> None:
    kill_trainers_at(arena, TRAINER_POINTS[part::PARTS], most=3)
    kill_adopters_at(arena, ADOPTERS[part])
    assert arena.killed_at == {*TRAINER_POINTS[part::PARTS], *ADOPTERS[part]}
    arena.check_all()


def kill_at_random(arena: Arena, rounds: int) -> None:
    """In each round: two trainers; kills of the daemon, of a trainer, of both, and of starts; then all is counted."""
    chance = arena.chance
    for _ in range(rounds):
        trainers = [arena.start_trainer(), arena.start_trainer()]
        time.sleep(chance.uniform(0.5, 2.5))
        for _ in range(chance.randint(1, 4)):
            time.sleep(chance.uniform(0.0, 0.8))
            arena.kill_daemon()
            start_two_at_once(arena)
        trainers[0].kill()
        time.sleep(chance.uniform(0.0, 0.5))
        both = chance.random() < 0.5
        if both:
            arena.daemon.process.kill()
        trainers[1].kill()
        if both:
            arena.kill_daemon()
            arena.start_daemon()
        adopters = [adopt(arena.daemon) for _ in range(2)]
        try:
            for trainer in trainers:
                trainer.wait_until_adopted()
        finally:
            for adopter in adopters:
                adopter.kill()
                adopter.wait()
        arena.check(*trainers)


def start_two_at_once(arena: Arena) -> None:
    """One of them gets the root; the other one says who has it."""
    rival = RawDaemon(arena.daemon.root)
    rival.spawn()
    arena.daemon.environment = {}
    arena.daemon.spawn()
    contenders = [arena.daemon.process, rival.process]
    wait_for(lambda: any(process.poll() is not None for process in contenders), lambda: "both have the root")
    (loser,) = [process for process in contenders if process.poll() is not None]
    assert loser.returncode == 3
    (arena.daemon.process,) = [process for process in contenders if process is not loser]
    wait_for(arena.daemon._is_ready, lambda: arena.daemon.log_path.read_text()[-4000:])


@pytest.mark.timeout(600)
def test_kills_at_random_moments(arena: Arena) -> None:
    kill_at_random(arena, rounds=1)
    arena.check_all()


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_kills(arena: Arena, seed: int) -> None:
    """Fifty of a thousand: at random moments, and at points that were drawn."""
    while arena.killed.total() < 50:
        kill_at_daemon_points(arena, arena.chance.sample(DAEMON_POINTS, 9), most=8)
        kill_trainers_at(arena, arena.chance.sample(TRAINER_POINTS, 4), most=8)
        kill_adopters_at(arena, arena.chance.choice(ADOPTERS))
        kill_at_random(arena, rounds=2)
    arena.check_all()
    print(seed, dict(arena.killed))  # noqa: T201  # with -s: what was killed


def test_a_hung_writer_holds_nobody_up_and_loses_nothing(arena: Arena) -> None:
    """The disk does not answer: `log` goes on, and what the next daemon finds is whole."""
    arena.daemon.kill()
    arena.start_daemon()
    trainer = arena.start_trainer()
    trainer.wait_until("part-0", 1)
    arena.daemon.kill()
    arena.start_daemon(RUND_FAILPOINTS="sink.appended=hang@3")
    with pytest.raises(subprocess.TimeoutExpired):
        arena.daemon.process.wait(3)
    end_with_a_kill(arena, trainer)
    arena.check_all()
