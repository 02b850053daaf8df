"""The engine process: bundles, batches, reload, metrics. `python -m inference_server.processes.engine`."""

from __future__ import annotations

import asyncio
import signal
import sys

from prometheus_client import CollectorRegistry

from inference_server.bundles import loaded as slots
from inference_server.bundles.reload import Reloader
from inference_server.processes.child import Task, asked_to_stop, run, tell
from inference_server.processes.hub import Hub
from inference_server.telemetry.metrics import Metrics, exposed


async def engine(task: Task) -> int:
    section = task.section
    if section.threads:
        import torch

        torch.set_num_threads(section.threads)
    stopping, look = await asked_to_stop(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, look.set)
    held = await asyncio.to_thread(slots.load, task.root, task.codebooks, section)
    hub = Hub(held, section, Metrics())
    shown = CollectorRegistry()
    shown.register(hub.totals)
    with exposed(shown, section.metrics_host, section.metrics_port) as metrics_port:
        async with await hub.listen(task.socket):
            watching = asyncio.create_task(Reloader(task.root, task.codebooks, hub).watch(look))
            tell(metrics_port=metrics_port, codebooks=held.names)
            await stopping.wait()
            watching.cancel()
            await hub.close()
    return 0


if __name__ == "__main__":
    sys.exit(run(engine))
