"""Ctrl-C at any moment: the state stays whole, no row is lost or doubled, and nothing waits for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.process.harmless import train, wait_until


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


STORM = """
    import itertools, json, random
    chance = random.Random(int(sys.argv[3]))
    main = threading.get_ident()
    alive = True
    hits = 0
    def shoot():
        while alive:
            time.sleep(chance.expovariate(1 / 0.002))
            if armed:
                signal.pthread_kill(main, signal.SIGINT)
    armed = False
    shooter = threading.Thread(target=shoot, daemon=True)
    shooter.start()
    def storm(work, times):
        global armed, hits
        for number in range(times):
            try:
                armed = True
                try:
                    work(number)
                finally:
                    armed = False
            except KeyboardInterrupt:
                hits += 1
            while True:  # one that was on its way when the shooter was disarmed
                try:
                    time.sleep(0)
                    break
                except KeyboardInterrupt:
                    hits += 1
"""


def test_while_rows_are_logged_and_flushed(root: Path) -> None:
    script = f"""{STORM}
    returned, begun = [], []
    def work(number):
        for count in range(200):
            step = number * 1000 + count
            values = {{"n": step}} if count % 5 else {{"n": step, "note": "x" * (count % 50)}}
            begun.append(step)
            run.log(values, step)
            returned.append(step)
        run.flush()
    storm(work, 60)
    alive = False
    shooter.join()
    run.flush()
    run.finish()
    print(json.dumps([begun, returned, hits]))
    """
    for seed in ("1", "2"):
        training = train(root, script, seed)
        begun, returned, hits = json.loads(training.out)
        steps = [row["step"] for row in training.rows() if row["n"] is not None]
        assert hits > 20, "it was hardly disturbed"
        assert len(set(steps)) == len(steps), "a row is there twice"
        assert set(returned) <= set(steps), "a row is lost that log returned from"
        assert set(steps) <= set(begun)
        assert steps == sorted(steps), "rows changed places"


def test_while_tables_are_added_and_the_run_is_changed(root: Path) -> None:
    script = f"""{STORM}
    added, changed = [], []
    def work(number):
        (info,) = run.add_metrics({{"a": [number] * 10}}, name=f"table {{number}}")
        added.append(number)
        run.set_parameters({{f"p{{number}}": number}})
        changed.append(number)
    storm(work, 60)
    alive = False
    shooter.join()
    tables = {{table.name: table["a"].to_pylist() for table in run.metrics_tables if table.name != "history"}}
    for number in added:
        assert tables[f"table {{number}}"] == [number] * 10, number
    for name, values in tables.items():  # one that was interrupted may be there without its rows
        assert values in ([], [int(name.split()[1])] * 10), (name, values)
    assert {{f"p{{number}}" for number in changed}} <= set(run.parameters)
    run.finish()
    """
    train(root, script, "3")


def test_while_the_run_is_finished(root: Path) -> None:
    script = f"""{STORM}
    for number in range(8):
        for step in range(1, 500):
            run.log({{"n": step}}, step)
        ended = []
        def work(_):
            if not ended:
                run.finish(timeout=20)
                ended.append(True)
        while not ended:
            storm(work, 1)
        assert run.status is rund.RunStatus.COMPLETED
        (history,) = (table for table in run.metrics_tables if table.name == "history")
        assert sorted(history["step"].to_pylist()) == list(range(500)), len(history)
        run = rund.init("harmless", f"{{sys.argv[2]}} {{number}}", root_url=sys.argv[1])
        run.log({{"n": 0}}, 0)
    alive = False
    shooter.join()
    """
    train(root, script, "4")
    wait_until(lambda: not list((root / "journals").iterdir()), "journals stay")
