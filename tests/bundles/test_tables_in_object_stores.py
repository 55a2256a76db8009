"""Input tables that lie in an object store: registered by URL, measured without their rows, read and referred to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import rund
from rund import Run, Table

from tests.bundles.s3_server import BUCKET, S3Server
from tests.process.raw_daemon import RawDaemon, running

ROWS = pa.table({"x": pa.array(range(100_000)), "name": pa.array([f"n{number}" for number in range(100_000)])})


@pytest.fixture(scope="module")
def urls(s3: S3Server) -> dict[str, str]:
    """The same rows in every form."""
    files, folder = s3.files, f"{BUCKET}/tables"
    pq.write_table(ROWS, f"{folder}/rows.parquet", filesystem=files, row_group_size=10_000)
    for number in range(3):
        part = ROWS.slice(number * 40_000, 40_000)
        pq.write_table(part, f"{folder}/parts/part-{number}.parquet", filesystem=files)
    with files.open_output_stream(f"{folder}/parts/_SUCCESS") as file:
        file.write(b"")
    with files.open_output_stream(f"{folder}/rows.csv") as file:
        pa.csv.write_csv(ROWS, file)
    for name, make in (("rows.arrow", pa.ipc.new_file), ("rows.arrows", pa.ipc.new_stream)):
        with files.open_output_stream(f"{folder}/{name}") as file, make(file, ROWS.schema) as writer:
            writer.write_table(ROWS, max_chunksize=10_000)
    forms = ("rows.parquet", "parts", "rows.csv", "rows.arrow", "rows.arrows")
    return {form: f"s3://{folder}/{form}" for form in forms}


@pytest.fixture
def run(daemon: RawDaemon, uses_s3: S3Server) -> Iterator[Run]:
    with rund.init("objects", root_url=daemon.root) as run:
        yield run


@pytest.mark.parametrize("form", ["rows.parquet", "parts", "rows.csv", "rows.arrow", "rows.arrows"])
def test_rows_are_read_where_they_lie(run: Run, urls: dict[str, str], form: str) -> None:
    table = Table.register(urls[form], root_url=run.daemon.root)
    assert (table.url, table.row_count) == (urls[form], 100_000)
    assert table.schema.names == ["x", "name"]
    assert Table.from_url(urls[form]).info == table.info
    assert table.to_arrow().to_pydict() == ROWS.to_pydict()
    assert table.to_arrow(["x"], "x >= 99990").column("x").to_pylist() == list(range(99_990, 100_000))
    assert table[50_005] == {"x": 50_005, "name": "n50005"}


def test_metrics_refer_to_them(run: Run, urls: dict[str, str]) -> None:
    url = urls["rows.parquet"]
    run.add_input_table(url)
    [info] = run.add_metrics({"loss": [0.5] * 100_000}, foreign_table_url=url)
    assert info.foreign_table_url == url
    joined = run.metrics_tables[0].join(["loss"], ["name"])
    assert joined.column("name").to_pylist() == ROWS.column("name").to_pylist()
    with pytest.raises(rund.RowCountMismatchError):
        run.add_metrics({"loss": [0.5]}, foreign_table_url=url)


def test_what_is_not_there_or_no_table_is_said(run: Run, urls: dict[str, str], s3: S3Server) -> None:
    root = run.daemon.root
    with pytest.raises(FileNotFoundError, match=r"none\.parquet"):
        Table.register(f"s3://{BUCKET}/tables/none.parquet", root_url=root)
    with s3.files.open_output_stream(f"{BUCKET}/tables/broken.parquet") as file:
        file.write(b"PAR1 but no more")
    with pytest.raises(rund.InvalidUrlError, match=r"broken\.parquet"):
        Table.register(f"s3://{BUCKET}/tables/broken.parquet", root_url=root)
    with pytest.raises(rund.InvalidUrlError, match="holds the folder 'parts'"):
        Table.register(f"s3://{BUCKET}/tables", root_url=root)
    with pytest.raises(rund.InvalidUrlError, match="credentials come from the environment"):
        Table.register(f"s3://me:secret@{BUCKET}/tables/rows.parquet", root_url=root)


def test_only_what_is_allowed_may_be_named(tmp_path: Path, s3: S3Server, urls: dict[str, str]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "rund.toml").write_text(f'url_prefixes = ["s3://{BUCKET}/tables/parts"]\n')
    for daemon in running(root, **s3.environment):
        assert Table.register(urls["parts"], root_url=daemon.root).row_count == 100_000
        with pytest.raises(PermissionError, match="url_prefixes"):
            Table.register(urls["rows.parquet"], root_url=daemon.root)


def test_a_file_that_changed_is_counted_again(run: Run, s3: S3Server) -> None:
    url, root = f"s3://{BUCKET}/changing.parquet", run.daemon.root
    pq.write_table(ROWS.slice(0, 10), url.removeprefix("s3://"), filesystem=s3.files)
    assert Table.register(url, root_url=root).row_count == 10
    pq.write_table(ROWS.slice(0, 20), url.removeprefix("s3://"), filesystem=s3.files)
    assert Table.register(url, root_url=root).row_count == 20
    assert len(Table.from_url(url).to_arrow()) == 20
