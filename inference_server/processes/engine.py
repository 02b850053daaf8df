"""The engine process: bundles, batches, reload, metrics. `python -m inference_server.processes.engine`."""

from __future__ import annotations

import asyncio
import signal
import sys

from prometheus_client import CollectorRegistry

from inference_server.bundles.loaded import load_bundles
from inference_server.bundles.reload import Reloader
from inference_server.processes.child import ChildConfig, report_ready, run, stop_event
from inference_server.processes.shared_executor import SharedExecutor
from inference_server.startup import leave_a_thread_that_hangs, set_torch_threads, watch
from inference_server.telemetry.metrics import Metrics, serve_metrics


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
            report_ready(metrics_port=metrics_port, codebooks=loaded.names)
            await watch(executor, Reloader(config.root, config.codebooks, executor).watch(reload), stopping)
            if executor.stuck:
                leave_a_thread_that_hangs()
            await executor.close()
    return int(executor.broken.is_set())


if __name__ == "__main__":
    sys.exit(run(engine))
