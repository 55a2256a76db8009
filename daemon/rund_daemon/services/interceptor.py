"""What every call goes through, whatever its shape: who may call, and how an error is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from rund_daemon.authorization import Authorizer, Grant
from rund_daemon.errors import InvalidError

from .open_calls import OpenCalls
from .requests import projects_of
from .status import CODES, DETAILS_KEY, domain_error, status_of

Handler = Any
"""grpc.RpcMethodHandler, whose behaviours have no static type in grpc.aio."""

Context = aio.ServicerContext[Any, Any]


class CallInterceptor(aio.ServerInterceptor):
    """Wraps the four shapes of RPC alike. Handlers have no `try` of their own."""

    def __init__(self, authorizer: Authorizer, calls: OpenCalls) -> None:
        self._authorizer = authorizer
        self._calls = calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Gives the wrapped handler of a method; health and reflection pass as they are."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith("/rund."):
            return handler
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        shapes = {
            (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
            (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
            (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
            (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
        }
        name, make = shapes[handler.request_streaming, handler.response_streaming]
        inner = wrap(getattr(handler, name), method, handler.request_streaming)
        return make(inner, _tolerant(handler.request_deserializer), handler.response_serializer)

    def _wrap_unary(self, behaviour: Any, method: str, streaming: bool) -> Any:
        async def call(request: Any, context: Context) -> Any:
            with self._calls.entered():
                try:
                    return await behaviour(self._admit(request, context, method, streaming), context)
                except (asyncio.CancelledError, aio.AbortError):
                    raise
                except Exception as error:
                    await _abort(context, error, method)

        return call

    def _wrap_stream(self, behaviour: Any, method: str, streaming: bool) -> Any:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._calls.entered():
                try:
                    async for response in behaviour(self._admit(request, context, method, streaming), context):
                        yield response
                except (asyncio.CancelledError, aio.AbortError, GeneratorExit):
                    raise
                except Exception as error:
                    await _abort(context, error, method)

        return call

    def _admit(self, request: Any, context: Context, method: str, streaming: bool) -> Any:
        """Checks the caller; of a stream, its first message too once it comes."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        grant = self._authorizer.grant(context.peer(), metadata.get("authorization", ""))
        name = method.rpartition("/")[2]
        grant.check_method(name)
        self._calls.check_open()
        if streaming:
            return _checked(request, grant, name)
        _check_decoded(request)
        _check_projects(request, grant, name)
        return request


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """Stands for a request whose bytes are no message: gRPC would answer it without any details."""

    fault: str


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return _Undecodable(str(error))

    return decode


def _check_projects(request: Any, grant: Grant, method: str) -> None:
    for project in projects_of(request):
        grant.check_project(method, project)


def _check_decoded(request: Any) -> None:
    if isinstance(request, _Undecodable):
        raise InvalidError("request", f"the bytes are no such message, or nest too deeply: {request.fault[:200]}")


async def _checked(requests: AsyncIterator[Any], grant: Grant, method: str) -> AsyncIterator[Any]:
    first = True
    async for request in requests:
        _check_decoded(request)
        if first:
            _check_projects(request, grant, method)
            first = False
        yield request


async def _abort(context: Context, error: BaseException, method: str) -> NoReturn:
    told = domain_error(error, method)
    status = status_of(told)
    await context.abort(
        CODES[told.reason],
        status.message,
        trailing_metadata=((DETAILS_KEY, status.SerializeToString()),),
    )
    raise AssertionError
