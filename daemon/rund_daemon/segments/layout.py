"""Where things lie in a root. Every path of the daemon is made here.

<root>/
  daemon.json, daemon.lock, daemon.error, rund.toml
  catalog/                                   LMDB
  journals/<writer-id>.*                     clients' journals
  incoming/<call>/                           files that a client hands over in a call, and that go with it
  <project>/runs/<run>/
    run.json
    metrics/<table>/<nnnnnn>.arrow(s)
    commits/<table>.jsonl                    the table's own account of its commits
    bulk_data/
  <project>/reducers/<reducer>/
    reducer.json
    model.arrow
  <project>/datasets/<dataset>/tables/<table>/
    table.json
    data.arrow                               of a table that was written through the daemon
  trash/<uid>/                               deleted runs and metrics tables
  trash/new/<uid>/                           copies and tables that are being made, until they appear
  trash/new/<table uid>.<nnnnnn>             link to a segment that no commit knows yet
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.failpoints import failpoint

RUN_SNAPSHOT = "run.json"
TABLE_SNAPSHOT = "table.json"
TABLE_DATA = "data.arrow"
BULK_DATA = "bulk_data"
TRASHED_COMMIT_LOG = "commits.jsonl"
REDUCER_SNAPSHOT = "reducer.json"
REDUCER_MODEL = "model.arrow"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one root."""

    root: Path

    @property
    def url(self) -> str:
        """URL of the root: its absolute path."""
        return str(self.root)

    @property
    def catalog(self) -> Path:
        """Folder of the catalog."""
        return self.root / "catalog"

    @property
    def catalog_data(self) -> Path:
        """The catalog's one file that matters."""
        return self.catalog / "data.mdb"

    @property
    def trash(self) -> Path:
        """Folder of deleted and of unfinished things."""
        return self.root / "trash"

    def run(self, project: str, run: str) -> Path:
        """Folder of a run."""
        return self.root / project / "runs" / run

    def trashed(self, uid: bytes) -> Path:
        """Folder of something in trash."""
        return self.trash / uid.hex()

    def unfinished(self, uid: bytes) -> Path:
        """Folder of something that is being made. What an earlier daemon left there is nobody's."""
        return self.trash / "new" / uid.hex()

    def strays(self) -> list[Path]:
        """What stood in somebody's way, or was nobody's, and was put into trash."""
        return sorted(self.trash.glob("stray-*"))

    def new_segment(self, table: bytes, number: int) -> Path:
        """Link to a segment of a metrics table that no commit knows yet: it finds the file if none ever does."""
        return self.trash / "new" / f"{table.hex()}.{number:06d}"

    def announce_segment(self, table: bytes, number: int, path: Path) -> None:
        """Leaves a link, by which the next start finds the file if this daemon dies before the commit.

        It is not synced: it helps against a kill, and after a loss of power the file is found by `rund fsck`.
        """
        link = self.new_segment(table, number)
        with suppress(OSError):
            make_durable_folder(link.parent)  # runs go to trash through it, and trust it
            link.unlink(missing_ok=True)
            link.symlink_to(path)

    def all_unfinished(self) -> list[Path]:
        """Folders of what is being made, and links to segments."""
        return sorted((self.trash / "new").glob("*"))

    def incoming(self, call: bytes) -> Path:
        """Folder for the files that are handed over in a call. What an earlier daemon left there is nobody's."""
        return self.root / "incoming" / call.hex()

    def all_incoming(self) -> list[Path]:
        """Folders for files that are handed over."""
        return sorted((self.root / "incoming").glob("*"))

    def bulk_data(self, project: str, run: str) -> Path:
        """Folder of a run's side files."""
        return self.run(project, run) / BULK_DATA

    def all_metrics(self, run_folder: Path) -> Path:
        """Folder of a run's metrics tables: each has a folder of its name there."""
        return run_folder / "metrics"

    def metrics_table(self, run_folder: Path, table: str) -> Path:
        """Folder of a metrics table in its run's folder."""
        return self.all_metrics(run_folder) / table

    def commit_log(self, run_folder: Path, table: str) -> Path:
        """The account of a metrics table's commits. Not beside its rows: that folder holds Arrow files alone."""
        return run_folder / "commits" / f"{table}.jsonl"

    def input_table(self, project: str, dataset: str, table: str) -> Path:
        """Folder of an input table, with its rows if it was written through the daemon."""
        return self.root / project / "datasets" / dataset / "tables" / table

    def reducer(self, project: str, reducer: str) -> Path:
        """Folder of a reducer."""
        return self.root / project / "reducers" / reducer

    def relative(self, path: Path) -> str:
        """A path below the root as the catalog keeps it."""
        return str(path.relative_to(self.root))


def make_durable_folder(folder: Path) -> None:
    """Makes a folder and its parents so that a loss of power can't take them back."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(mode=0o755, exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle_move(root: Path, source: str, destination: str) -> None:
    """Moves a folder or file below the root, or removes a file if `destination` is empty. Twice is the same as once.

    What stands in the way belongs to nobody the catalog knows: it is put into trash.
    """
    origin = root / source
    if not os.path.lexists(origin):  # a link counts, wherever it points to
        return
    if not destination:
        origin.unlink()
        sync_folder(origin.parent)
        return
    target = root / destination
    make_durable_folder(target.parent)
    if target.exists():
        stray = root / "trash" / f"stray-{os.urandom(8).hex()}"
        make_durable_folder(stray.parent)
        target.rename(stray)
    origin.rename(target)
    sync_folder(target.parent)
    sync_folder(origin.parent)


def write_durable_file(path: Path, data: bytes) -> None:
    """Writes a file so that after a crash it is the old one or the new one, whole."""
    make_durable_folder(path.parent)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    failpoint("file.written")
    temporary.rename(path)
    failpoint("file.renamed")
    sync_folder(path.parent)
