"""Measures maps of many vectors beside umap-learn called directly: time, processor time, memory, and their worth.

    .venvs/reduce/bin/python benchmarks/reductions.py [--rows 100000] [--rounds 1] [--quick]

Each side fits one array and maps another of the same size, in a process of its own, twice: first cold, with all that is
imported and compiled, then warm. The sides take turns. Then the second array is mapped once more through the kept
model, by one process and by all, in turns. Both sides have the same parameters, and a seed. The figures go to
`benchmarks/results/reductions.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from machine import machine

RESULTS = Path(__file__).parent / "results" / "reductions.json"
WIDTH = 128
SEED = 1
SAMPLE_SECONDS = 0.05

Figures = dict[str, Any]
Matrix = npt.NDArray[np.float32]


def main() -> None:
    """Measures, or is one of the sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--method", default="umap", choices=["umap", "pacmap"])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and not written to the results")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        figures = SIDES[options.side](options.folder, options.method)
        print(f"\n{json.dumps(figures)}", flush=True)
        return
    rows = options.rows // 10 if options.quick else options.rows
    with tempfile.TemporaryDirectory() as folder:
        first, second = np.split(clustered(2 * rows), 2)
        np.save(Path(folder) / "first.npy", first)
        np.save(Path(folder) / "second.npy", second)
        measured = [measure(Path(folder), options.method) for _ in range(options.rounds)]
    document = {"machine": machine(), "rows": rows, "width": WIDTH, "method": options.method, "rounds": measured}
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


def clustered(rows: int) -> Matrix:
    """Vectors as a network's last layer but one gives: groups of unlike size and spread, on bent surfaces."""
    random = np.random.default_rng(SEED)
    groups, inner, hidden = 40, 12, 256
    group = random.choice(groups, rows, p=random.dirichlet(np.full(groups, 2.0)))
    spread = random.gamma(4.0, 0.15, size=(groups, inner))
    inside = random.normal(size=(groups, inner))[group] * 2.5 + random.normal(size=(rows, inner)) * spread[group]
    bent = np.maximum(inside @ random.normal(size=(inner, hidden)) / np.sqrt(inner) + random.normal(size=hidden) / 2, 0)
    vectors = bent @ random.normal(size=(hidden, WIDTH)) / np.sqrt(hidden)
    noise = random.normal(size=vectors.shape) * 0.05 * vectors.std()
    return np.asarray(vectors + noise, dtype=np.float32)


def measure(folder: Path, method: str) -> Figures:
    """One round."""
    sides = ("umap-learn", "rund") if method == "umap" else ("rund",)
    figures: Figures = {side: _in_a_process(side, folder, method) for side in sides}
    figures["transform by one process and by all"] = _in_a_process("processes", folder, method)
    return figures


def _in_a_process(side: str, folder: Path, method: str) -> Figures:
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--method", method]
    began, load = perf_counter(), os.getloadavg()[0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child, _Peak(child.pid) as peak:
        assert child.stdout is not None
        said = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"{side} failed")
    figures: Figures = json.loads(said.splitlines()[-1])
    seconds = perf_counter() - began
    return figures | {
        "seconds": seconds,
        "peak_bytes": peak.bytes,
        "load_before": load,
        "load_after": os.getloadavg()[0],
    }


class _Peak:
    """The most memory that a process and those that it started have held at one time; shared pages count once."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, sum(map(_held, _family(self._pid))))


def _family(pid: int) -> list[int]:
    try:
        lists = [listed.read_text().split() for listed in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return [pid]
    return [pid] + [one for listed in lists for child in listed for one in _family(int(child))]


def _held(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _timed(work: Callable[[], Any]) -> tuple[Any, Figures]:
    before, began = _processor_seconds(), perf_counter()
    made = work()
    return made, {"seconds": perf_counter() - began, "processor_seconds": _processor_seconds() - before}


def _processor_seconds() -> float:
    """Of this process and of those that it started, dead or alive."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ticks = sum(
        sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        for pid in _family(os.getpid())[1:]
    )
    return sum(one.ru_utime + one.ru_stime for one in used) + ticks / os.sysconf("SC_CLK_TCK")


def umap_learn(folder: Path, method: str) -> Figures:
    """umap-learn, called as its manual says."""
    first, second = _arrays(folder)
    figures: Figures = {}
    for state in ("cold", "warm"):

        def fit() -> Any:
            import umap  # noqa: PLC0415  # its import is measured

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return umap.UMAP(n_components=3, n_neighbors=15, random_state=SEED).fit(first)

        model, figures[f"{state} fit"] = _timed(fit)
        places, figures[f"{state} transform"] = _timed(partial(model.transform, second))
    figures["fitted"] = _worth(first, model.embedding_)
    figures["transformed"] = _worth(second, places)
    return figures


def rund(folder: Path, method: str) -> Figures:
    """The same through rund's reducers, with the model kept and read again."""
    first, second = _arrays(folder)
    figures: Figures = {}
    for state in ("cold", "warm"):

        def fit() -> Any:
            from rund_daemon.reducers.fitted import load, save  # noqa: PLC0415  # as above
            from rund_daemon.reducers.fitting import fit  # noqa: PLC0415
            from rund_daemon.reducers.parameters import Parameters  # noqa: PLC0415

            save(fit(first, Parameters(method=method, seed=SEED), "t", "e"), folder / f"{method}.arrow")
            return load(folder / f"{method}.arrow")

        def transform(model: Any) -> Matrix:
            from rund_daemon.reducers.transforming import transform  # noqa: PLC0415

            return transform(model, second, "t", "e")

        model, figures[f"{state} fit"] = _timed(fit)
        places, figures[f"{state} transform"] = _timed(partial(transform, model))
    figures["stored quality"] = dict(model.origin.quality)
    figures["fitted"] = _worth(first, model.map)
    figures["transformed"] = _worth(second, places)
    return figures


def processes(folder: Path, method: str) -> Figures:
    """A second epoch through the kept model, by one thread and by all, warm, in turns."""
    from rund_daemon.reducers.fitted import load  # noqa: PLC0415  # its libraries are for who measures them
    from rund_daemon.reducers.local_threads import LocalThreads  # noqa: PLC0415
    from rund_daemon.reducers.transforming import transform  # noqa: PLC0415

    _, second = _arrays(folder)
    model = load(folder / f"{method}.arrow")
    executors = {"one": LocalThreads(1), "all": LocalThreads()}
    transform(model, second[:10], "t", "e")
    figures: Figures = {}
    maps = set()
    for turn in range(2):
        for name, executor in executors.items():
            places, figures[f"{name}, turn {turn}"] = _timed(
                partial(transform, model, second, "t", "e", executor=executor)
            )
            maps.add(places.tobytes())
    assert len(maps) == 1, "the rows are not the same"
    return figures


def _arrays(folder: Path) -> tuple[Matrix, Matrix]:
    return np.load(folder / "first.npy"), np.load(folder / "second.npy")


def _worth(vectors: Matrix, places: Matrix) -> Figures:
    from rund_daemon.reducers.quality import measure  # noqa: PLC0415  # after what is measured

    return measure(vectors, places, "euclidean", SEED)


SIDES: dict[str, Callable[[Path, str], Figures]] = {"umap-learn": umap_learn, "rund": rund, "processes": processes}

if __name__ == "__main__":
    main()
