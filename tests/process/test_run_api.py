"""Every operation on a run, over a real daemon and a real socket."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rund
from rund import Cause, CauseKind, ColumnSchema, Run, RunEventType, RunStatus

_numbers = itertools.count()


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


@pytest.fixture
def run(root: Path) -> Iterator[Run]:
    with rund.init("project", f"run {next(_numbers)} é", root_url=root) as run:
        yield run


@pytest.fixture
def name() -> str:
    return f"name {next(_numbers)}"


def begin(root: Path, **options: Any) -> Run:
    """A run that is ended at once: none of these tests is about writing rows."""
    run = rund.init(root_url=root, **options)
    run.finish()
    return run


class TestInit:
    def test_it_creates_a_run_and_makes_it_active(self, root: Path, name: str) -> None:
        with rund.init("p", name, "about", {"lr": 0.1}, root_url=root, labels={"k": "v"}) as run:
            assert rund.active_run() is run
            assert run.url == f"{root}/p/runs/{name}"
            assert (run.name, run.project_name) == (name, "p")
            assert run.description == "about"
            assert run.labels == {"k": "v"}
            assert run.parameters == run.init_parameters == {"lr": 0.1}
            assert run.status is RunStatus.RUNNING
            assert float(run.status) == RunStatus.RUNNING.value
            assert run.created is not None
            [writer] = run.info.writers
            assert writer.finish_time is None
        assert rund.active_run() is None
        assert run.status is RunStatus.COMPLETED
        assert run.info.writers[0].status is RunStatus.COMPLETED

    def test_names_are_made_when_they_are_not_given(self, root: Path) -> None:
        first, second = begin(root), begin(root)
        assert first.project_name == "default"
        assert first.name
        assert first.name != second.name

    def test_a_taken_name_is_renamed_by_default(self, root: Path, name: str) -> None:
        begin(root, run_name=name)
        assert begin(root, run_name=name).name == f"{name}_0001"

    def test_reuse_merges_and_goes_on(self, root: Path, name: str) -> None:
        first = begin(root, run_name=name, parameters={"a": 1, "b": 1}, labels={"x": "1"})
        with rund.init(run_name=name, parameters={"b": 2}, labels={"y": "2"}, if_exists="reuse", root_url=root) as run:
            assert run.uid == first.uid
            assert run.parameters == {"a": 1, "b": 2}
            assert run.labels == {"x": "1", "y": "2"}
            assert run.status is RunStatus.RUNNING

    def test_overwrite_moves_the_old_run_to_trash(self, root: Path, name: str) -> None:
        first = begin(root, run_name=name)
        second = begin(root, run_name=name, if_exists="overwrite")
        assert second.name == name
        assert second.uid != first.uid
        assert first.info.deleted is not None

    def test_raise(self, root: Path, name: str) -> None:
        begin(root, run_name=name)
        with pytest.raises(FileExistsError) as caught:
            begin(root, run_name=name, if_exists="raise")
        assert isinstance(caught.value, rund.RunExistsError)
        assert (caught.value.code, caught.value.reason) == ("ALREADY_EXISTS", "RUN_EXISTS")

    def test_resume_goes_on_with_a_run_that_ended_and_keeps_its_end(self, root: Path, name: str) -> None:
        with pytest.raises(ZeroDivisionError), rund.init(run_name=name, root_url=root) as first:
            1 / 0  # noqa: B018 - it is what raises
        with rund.init(run_name=name, root_url=root, resume=True) as run:
            assert run.uid == first.uid
            assert run.status is RunStatus.RUNNING
            [end] = run.info.ends
            assert end.status is RunStatus.FAILED
            assert end.cause == Cause(CauseKind.EXCEPTION, "ZeroDivisionError: division by zero")

    def test_resume_begins_a_run_when_there_is_none(self, root: Path, name: str) -> None:
        with rund.init(run_name=name, root_url=root, resume=True) as run:
            assert run.name == name

    @pytest.mark.parametrize(
        "options",
        [
            {"run_name": "../x"},
            {"run_name": "a/b"},
            {"run_name": ""},
            {"run_name": ".hidden"},
            {"run_name": "x" * 201},
            {"run_name": "tab\t"},
            {"project_name": ".."},
            {"project_name": "catalog"},
            {"if_exists": "perhaps"},
            {"resume": True},
            {"resume": True, "run_name": "x", "if_exists": "raise"},
            {"parameters": {"a": {1, 2}}},
            {"parameters": [1]},
            {"labels": {"k": "v" * 256}},
            {"labels": {"k": 1}},
            {"labels": {"k": "\ud800"}},
            {"description": 3},
            {"root_url": "s3://bucket"},
        ],
        ids=repr,
    )
    def test_what_is_refused(self, root: Path, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the class is what is promised
            rund.init(**{"root_url": root, **options})
        assert isinstance(caught.value, rund.RundError)
        assert caught.value.code == "INVALID_ARGUMENT"
        assert rund.active_run() is None

    def test_an_address_must_be_of_the_root(self, root: Path, daemon: Any) -> None:
        other = daemon()
        with pytest.raises(rund.InvalidFieldError, match="owns the root"):
            rund.init(root_url=root, address=other.address)
        with rund.init(address=other.address) as run:
            assert Path(run.url).is_relative_to(other.root)


class TestLoading:
    def test_by_url_and_by_names(self, root: Path, run: Run) -> None:
        for url in (run.url, f"{run.url}/", Path(run.url), Path(run.url).as_uri()):
            assert Run.from_url(url).uid == run.uid
        assert Run.from_names(run.name, "project", root).uid == run.uid
        assert Run.from_names(run.name, "project").uid == run.uid, "the active run says which root is meant"

    @pytest.mark.parametrize("place", ["project/runs/nothing", "nothing/runs/x"])
    def test_a_run_that_is_not_there(self, root: Path, place: str) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            Run.from_url(root / place)
        assert isinstance(caught.value, rund.RunNotFoundError)
        assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "RUN_NOT_FOUND")

    def test_a_root_that_is_not_there(self, run: Run, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Run.from_url(tmp_path / "project/runs/x")
        assert not list(tmp_path.iterdir()), "looking must not make a root"

    @pytest.mark.parametrize("url", ["/x", "", "s3://a", "ftp://a/b/runs/c", "/a/b/run/c"])
    def test_what_is_no_url_of_a_run(self, run: Run, url: str) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the class is what is promised
            Run.from_url(url)
        assert isinstance(caught.value, rund.InvalidUrlError)

    def test_names_that_can_be_none(self, root: Path) -> None:
        with pytest.raises(rund.RunNotFoundError):
            Run.from_names("nothing", "project", root)
        with pytest.raises(rund.InvalidNameError):
            Run.from_names("a/b", "project", root)


class TestMetadata:
    def test_parameters_merge_by_top_level_key(self, run: Run) -> None:
        run.set_parameters({"optim": {"lr": 0.1, "steps": 10}, "seed": 2**70})
        run.set_parameters({"optim": {"lr": 0.2}, "nan": math.nan, "inf": -math.inf, "raw": b"\x00", "none": None})
        parameters = run.parameters
        assert math.isnan(parameters.pop("nan"))  # type: ignore[arg-type]  # it is a float, as was set
        assert parameters == {"optim": {"lr": 0.2}, "seed": 2**70, "inf": -math.inf, "raw": b"\x00", "none": None}
        assert list(parameters) == ["optim", "seed", "inf", "raw", "none"]
        assert run.init_parameters == {}

    def test_inputs_and_outputs_keep_their_order(self, run: Run) -> None:
        for epoch in range(12):
            run.add_output_value({"epoch": epoch, "accuracy": epoch / 12})
        run.add_input_value({"seed": 1})
        run.add_input_value({"seed": 1})
        assert run.constants["outputs"] == [{"epoch": epoch, "accuracy": epoch / 12} for epoch in range(12)]
        assert run.constants["inputs"] == [{"seed": 1}, {"seed": 1}]

    def test_every_status(self, run: Run) -> None:
        for status in ("empty", "running", "collecting", "post_processing", "paused", "completed", "cancelled"):
            getattr(run, f"set_status_{status}")()
            assert run.status is RunStatus[status.upper()]
        run.set_status_failed("out of patience")
        assert run.status is RunStatus.FAILED
        assert run.cause == Cause(CauseKind.REQUEST, "out of patience")
        run.set_status_failed(Cause(CauseKind.SIGNAL, "shot", signal=9))
        assert run.cause == Cause(CauseKind.SIGNAL, "shot", signal=9)
        run.set_status_running()

    def test_description_labels_and_the_time_of_change(self, run: Run) -> None:
        before = run.last_modified
        run.set_description("one")
        assert run.description == "one"
        run.description = ""
        run.labels = {"a": "b"}
        run.labels = {"c": "d"}
        assert run.description == ""
        assert run.labels == {"c": "d"}
        assert before is not None
        assert run.last_modified > before

    def test_an_etag_guards_a_change(self, run: Run) -> None:
        etag = run.etag
        run.update(description="mine", parameters={"only": 1}, etag=etag)
        assert run.parameters == {"only": 1}
        with pytest.raises(RuntimeError) as caught:
            run.update(description="theirs", etag=etag)
        assert isinstance(caught.value, rund.EtagMismatchError)
        assert caught.value.code == "ABORTED"
        assert run.description == "mine"

    def test_input_tables_are_kept_once(self, run: Run, root: Path) -> None:
        table = rund.Table.from_dict({"label": ["a", "b"]}, "inputs", "data")
        for given in (table, table.url, Path(table.url)):
            run.add_input_table(given)
        assert run.input_tables == [table.url]
        with pytest.raises(FileNotFoundError) as caught:
            run.add_input_table(root / "default/datasets/data/tables/nothing")
        assert isinstance(caught.value, rund.TableNotFoundError)
        with pytest.raises(ValueError):  # noqa: PT011 - the class is what is promised
            run.add_input_table(3)  # type: ignore[arg-type]  # what a caller may do

    def test_bulk_data(self, run: Run) -> None:
        folder = Path(run.bulk_data_url)
        assert folder.is_dir()
        assert folder.is_relative_to(run.url)

    @pytest.mark.parametrize("values", [{"a": object()}, {1: 2}, [1]], ids=["object", "key", "list"])
    def test_values_that_can_not_be_kept(self, run: Run, values: Any) -> None:
        for call in (run.add_input_value, run.add_output_value, run.set_parameters):
            with pytest.raises(rund.InvalidValueError):
                call(values)


class TestLife:
    def test_rename(self, run: Run, root: Path, name: str) -> None:
        old = run.url
        run.log({"a": 1})
        run.rename(name)
        run.log({"a": 2})
        assert run.url == f"{root}/project/runs/{name}"
        with pytest.raises(rund.RunNotFoundError):
            Run.from_url(old)
        again = Run.from_url(run.url)
        assert again.uid == run.uid
        [history] = run.metrics_tables
        assert history["a"].to_pylist() == [1, 2]

    def test_rename_to_what_can_not_be(self, run: Run, root: Path, name: str) -> None:
        begin(root, project_name="project", run_name=name)
        with pytest.raises(rund.RunExistsError):
            run.rename(name)
        with pytest.raises(rund.InvalidNameError):
            run.rename("../x")

    def test_delete_and_undelete(self, root: Path, name: str) -> None:
        run = begin(root, run_name=name)
        with pytest.raises(rund.EtagMismatchError):
            run.delete(etag="0")
        run.delete()
        with pytest.raises(rund.RunNotFoundError):
            Run.from_url(run.url)
        assert Run.from_url(run.url, deleted=True).uid == run.uid
        other = begin(root, run_name=name)
        with pytest.raises(rund.RunExistsError):
            run.undelete()
        other.delete()
        run.undelete()
        assert Run.from_url(run.url).uid == run.uid
        assert run.info.deleted is None
        run.delete()
        with pytest.raises(rund.RunNotFoundError):
            run.delete()

    def test_watch_gives_every_change_in_order(self, run: Run) -> None:
        watch = run.watch()
        first, second = next(watch), next(watch)
        assert first.type is RunEventType.CURRENT
        assert second.type is RunEventType.SYNCED
        for description in "abc":
            run.set_description(description)
        events = [next(watch) for _ in range(3)]
        assert [event.type for event in events] == [RunEventType.UPDATED] * 3
        revisions = [event.revision for event in events]
        assert revisions == sorted(set(revisions))
        resumed = run.watch(after_revision=revisions[0])
        assert [next(resumed).revision for _ in range(2)] == revisions[1:]

    def test_a_copy_is_a_run_of_its_own(self, run: Run, root: Path, name: str) -> None:
        run.set_parameters({"lr": 0.1})
        run.add_metrics({"a": [1, 2]}, {"a": ColumnSchema(unit="s")})
        run.log({"b": 1.5})
        Path(run.bulk_data_url, "file").write_text("x")
        sibling, named = run.copy(), run.copy(name, "other")
        by_url = run.copy(destination_url=f"{root}/third/runs/{name}")
        assert sibling.project_name == "project"
        assert named.url == f"{root}/other/runs/{name}"
        assert by_url.url == f"{root}/third/runs/{name}"
        for copy in (sibling, named, by_url):
            assert copy.uid != run.uid
            assert copy.parameters == {"lr": 0.1}
            assert Path(copy.bulk_data_url, "file").read_text() == "x"
            metrics, history = copy.metrics_tables
            assert metrics.to_arrow().to_pydict() == {"a": [1, 2]}
            assert metrics.columns[0].unit == "s"
            assert history["b"].to_pylist() == [1.5]
        run.set_parameters({"lr": 0.2})
        assert sibling.parameters == {"lr": 0.1}

    def test_a_copy_onto_another_run(self, run: Run, name: str) -> None:
        first = run.copy(name)
        with pytest.raises(rund.RunExistsError):
            run.copy(name)
        assert run.copy(name, if_exists="rename").name == f"{name}_0001"
        replaced = run.copy(name, if_exists="overwrite")
        assert replaced.url == first.url
        assert replaced.uid != first.uid
        with pytest.raises(ValueError):  # noqa: PT011 - the class is what is promised
            run.copy("../x")
