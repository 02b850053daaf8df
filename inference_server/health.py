"""gRPC's health service, whose watches end when the server stops; otherwise it would wait out its grace for them."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2


class HealthService(health.aio.HealthServicer):
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

    def end_watches(self) -> None:
        """End all watches, without an error."""
        for watch in self._watches:
            watch.cancel()
