"""The page of figures is made of the results of `make bench`, so what it says was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
REPORT = REPOSITORY / "benchmarks/report.py"


def test_the_page_is_that_of_the_results() -> None:
    subprocess.run([sys.executable, REPORT, "--check"], check=True)
    assert (REPOSITORY / "docs/images/performance.png").exists()
