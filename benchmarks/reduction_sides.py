"""The sides of `reductions.py`, each in a process of its own, and what processes hold and take.

    python benchmarks/reduction_sides.py SIDE FOLDER METHOD

The last line of what it prints are its figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import numpy.typing as npt

SEED = 1
SAMPLE_SECONDS = 0.05
TURNS = 3
CANCELLED = 2
FIRST_JOB_PATIENCE_S = 900.0

Figures = dict[str, Any]
Matrix = npt.NDArray[np.float32]


def main() -> None:
    """Is one of the sides."""
    side, folder, method = sys.argv[1:]
    print(f"\n{json.dumps(SIDES[side](Path(folder), method))}", flush=True)


class Peak:
    """The most memory that a process and those that it started have held at one time.

    Attributes:
        anonymous_bytes: for themselves, without mapped files: what the daemon's cap counts.
        bytes: with the files of libraries and data that they have mapped, those that others map too by their share.
    """

    def __init__(self, pid: int) -> None:
        self.anonymous_bytes = self.bytes = 0
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
            held = [_held(pid) for pid in _family(self._pid)]
            self.anonymous_bytes = max(self.anonymous_bytes, sum(anonymous for anonymous, _ in held))
            self.bytes = max(self.bytes, sum(whole for _, whole in held))


def _family(pid: int) -> list[int]:
    try:
        lists = [listed.read_text().split() for listed in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return [pid]
    return [pid] + [one for listed in lists for child in listed for one in _family(int(child))]


def _held(pid: int) -> tuple[int, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    found = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines[1:])}
    return found["Pss_Anon"] + found["Pss_Shmem"], found["Pss"]


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


def by_rund(folder: Path, method: str) -> Figures:
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


def threads(folder: Path, method: str) -> Figures:
    """A second epoch through the kept model, by one thread and by all, warm, in turns."""
    from rund_daemon.reducers.fitted import load  # noqa: PLC0415  # its libraries are for who measures them
    from rund_daemon.reducers.local_threads import LocalThreads  # noqa: PLC0415
    from rund_daemon.reducers.transforming import transform  # noqa: PLC0415

    _, second = _arrays(folder)
    model = load(folder / f"{method}.arrow")
    transform(model, second[:10], "t", "e")
    executors = {"one": LocalThreads(1), "all": LocalThreads()}
    figures: Figures = {name: [] for name in executors}
    maps = set()
    for turn in range(TURNS):
        # First one, then the other: what slows the machine down for a while is no one's gain.
        for name, executor in list(executors.items())[:: 1 if turn % 2 else -1]:
            places, took = _timed(partial(transform, model, second, "t", "e", executor=executor))
            figures[name].append(took)
            maps.add(places.tobytes())
    assert len(maps) == 1, "the rows are not the same"
    return figures


def job(folder: Path, method: str) -> Figures:
    """A job of a daemon, from call to end: fits the newer of two epochs and maps both. Some are cancelled first."""
    import rund  # noqa: PLC0415  # as above
    from rund_daemon.cli.app import run as rund_command  # noqa: PLC0415

    first, second = _arrays(folder)
    root = folder / "root"
    client = rund.connect(root)
    try:
        foreign = rund.Table.from_dict({"id": np.arange(len(first))}, root_url=root)
        with rund.init("bench", "maps", root_url=root) as run:
            for vectors in (second, first):
                run.add_metrics({"embedding": vectors}, foreign_table_url=foreign.url)
            del first, second, vectors
            ask = partial(run.reduce_embeddings_per_dataset, wait=False, method=method, random_state=SEED)
            cancelled = [_cancelled(client, ask(), root) for _ in range(CANCELLED)]
            began = perf_counter()
            begun = ask()
            with Peak(_worker_of(root)) as peak:
                done = client.wait_operation(begun.name, FIRST_JOB_PATIENCE_S)
            seconds = perf_counter() - began
            if not done.done or done.error is not None:
                raise SystemExit(f"the job failed: {done}")
            stored = dict(next(iter(client.list_reducers("bench"))).quality)
    finally:
        rund_command(["stop", "--root", str(root)])
    held = {"anonymous_bytes": peak.anonymous_bytes, "whole_bytes": peak.bytes}
    return {"job_seconds": seconds, "cancelled_seconds": cancelled, "stored quality": stored} | held


def _cancelled(client: Any, begun: Any, root: Path) -> float:
    """Seconds from the call until the operation has ended and its process is gone."""
    while not client.get_operation(begun.name).message.startswith("fitting"):
        time.sleep(SAMPLE_SECONDS)
    worker = _worker_of(root)
    began = perf_counter()
    client.cancel_operation(begun.name)
    client.wait_operation(begun.name)
    while Path(f"/proc/{worker}").exists():
        time.sleep(SAMPLE_SECONDS / 10)
    return perf_counter() - began


def _worker_of(root: Path) -> int:
    """The process for jobs of a root's daemon."""
    while True:
        for pid in _with_words("rund_daemon.reducing.worker"):
            with contextlib.suppress(OSError, ValueError):
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                if str(root) in _words(parent):
                    return pid
        time.sleep(SAMPLE_SECONDS / 10)


def _with_words(word: str) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and word in _words(int(folder.name)):
            yield int(folder.name)


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def digits(folder: Path, method: str) -> Figures:
    """scikit-learn's digits, all of them."""
    from rund_daemon.reducers.fitting import fit  # noqa: PLC0415
    from rund_daemon.reducers.parameters import Parameters  # noqa: PLC0415
    from sklearn.datasets import load_digits  # noqa: PLC0415

    values = load_digits().data.astype(np.float32)
    return {"quality": dict(fit(values, Parameters(method=method, seed=SEED), "t", "e").origin.quality)}


def _arrays(folder: Path) -> tuple[Matrix, Matrix]:
    return np.load(folder / "first.npy"), np.load(folder / "second.npy")


def _worth(vectors: Matrix, places: Matrix) -> Figures:
    from rund_daemon.reducers.quality import measure  # noqa: PLC0415  # after what is measured

    return measure(vectors, places, "euclidean", SEED)


SIDES: dict[str, Callable[[Path, str], Figures]] = {
    "umap-learn": umap_learn,
    "rund": by_rund,
    "threads": threads,
    "job": job,
    "digits": digits,
}

if __name__ == "__main__":
    main()
