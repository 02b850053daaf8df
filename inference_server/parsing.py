"""Bytes that are no request are their sender's mistake: INVALID_ARGUMENT. gRPC says UNKNOWN, and logs a traceback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError


class Parsing(grpc.aio.ServerInterceptor):
    """Parses requests in place of gRPC, for calls of one request and one reply."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            partial(_answer, handler), response_serializer=handler.response_serializer
        )


async def _answer(handler: grpc.RpcMethodHandler, data: bytes, context: grpc.aio.ServicerContext) -> Any:
    try:
        request = handler.request_deserializer(data)
    except DecodeError as error:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, f"the request cannot be read ({error}): check its encoding"
        )
    return await handler.unary_unary(request, context)
