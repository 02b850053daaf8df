"""A frontend process: gRPC, validation, users, tokenizing, replies. `python -m inference_server.processes.frontend`."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from inference_server.processes.child import ChildConfig, report_ready, run, stop_event
from inference_server.processes.metrics_aggregator import snapshot_json
from inference_server.processes.remote_executor import RemoteExecutor
from inference_server.server import start_service, stop
from inference_server.service import GenerativeRecall
from inference_server.telemetry.metrics import Metrics

METRICS_INTERVAL_S = 1.0
"""Seconds between two reports of metrics to the engine process."""
ORPHANED_S = 5.0
"""How long calls are still answered UNAVAILABLE after the engine process is gone, unless the parent stops us before."""


async def frontend(config: ChildConfig) -> int:
    stopping = await stop_event()
    executor, metrics = RemoteExecutor(), Metrics()
    await asyncio.get_running_loop().create_unix_connection(lambda: executor, str(config.socket))
    if not await _first(executor.ready, executor.lost, stopping):
        return 1
    service = GenerativeRecall(config.section, executor, metrics)
    running = await start_service(service, metrics_port=None, share_port=True)
    reporting = asyncio.create_task(_report_metrics(executor, metrics))
    report_ready(port=running.port)
    await _first(stopping, executor.lost)
    if executor.lost.is_set():
        await running.health.enter_graceful_shutdown()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), ORPHANED_S)
    reporting.cancel()
    await stop(running)
    return 0 if stopping.is_set() else 1


async def _first(expected: asyncio.Event, *others: asyncio.Event) -> bool:
    """Wait for any of the events; whether `expected` is set then."""
    waiting = [asyncio.create_task(event.wait()) for event in (expected, *others)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return expected.is_set()


async def _report_metrics(executor: RemoteExecutor, metrics: Metrics) -> None:
    while True:
        executor.send_metrics(snapshot_json(metrics.registry))
        await asyncio.sleep(METRICS_INTERVAL_S)


if __name__ == "__main__":
    sys.exit(run(frontend))
