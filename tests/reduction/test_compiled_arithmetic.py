"""What is compiled comes to the bytes that Python comes to without a compiler, so to those of every other compilation.

A compiler that may reorder sums, or put a product and a sum into one operation, comes to other last bits whenever it
decides otherwise: in another process, beside other code, for another kind of array.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.reduce, pytest.mark.filterwarnings("default"), pytest.mark.xdist_group("umap")]

CODE = {
    "joining": """
from rund_daemon.reducers.joining import join
places = random.normal(size=(60, components)).astype(np.float32) * 5
indices = random.integers(0, 60, size=(20, 15)).astype(np.int32)
distances = np.sort(random.gamma(2.0, size=(20, 15)), axis=1).astype(np.float32)
found = join(
    places, (indices, distances),
    epochs=30, curve=(1.58, 0.895), seed=1, connectivity=0.0, repulsion=1.0, learning_rate=0.25, negatives=5,
)
""",
    "layout": """
from rund_daemon.reducers.layout import spread_out
start = random.normal(size=(60, components)).astype(np.float32) * 5
begins = np.arange(0, 601, 10, dtype=np.int32)
tails = random.integers(0, 60, size=600).astype(np.int32)
weights = random.uniform(0.05, 1.0, size=600).astype(np.float32)
found = spread_out(
    start, (begins, tails, weights),
    epochs=20, curve=(1.58, 0.895), seed=1, repulsion=1.0, learning_rate=1.0, negatives=5,
)
""",
}
BEGIN = """
import sys
import numpy as np
random, components = np.random.default_rng(0), int(sys.argv[2])
np.seterr(over="ignore")
"""


def places(code: str, components: int, path: Path, *, compiled: bool) -> np.ndarray:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "0" if compiled else "1"}
    done = [sys.executable, "-c", BEGIN + code + "np.save(sys.argv[1], found)", str(path), str(components)]
    subprocess.run(done, check=True, timeout=100, env=environment)
    return np.load(path)


@pytest.mark.parametrize("components", [2, 3])
@pytest.mark.parametrize("code", CODE.values(), ids=CODE)
def test_a_compiler_changes_no_bit(code: str, components: int, tmp_path: Path) -> None:
    compiled = places(code, components, tmp_path / "compiled.npy", compiled=True)
    plain = places(code, components, tmp_path / "plain.npy", compiled=False)
    differ = np.flatnonzero((compiled != plain).any(axis=1))
    assert compiled.tobytes() == plain.tobytes(), f"{len(differ)} of {len(plain)} rows differ: {differ}"
