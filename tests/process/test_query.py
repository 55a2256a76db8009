"""SQL over runs, over a real daemon: what it sees, what it reads, and what it must not do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rund
from rund import Run, Table


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


@pytest.fixture(scope="module")
def run(root: Path) -> Iterator[Run]:
    with rund.init("a", "other", root_url=root) as other:
        other.log({"loss": 3.0}, step=7)
        other.set_parameters({"lr": 0.5})
    with rund.init("a", "run 1", root_url=root, labels={"team": "x"}, parameters={"lr": 0.1, "o": {"n": [1]}}) as run:
        for step in range(100):
            run.log({"loss": 1 / (step + 1), "acc": step})
        run.add_metrics({"n": np.arange(1000), "vector": np.eye(1000, 4), "text": ["t"] * 1000}, name="wide rows")
        run.add_input_value({"seed": 1})
        run.add_output_value({"epoch": 1, "accuracy": 0.5, "ok": True})
        yield run


def rows(run: Run, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in run.query(sql).to_pylist()]


def everywhere(run: Run, sql: str, **options: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in rund.query(sql, root_url=run.daemon.root, **options).to_pylist()]


class TestWhatItSees:
    def test_tables_of_a_run_live(self, run: Run) -> None:
        assert rows(run, "SELECT count(*), max(acc) FROM history") == [(100, 99)]
        run.log({"loss": 0.0, "acc": 100})
        assert rows(run, "SELECT count(*), max(acc) FROM metrics.history") == [(101, 100)]
        assert rows(run, 'SELECT sum(n), count(vector) FROM "wide rows"') == [(499_500, 1000)]
        assert rows(run, 'FROM "wide rows" SELECT * LIMIT 1')[0][0] == 0
        assert rows(run, "WITH history AS (SELECT 1 AS x) SELECT * FROM history") == [(1,)]
        assert rows(run, "SELECT a.acc FROM history a JOIN history b USING (step) WHERE b.acc = 5") == [(5,)]
        assert rows(run, "SELECT history FROM history WHERE acc = 1")[0][0]["acc"] == 1

    def test_facts(self, run: Run) -> None:
        assert rows(run, "SELECT run_name, status FROM runs") == [("run 1", "RUNNING")]
        found = rows(run, "SELECT key, number, text FROM parameters ORDER BY key")
        assert found == [("lr", 0.1, "0.1"), ("o.n", None, "[1]")]
        assert rows(run, "SELECT key, text FROM labels") == [("team", "x")]
        assert rows(run, "SELECT position, key, number FROM inputs") == [(0, "seed", 1.0)]
        assert rows(run, "SELECT key, number FROM outputs WHERE key != 'epoch'") == [("accuracy", 0.5), ("ok", 1.0)]
        assert rows(run, "SELECT row_count FROM tables WHERE name = 'wide rows'") == [(1000,)]

    def test_many_runs(self, run: Run) -> None:
        sql = "SELECT run_name, min(loss) FROM metrics.history WHERE step < 10 GROUP BY ALL ORDER BY 1"
        assert everywhere(run, sql) == [("other", 3.0), ("run 1", 0.1)]
        assert everywhere(run, "SELECT DISTINCT run_name FROM history", filter="run_name = other") == [("other",)]
        assert everywhere(run, 'SELECT count(*) FROM "a/other".history') == [(1,)]
        assert everywhere(run, "SELECT count(*) FROM runs", project_name="nobody") == [(0,)]
        joined = (
            "SELECT h.run_name FROM history h JOIN parameters p USING (project_name, run_name) WHERE p.number > 0.2"
        )
        assert everywhere(run, joined) == [("other",)]

    def test_input_tables(self, run: Run, tmp_path: Path) -> None:
        root = run.daemon.root
        data = Table.from_dict({"label": ["cat", "dog", "cat"]}, "train", "pets", project_name="a", root_url=root)
        run.add_metrics({"loss": [1.0, 2.0, 4.0]}, name="per sample", foreign_table_url=data.url)
        joined = (
            'SELECT label, sum(m.loss) FROM "per sample" m JOIN "a/pets/train" USING (example_id) GROUP BY 1 ORDER BY 1'
        )
        assert rows(run, joined) == [("cat", 5.0), ("dog", 2.0)]
        assert everywhere(run, 'FROM "a/pets/train"') == [(0, "cat"), (1, "dog"), (2, "cat")]
        assert everywhere(run, 'SELECT sum(example_id) FROM "a/pets/train"') == [(3,)]
        assert everywhere(run, 'SELECT label FROM "a/pets/train" LIMIT 1') == [("cat",)]
        assert everywhere(run, 'SELECT count(*) FROM "a/pets/train" WHERE example_id > 7') == [(0,)]
        (tmp_path / "own.csv").write_text("example_id,x\n5,1\n7,2\n")
        Table.register(tmp_path / "own.csv", "own", "pets", project_name="a", root_url=root)
        assert everywhere(run, 'SELECT example_id, x FROM "a/pets/own"') == [(5, 1), (7, 2)]
        Table.from_dict({"x": pa.array([], pa.int64())}, "none", "pets", project_name="a", root_url=root)
        assert everywhere(run, 'FROM "a/pets/none"') == []
        found = everywhere(run, "SELECT table_name, row_count, registered FROM input_tables ORDER BY 1")
        assert found == [("none", 0, False), ("own", 2, True), ("train", 3, False)]
        for name in ("a/pets/nobody", "a/../train"):
            with pytest.raises(rund.QueryError, match="names no input table"):
                run.query(f'FROM "{name}"')

    def test_results(self, run: Run) -> None:
        result = run.query("SELECT acc FROM history ORDER BY acc LIMIT 2")
        assert result.to_arrow().to_pydict() == {"acc": [0, 1]}
        assert result.to_pandas()["acc"].tolist() == [0, 1]
        assert result.to_polars()["acc"].to_list() == [0, 1]
        assert len(result) == 2
        assert run.query("SELECT acc FROM history WHERE acc < 0").to_arrow().num_rows == 0

    @pytest.mark.parametrize(
        ("sql", "columns"),
        [
            ('SELECT count(*) FROM "wide rows"', ["n"]),
            ('SELECT max(N) FROM "wide rows" w', ["n"]),
            ('SELECT "text" FROM "wide rows" WHERE n > 1', ["n", "text"]),
            ('SELECT * EXCLUDE vector FROM "wide rows"', ["n", "vector", "text"]),
            ("SELECT COLUMNS('n') FROM \"wide rows\"", ["n", "vector", "text"]),
            ('SELECT a.n FROM "wide rows" a NATURAL JOIN "wide rows" b', ["n", "vector", "text"]),
            ('SUMMARIZE "wide rows"', ["n", "vector", "text"]),
        ],
    )
    def test_only_columns_that_are_named_are_read(
        self, run: Run, sql: str, columns: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []
        scan = Table.scan
        monkeypatch.setattr(Table, "scan", lambda table, names, *rest: asked.append(names) or scan(table, names, *rest))
        run.query(sql)
        assert asked == [columns]


REFUSED = [
    "SELECT * FROM '/etc/passwd'",
    "FROM '{folder}/file.parquet'",
    "FROM '{folder}/*.csv'",
    'FROM "{folder}/file.csv"',
    "SELECT * FROM read_csv('{folder}/file.csv')",
    "SELECT * FROM read_csv_auto('{folder}/file.csv')",
    "SELECT * FROM read_parquet(['{folder}/file.parquet'])",
    "SELECT * FROM parquet_scan('{folder}/file.parquet')",
    "SELECT * FROM parquet_metadata('{folder}/file.parquet')",
    "SELECT * FROM read_json('{folder}/file.json')",
    "SELECT * FROM read_json_objects('{folder}/file.json')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM sniff_csv('{folder}/file.csv')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH x AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM x",
    "SELECT 1 WHERE EXISTS (FROM read_text('/etc/passwd'))",
    "SELECT * FROM history, LATERAL (SELECT * FROM read_text('/etc/passwd'))",
    "SELECT * FROM history UNION ALL SELECT * FROM glob('/*')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM arrow_scan_dumb(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM python_map_function(1)",
    "SELECT * FROM sqlite_scan('{folder}/x.db', 't')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM pragma_database_list()",
    "SELECT * FROM pragma_storage_info('history')",
    "SELECT * FROM read_duckdb('{folder}/x.db')",
    "SELECT * FROM read_csv('http://127.0.0.1:1/x.csv')",
    "FROM 'https://example.com/x.parquet'",
    "FROM 's3://bucket/x.parquet'",
    "SELECT getenv('HOME')",
    "SELECT * FROM secret",
    "SELECT * FROM temp.history",
    "SELECT * FROM system.main.runs",
    "COPY history TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/out.parquet' (FORMAT parquet)",
    "COPY history FROM '{folder}/file.csv'",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/x.db'",
    "ATTACH ':memory:' AS m",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{folder}/x.duckdb_extension'",
    "FORCE INSTALL spatial",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET temp_directory = '{folder}'",
    "SET memory_limit = '1TB'",
    "SET GLOBAL lock_configuration = false",
    "SET python_enable_replacements = true",
    "SET autoload_known_extensions = true",
    "RESET enable_external_access",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "PRAGMA profile_output = '{folder}/profile'",
    "PRAGMA import_database('{folder}')",
    "CALL pragma_version()",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE SECRET s (TYPE s3)",
    "CREATE MACRO f(x) AS TABLE SELECT * FROM read_text(x)",
    "INSERT INTO history VALUES (1)",
    "UPDATE history SET loss = 0",
    "DELETE FROM history",
    "DROP VIEW history",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN TRANSACTION",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY history TO '{folder}/out.csv'",
    "",
    ";",
    "-- nothing",
    "SELEC 1",
    "SELECT",
    "SELECT nothing FROM history",
    "SELECT * FROM nothing",
    "SELECT '\ud800'",
    'SELECT * FROM "no/run".history',
    'SELECT * FROM "a/other".nothing',
    "SELECT 'x'::INTEGER",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT 1 -- " + "x" * 200_000,
]


class TestWhatItMustNotDo:
    @pytest.mark.parametrize("sql", REFUSED, ids=lambda sql: ascii(sql[:60]))
    def test_it_is_refused(self, run: Run, sql: str, tmp_path: Path) -> None:
        secret = pa.table({"a": [1]})
        assert secret.num_rows, "a variable of the caller's is no relation"
        (tmp_path / "file.csv").write_text("a\n1\n")
        before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        with pytest.raises(rund.QueryError) as refused:
            run.query(sql.replace("{folder}", str(tmp_path)))
        assert isinstance(refused.value, ValueError)
        assert str(refused.value)
        assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM range(1000000000)",
            "SELECT list(a.range || b.range) FROM range(100000) a, range(10000) b",
            "SELECT repeat('x', 300000000) FROM range(4)",
            "SELECT a.range, hash(b.range) x FROM range(100000) a, range(10000) b ORDER BY x LIMIT 20000000",
            'SELECT a.*, b.*, a.*, b.* FROM "wide rows" a, "wide rows" b',
        ],
    )
    def test_it_does_not_eat_the_memory(
        self, run: Run, sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(rund.OverLimitError, match=r"more memory than 64 MiB.*max_memory_bytes"):
            run.query(sql, max_memory_bytes=64 * 2**20, timeout=100)
        assert list(tmp_path.iterdir()) == [], "nothing is spilled into a folder"

    def test_rows_that_are_read_count(self, run: Run) -> None:
        with pytest.raises(rund.OverLimitError):
            run.query('SELECT sum(n) FROM "wide rows" WHERE "text" > \'a\'', max_memory_bytes=8_000)

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = -1",
            "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) SELECT max(x) FROM r WHERE x < 0",
        ],
    )
    def test_a_runaway_is_interrupted(self, run: Run, sql: str) -> None:
        with pytest.raises(rund.WaitTimeoutError, match=r"interrupted after 1 s.*timeout"):
            run.query(sql, timeout=1)

    def test_without_duckdb(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "duckdb", None)
        with pytest.raises(rund.MissingPackageError, match="pip install duckdb"):
            run.query("SELECT 1")

    def test_with_an_old_duckdb(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("duckdb.__version__", "1.4.4")
        with pytest.raises(rund.MissingPackageError, match="too old"):
            run.query("SELECT 1")


def test_the_command(run: Run) -> None:
    command = [Path(sys.executable).with_name("rund"), "query", "--root", run.daemon.root]
    answer = subprocess.run(
        [*command, "--json", "SELECT run_name, max(step) AS last FROM history GROUP BY ALL ORDER BY 1 LIMIT 1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == '{"run_name": "other", "last": 7}\n'
    refused = subprocess.run([*command, "FROM '/etc/passwd'"], capture_output=True, text=True, check=False)
    assert refused.returncode
    assert refused.stderr.startswith("rund: no metrics table '/etc/passwd'")
