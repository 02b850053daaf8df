"""gRPC's health service, with watches that end when the server does: it would wait for them all its grace otherwise."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2


class Health(health.aio.HealthServicer):
    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> None:
        watch = asyncio.create_task(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await asyncio.wait({watch})
        finally:
            watch.cancel()
            self._watches.discard(watch)

    def end(self) -> None:
        """End the watches under way, without an error."""
        for watch in self._watches:
            watch.cancel()
