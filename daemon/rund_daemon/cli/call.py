"""`rund call`: any unary method by name, in protobuf's own JSON."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

import click
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from rund._transport.channel import Stubs

from .connection import connect
from .options import Target, takes_report, takes_target
from .report import Report

_SERVICES = ("RunService", "MetricsService", "TableService", "OperationService", "ServerService")


@click.command()
@click.argument("method")
@click.argument("request", default="{}", metavar="[JSON]")
@takes_target
@takes_report
def call(*, method: str, request: str, target: Target, report: Report) -> None:
    """Call any unary method of rund.v1.

    METHOD is such as GetRun or RunService.GetRun. JSON is the request in protobuf's JSON mapping, with the field
    names of the .proto files; `-` reads it from stdin. The answer is printed in the same mapping, where 64-bit
    integers are strings. A request_id is made when none is given, and the call is repeated while the daemon is
    away.
    """
    descriptor = _method(method)
    message = _parsed(sys.stdin.read() if request == "-" else request, descriptor)
    transport = connect(target).transport
    answer = transport.call(lambda stubs: _callable(stubs, descriptor), message)
    indent = None if report.as_json else 2
    report.write(json_format.MessageToJson(answer, preserving_proto_field_name=True, indent=indent, ensure_ascii=True))


def _method(text: str) -> MethodDescriptor:
    service, _, method = text.removeprefix("rund.v1.").replace("/", ".").rpartition(".")
    unary = {f"{name}.{found.name}": found for name in _SERVICES for found in _methods(name) if not _streams(found)}
    for full_name, descriptor in unary.items():
        if full_name == f"{service}.{method}" or (not service and full_name.endswith(f".{method}")):
            return descriptor
    raise click.UsageError(f"{text!r} is no unary method; those are {', '.join(sorted(unary))}")


def _methods(service: str) -> Iterable[MethodDescriptor]:
    # The client has put the services into the pool; their generated modules are its business.
    return tuple(descriptor_pool.Default().FindServiceByName(f"rund.v1.{service}").methods)


def _streams(method: MethodDescriptor) -> bool:
    return method.client_streaming or method.server_streaming


def _parsed(text: str, method: MethodDescriptor) -> Message:
    message = message_factory.GetMessageClass(method.input_type)()
    try:
        return json_format.Parse(text, message)
    except json_format.ParseError as error:
        fault = " ".join(str(error).split())
        raise click.UsageError(f"the request is no {method.input_type.name}: {fault}") from None


def _callable(stubs: Stubs, method: MethodDescriptor) -> Any:
    services = (getattr(stubs, field.name) for field in dataclasses.fields(stubs))
    return next(found for service in services if (found := getattr(service, method.name, None)))
