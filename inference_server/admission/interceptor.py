"""What every call passes first. It settles what gRPC itself would answer wrongly: bytes that are no request (UNKNOWN,
and a traceback in the log), calls to a server that stops (CANCELLED, which no client takes for a reason to ask again).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError


class Door(grpc.aio.ServerInterceptor):
    """Knows the calls of one request and one reply that are inside. Belongs to the event loop."""

    def __init__(self) -> None:
        self._inside = 0
        self._open = True
        self._empty = asyncio.Event()
        self._empty.set()

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
        """Let nobody in, and wait until those inside have their replies, `grace_s` seconds at most."""
        self._open = False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), grace_s)

    async def _answer(self, handler: grpc.RpcMethodHandler, data: bytes, context: grpc.aio.ServicerContext) -> Any:
        self._inside += 1
        self._empty.clear()
        context.add_done_callback(self._left)  # once the reply is sent, which may take longer than to compute it
        try:
            return await self._handle(handler, data, context)
        except grpc.aio.InternalError:  # the client left while it was being refused
            raise asyncio.CancelledError from None  # nobody to tell: gRPC would log a traceback

    async def _handle(self, handler: grpc.RpcMethodHandler, data: bytes, context: grpc.aio.ServicerContext) -> Any:
        if not self._open:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping: ask another one")
        try:
            request = handler.request_deserializer(data)
        except DecodeError as error:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"the request cannot be read ({error}): check its encoding"
            )
        return await handler.unary_unary(request, context)

    def _left(self, _: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._empty.set()
