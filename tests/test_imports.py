"""Who may import what: the contracts of pyproject.toml hold, and each of these tests fails when one does not.

That only the catalog knows LMDB is proved a second time by reading the sources, so that a fault in the contract, or
in the tool, is noticed.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SOURCES = ("protos", "daemon", "pyclient")


def lint_imports(repository: Path) -> subprocess.CompletedProcess[str]:
    """Runs the contracts on the sources of a repository, whatever is installed."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=repository,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(str(repository / source) for source in SOURCES), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def importers_of(package: str, repository: Path) -> set[str]:
    """The files that import a package, in whatever way Python's syntax has for it."""
    files = (path for source in SOURCES for path in (repository / source).rglob("*.py"))
    return {
        path.relative_to(repository).as_posix()
        for path in files
        if any(name == package or name.startswith(f"{package}.") for name in imported_names(path))
    }


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            # __import__("lmdb"), importlib.import_module("lmdb") and the like
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if "import" in ast.unparse(func):
                yield name


def outside_the_catalog(importers: set[str]) -> set[str]:
    return {path for path in importers if not path.startswith("daemon/rund_daemon/catalog/")}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources, to break rules in."""
    for source in SOURCES:
        shutil.copytree(REPOSITORY / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold() -> None:
    result = lint_imports(REPOSITORY)
    assert result.returncode == 0, result.stdout + result.stderr


def test_only_the_catalog_imports_lmdb() -> None:
    importers = importers_of("lmdb", REPOSITORY)
    assert importers, "nothing imports lmdb: has the catalog moved?"
    assert outside_the_catalog(importers) == set()


@pytest.mark.parametrize(
    "statement",
    ["import lmdb", "from lmdb import Environment", "def late():\n    import lmdb", 'module = __import__("lmdb")'],
)
def test_an_import_of_lmdb_elsewhere_is_found(copy: Path, statement: str) -> None:
    with (copy / "daemon/rund_daemon/runs/trash.py").open("a") as file:
        file.write(f"\n{statement}\n")
    assert outside_the_catalog(importers_of("lmdb", copy)) == {"daemon/rund_daemon/runs/trash.py"}


LAYERS = "The daemon is built in layers"
LMDB = "The catalog alone knows LMDB"
WIRE = "Services, server and the client's transport alone speak the wire"
GRPC = "They alone know gRPC"
REDUCERS = "Reducers alone know the libraries that make maps"
CLIENT = "The daemon does not import the client, but its command line and what it exchanges with other tools do"
DAEMON = "The client imports nothing of the daemon's"
SCHEMA = "The schema imports neither side"
ROWS = "What rows mean, to the daemon as to the client, imports neither"
CYCLES = "There are no cycles"


@pytest.mark.parametrize(
    ("path", "statement", "contracts"),
    [
        ("daemon/rund_daemon/runs/trash.py", "import lmdb", {LMDB}),
        ("daemon/rund_daemon/runs/trash.py", "from rund_pb.store.v1 import records_pb2", {LMDB}),
        ("daemon/rund_daemon/runs/trash.py", "from rund_pb.v1 import run_pb2", {WIRE}),
        ("daemon/rund_daemon/runs/trash.py", "import grpc", {GRPC}),
        ("daemon/rund_daemon/runs/trash.py", "from rund_daemon import ingest", {LAYERS}),
        ("daemon/rund_daemon/catalog/lookup.py", "from rund_daemon import runs", {LAYERS, CYCLES}),
        ("daemon/rund_daemon/services/status.py", "import rund", {CLIENT}),
        ("daemon/rund_daemon/runs/trash.py", "import umap", {REDUCERS}),
        ("daemon/rund_daemon/not_placed.py", "X = 1", {LAYERS}),
        ("protos/rund_pb/__init__.py", "import rund", {SCHEMA, CLIENT}),
        ("pyclient/rund_rows/row_filter.py", "import rund", {ROWS, CLIENT}),
        ("pyclient/rund/_types.py", "import grpc", {GRPC}),
        ("pyclient/rund/_types.py", "import rund_daemon", {DAEMON}),
        ("pyclient/rund/_types.py", "from . import _run", {CYCLES}),
    ],
)
def test_a_broken_rule_is_found(copy: Path, path: str, statement: str, contracts: set[str]) -> None:
    with (copy / path).open("a") as file:
        file.write(f"\n{statement}\n")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert broken(result.stdout) == contracts


def broken(report: str) -> set[str]:
    return {line.removesuffix("BROKEN").strip() for line in report.splitlines() if line.endswith("BROKEN")}
