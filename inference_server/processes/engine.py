"""The engine process: bundles, batches, reload, metrics. `python -m inference_server.processes.engine`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from prometheus_client import CollectorRegistry

from inference_server.bundles.loaded import load_bundles
from inference_server.bundles.reload import Reloader
from inference_server.processes.child import ChildConfig, report_ready, run, stop_event
from inference_server.processes.shared_executor import SharedExecutor
from inference_server.startup import first_of, set_torch_threads
from inference_server.telemetry.logs import event
from inference_server.telemetry.metrics import Metrics, serve_metrics

log = logging.getLogger(__name__)


async def engine(config: ChildConfig) -> int:
    section = config.section
    set_torch_threads(section.threads)
    stopping, reload = await stop_event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.set)
    loaded = await asyncio.to_thread(load_bundles, config.root, config.codebooks, section)
    executor = SharedExecutor(loaded, section, Metrics())
    registry = CollectorRegistry()
    registry.register(executor.aggregator)
    with serve_metrics(registry, section.metrics_host, section.metrics_port) as metrics_port:
        async with await executor.listen(config.socket):
            tasks = [asyncio.create_task(Reloader(config.root, config.codebooks, executor).watch(reload))]
            tasks.append(asyncio.create_task(executor.watch_engines()))
            report_ready(metrics_port=metrics_port, codebooks=loaded.names)
            await first_of(stopping, executor.broken)
            for task in tasks:
                task.cancel()
            if executor.broken.is_set():
                event(log, logging.ERROR, "broken", reason=executor.reason, remedy="start the server again")
            if executor.stuck:
                logging.shutdown()
                os._exit(1)  # the thread that hangs would be waited for
            await executor.close()
    return int(executor.broken.is_set())


if __name__ == "__main__":
    sys.exit(run(engine))
