"""Where the work of calls is done: here, or in another process (`processes/`). The service cannot tell which."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from genrecall.config.server import ServerSection
from inference_server.admission.overload import Pace
from inference_server.batching.batcher import BatchSettings
from inference_server.batching.scheduler import Done, Job, Lane, Scheduler
from inference_server.bundles.encode import EncodeLane, EncodeLanes
from inference_server.bundles.loaded import Slots
from inference_server.engines import Engine
from inference_server.telemetry.metrics import Metrics


class EngineFailed(Exception):
    """Something failed in another process, whose log has the traceback; the message is the type of the error."""


class Compute(Protocol):
    """Holds bundles and runs the jobs of calls.

    Attributes:
        slots: the bundles held. A call keeps to the engine that it began with, whatever is swapped in meanwhile.
        encoders: the lane of `Encode` of each engine.
    """

    @property
    def slots(self) -> Slots: ...

    @property
    def encoders(self) -> EncodeLanes[Any]: ...

    async def submit(self, lane: Lane, jobs: Sequence[Job], deadline: float | None = None) -> Done:
        """See `Scheduler.submit`; may raise Busy and EngineFailed as well."""

    def pushback_ms(self) -> int:
        """The wait to ask of a client that is turned away now."""

    async def close(self) -> None:
        """Refuse new calls, drop those that wait."""


class LocalCompute(Scheduler):
    """In this process, by the engines of the lanes."""

    def __init__(self, slots: Slots, section: ServerSection, metrics: Metrics) -> None:
        self._pace = Pace(section.pushback_ms, section.max_pushback_ms, metrics)
        super().__init__(_batching(section), observer=self._pace)
        self.slots = slots
        self.section = section
        self.metrics = metrics
        metrics.describe(lambda: self.slots)

        def load(engine: Engine) -> EncodeLane:
            return EncodeLane.load(engine.bundle, section.device)

        self.encoders = EncodeLanes(load)

    async def swap(self, slots: Slots) -> None:
        """Hold these from the next call on, and the next batch."""
        await self.between_batches(partial(setattr, self, "slots", slots))

    def pushback_ms(self) -> int:
        return self._pace.pushback_ms(self.pending)


def _batching(section: ServerSection) -> BatchSettings:
    return BatchSettings(
        max_pending=section.max_pending,
        max_batch=section.max_batch,
        max_batch_tokens=section.max_batch_tokens,
        linger_s=section.linger_ms / 1e3,
        buckets=section.buckets,
    )
