"""A front process: gRPC, checks, users, tokenizing, replies. `python -m inference_server.processes.front`."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from inference_server.processes.child import Task, asked_to_stop, run, tell
from inference_server.processes.link import Link
from inference_server.processes.totals import encoded
from inference_server.server import answer, stop
from inference_server.service import GenerativeRecall
from inference_server.telemetry.metrics import Metrics

TELL_S = 1.0
"""Seconds between two reports of metrics."""
ORPHANED_S = 5.0
"""How long calls are still told UNAVAILABLE when the engine process is gone, and the parent has not said anything."""


async def front(task: Task) -> int:
    stopping = await asked_to_stop()
    link, metrics = Link(), Metrics()
    await asyncio.get_running_loop().create_unix_connection(lambda: link, str(task.socket))
    if not await _first(link.ready, link.lost, stopping):
        return 1
    service = GenerativeRecall(task.section, link, metrics)
    running = await answer(service, metrics_port=None, share_port=True)
    telling = asyncio.create_task(_tell(link, metrics))
    tell(port=running.port)
    await _first(stopping, link.lost)
    if link.lost.is_set():
        await running.checks.enter_graceful_shutdown()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), ORPHANED_S)
    telling.cancel()
    await stop(running)
    return 0 if stopping.is_set() else 1


async def _first(wanted: asyncio.Event, *others: asyncio.Event) -> bool:
    """Waits for any of them; whether it is the one wanted."""
    waiting = [asyncio.create_task(event.wait()) for event in (wanted, *others)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return wanted.is_set()


async def _tell(link: Link, metrics: Metrics) -> None:
    while True:
        link.push(encoded(metrics.registry))
        await asyncio.sleep(TELL_S)


if __name__ == "__main__":
    sys.exit(run(front))
