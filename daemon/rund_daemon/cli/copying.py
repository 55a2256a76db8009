"""`rund copy`: a run of the root, or a bundle outside of it."""

from __future__ import annotations

import click
from rund._job_types import OperationInfo
from rund._rows import table_url
from rund._transport import Transport, daemon_calls, run_calls
from rund._transport.run_calls import CopyTarget

from rund_daemon.urls import is_object_url

from .connection import connect
from .exit_codes import Failure, exit_code_of_status
from .options import Target, takes_report, takes_target
from .report import Report
from .run_names import parse_run
from .runs import find_run, path_of

_POLL_SECONDS = 0.5


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("destination", metavar="DESTINATION")
@click.option(
    "--if-exists",
    type=click.Choice(["raise", "rename", "overwrite"]),
    default="raise",
    show_default=True,
    help="What to do when something is there; overwrite leaves it until the copy is complete.",
)
@takes_target
@takes_report
def copy(*, run: str, destination: str, if_exists: str, target: Target, report: Report) -> None:
    """Copy a run, within its root or out of it.

    RUN is PROJECT/RUN, a resource name, a URL or a uid. DESTINATION is PROJECT/RUN for a run of the same root; or, for
    a bundle that needs no daemon, a folder (beginning with / or .) or a URL such as s3://bucket/path. The copy appears
    when it is complete; Ctrl-C cancels it, and leaves nothing.
    """
    name = parse_run(run)
    transport = connect(name.daemon(target)).transport
    source = find_run(transport, name)
    operation = run_calls.copy_run(transport, source.resource_name, _target(destination, if_exists))
    ended = follow(transport, operation, f"copying {path_of(source)}", report)
    made = ended.bundle_url or (path_of(ended.run) if ended.run else "")
    report.say(f"copied {path_of(source)} to {made}")
    if report.as_json:
        report.document({"source": path_of(source), "copy": made, "operation": ended.name})


def follow(transport: Transport, operation: OperationInfo, doing: str, report: Report) -> OperationInfo:
    """Waits for the end of an operation, and cancels it when the person does not want to.

    Raises:
        Failure: it failed.
    """
    try:
        with report.shares(doing) as say:
            while not operation.done:
                operation = daemon_calls.wait_operation(transport, operation.name, _POLL_SECONDS)
                say(operation.progress)
    except KeyboardInterrupt:
        daemon_calls.cancel_operation(transport, operation.name)
        raise
    if operation.error is not None:
        raise Failure(str(operation.error), exit_code_of_status(getattr(operation.error, "code", "")))
    return operation


def _target(destination: str, if_exists: str) -> CopyTarget:
    if is_object_url(destination) or destination.startswith(("/", ".", "~", "<", "file:")):
        return CopyTarget(destination_url=table_url(destination), if_exists=if_exists)
    project, separator, run = destination.removeprefix("projects/").replace("/runs/", "/", 1).partition("/")
    if not separator:
        return CopyTarget(run_name=project, if_exists=if_exists)
    return CopyTarget(run_name=run, project_name=project, if_exists=if_exists)
