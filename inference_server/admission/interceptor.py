"""The interceptor of all calls. It answers where gRPC itself would with the wrong status: malformed requests (UNKNOWN,
and a traceback in the log), and calls to a server that shuts down (CANCELLED, which no client retries).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

STOPPING = "the server is stopping: ask another one"


class AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Admits unary calls, and counts those in flight. Used on one event loop."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._accepting = True
        self._drained = asyncio.Event()
        self._drained.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            partial(self._answer, handler), response_serializer=handler.response_serializer
        )

    async def close(self, grace_s: float) -> None:
        """Refuse new calls, and wait until those in flight have their replies, at most `grace_s` seconds."""
        self._accepting = False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), grace_s)

    async def _answer(self, handler: grpc.RpcMethodHandler, data: bytes, context: grpc.aio.ServicerContext) -> Any:
        self._in_flight += 1
        self._drained.clear()
        context.add_done_callback(self._ended)  # when the reply is sent, which may take longer than computing it
        try:
            return await self._handle(handler, data, context)
        except grpc.aio.InternalError:  # the client disconnected while it was being refused
            raise asyncio.CancelledError from None  # gRPC would log a traceback otherwise

    async def _handle(self, handler: grpc.RpcMethodHandler, data: bytes, context: grpc.aio.ServicerContext) -> Any:
        if not self._accepting:
            await context.abort(grpc.StatusCode.UNAVAILABLE, STOPPING)
        try:
            request = handler.request_deserializer(data)
        except DecodeError as error:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"the request cannot be read ({error}): check its encoding"
            )
        return await handler.unary_unary(request, context)

    def _ended(self, _: object) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._drained.set()
