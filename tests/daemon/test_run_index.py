"""Runs are found by columns in memory exactly as they would be by looking at each, whatever happens meanwhile."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from rund_daemon.catalog import shelves
from rund_daemon.catalog.lookup import INPUT, OUTPUT, details_of
from rund_daemon.catalog.run_values import MAX_LAST_OUTPUTS_BYTES
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.identity import uid_text
from rund_daemon.model import Micros, Run, RunStatus
from rund_daemon.names import RunName
from rund_daemon.reading import run_columns, run_index
from rund_daemon.reading.filters import Missing, Timestamp, descend, matches, parse_filter
from rund_daemon.reading.order_by import parse_order_by, sort_key
from rund_daemon.reading.pages import make_token
from rund_daemon.reading.run_index import RunIndex
from rund_daemon.reading.run_lists import ListQuery, RunLists
from rund_daemon.runs import NewRun, RunUpdate
from rund_daemon.runs.writers import Ending

from tests.daemon.rooms import NO_REQUEST, Rooms, run_in

FILTERS = [
    "",
    "status = COMPLETED",
    "status != RUNNING AND NOT labels.team = a",
    'run_name = "run-1*" OR project_name = p1',
    'name = "projects/p0/runs/*"',
    "labels:team",
    "labels:none",
    "labels.team = b",
    "parameters:lr",
    "parameters.lr < 0.05",
    "parameters.lr = null",
    "parameters.lr:*",
    "parameters.optimizer.name = sgd",
    "parameters.optimizer:name",
    "parameters.a.b = 1",
    "parameters.layers.width = 3",
    "parameters.layers.width:3",
    "parameters.tags:x",
    "parameters.mixed = true",
    "parameters.mixed = 1",
    "parameters.mixed >= 0",
    'parameters.text = "*end"',
    'parameters.text:"START"',
    "outputs.accuracy > 0.5",
    "outputs.accuracy > 0.5 AND outputs.epoch = 1",
    "outputs:test",
    "outputs.deep.x = 1",
    "create_time > 2020-01-01",
    "update_time < 2020-01-01",
    "end_time:*",
    "end_time > 2020-01-01",
    "deSCription",
    "-word b",
    "description:changed",
]
ORDERS = [
    "",
    "create_time",
    "create_time desc",
    "update_time desc",
    "end_time, run_name",
    "name desc",
    "status, run_name desc",
    "parameters.lr desc",
    "parameters.mixed, run_name",
    "parameters.mixed desc",
    "parameters.text",
    "parameters.optimizer.name, parameters.lr desc",
    "outputs.accuracy desc, labels.team",
]


def parameters(chance: random.Random) -> dict[str, Any]:
    some = {
        "lr": chance.choice([0.1, 0.01, 1e-3, 1, None, float("nan")]),
        "optimizer": {"name": chance.choice(["sgd", "adam"])},
        "a.b": chance.choice([1, 2]),
        "layers": [{"width": chance.randrange(4)}, {"depth": 1}],
        "tags": chance.sample(["x", "y", "z"], 2),
        "mixed": chance.choice([True, 1, 1.0, 0, False, "1", "one", b"1", None, [1], 2**70]),
        "text": chance.choice(["start end", "start " * 500 + chance.choice(["end", "stop"]), "", "ü"]),
    }
    return {key: value for key, value in some.items() if chance.random() < 0.8}


def lookup_of(run: Run, outputs: tuple[dict[str, Any], ...]) -> Any:
    """The fields of a run, each looked up by itself."""
    last: dict[str, Any] = {}
    for output in outputs:
        last.update(output)
    times = {
        name: Timestamp(getattr(run, name)) if getattr(run, name) else None
        for name in ("create_time", "update_time", "end_time")
    }
    fields = {
        "name": run.resource_name,
        "project_name": run.project,
        "run_name": run.name,
        "uid": uid_text(run.uid),
        "description": run.description,
        "status": str(run.status),
        "labels": dict(run.labels),
        "parameters": run.parameters,
        "outputs": last,
        **times,
    }

    def lookup(path: tuple[str, ...]) -> Any:
        found = descend(fields, path)
        return None if found is Missing.MISSING else found

    return lookup


def expected(rooms: Rooms, text: str, order_text: str, project: str, deleted: bool) -> list[str]:
    tree, order = parse_filter(text), parse_order_by(order_text)
    with rooms.catalog.snapshot() as snapshot:
        found = [details_of(snapshot, run) for _, run in snapshot.scan(shelves.RUNS, reverse=True)]
    chosen = [
        (one.run, lookup_of(one.run, one.outputs))
        for one in found
        if (deleted or not one.run.delete_time) and project in ("", one.run.project)
    ]
    chosen = [(run, lookup) for run, lookup in chosen if matches(tree, lookup)]
    # Long texts are ordered by their beginning.
    chosen.sort(key=lambda pair: sort_key(order, lambda path: shortened(pair[1](path))))
    return [run.resource_name for run, _ in chosen]


def shortened(value: Any) -> Any:
    return value[: run_columns.CUT] if isinstance(value, str) and len(value) > 1000 else value


async def change_something(rooms: Rooms, chance: random.Random, number: int) -> None:
    with rooms.catalog.snapshot() as snapshot:
        runs = [run for _, run in snapshot.scan(shelves.RUNS)]
    run = chance.choice(runs) if runs else None
    kind = chance.randrange(8)
    if run is None or kind == 0:
        labels = {"team": chance.choice("ab")} if chance.random() < 0.5 else {}
        new = NewRun(
            f"p{number % 3}", f"run-{number}", labels=labels, parameters=parameters(chance), description="a word"
        )
        await rooms.runs.create(new, NO_REQUEST)
        return
    name = RunName(run.project, run.name)
    if run.delete_time:
        if chance.random() < 0.5:
            await rooms.runs.undelete(name, run.uid, NO_REQUEST)
        else:
            await rooms.catalog.submit(lambda change: change.delete(shelves.RUNS, run.uid))
        return
    match kind:
        case 1:
            await rooms.runs.delete(name, "", NO_REQUEST)
        case 2:
            await rooms.runs.update(name, RunUpdate(status=chance.choice(list(RunStatus))), "", NO_REQUEST)
        case 3:
            await rooms.runs.update(
                name, RunUpdate(description=f"changed {number}", name=f"new-{number}"), "", NO_REQUEST
            )
        case 4:
            await rooms.runs.set_parameters(name, parameters(chance), NO_REQUEST)
        case 5:
            await rooms.runs.add_value(name, INPUT, {"accuracy": 1.0}, NO_REQUEST)
        case _:
            output: dict[str, Any] = {"epoch": chance.randrange(3), "accuracy": chance.random()}
            if chance.random() < 0.3:
                output = {"test": 1, "deep": {"x": chance.randrange(2)}}
            await rooms.runs.add_value(name, OUTPUT, output, NO_REQUEST)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_looking_at_each_run_finds(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small bounds, so that columns are dropped, made anew and tidied up on the way.
    monkeypatch.setattr(run_index, "_MAX_CHANGES", 15)
    monkeypatch.setattr(run_columns, "_KNOWN", 5)
    chance = random.Random(seed)

    async def work(rooms: Rooms) -> None:
        index = RunIndex(max_bytes=20_000)
        for number in range(250):
            await change_something(rooms, chance, number)
            if chance.random() < 0.4:
                continue
            text, order_text = chance.choice(FILTERS), chance.choice(ORDERS)
            project, deleted = chance.choice(["", "p1"]), chance.random() < 0.3
            with rooms.catalog.snapshot() as snapshot:
                tree, order = parse_filter(text), parse_order_by(order_text)
                found = index.find(snapshot, tree, order, project=project, deleted=deleted)
                uids, _ = found.after(None, 1000)
                runs = [snapshot.get(shelves.RUNS, uid) for uid in uids]
            wanted = expected(rooms, text, order_text, project, deleted)
            assert [run.resource_name for run in runs if run] == wanted, (text, order_text)
            assert index.size_bytes < 80_000

    run_in(tmp_path, work)


@pytest.mark.parametrize("order", [order for order in ORDERS if "update_time" not in order and "lr" not in order])
def test_pages_stay_whole_while_runs_come_and_go(tmp_path: Path, order: str) -> None:
    chance = random.Random(order)

    async def work(rooms: Rooms) -> None:
        lists = RunLists(rooms.catalog, 100)
        for number in range(60):
            await rooms.runs.create(NewRun("p", f"run-{number}", parameters=parameters(chance)), NO_REQUEST)
        query = ListQuery(filter='run_name = "run-*"' if order else "", order_by=order)
        page = lists.page(query, 100, "")
        still = {found.run.name for found in page.runs}
        seen: list[str] = []
        token = ""
        while True:
            page = lists.page(query, 7, token)
            seen += [found.run.name for found in page.runs]
            token = page.next_page_token
            if not token:
                break
            # The very run that the next page goes on from leaves, and others come.
            gone = page.runs[-1].run
            still.discard(gone.name)
            await rooms.runs.delete(RunName(gone.project, gone.name), "", NO_REQUEST)
            await rooms.runs.create(NewRun("p", f"run-x{len(seen)}", parameters=parameters(chance)), NO_REQUEST)
        assert len(seen) == len(set(seen))
        assert still <= set(seen)

    run_in(tmp_path, work)


def test_tokens_that_strangers_made(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        lists = RunLists(rooms.catalog, 100)
        query = ListQuery(order_by="run_name, parameters.lr")
        uid = "01890000-0000-7000-8000-000000000000"
        for position in [
            "x",
            "[]",
            "[1]",
            f'["{uid}"]',
            f'["{uid}",1]',
            f'["{uid}",{{}},1]',
            f'["{uid}",{{"t":"x"}},1]',
        ]:
            with pytest.raises(InvalidError) as refused:
                lists.page(query, 10, make_token(query, position))
            assert refused.value.reason is Reason.INVALID_PAGE_TOKEN
        with pytest.raises(InvalidError):
            lists.page(query, 10, make_token(query, f'["{uid}",1,' + "[" * 100_000))
        assert lists.page(query, 10, make_token(query, f'["{uid}",{{"m":{{"a":[1]}}}},NaN]')).runs == ()

    run_in(tmp_path, work)


def test_outputs_of_a_catalog_that_did_not_keep_the_last_ones(tmp_path: Path) -> None:
    async def write(rooms: Rooms) -> None:
        run = await rooms.new_run("run")
        name = RunName(run.project, run.name)
        for epoch in range(3):
            await rooms.runs.add_value(name, OUTPUT, {"epoch": epoch}, NO_REQUEST)
            await rooms.runs.add_value(name, INPUT, {"epoch": 7}, NO_REQUEST)
        await rooms.runs.add_value(name, OUTPUT, {"test": 0.5}, NO_REQUEST)
        await rooms.catalog.submit(lambda change: change.delete_all(shelves.LAST_OUTPUTS, b""))

    async def find(rooms: Rooms) -> None:
        lists = RunLists(rooms.catalog, 100)
        assert len(lists.page(ListQuery(filter="outputs.epoch = 2 AND outputs.test = 0.5"), 10, "").runs) == 1

    run_in(tmp_path, write)
    run_in(tmp_path, find)


def test_the_record_of_last_outputs_is_bounded(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run("run")
        name = RunName(run.project, run.name)
        for number in range(300):
            await rooms.runs.add_value(name, OUTPUT, {f"key-{number}": "x" * 1000, "epoch": number}, NO_REQUEST)
        with rooms.catalog.snapshot() as snapshot:
            last = snapshot.get(shelves.LAST_OUTPUTS, run.uid)
        assert last is not None
        assert len(shelves.LAST_OUTPUTS.encode(last)) <= MAX_LAST_OUTPUTS_BYTES
        assert last["epoch"] == 299
        assert "key-299" in last
        assert "key-0" not in last

    run_in(tmp_path, work)


def test_when_a_run_ended(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run("run")
        name = RunName(run.project, run.name)
        assert run.end_time == 0
        ended = await rooms.runs.finish(name, Ending(RunStatus.COMPLETED), NO_REQUEST)
        assert ended.end_time == ended.update_time
        described = await rooms.runs.update(name, RunUpdate(description="later"), "", NO_REQUEST)
        assert described.end_time == ended.end_time
        resumed = await rooms.runs.update(name, RunUpdate(status=RunStatus.RUNNING), "", NO_REQUEST)
        assert resumed.end_time == Micros(0)

    run_in(tmp_path, work)
