"""The pages of figures are made of the results of `make bench`, so what they say was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.parametrize("report", ["report.py", "reduction_page.py"])
def test_a_page_is_that_of_the_results(report: str) -> None:
    subprocess.run([sys.executable, REPOSITORY / "benchmarks" / report, "--check"], check=True)
    assert (REPOSITORY / "docs/images/performance.png").exists()
