"""Maps of embeddings over a real daemon: what is read, what is shown, and that no text of a run becomes script."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rund
from rund import ColumnSchema, EmbeddingPlot, Run, Table
from rund_daemon.cli.app import run as run_in_process

ROWS = 60
HOSTILE = "</script><script>alert('ä')</script>&\u2028$\\frac{1}$"
NAMES = {0: "zero", 1: HOSTILE, 2: "two"}
RANDOM = np.random.default_rng(0)
BULK = {"hidden", "pixels", "raw", "input_table_id"}


def places(width: int, count: int = ROWS, without: tuple[int, ...] = ()) -> Any:
    """A map whose rows are null where they are named."""
    values = pa.array(RANDOM.normal(size=count * width).astype(np.float32))
    return pa.FixedSizeListArray.from_arrays(values, width, mask=pa.array(np.isin(np.arange(count), without)))


@pytest.fixture(scope="module")
def data(daemon: Any) -> Table:
    return Table.from_dict(
        {
            "label": np.arange(ROWS) % 3,
            "path": [f"img {row % 12}" for row in range(ROWS)],
            "loss": np.arange(ROWS) / ROWS,
            "taken": np.datetime64("2026-01-02T03:04:05", "s") + np.arange(ROWS),
            "pixels": np.zeros((ROWS, 4, 4), np.uint8),
            "raw": [b"\x00"] * ROWS,
        },
        "train",
        column_schemas={"label": ColumnSchema(role="label", value_map=NAMES)},
        root_url=daemon().root,
    )


@pytest.fixture(scope="module")
def run(data: Table) -> Iterator[Run]:
    """Three epochs in one space, each in a table of its own."""
    root = Path(data.url).parents[4]
    with rund.init("a", "maps <b>", root_url=root) as run:
        for epoch in range(3):
            run.add_metrics(
                {
                    "hidden": np.ones((ROWS, 8), np.float32),
                    "hidden_umap": places(3, without=(4, 7)),
                    "loss": np.linspace(0, 1, ROWS),
                    "big": [2**60 + row for row in range(ROWS)],
                    "late": ([None] * ROWS if epoch else ["x"] * ROWS),
                },
                {"hidden_umap": "xyz", "loss": ColumnSchema(unit="nats", display_name="Loss")},
                foreign_table_url=data,
                constants={"epoch": epoch},
                name=f"val-{epoch}",
            )
        run.log({"loss": 1.0})
        yield run


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.parts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.attributes += attrs
        self.parts.setdefault(tag, []).append("")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.parts[self._open][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads(self.parts["script"][0])


def decoded(facts: dict[str, Any], name: str) -> list[Any]:
    """The values of a column as the page shows them."""
    column = next(column for column in facts["columns"] if column["title"] == name)
    values = np.frombuffer(base64.b64decode(column["data"]), f"<{column['type']}").tolist()
    if column["kind"] != "category":
        return values
    return [column["names"][code] if code < len(column["names"]) else None for code in values]


def spots(facts: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(facts["points"]), "<f4").reshape(-1, facts["width"])


class TestPage:
    def test_shows_every_row_with_its_values(self, run: Run, data: Table) -> None:
        facts = Page(run.plot_embedding().to_html()).facts
        (table,) = (table for table in run.metrics_tables if table.name == "val-2")
        rows = table.join(["example_id", "hidden_umap", "loss", "big", "epoch"])
        ids = [int(value) for value in decoded(facts, "example_id")]
        assert sorted(ids) == [row for row in range(ROWS) if row not in (4, 7)]
        kept = rows.take(ids)
        assert np.array_equal(spots(facts), np.array(kept["hidden_umap"].to_pylist(), np.float32))
        assert decoded(facts, "Loss (nats)") == pytest.approx(kept["loss"].to_pylist(), rel=1e-6)
        assert decoded(facts, "loss_input") == pytest.approx(kept["loss_input"].to_pylist(), rel=1e-6)
        assert decoded(facts, "label") == [NAMES[value] for value in kept["label"].to_pylist()]
        assert decoded(facts, "path") == kept["path"].to_pylist()
        assert decoded(facts, "big") == [str(value) for value in kept["big"].to_pylist()]  # whole, where floats round
        assert decoded(facts, "epoch") == ["2"] * len(ids)
        assert "late" not in [column["title"] for column in facts["columns"]]  # no row has ever had a value
        assert decoded(facts, "taken") == [value.timestamp() * 1000 for value in to_utc(kept["taken"])]
        assert facts["columns"][facts["colour"]]["title"] == "label"

    def test_is_one_file_that_loads_nothing(self, run: Run) -> None:
        text = run.plot_embedding().to_html()
        page = Page(text)
        assert not {"src", "href", "srcset", "action"} & {name for name, _ in page.attributes}
        policy = dict(page.attributes)["content"]
        policies = [value for name, value in page.attributes if name == "content" and "default-src" in (value or "")]
        assert policies, policy
        for kind, part in (("script", page.parts["script"][1]), ("style", page.parts["style"][0])):
            digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in policies[0]
        assert policies[0].startswith("default-src 'none';")
        assert "unsafe" not in policies[0]
        script = page.parts["script"][1]
        for way_out in (
            "fetch(",
            "XMLHttpRequest",
            "WebSocket",
            "import(",
            "innerHTML",
            "outerHTML",
            "eval(",
            "Function(",
        ):
            assert way_out not in script

    def test_no_text_of_a_run_becomes_script(self, data: Table) -> None:
        root = Path(data.url).parents[4]
        with rund.init("a", "h", root_url=root) as run:
            run.rename("<img src=x onerror=alert(1)>")
            run.add_metrics(
                {
                    f"m{HOSTILE}": places(2, 3),
                    f"c{HOSTILE}": [HOSTILE, "<!--", "<script>"],
                    "by": ["]]>", HOSTILE, "x"],
                },
                {f"m{HOSTILE}": "xy", "by": ColumnSchema(display_name=HOSTILE, unit=HOSTILE)},
            )
            plot = run.plot_embedding(color=f"c{HOSTILE}", by="by")
        page = Page(plot.to_html())
        assert {tag: len(parts) for tag, parts in page.parts.items() if tag in ("script", "img", "style")} == {
            "script": 2,
            "style": 1,
        }
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert set(decoded(page.facts, f"c{HOSTILE}")) == {HOSTILE, "<!--", "<script>"}
        assert page.facts["map"] == f"m{HOSTILE}"
        assert page.parts["title"] == [f"a/<img src=x onerror=alert(1)> · m{HOSTILE}"]
        frame = Page(plot._repr_html_() or "")
        assert list(frame.parts) == ["iframe"]
        assert dict(frame.attributes)["srcdoc"] == plot.to_html()
        assert plot.to_png().startswith(b"\x89PNG")  # nor a formula

    def test_rotation_is_rigid_and_spreads_the_map(self, data: Table) -> None:
        from rund._plots.points import view_of

        flat = np.zeros((500, 3), np.float32)
        flat[:, 1:] = RANDOM.normal(size=(500, 2)) * (1, 9)
        view = view_of(flat)
        assert np.allclose(view.rotation @ view.rotation.T, np.eye(3))
        assert np.linalg.det(view.rotation) == pytest.approx(1)
        spread = ((flat - view.middle) @ view.rotation.T).std(axis=0)
        assert spread[0] > spread[1] > spread[2] == pytest.approx(0, abs=1e-6)


def to_utc(column: Any) -> list[Any]:
    return column.cast(pa.timestamp("s", "UTC")).to_pylist()


class TestWhichRows:
    def test_the_newest_table_or_all_with_by(self, run: Run) -> None:
        assert run.plot_embedding().table_names == ("val-2",)
        plot = run.plot_embedding(by="epoch")
        assert plot.table_names == ("val-0", "val-1", "val-2")
        assert plot.panel_names == ("0", "1", "2")
        assert plot.point_count == 3 * (ROWS - 2)
        assert plot.left_out_count == 6
        facts = Page(plot.to_html()).facts
        assert facts["panels"] == [{"title": f"epoch {epoch}", "count": ROWS - 2} for epoch in range(3)]
        # Points of one panel lie together.
        assert decoded(facts, "epoch") == [str(epoch) for epoch in range(3) for _ in range(ROWS - 2)]
        assert "6 rows without a place left out" in plot.to_html()

    def test_named_tables(self, run: Run) -> None:
        assert run.plot_embedding(table="val-0").table_names == ("val-0",)
        both = run.plot_embedding(table=["val-2", "val-0"], by="late")
        assert both.panel_names == ("x", "none")

    def test_tables_in_other_spaces_are_left_alone(self, run: Run, data: Table) -> None:
        other = Table.from_dict({"n": [1, 2]}, "two", root_url=Path(data.url).parents[4])
        root = Path(data.url).parents[4]
        with rund.init("a", "spaces", root_url=root) as mixed:
            mixed.add_metrics({"m": places(2, 2), "epoch": [0, 0]}, {"m": "xy"}, other, name="other set")
            mixed.add_metrics({"m": places(3), "epoch": [0] * ROWS}, {"m": "xyz"}, data, name="other width")
            mixed.add_metrics({"n": places(2), "epoch": [0] * ROWS}, {"n": "xy"}, data, name="other name")
            mixed.add_metrics({"m": places(2), "epoch": [0] * ROWS}, {"m": "xy"}, data, name="same")
            mixed.add_metrics({"m": places(2), "epoch": [1] * ROWS}, {"m": "xy"}, data, name="newest")
            assert mixed.plot_embedding(by="epoch").table_names == ("same", "newest")

    def test_rows_that_come_later_are_not_in_it(self, data: Table) -> None:
        with (
            rund.init("a", "live", root_url=Path(data.url).parents[4]) as run,
            run.metrics_writer("growing", column_schemas={"m": "xy"}) as writer,
        ):
            writer.add_batch({"m": places(2, 5), "n": [0.5] * 5})
            plot = run.plot_embedding()  # sees what its own writer wrote
            writer.add_batch({"m": places(2, 5), "n": [0.5] * 5})
            writer.flush()
            assert plot.point_count == 5
            assert len(spots(Page(plot.to_html()).facts)) == 5
            assert run.plot_embedding().point_count == 10

    def test_many_panels(self, data: Table) -> None:
        with rund.init("a", "long", root_url=Path(data.url).parents[4]) as run:
            run.add_metrics({"m": places(2, 100), "epoch": np.arange(100)}, {"m": "xy"})
            plot = run.plot_embedding(by="epoch")
        assert len(plot.panel_names) == 16
        assert (plot.panel_names[0], plot.panel_names[-1]) == ("0", "99")
        assert "16 of 100 panels shown" in plot.to_html()
        assert plot.to_png().startswith(b"\x89PNG")

    def test_rows_that_have_no_place(self, data: Table) -> None:
        with rund.init("a", "nowhere", root_url=Path(data.url).parents[4]) as run:
            values = pa.array([[1, 2], [None, 2], [np.nan, 2], [np.inf, 2], None], pa.list_(pa.float32(), 2))
            run.add_metrics({"m": values, "n": [1, 2, 3, 4, 5]}, {"m": "xy"}, name="some")
            run.add_metrics({"m": places(2, 3, without=(0, 1, 2))}, {"m": "xy"}, name="none")
            some, none = (run.plot_embedding(table=name) for name in ("some", "none"))
        assert (some.point_count, some.left_out_count) == (1, 4)
        assert (none.point_count, none.left_out_count) == (0, 3)
        for plot in (some, none):
            assert plot.to_png().startswith(b"\x89PNG")
            assert Page(plot.to_html()).facts["count"] == plot.point_count


class TestWhatIsRead:
    @pytest.fixture
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The columns that are read while a test goes on."""
        found: list[str] = []
        scan = Table.scan

        def recorded(table: Table, columns: Any = None, *arguments: Any, **options: Any) -> Any:
            found.extend(columns)
            return scan(table, columns, *arguments, **options)

        monkeypatch.setattr(Table, "scan", recorded)
        return found

    def test_a_png_needs_the_map_and_the_colours(self, run: Run, reads: list[str], tmp_path: Path) -> None:
        run.plot_embedding(tmp_path / "a.png", color="loss")
        assert reads == ["hidden_umap", "loss"]
        reads.clear()
        run.plot_embedding(tmp_path / "a.png")
        assert sorted(reads) == ["example_id", "hidden_umap", "label"]

    def test_a_page_needs_no_bulk(self, run: Run, reads: list[str], tmp_path: Path) -> None:
        plot = run.plot_embedding(tmp_path / "a.html", by="epoch")
        assert not BULK & set(reads)
        assert {"hidden_umap", "loss", "path", "taken"} <= set(reads)
        # The input table once, and not again for a picture of the same rows.
        assert reads.count("taken") == 1
        reads.clear()
        plot.save(tmp_path / "a.png")
        assert reads == []

    def test_long_texts_are_cut(self, data: Table) -> None:
        with rund.init("a", "prose", root_url=Path(data.url).parents[4]) as run:
            run.add_metrics({"m": places(2, 2), "text": ["é" * 10_000, "short"]}, {"m": "xy"})
            facts = Page(run.plot_embedding().to_html()).facts
        assert set(decoded(facts, "text")) == {"é" * 200 + "…", "short"}

    def test_matplotlib_is_imported_for_a_png_alone(self, run: Run) -> None:
        code = (
            "import sys, rund\n"
            f"run = rund.Run.from_url({run.url!r})\n"
            "plot = run.plot_embedding()\n"
            "assert plot._repr_html_()\n"
            "assert 'matplotlib' not in sys.modules\n"
            "sys.modules['matplotlib'] = None\n"
            "assert plot._repr_png_() is None\n"
            "try:\n    plot.save('a.png')\nexcept rund.MissingPackageError as error:\n    print(error)\n"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "pip install 'rund[plot]'" in result.stdout


class TestPng:
    @pytest.mark.parametrize("color", ["loss", "path", "late", "taken"])
    def test_draws(self, run: Run, color: str | None, tmp_path: Path) -> None:
        plot = run.plot_embedding(tmp_path / "map.png", color=color, by="epoch")
        assert (tmp_path / "map.png").read_bytes() == plot.to_png()  # the same each time
        assert [path.name for path in tmp_path.iterdir()] == ["map.png"]

    def test_categories_have_their_colours(self, data: Table) -> None:
        """Each class is where it should be, in the colour that the legend gives it."""
        from matplotlib import image
        from matplotlib.colors import to_rgb
        from rund._plots.palette import COLOURS

        spot = pa.FixedSizeListArray.from_arrays(pa.array([0, 0, 10, 0, 0, 10, 10, 10], pa.float32()), 2)
        with rund.init("a", "corners", root_url=Path(data.url).parents[4]) as run:
            run.add_metrics({"m": spot, "class": ["a", "b", "c", "d"]}, {"m": "xy"})
            run.plot_embedding(picture := Path(run.bulk_data_url) / "corners.png", color="class")
        pixels = image.imread(picture)[:, :, :3]
        columns = pixels[:, : int(pixels.shape[1] * 0.9)]
        for colour, is_right, is_up in zip(COLOURS, (0, 1, 0, 1), (0, 0, 1, 1), strict=False):
            # Points are drawn with 0.8 of their colour on white.
            near = np.abs(columns - (0.8 * np.array(to_rgb(colour)) + 0.2)).max(axis=2) < 0.02
            rows, across = np.nonzero(near)
            assert len(rows) > 10
            assert (across.mean() > columns.shape[1] / 2) == is_right
            assert (rows.mean() < columns.shape[0] / 2) == is_up


class TestRefusals:
    def test_no_map(self, data: Table) -> None:
        with rund.init("a", "empty", root_url=Path(data.url).parents[4]) as run:
            with pytest.raises(rund.InvalidColumnError, match=r"has no map; make one with run\.reduce_embeddings"):
                run.plot_embedding()
            run.add_metrics({"hidden": np.ones((2, 8))}, name="val")
            with pytest.raises(rund.InvalidColumnError, match=r"no map \(it has the embeddings 'hidden'\)"):
                run.plot_embedding()
            with pytest.raises(rund.MetricsTableNotFoundError, match="no metrics table 'train'; it has: val"):
                run.plot_embedding(table="train")
            run.add_metrics({"a": places(2, 2), "b": places(3, 2)}, {"a": "xy", "b": "xyz"}, name="two")
            with pytest.raises(rund.InvalidColumnError, match=r"two has 2 maps: 'a', 'b'; say which with column"):
                run.plot_embedding()
            assert run.plot_embedding(column="b").column == "b"
            with pytest.raises(rund.InvalidColumnError, match="no map 'c' there; its maps are 'a', 'b'"):
                run.plot_embedding(column="c")
            with pytest.raises(rund.InvalidColumnError, match="'val' of a/empty has no map 'a'"):
                run.plot_embedding(table=["two", "val"], column="a")

    def test_columns_and_paths(self, run: Run, tmp_path: Path) -> None:
        with pytest.raises(
            rund.InvalidColumnError, match=r"color: the column 'nope' is not there; give one of example_id"
        ):
            run.plot_embedding(color="nope")
        with pytest.raises(rund.InvalidColumnError, match="by: the column 'pixels' holds no single values"):
            run.plot_embedding(by="pixels")
        with pytest.raises(rund.InvalidFieldError, match=r"neither \.png nor \.html"):
            run.plot_embedding(tmp_path / "map.svg")
        with pytest.raises(FileNotFoundError):
            run.plot_embedding(tmp_path / "not there" / "map.html")

    def test_too_large_a_page(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        from rund._plots import page

        plot = run.plot_embedding()
        monkeypatch.setattr(page, "MAX_BYTES", 1_000)
        with pytest.raises(rund.OverLimitError, match=r"58 points make a page of 0 MB.*draw a PNG"):
            plot.to_html()

    def test_without_the_input_table(self, run: Run, data: Table, tmp_path: Path) -> None:
        bundle = tmp_path / "bundle"
        run.flush()
        run.to_bundle(bundle)
        plot = Run.from_url(bundle).plot_embedding(tmp_path / "map.html", by="epoch")
        assert plot.color is None
        assert plot.point_count == 3 * (ROWS - 2)
        with pytest.raises(rund.InvalidColumnError, match=r"'label' is not there \(a bundle holds no input tables"):
            Run.from_url(bundle).plot_embedding(color="label")


class TestCommand:
    def test_draws(self, run: Run, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        arguments = ["plot", "embedding", run.url, "--color", "label", "--by", "epoch"]
        assert run_in_process([*arguments, "--output", "a.png", "--output", "a.html", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["points"] == 3 * (ROWS - 2)
        assert document["left_out"] == 6
        assert document["panels"] == ["0", "1", "2"]
        assert document["files"] == [str(tmp_path / name) for name in ("a.png", "a.html")]
        assert all(Path(path).stat().st_size > 1000 for path in document["files"])
        assert run_in_process(["plot", "embedding", run.url, "--table", "val-1"]) == 0
        captured = capsys.readouterr()
        assert captured.out.startswith(f"drew {ROWS - 2} points of a/maps <b> to maps_b_-hidden_umap.html (")
        assert captured.err == "  left out: 2 rows without a place in hidden_umap\n"
        assert (tmp_path / "maps_b_-hidden_umap.html").read_text().startswith("<!DOCTYPE html>")

    def test_refuses(self, run: Run, capsys: Any) -> None:
        assert run_in_process(["plot", "embedding", run.url, "--output", "a.gif"]) == 2
        assert run_in_process(["plot", "embedding", run.url, "--table", "nope"]) == 3
        assert run_in_process(["plot", "embedding", run.url, "--color", "nope"]) == 1
        assert "rund: color: the column 'nope' is not there" in capsys.readouterr().err


def test_says_what_it_is(run: Run) -> None:
    plot = run.plot_embedding(color="loss")
    assert isinstance(plot, EmbeddingPlot)
    assert "val-2" in repr(plot)
    assert "loss" in repr(plot)
