"""Measures a root that holds many runs: 100,000 unless told otherwise.

    make bench-runs                 (or: python benchmarks/runs_at_scale.py --runs 10000)

The runs are made through the API, by `CreateRun`; then the daemon is started anew, and what users wait for is timed:
`GetRun` by name, the first page of `ListRuns`, filters and orders over all runs, and the start itself. Beside them
stands the memory that the daemon takes on its way from no runs to all of them. Figures go to `benchmarks/results/`,
with the machine and the date.

This is the protocol's speed, so the calls are made with the stubs and not with `rund`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc import aio
from machine import machine
from rund_pb.v1 import run_pb2, run_service_pb2, server_service_pb2, value_pb2
from rund_pb.v1.run_service_pb2_grpc import RunServiceStub
from rund_pb.v1.server_service_pb2_grpc import ServerServiceStub

if TYPE_CHECKING:  # protoc gives the types of an asynchronous stub no name at run time
    from rund_pb.v1.run_service_pb2_grpc import RunServiceAsyncStub

RESULTS = Path(__file__).parent / "results" / "runs_at_scale.json"
PROJECTS = 20
CALLS_IN_FLIGHT = 64
# Most of them hold for no run or few, so that all runs have to be considered.
LISTS: Mapping[str, tuple[str, str]] = {
    "status": ("status = RUNNING", ""),
    "name, with *": ('run_name = "*99999"', ""),
    "project and status": ("project_name = project-07 AND status = FAILED", ""),
    "label": ("labels.team = team-10", ""),
    "has a label": ("labels:none", ""),
    "parameters": ("parameters.lr < 0.0001 AND parameters.batch_size = 64 AND parameters.model = none", ""),
    "nested parameter": ("parameters.optimizer.weight_decay > 0.2", ""),
    "last output": ("outputs.accuracy > 0.9999 AND outputs.epoch = 3", ""),
    "create time": ("create_time < 2020-01-01", ""),
    "end time": ("end_time > 2100-01-01", ""),
    "a word": ("nothing-here", ""),
    "NOT and OR": ("NOT (status = COMPLETED OR labels.team = team-0)", ""),
    "by update time": ("", "update_time desc"),
    "by parameter and name": ("", "parameters.lr desc, run_name"),
    "by last output, filtered": ("parameters.optimizer.name = sgd", "outputs.accuracy desc"),
}
MIB = 1024 * 1024


@dataclass(frozen=True)
class Latency:
    """How long a call takes, in milliseconds. The first one is not among the others."""

    calls: int
    first_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Memory:
    """What the daemon holds in memory at one moment, in MiB.

    Attributes:
        moment: which one.
        private_mib: memory of its own.
        mapped_mib: pages of files, the catalog's among them, which the kernel takes back when it needs them.
    """

    moment: str
    private_mib: float
    mapped_mib: float


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    runs: int
    create_runs_per_s: int
    calls: dict[str, Latency]
    daemon_start_s: list[float]
    memory_while_created: list[Memory]
    memory_after_start: Memory
    memory_after_reads: Memory
    catalog_mib: float


@dataclass(frozen=True)
class Daemon:
    """A running daemon."""

    process: subprocess.Popen[bytes]
    address: str
    start_s: float

    def settle(self) -> None:
        """Waits until it has done what it does in the background, such as writing each run's `run.json`."""
        used_s = -1.0
        while (now_s := self.cpu_s()) - used_s > 0.02:
            used_s = now_s
            time.sleep(2)

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, moment: str) -> Memory:
        """Reads what it holds now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
        mapped = kib["RssFile"] + kib["RssShmem"]
        return Memory(moment, round(kib["RssAnon"] / 1024, 1), round(mapped / 1024, 1))


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description="Measures a root that holds many runs.")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument(
        "--root", type=Path, help="folder that is kept; if it holds runs, they are measured. Else a new one"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rund-bench-") as temporary:
        figures = measure(arguments.root or Path(temporary), arguments.runs)
    print_table(figures)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps({"machine": machine() | versions(), **asdict(figures)}, indent=1) + "\n")
    print(f"\nwritten to {arguments.results}")


def measure(root: Path, runs: int) -> Figures:
    """Fills a root and gives all figures."""
    names = list(run_names(runs))
    growth: list[Memory] = []
    seconds = 0.0
    if not (root / "catalog").exists():
        growth, seconds = fill(root, names)
    starts = [start_again(root) for _ in range(4)]
    with serving(root) as daemon, grpc.insecure_channel(daemon.address) as channel:
        after_start = daemon.memory("after a start")
        calls = time_calls(RunServiceStub(channel), names)
        after_reads = daemon.memory("after those calls")
        starts.append(daemon.start_s)
    return Figures(
        runs=runs,
        create_runs_per_s=round(runs / seconds) if seconds else 0,
        calls=calls,
        daemon_start_s=[round(start, 3) for start in starts],
        memory_while_created=growth,
        memory_after_start=after_start,
        memory_after_reads=after_reads,
        catalog_mib=round(allocated_bytes(root / "catalog") / MIB, 1),
    )


def fill(root: Path, names: list[tuple[str, str]]) -> tuple[list[Memory], float]:
    """Makes the runs. Gives the daemon's memory on the way, and the seconds it took."""
    with serving(root) as daemon:
        began = time.perf_counter()
        growth = asyncio.run(create_runs(daemon, names))
        seconds = time.perf_counter() - began
        print("waiting for the daemon to be at rest")
        daemon.settle()
    return growth, seconds


def start_again(root: Path) -> float:
    """How long the daemon takes to start."""
    with serving(root) as daemon:
        return daemon.start_s


def run_names(count: int) -> Iterator[tuple[str, str]]:
    """Project and run."""
    return ((f"project-{number % PROJECTS:02}", f"run-{number:06}") for number in range(count))


@contextmanager
def serving(root: Path) -> Iterator[Daemon]:
    """Starts a daemon and stops it at the end. Its start is timed from the spawn to its first answer."""
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="rund-"))  # the path of a socket must be short
    address = f"unix:{folder}/daemon.sock"
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "rund_daemon", "serve", "--root", root, "--listen", address],
        stdout=subprocess.DEVNULL,
        stderr=(root / "daemon.log").open("ab"),
    )
    try:
        wait_until_ready(process, address)
        yield Daemon(process, address, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(60)


def wait_until_ready(process: subprocess.Popen[bytes], address: str) -> None:
    """Asks for the server info until it comes."""
    while process.poll() is None:
        with grpc.insecure_channel(address) as channel:
            try:
                ServerServiceStub(channel).GetServerInfo(server_service_pb2.GetServerInfoRequest(), timeout=1)
            except grpc.RpcError:
                time.sleep(0.01)
            else:
                return
    raise SystemExit(f"the daemon ended with exit code {process.returncode}; see daemon.log in its root")


async def create_runs(daemon: Daemon, names: list[tuple[str, str]]) -> list[Memory]:
    """Makes all runs, some calls at a time. Gives the daemon's memory at several points on the way."""
    growth = [daemon.memory("no runs")]
    share = max(1, len(names) // 10)
    async with aio.insecure_channel(daemon.address) as channel:
        stub = RunServiceStub(channel)
        for first in range(0, len(names), share):
            numbered = list(enumerate(names))[first : first + share]
            waiting = iter(numbered)
            await asyncio.gather(*(create_some(stub, waiting) for _ in range(CALLS_IN_FLIGHT)))
            growth.append(daemon.memory(f"{first + len(numbered):,} runs"))
            print(f"\r{first + len(numbered):,} runs made", end="", flush=True)
    print()
    return growth


async def create_some(stub: RunServiceAsyncStub, waiting: Iterator[tuple[int, tuple[str, str]]]) -> None:
    """Makes runs one after the other until there are none left to make."""
    for number, (project, run) in waiting:
        await stub.CreateRun(create_request(number, project, run))
        await stub.AddOutputValue(output_request(number, project, run))


def create_request(number: int, project: str, run: str) -> run_service_pb2.CreateRunRequest:
    """A run such as trainings leave behind, with some parameters and labels. A few still go on."""
    optimizer = map_of(name=text("adamw" if number % 3 else "sgd"), weight_decay=real(number % 10 / 100))
    parameters = map_of(
        lr=real(10 ** -(1 + number % 5)),
        batch_size=value_pb2.Value(int_value=2 ** (4 + number % 6)),
        model=text(f"vit-{number % 7}"),
        optimizer=value_pb2.Value(map_value=optimizer),
    )
    status = run_pb2.RUN_STATUS_COMPLETED if number % 1_000 else run_pb2.RUN_STATUS_RUNNING
    labels = {"team": f"team-{number % 9}"}
    new = run_pb2.Run(run_name=run, parameters=parameters, labels=labels, status=status)
    return run_service_pb2.CreateRunRequest(parent=f"projects/{project}", run=new, request_id=str(uuid.uuid4()))


def output_request(number: int, project: str, run: str) -> run_service_pb2.AddOutputValueRequest:
    """What such a training ends with."""
    output = map_of(epoch=value_pb2.Value(int_value=number % 90), accuracy=real(number * 7919 % 10_007 / 10_007))
    name = f"projects/{project}/runs/{run}"
    return run_service_pb2.AddOutputValueRequest(run=name, value=output, request_id=str(uuid.uuid4()))


def map_of(**values: value_pb2.Value) -> value_pb2.MapValue:
    """A map of values."""
    return value_pb2.MapValue(entries=[value_pb2.MapEntry(key=key, value=value) for key, value in values.items()])


def real(number: float) -> value_pb2.Value:
    """A number."""
    return value_pb2.Value(double_value=number)


def text(words: str) -> value_pb2.Value:
    """A text."""
    return value_pb2.Value(string_value=words)


def time_calls(stub: RunServiceStub, names: list[tuple[str, str]]) -> dict[str, Latency]:
    """Times the calls that users wait for."""
    chance = random.Random(0)

    def get_run() -> None:
        project, run = chance.choice(names)
        stub.GetRun(run_service_pb2.GetRunRequest(name=f"projects/{project}/runs/{run}"))

    def first_page(parent: str) -> Callable[[], object]:
        return lambda: stub.ListRuns(run_service_pb2.ListRunsRequest(parent=parent))

    def some(filter_text: str, order_by: str) -> Callable[[], object]:
        return lambda: stub.ListRuns(
            run_service_pb2.ListRunsRequest(parent="projects/-", filter=filter_text, order_by=order_by)
        )

    return {
        "GetRun by name": timed(5_000, get_run),
        "ListRuns, first page, all projects": timed(500, first_page("projects/-")),
        "ListRuns, first page, one project": timed(500, first_page("projects/project-07")),
        **{f"ListRuns, {name}": timed(20, some(*asked)) for name, asked in LISTS.items()},
    }


def timed(calls: int, call: Callable[[], object]) -> Latency:
    """Makes a call many times."""
    times = []
    for _ in range(calls + 1):
        began = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - began) / 1e6)
    first, *others = times
    others.sort()
    p50, p99, longest = (round(others[int(share * (calls - 1))], 3) for share in (0.5, 0.99, 1))
    return Latency(calls, round(first, 3), p50, p99, longest)


def allocated_bytes(folder: Path) -> int:
    """What the files of a folder take on disk; the catalog's is sparse."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def versions() -> dict[str, str]:
    """What it was measured with."""
    return {name: metadata.version(name) for name in ("rund", "grpcio", "protobuf", "lmdb", "pyarrow")}


def print_table(figures: Figures) -> None:
    """Prints what users wait for, and what the daemon takes."""
    print(f"\n{figures.runs:,} runs, made at {figures.create_runs_per_s:,} a second (each with an output)\n")
    print(f"{'':36} {'first':>10} {'p50':>10} {'p99':>10} {'max':>10}")
    for name, latency in figures.calls.items():
        figures_ms = (latency.first_ms, latency.p50_ms, latency.p99_ms, latency.max_ms)
        print(f"{name:36} " + " ".join(f"{figure:7.2f} ms" for figure in figures_ms))
    starts = sorted(figures.daemon_start_s)
    print(f"{'daemon, from spawn to first answer':36} {starts[len(starts) // 2]:6.2f} s  {'':9} {starts[-1]:6.2f} s")
    print("\nmemory of the daemon, in MiB: its own, and pages of files that it has mapped")
    for memory in (*figures.memory_while_created, figures.memory_after_start, figures.memory_after_reads):
        print(f"  {memory.moment:26} {memory.private_mib:8.1f} {memory.mapped_mib:8.1f}")


if __name__ == "__main__":
    main()
