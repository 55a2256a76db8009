"""The layout of many rows: as good as umap-learn's, and the same by any number of threads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.reduce, pytest.mark.filterwarnings("default"), pytest.mark.xdist_group("umap")]


def test_a_large_map_is_as_good_and_the_same_by_any_number_of_threads(tmp_path: Path) -> None:
    code = f"""
import sys
import numpy as np
from pathlib import Path
from rund_daemon.reducers import umap_method
from rund_daemon.reducers.fitting import fit
from rund_daemon.reducers.parameters import Parameters
from sklearn.datasets import load_digits
umap_method.LARGE_ROWS = 500
fitted = fit(load_digits().data.astype(np.float32)[:1000], Parameters(seed=1), "t", "e")
np.save(Path({str(tmp_path)!r}) / sys.argv[1], fitted.map)
assert fitted.origin.quality["trustworthiness"] >= 0.95, fitted.origin.quality
assert fitted.origin.quality["neighbour_overlap"] > 0.4, fitted.origin.quality
"""
    for threads in ("1", "2"):
        environment = {"NUMBA_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
        subprocess.run([sys.executable, "-c", code, threads], check=True, timeout=100, env=environment)
    first, second = (np.load(tmp_path / f"{threads}.npy") for threads in ("1", "2"))
    assert first.tobytes() == second.tobytes()
