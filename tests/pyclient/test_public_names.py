"""What ``import rund`` offers, and what it must not do."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import rund

PACKAGE = Path(rund.__file__).parent


def test_all_is_complete_and_sorted() -> None:
    names = {name for name in vars(rund) if not name.startswith("_")}
    modules = {name for name in names if inspect.ismodule(getattr(rund, name))}
    assert names - modules == set(rund.__all__)
    assert list(rund.__all__) == sorted(rund.__all__)
    assert len(set(rund.__all__)) == len(rund.__all__)


def test_every_error_is_offered() -> None:
    from rund import _errors

    errors = {
        name for name, value in vars(_errors).items() if isinstance(value, type) and value.__module__ == "rund._errors"
    }
    assert errors <= set(rund.__all__)


def test_init_re_exports_and_nothing_else() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    kinds = {type(node) for node in tree.body}
    assert kinds == {ast.Expr, ast.ImportFrom, ast.Assign}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_grpc_and_the_protos_are_known_in_the_transport_only(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add((node.module or "").partition(".")[0])
    assert "rund_daemon" not in imported
    if path.parent.name != "_transport":
        assert not imported & {"grpc", "rund_pb", "google"}


def test_every_public_name_is_explained() -> None:
    for name in rund.__all__:
        value = getattr(rund, name)
        if not inspect.isclass(value) and not inspect.isfunction(value):
            continue
        assert inspect.getdoc(value), name
        if inspect.isclass(value):
            members = {key: member for key, member in vars(value).items() if not key.startswith("_")}
            for key, member in members.items():
                if callable(member) or isinstance(member, property | classmethod):
                    assert inspect.getdoc(member), f"{name}.{key}"


def test_importing_does_no_work() -> None:
    script = """
import sys, threading
before = threading.active_count()
import rund
assert threading.active_count() == before
heavy = {"pandas", "polars", "torch", "duckdb", "lmdb", "rund_daemon"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


API = {
    # run-api: names, order and defaults are a promise
    "init": "project_name=None, run_name=None, description=None, parameters=None, if_exists='rename', *, "
    "root_url=None, labels=None, address=None, resume=False",
    "Run.copy": "run_name=None, project_name=None, root_url=None, if_exists='raise', *, destination_url=None",
    "Run.add_input_table": "input_table",
    "Run.add_input_value": "input_value",
    "Run.add_output_value": "output_value",
    "Run.set_parameters": "parameters",
    "Run.update_metrics": "metric_infos=[]",
    "Run.add_metrics_table": "metrics_table",
    "Run.add_metrics": "metrics, column_schemas=None, foreign_table_url=None, foreign_table_display_name='', *, "
    "constants=None, stream_name='', name=None",
    "Run.add_metrics_data": "metrics, override_column_schemas={}, input_table_url=None, "
    "table_writer_base_name='metrics', stream_name=''",
    "Run.reduce_embeddings_by_foreign_table_url": "foreign_table_url, delete_source_tables=True, **kwargs",
    "Run.reduce_embeddings_per_dataset": "delete_source_tables=True, **kwargs",
    "Run.metrics_writer": "name=None, *, column_schemas=None, foreign_table_url=None, "
    "foreign_table_display_name='', constants=None, stream_name=''",
    "Run.compare": "other=None, on='example_id', *, table='', other_table='', filter='', other_filter='', "
    "columns=None, join=()",
    "Run.log": "values, step=None",
    "Run.flush": "timeout=None",
    "Run.finish": "timeout=None",
}


@pytest.mark.parametrize("name", sorted(API))
def test_signatures_are_those_of_the_api(name: str) -> None:
    function = rund
    for part in name.split("."):
        function = getattr(function, part)
    parameters = list(inspect.signature(function).parameters.values())
    if "." in name:
        parameters = parameters[1:]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    assert str(inspect.Signature(bare))[1:-1] == API[name]
