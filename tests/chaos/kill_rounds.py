"""Rounds of kills on one root: a daemon, trainers that write in every way, and the count of every row afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rund._journal_format import HEAD_BYTES
from rund._journal_recovery import read_cursor, read_cuts
from rund_daemon.catalog import Catalog
from rund_daemon.checking import check
from rund_daemon.segments.layout import Layout, settle_move
from rund_pb.v1 import run_pb2

from tests.chaos.mixed_trainer import PROJECT, ROWS_OF_A_BATCH, ROWS_OF_A_FILE, ROWS_OF_A_PART
from tests.process.raw_daemon import RawDaemon, get_run, plain, read

TRAINER = Path(__file__).with_name("mixed_trainer.py")
UNTIL_KILLED = 1_000_000
PATIENCE_S = 120.0


@dataclass
class Arena:
    """One root, its daemon and the trainers that have written into it.

    Attributes:
        daemon: is started and killed, as a rule with a failpoint.
        killed: how many processes were killed, by whom or what.
        killed_at: names of the failpoints that have killed one.
        trained: names of the runs that trainers have written.
    """

    daemon: RawDaemon
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    killed_at: set[str] = field(default_factory=set)
    trained: list[str] = field(default_factory=list)

    @property
    def journals(self) -> Path:
        return self.daemon.root / "journals"

    def start_daemon(self, **failpoints: str) -> None:
        """Starts it, once more if its start is what kills it."""
        self.daemon.environment = failpoints
        self.daemon.spawn()
        deadline = time.monotonic() + PATIENCE_S
        while not self.daemon._is_ready():
            code = self.daemon.process.poll()
            if code == -signal.SIGKILL:
                self.killed["daemon at its start"] += 1
                self._note_point()
                self.daemon.environment = {}
                self.daemon.spawn()
                continue
            assert code is None, self.daemon.log_path.read_text()[-4000:]
            assert time.monotonic() < deadline, "the daemon was not ready in time"
            time.sleep(0.01)

    def kill_daemon(self) -> None:
        self.daemon.kill()
        self.killed["daemon"] += 1

    def daemon_dies(self, seconds: float = PATIENCE_S) -> bool:
        """Waits until a failpoint has killed it."""
        try:
            died = self.daemon.process.wait(seconds) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False
        self.killed["daemon at a failpoint"] += died
        if died:
            self._note_point()
        self.daemon.kill()
        return died

    def _note_point(self) -> None:
        self.killed_at.add(self.daemon.environment["RUND_FAILPOINTS"].partition("=")[0])

    def start_trainer(self, loops: int = UNTIL_KILLED, **failpoints: str) -> TrainerProcess:
        name = f"run-{len(self.trained)}"
        self.trained.append(name)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
        environment |= {
            "RUND_ADDRESS": f"unix:{self.daemon.root}/run/daemon.sock",
            "RUND_JOURNAL_BYTES": str(1 << 20),
            **failpoints,
        }
        environment.pop("XDG_RUNTIME_DIR", None)
        notes = self.daemon.root.with_name(f"{name}.notes")
        command = [sys.executable, str(TRAINER), str(self.daemon.root), name, str(notes), str(loops)]
        with notes.with_suffix(".stderr").open("wb") as errors:
            return TrainerProcess(self, name, notes, subprocess.Popen(command, env=environment, stderr=errors))

    def check(self, *trainers: TrainerProcess) -> None:
        """After the trainers are dead, and the daemon was started again: all is there, once; the next start is idle."""
        for trainer in trainers:
            trainer.wait_until_adopted()
            trainer.check()
        self._kill_when_idle()
        check_root(self.daemon.root)
        starts = len(self.daemon.log("recovered"))
        self.start_daemon()
        recovered = self.daemon.log("recovered")[starts:]
        assert [(line["cut"], line["damaged"], line["unfinished"]) for line in recovered] == [(0, 0, 0)]

    def _kill_when_idle(self) -> None:
        """Kills it while it makes no file: what a kill leaves of one, the next start removes or replaces."""
        for _ in range(5):
            wait_for(lambda: not self._unfinished(), lambda: f"never finished: {self._unfinished()}")
            self.daemon.kill()
            if not self._unfinished():
                return
            self.start_daemon()

    def _unfinished(self) -> list[Path]:
        # A folder for files that are handed over goes when the daemon has seen that its writer is dead.
        root, places = self.daemon.root, ("trash/new/*", "incoming/*")
        # Not by rglob: folders go while it looks.
        files = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
        return [
            *(path for place in places for path in root.glob(place)),
            *(path for path in files if path.name.startswith(".") and path.suffix == ".new"),
        ]

    def check_all(self) -> None:
        """Once more, at the end, and that no fault of the daemon was logged."""
        for name in self.trained:
            found = [path for path in self.daemon.root.parent.glob("*.notes") if path.stem == name]
            TrainerProcess(self, name, found[0], None).check()
        for event in ("request_failed", "folder_move_failed", "commit_failed", "seal_failed", "run_json_failed"):
            assert not self.daemon.log(event)


@dataclass
class TrainerProcess:
    """A trainer, alive or dead, and what it was promised."""

    arena: Arena
    run: str
    notes: Path
    process: subprocess.Popen[bytes] | None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        assert self.process.wait(30) == -signal.SIGKILL, self.errors()
        self.arena.killed["trainer"] += 1

    def dies(self, seconds: float = PATIENCE_S) -> bool:
        """Waits until a failpoint has killed it."""
        assert self.process is not None
        try:
            died = self.process.wait(seconds) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
            return False
        assert died or self.process.returncode == 0, self.errors()
        self.arena.killed["trainer at a failpoint"] += died
        return died

    def errors(self) -> str:
        return self.notes.with_suffix(".stderr").read_text()[-4000:]

    def promised(self) -> dict[str, int]:
        """What it noted; the last line may be cut off by its death."""
        if not self.notes.exists():
            return {}
        lines = self.notes.read_text().split("\n")[:-1]
        return {kind: int(number) for kind, number in (line.split() for line in lines)}

    def wait_until(self, kind: str, number: int) -> None:
        """Waits until so many of a kind are promised."""
        assert self.process is not None
        wait_for(
            lambda: self.promised().get(kind, 0) >= number or self.process.poll() is not None,
            lambda: f"the trainer has not come to {number} of {kind}: {self.errors()}",
        )
        assert self.process.poll() in (None, 0, -signal.SIGKILL), self.errors()

    def wait_until_behind(self, rows: int, cut: int) -> None:
        """Waits until its sender stands still at a cut, and so many rows are promised that come after it."""

        def behind() -> bool:
            for head in self.arena.journals.glob("*.journal"):
                content = head.read_bytes() if "." not in head.stem else b""
                if len(content) >= HEAD_BYTES:
                    cuts = {one.sequence: one for one in read_cuts(content, read_cursor(content))}
                    if cut in cuts:
                        return self.promised().get("log", 0) - cuts[cut].rows >= rows
            return False

        wait_for(behind, lambda: f"the trainer's sender goes on: {self.errors()}")

    def wait_until_adopted(self) -> None:
        journals = self.arena.journals
        wait_for(
            lambda: not list(journals.glob("*.journal")),
            lambda: f"left: {sorted(map(str, journals.glob('*')))} {self.arena.daemon.log_path.read_text()[-2000:]}",
        )

    def check(self) -> None:
        """Compares the run with the notes."""
        daemon, promised = self.arena.daemon, self.promised()
        if not promised:
            return  # it was killed before it had anything
        run = get_run(daemon, f"projects/{PROJECT}/runs/{self.run}")
        tables = {table.name.rpartition("/")[2]: table for table in run.metrics}
        rows = {name: self._numbers(table) for name, table in tables.items() if table.row_count and name != "history"}
        if "history" in tables:
            history = read(daemon, tables["history"].name)
            for column in {"n", "scalar"} & set(history.column_names):
                rows[column] = [item for item in history.column(column).to_pylist() if item is not None]
        for kind, column in {"log": "n", "bulk": "bulk", "large": "large", "scalar": "scalar"}.items():
            found = rows.get(column, [])
            assert found == list(range(len(found))), f"{self.run}: {kind} is doubled or out of its order"
            assert len(found) >= promised.get(kind, 0), f"{self.run}: {kind} is lost"
        assert len(rows.get("bulk", [])) % ROWS_OF_A_BATCH == len(rows.get("large", [])) % ROWS_OF_A_FILE == 0
        outputs = [plain(output)["n"] for output in run.outputs]
        assert outputs == list(range(len(outputs)))
        assert promised.get("output", 0) <= len(outputs) <= promised.get("output", 0) + 1
        assert len(rows.get("scalar", [])) <= promised.get("scalar", 0) + 1
        for part in (kind for kind in promised if kind.startswith("part-")):
            assert rows[part] == list(range(ROWS_OF_A_PART)), part
        if "finished" in promised:
            assert run.status == run_pb2.RUN_STATUS_COMPLETED
            assert len(rows["n"]) == promised["log"], "more is there than was logged"

    def _numbers(self, table: Any) -> list[Any]:
        numbers: list[Any] = read(self.arena.daemon, table.name, columns=["n"]).column("n").to_pylist()
        return numbers


def adopt(daemon: RawDaemon, **failpoints: str) -> subprocess.Popen[bytes]:
    """One more adopter, beside the daemon's own."""
    command = [sys.executable, "-m", "rund._adopt", "--directory", str(daemon.root / "journals")]
    return subprocess.Popen(
        [*command, "--address", daemon.address],
        env={**os.environ, **failpoints},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(condition: Callable[[], object], what: Callable[[], str], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def check_root(root: Path, *, tidy: bool = True) -> None:
    """Compares the catalog of a stopped daemon with the files: nothing is lost and, if tidy, nothing is left over."""
    layout = Layout(root)

    def move(source: str, destination: str) -> None:
        settle_move(root, source, destination)

    catalog = Catalog(layout.catalog, 1 << 34, None, move)  # type: ignore[arg-type]  # nothing is appended
    try:
        report = check(catalog, layout)
    finally:
        catalog._environment.close()
    assert report.sound, report.findings
    if tidy:
        left = [*layout.trash.glob("new/*"), *layout.trash.glob("stray-*"), *root.rglob(".*.new")]
        assert (report.findings, left) == ((), []), (report.findings, left)
