"""What is served, and the scheduler that computes it."""

from __future__ import annotations

from functools import partial

from genrecall.config.server import ServerSection
from inference_server.admission.overload import BacklogEstimator
from inference_server.batching.batcher import BatchSettings
from inference_server.batching.encode_workload import EncodeWorkload, EncodeWorkloads
from inference_server.batching.scheduler import FAILURES, Scheduler
from inference_server.bundles.loaded import LoadedBundles
from inference_server.bundles.self_test import self_test
from inference_server.engines import Engine
from inference_server.telemetry.metrics import Metrics


class Executor(Scheduler):
    """Holds the loaded bundles and computes the work of calls, on the engines of the workloads.

    Attributes:
        loaded: the bundles served. A call keeps the engine that it began with, whatever is swapped in meanwhile.
        encode_workloads: the workload of `Encode` of each engine.
    """

    def __init__(self, loaded: LoadedBundles, section: ServerSection, metrics: Metrics) -> None:
        self._backlog = BacklogEstimator(metrics)
        super().__init__(BatchSettings.of(section), observer=self._backlog, batch_timeout_s=section.batch_timeout_s)
        self.loaded = loaded
        self.section = section
        self.metrics = metrics
        metrics.register_bundles(lambda: self.loaded)

        def load(engine: Engine) -> EncodeWorkload:
            return EncodeWorkload.load(engine.bundle, section.device)

        self.encode_workloads = EncodeWorkloads(load)

    async def swap(self, loaded: LoadedBundles) -> None:
        """Serve these bundles from the next call on, between two batches."""
        await self.between_batches(partial(setattr, self, "loaded", loaded))

    async def watch_engines(self) -> None:
        """Test the engines whenever several batches in a row failed. Ends when cancelled.

        Requests that no engine can answer fail too, so failures alone prove nothing.
        """
        while True:
            await self.suspect.wait()
            try:
                await self.between_batches(self._test)
            except Exception as error:
                self.declare_broken(f"{FAILURES} batches in a row failed, and the test of the engines too: {error}")
                return
            self.suspect.clear()

    def _test(self) -> None:
        for engine in self.loaded.engines.values():
            self_test(engine)

    def pushback_ms(self) -> int:
        """How long a client that is refused now should wait before it retries."""
        return self._backlog.pushback_ms(self.pending)
