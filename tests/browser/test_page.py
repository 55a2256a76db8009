"""The page of a map in a real browser: it draws, zooms, turns, tells values and changes colours, and loads nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rund
from rund import ColumnSchema, Run, Table
from rund._plots.palette import COLOURS

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright here; `make test-browser` installs it")

ROWS = 100_000
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
NAMES = dict(enumerate(["zero", "one", "two", HOSTILE]))
# Without WebGL: pages must work on hosts that have no graphics card.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-3d-apis", "--disable-background-networking", "--no-first-run")

CENTRES = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)


@pytest.fixture(scope="module")
def runs(daemon: Any) -> dict[int, Run]:
    """Runs with a map of 2 and of 3 dimensions: four classes at the corners of a square, in two epochs."""
    root = daemon().root
    random = np.random.default_rng(0)
    labels = np.arange(ROWS) % 4
    data = Table.from_dict(
        {"label": labels, "path": [f"{row:06}.png" for row in range(ROWS)]},
        column_schemas={"label": ColumnSchema(role="label", value_map=NAMES)},
        root_url=root,
    )
    made = {}
    for width in (2, 3):
        with rund.init("browser", f"width {width}", root_url=root) as run:
            for epoch in range(2):
                spots = np.zeros((ROWS, width), np.float32)
                spots[:, :2] = CENTRES[labels]
                spots += random.normal(scale=0.5, size=spots.shape).astype(np.float32)
                run.add_metrics(
                    {"map": pa.FixedSizeListArray.from_arrays(pa.array(spots.ravel()), width), "loss": spots[:, 0]},
                    {"map": "xyz" if width == 3 else "xy"},
                    data,
                    constants={"epoch": epoch},
                )
        made[width] = run
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = os.environ.get("CHROMIUM")
    if not chromium:
        pytest.skip("no Chromium is named; run `make test-browser`, or set CHROMIUM")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, runs: dict[int, Run], tmp_path: Path) -> Iterator[Opened]:
    """Opens the page of a plot, and sees to it that nothing was loaded and nothing went wrong."""
    faults: list[str] = []
    loaded: list[str] = []

    def page_of(width: int, **options: Any) -> Any:
        runs[width].plot_embedding(tmp_path / "map.html", **options)
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: faults.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda request: loaded.append(request.url))
        page.goto((tmp_path / "map.html").as_uri())
        page.wait_for_selector("body[data-ready]")
        return page

    yield page_of
    assert faults == []
    assert loaded == [(tmp_path / "map.html").as_uri()]


def colours_at(page: Any, column: str) -> dict[str, tuple[float, float]]:
    """Where the points of each colour of the palette lie, in the middle, as shares of the picture."""
    page.select_option("#colour", label=column)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(
        """(colours) => {
          const canvas = document.getElementById("points");
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          const found = {};
          for (const colour of colours) {
            const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
            let [count, x, y] = [0, 0, 0];
            for (let i = 0; i < pixels.length; i += 4) {
              if (wanted.every((value, k) => Math.abs(value - pixels[i + k]) <= 6)) {
                count++; x += (i / 4) % canvas.width; y += Math.floor(i / 4 / canvas.width);
              }
            }
            if (count > 50) found[colour] = [x / count / canvas.width, y / count / canvas.height];
          }
          return found;
        }""",
        list(COLOURS),
    )


def values(page: Any) -> dict[str, str]:
    """What the page tells of the row under the pointer."""
    page.wait_for_selector("#values:not([hidden])")
    names, texts = (page.locator(f"#values {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(names, texts, strict=True))


def scale(page: Any) -> float:
    return float(page.get_attribute("#stage", "data-scale"))


def test_each_class_is_where_it_should_be(opened: Opened) -> None:
    found = colours_at(opened(2), "label")
    for colour, (right, up) in zip(COLOURS, CENTRES / 10, strict=False):
        assert (found[colour][0] > 0.5) == (right == 1)
        assert (found[colour][1] < 0.5) == (up == 1)


def test_tells_the_values_of_the_row(opened: Opened, runs: dict[int, Run]) -> None:
    page = opened(2)
    box = page.locator("#stage").bounding_box()
    corner = colours_at(page, "label")[COLOURS[0]]
    page.mouse.move(box["x"] + corner[0] * box["width"], box["y"] + corner[1] * box["height"])
    told = values(page)
    assert told["label"] == "zero"
    row = int(told["example_id"])
    assert told["path"] == f"{row:06}.png"
    assert told["epoch"] == "1"
    kept = runs[2].metrics_tables[-1].head(row + 1)
    spot = kept["map"][row].as_py()
    assert [float(text) for text in told["map"].split(", ")] == pytest.approx(spot, rel=1e-4)
    assert np.hypot(*spot) < 0.5, "it is not the point under the pointer"
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    assert page.locator("#values").is_hidden()


def test_zooms_to_the_pointer_and_back(opened: Opened) -> None:
    page = opened(2)
    box = page.locator("#stage").bounding_box()
    corner = colours_at(page, "label")[COLOURS[0]]
    before = scale(page)
    page.mouse.move(box["x"] + corner[0] * box["width"], box["y"] + corner[1] * box["height"])
    for _ in range(3):
        page.mouse.wheel(0, -400)
    page.wait_for_function(f"Number(document.getElementById('stage').dataset.scale) > {5 * before}")
    assert set(colours_at(page, "label")) == {COLOURS[0]}  # the others are out of the picture
    page.click("#reset")
    page.wait_for_function(f"Math.abs(Number(document.getElementById('stage').dataset.scale) - {before}) < 1e-9")
    assert len(colours_at(page, "label")) == 4


def test_drag_moves(opened: Opened) -> None:
    page = opened(2)
    box = page.locator("#stage").bounding_box()
    before = colours_at(page, "label")[COLOURS[0]]
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 380, box["y"] + 260)
    page.mouse.up()
    after = colours_at(page, "label")[COLOURS[0]]
    assert after[0] - before[0] == pytest.approx(80 / box["width"], abs=0.01)
    assert after[1] - before[1] == pytest.approx(-40 / box["height"], abs=0.01)


def test_drag_turns_three_dimensions(opened: Opened) -> None:
    page = opened(3)
    box = page.locator("#stage").bounding_box()
    before = page.evaluate("document.getElementById('points').toDataURL()")
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 340)
    page.mouse.up()
    page.wait_for_function("(old) => document.getElementById('points').toDataURL() !== old", arg=before)
    page.dblclick("#stage")
    page.wait_for_function("(old) => document.getElementById('points').toDataURL() === old", arg=before)


def test_colours_by_any_column(opened: Opened) -> None:
    page = opened(2, color="loss")
    assert page.locator("#legend h2").inner_text() == "loss"
    options = page.locator("#colour option").all_inner_texts()
    assert options == ["one colour", "example_id", "loss", "epoch", "label", "path"]
    for option in options:
        page.select_option("#colour", label=option)
    assert page.locator("#legend h2").first.inner_text() == "path"
    assert set(colours_at(page, "one colour")) == {COLOURS[0]}
    assert page.locator("#legend").is_hidden()
    colours_at(page, "label")
    assert page.locator("#legend span").all_inner_texts() == list(NAMES.values())  # text, and never markup
    assert page.locator("img").count() == 0


def test_shows_one_class_alone(opened: Opened) -> None:
    page = opened(2)
    assert len(colours_at(page, "label")) == 4
    page.locator("#legend button").nth(1).click()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.locator("#legend button").nth(1).get_attribute("aria-pressed") == "true"
    before = page.evaluate("document.getElementById('points').toDataURL()")
    page.locator("#legend button").nth(1).click()
    page.wait_for_function("(old) => document.getElementById('points').toDataURL() !== old", arg=before)


def test_epochs_side_by_side(opened: Opened) -> None:
    page = opened(2, by="epoch")
    box = page.locator("#stage").bounding_box()
    told = []
    for share in (0.25, 0.75):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
        for step in range(60):  # from the middle of the panel outwards, until there is a point
            page.mouse.move(box["x"] + share * box["width"] + 2 * step, box["y"] + 0.5 * box["height"] + 2 * step)
            if page.locator("#values").is_visible():
                break
        told.append(values(page)["epoch"])
    assert told == ["0", "1"]
