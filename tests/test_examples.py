"""The demo runs, and shows what it says it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SAMPLE = r"^ +\d+ +\d+\.\d{3} +[a-z]+ +[a-z]+ +[01]\.\d\d$"


@pytest.mark.timeout(300)
@pytest.mark.long
def test_digits(tmp_path: Path) -> None:
    show_digits(tmp_path)


@pytest.mark.reduce
@pytest.mark.timeout(600)
def test_digits_with_maps(tmp_path: Path) -> None:
    assert find_spec("umap") is not None
    show_digits(tmp_path)


def show_digits(tmp_path: Path) -> None:
    """Runs the demo, with maps where the libraries for them are."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    environment.pop("XDG_RUNTIME_DIR", None)
    result = subprocess.run(
        [sys.executable, "-W", "error", REPOSITORY / "examples/digits.py", "--output", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    subprocess.run([Path(sys.executable).with_name("rund"), "stop", "--root", tmp_path / "root"], check=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^status\s+COMPLETED$", result.stdout, flags=re.MULTILINE)
    # 1,797 digits in each of 10 epochs; 4 processes with 140 steps each.
    assert re.search(r"^samples\s+17970\b", result.stdout, flags=re.MULTILINE)
    assert re.search(r"^history\s+560\b", result.stdout, flags=re.MULTILINE)
    assert len(re.findall(SAMPLE, result.stdout, flags=re.MULTILINE)) == 10
    picture = tmp_path / "digits.png"
    assert str(picture) in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    if "The maps of the hidden layer are left out" in result.stdout:
        assert find_spec("umap") is None
        return
    # A map of the last epoch, and one of all ten.
    assert all(str(tmp_path / name) in result.stdout for name in ("digits-map.html", "digits-map.png"))
    assert (tmp_path / "digits-map.png").read_bytes().startswith(b"\x89PNG")
    assert "1,797 points" in (tmp_path / "digits-map.html").read_text()
