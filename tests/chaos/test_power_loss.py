"""Loss of power: a daemon's real writes are recorded, and of those that were not synced only some survive.

At the moment of each ack, and at others, the root is built as a disk could have it that lost its power then. A daemon
started on it must hold all that was acked by then, once.
"""

from __future__ import annotations

import bisect
import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from rund._journal_format import CURSOR_OFFSET, pack_head, unpack_head
from rund_pb.v1 import run_pb2
from rund_pb.v1 import run_service_pb2 as rs

from tests.chaos.kill_rounds import Arena, check_root, wait_for
from tests.chaos.power_loss import PowerLoss, Survivors
from tests.chaos.recorded_writes import Event, can_record, events, recorder
from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    Write,
    arrow_stream,
    copy_run,
    create_run,
    create_table,
    new_id,
    opening,
    plain,
    read,
    values,
)

pytestmark = [pytest.mark.chaos, pytest.mark.power, pytest.mark.timeout(600)]

ROWS = 10
SURVIVORS: tuple[Survivors, ...] = ("none", "some", "first", "all")


@dataclass
class Promises:
    """What was promised of one run, and when: lists of (time, so many), the later the more.

    Attributes:
        uid: finds the run whatever it is called.
        rows: of its table `t`, acked.
        outputs: values.
        facts: names of attributes of the run, with what they are from then on.
    """

    uid: str
    created_s: float
    rows: list[tuple[float, int]] = field(default_factory=list)
    outputs: list[tuple[float, int]] = field(default_factory=list)
    facts: list[tuple[float, Callable[[run_pb2.Run], bool]]] = field(default_factory=list)


def kept_by(promised: list[tuple[float, int]], moment_s: float) -> int:
    """The most that was promised by then."""
    count = bisect.bisect_right([time_s for time_s, _ in promised], moment_s)
    return promised[count - 1][1] if count else 0


@dataclass
class Recording:
    """A daemon's life: what it asked of its disk, and what it promised to whom."""

    root: Path
    events: list[Event]
    promises: list[Promises]

    def moments(self) -> list[float]:
        """The times of all promises."""
        return sorted(
            time_s
            for promise in self.promises
            for time_s in (promise.created_s, *(at for at, _ in (*promise.rows, *promise.outputs, *promise.facts)))
        )


def write_rows(daemon: RawDaemon, table: str, promise: Promises, batches: int, chance: random.Random) -> None:
    """Sends batches over one stream, with pauses, and notes each ack as it comes."""
    pauses = [chance.choice((0, 0, 0.002, 0.01)) for _ in range(batches)]

    def messages() -> Iterator[Write]:
        yield opening(table)
        for sequence, pause in enumerate(pauses, 1):
            yield arrow_stream(sequence, pa.record_batch({"n": range(sequence * ROWS - ROWS, sequence * ROWS)}))
            time.sleep(pause)
        yield Write(close=Write.Close())

    for answer in daemon.rpc.WriteMetrics(messages()):
        if answer.HasField("ack"):
            promise.rows.append((time.time(), answer.ack.committed_sequence * ROWS))


def change_runs(daemon: RawDaemon, promises: list[Promises]) -> None:
    """Adds values, renames, copies, overwrites, deletes and restores, finishes: whatever moves files and folders."""

    def rename(uid: str, name: str) -> None:
        run = run_pb2.Run(name=daemon.rpc.GetRun(rs.GetRunRequest(uid=uid)).run.name, run_name=name)
        daemon.rpc.UpdateRun(rs.UpdateRunRequest(run=run, update_mask=FieldMask(paths=["run_name"])))

    first, second, third = promises[:3]
    for number in range(5):
        run = daemon.rpc.GetRun(rs.GetRunRequest(uid=first.uid)).run
        daemon.rpc.AddOutputValue(
            rs.AddOutputValueRequest(run=run.name, value=values({"n": number}), request_id=new_id())
        )
        first.outputs.append((time.time(), number + 1))
        rename(first.uid, f"renamed-{number}")
        first.facts.append((time.time(), lambda run, least=number: int(run.run_name.rpartition("-")[2]) >= least))
        copy = copy_run(
            daemon,
            daemon.rpc.GetRun(rs.GetRunRequest(uid=second.uid)).run.name,
            run_name="copy",
            if_exists=run_pb2.IF_EXISTS_OVERWRITE,
        )
        assert copy.done
    name = daemon.rpc.GetRun(rs.GetRunRequest(uid=third.uid)).run.name
    daemon.rpc.FinishRun(rs.FinishRunRequest(name=name))
    third.facts.append((time.time(), lambda run: run.status == run_pb2.RUN_STATUS_COMPLETED))
    daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=name))
    third.facts.append((time.time(), lambda run: run.HasField("delete_time")))


def record(tmp_path: Path, batches: int) -> Recording:
    """Runs a daemon under strace, with writers and one who changes runs, and kills it at the end."""
    chance = random.Random(5)
    root, trace = tmp_path / "root", tmp_path / "trace"
    root.mkdir()
    daemon = RawDaemon(root, wrapper=recorder(trace))
    daemon.start()
    try:
        promises = []
        for _ in range(4):
            run = create_run(daemon)
            promises.append(Promises(run.uid, time.time()))
        run_names = [daemon.rpc.GetRun(rs.GetRunRequest(uid=promise.uid)).run.name for promise in promises]
        tables = [create_table(daemon, name, "t").name for name in run_names]
        with ThreadPoolExecutor(8) as pool:
            # The third is finished and deleted when its rows are there, the first is renamed under its writer.
            write_rows(daemon, tables[2], promises[2], batches // 4, chance)
            writing = [
                pool.submit(write_rows, daemon, tables[number], promises[number], batches, random.Random(number))
                for number in (0, 1, 3)
            ]
            change_runs(daemon, promises)
            for writer in writing:
                writer.result(120)
    finally:
        pid = daemon.process.pid
        daemon.kill()
    wait_for(
        lambda: f"{pid} " in trace.read_text()[-4000:] and "+++ killed" in trace.read_text()[-4000:],
        lambda: "strace goes on",
    )
    return Recording(root, list(events(trace)), promises)


def replayed(recording: Recording, moment_s: float, ignored: Callable[[PurePosixPath], bool]) -> PowerLoss:
    """The disk as it was at a moment."""
    disk = PowerLoss(recording.root, ignored)
    for event in recording.events:
        if event.time_s > moment_s:
            break
        disk.replay(event)
    return disk


def lost_at(recording: Recording, moment_s: float, disk: PowerLoss, survivors: Survivors, chance: random.Random) -> str:
    """What a daemon does not hold, started on what survived a loss at a moment; empty if it holds all."""
    root = recording.root
    shutil.rmtree(root, ignore_errors=True)
    disk.rebuild(root, survivors, chance)
    daemon = RawDaemon(root)
    daemon.log_path.unlink(missing_ok=True)
    try:
        daemon.start()
        found = [fault for promise in recording.promises if (fault := broken(daemon, promise, moment_s))]
        found += [str(line["error"]) for line in daemon.log("segment_damaged")]
        daemon.kill()
        if not found:
            # A file that no commit knows may be left: `rund fsck` finds it, and it hides nothing.
            check_root(root, tidy=False)
        return "; ".join(found)
    except AssertionError as error:
        return f"it does not start, or its root is not sound: {error}"
    finally:
        daemon.end()


def broken(daemon: RawDaemon, promise: Promises, moment_s: float) -> str:
    """Which promise to one run does not hold."""
    try:
        run = daemon.rpc.GetRun(rs.GetRunRequest(uid=promise.uid)).run
    except RefusedError as refused:
        return "" if promise.created_s > moment_s and refused.code == "NOT_FOUND" else f"the run is gone: {refused}"
    for time_s, fact in promise.facts:
        if time_s <= moment_s and not fact(run):
            return f"{run.name} has forgotten what it was"
    outputs = [plain(output)["n"] for output in run.outputs]
    if outputs != list(range(len(outputs))) or len(outputs) < kept_by(promise.outputs, moment_s):
        return f"{run.name} has the outputs {outputs}"
    if run.HasField("delete_time"):
        run = daemon.rpc.UndeleteRun(rs.UndeleteRunRequest(name=run.name, uid=promise.uid)).run
    rows: list[int] = []
    if any(table.row_count for table in run.metrics):
        try:
            rows = read(daemon, f"{run.name}/metrics/t").column("n").to_pylist()
        except RefusedError as refused:
            return f"{run.name} can't be read: {refused}"
    if rows != list(range(len(rows))):
        return f"{run.name} has rows twice, or out of their order"
    acked = kept_by(promise.rows, moment_s)
    return "" if len(rows) >= acked else f"{run.name} has {len(rows)} rows, and {acked} were acked"


def nothing(_: PurePosixPath) -> bool:
    return False


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("power")
    if why := can_record(folder):
        pytest.skip(f"no loss of power can be played: {why}")
    return record(folder, batches=60)


def lose_power(recording: Recording, moments: list[float], chance: random.Random) -> None:
    for number, moment_s in enumerate(moments):
        disk = replayed(recording, moment_s, nothing)
        survivors = SURVIVORS[number % len(SURVIVORS)]
        lost = lost_at(recording, moment_s, disk, survivors, chance)
        assert not lost, f"at {moment_s:.6f}, {survivors} of what was not synced surviving: {lost}"


def test_what_was_acked_survives_a_loss_of_power(recording: Recording) -> None:
    chance = random.Random(1)
    acks = chance.sample(recording.moments(), 12)
    begin, end = recording.moments()[0], recording.events[-1].time_s
    lose_power(recording, [*acks, *(chance.uniform(begin, end) for _ in range(4))], chance)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_what_was_acked_survives_a_loss_of_power_at_any_moment(recording: Recording) -> None:
    chance = random.Random(2)
    begin, end = recording.events[0].time_s, recording.events[-1].time_s
    lose_power(recording, recording.moments() + [chance.uniform(begin, end) for _ in range(100)], chance)


@pytest.mark.parametrize(
    "ignored",
    [
        lambda path: path.suffix == ".arrows",
        lambda path: path.name == "data.mdb",
        lambda path: path.parent.name == "metrics",
        lambda path: path.name == "catalog",
    ],
    ids=["segments", "catalog", "folders of segments", "folder of the catalog"],
)
def test_each_of_these_syncs_is_needed(recording: Recording, ignored: Callable[[PurePosixPath], bool]) -> None:
    """A daemon that left one of them out would lose what it acked, and this harness would see it."""
    chance = random.Random(3)
    moments = recording.moments()
    for moment_s in moments[len(moments) // 2 :: 5]:
        disk = replayed(recording, moment_s, ignored)
        if lost_at(recording, moment_s, disk, "none", chance):
            return
    pytest.fail("nothing was lost")


def test_a_journal_that_has_lost_its_cuts_goes_on_where_the_daemon_is(tmp_path: Path) -> None:
    """The host went down: the trainer belongs to an earlier boot, and its journal forgot what had been sent."""
    arena = Arena(RawDaemon(tmp_path / "root"), random.Random(0))
    arena.start_daemon()
    try:
        trainer = arena.start_trainer()
        trainer.wait_until("scalar", 3)
        arena.kill_daemon()
        trainer.kill()
        for head in [path for path in arena.journals.glob("*.journal") if "." not in path.stem]:
            content = bytearray(head.read_bytes())
            fixed = pack_head(replace(unpack_head(bytes(content)), boot_id="an earlier boot"))
            content[: len(fixed)] = fixed
            content[CURSOR_OFFSET:] = bytes(len(content) - CURSOR_OFFSET)
            head.write_bytes(content)
        arena.start_daemon()
        # It is told of after the journal has gone.
        wait_for(lambda: arena.daemon.log("journal_adopted"), lambda: "no journal is adopted")
        arena.check(trainer)
        told = [line["outcome"] for line in arena.daemon.log("journal_adopted")]
        assert set(told) == {"drained"}
    finally:
        arena.daemon.end()
