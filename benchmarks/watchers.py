"""What watchers cost writers: four processes log and change their runs, with nobody watching and with 200 who do.

Rounds are interleaved, and medians are printed:

    python benchmarks/watchers.py --watchers 200 --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITERS = 4
STEPS = 25_000
OUTPUTS = 25

_WRITE = """
import sys, rund
root, name, steps, outputs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
run = rund.init("bench", name, root_url=root)
print("ready", flush=True)
sys.stdin.readline()
for step in range(steps):
    run.log({"loss": 0.5, "accuracy": 0.25}, step=step)
    if step % (steps // outputs) == 0:
        run.add_output_value({"loss": 0.5, "epoch": step})
run.finish()
"""

_WATCH = """
import asyncio, sys, grpc
from rund_pb.v1 import run_service_pb2 as pb
from rund_pb.v1.run_service_pb2_grpc import RunServiceStub

seen = 0

async def watch(stub):
    global seen
    async for answer in stub.WatchRuns(pb.WatchRunsRequest(parent="projects/-")):
        seen += sum(event.type != pb.RunEvent.TYPE_CURRENT for event in answer.events)

async def main(address, count):
    async with grpc.aio.insecure_channel(address) as channel:
        watches = [asyncio.ensure_future(watch(RunServiceStub(channel))) for _ in range(count)]
        while seen < count:  # each has been told that it saw the present
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        for one in watches:
            one.cancel()
    print(seen - count, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    seconds: dict[int, list[float]] = {0: [], options.watchers: []}
    events: list[int] = []
    with tempfile.TemporaryDirectory(prefix="rund-watch-") as folder, daemon(Path(folder) / "root") as root:
        for number in range(options.rounds + 1):
            for watchers, all_taken in seconds.items():
                taken, seen = one_round(root, f"{number}-{watchers}", watchers)
                if number:  # the first round warms up
                    all_taken.append(taken)
                    events.append(seen)
    none, some = (statistics.median(taken) for taken in seconds.values())
    rows = WRITERS * STEPS
    print(f"{WRITERS} writers, {rows:,} rows and {WRITERS * OUTPUTS} outputs a round, until all is acknowledged")
    print(
        f"  nobody watches    {none:.3f} s  {rows / none:,.0f} rows/s  all {[round(value, 3) for value in seconds[0]]}"
    )
    print(f"  {options.watchers} watch         {some:.3f} s  {rows / some:,.0f} rows/s  {max(events):,} events sent")
    print(f"  slower by {100 * (some / none - 1):.1f} %")


@contextmanager
def daemon(root: Path) -> Iterator[Path]:
    """A daemon of its own."""
    root.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "rund_daemon", "serve", "--root", str(root)], stderr=subprocess.DEVNULL
    )
    while not (root / "daemon.json").exists():
        time.sleep(0.02)
    try:
        yield root
    finally:
        process.terminate()
        process.wait()


def one_round(root: Path, name: str, watchers: int) -> tuple[float, int]:
    """Seconds until all writers have finished, and the events that were sent to watchers meanwhile."""
    watching = start(_WATCH, f"unix:{root}/run/daemon.sock", str(watchers))
    writers = [start(_WRITE, str(root), f"{name}-{rank}", str(STEPS), str(OUTPUTS)) for rank in range(WRITERS)]
    begin = time.perf_counter()
    for writer in writers:
        go_on(writer)
    for writer in writers:
        if writer.wait():
            raise SystemExit("a writer failed")
    taken = time.perf_counter() - begin
    go_on(watching)
    assert watching.stdout is not None
    return taken, int(watching.stdout.readline())


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts a program and waits until it says that it is ready."""
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit("a program failed")
    return process


def go_on(process: subprocess.Popen[str]) -> None:
    """Lets it go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


if __name__ == "__main__":
    main()
