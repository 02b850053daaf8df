"""The executor of the engine process, shared by all frontends.

An engine stays in memory for as long as a frontend may still send calls for it: each connection keeps the engines that
its frontend knows, until the frontend releases them or is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from contextlib import nullcontext
from pathlib import Path

from genrecall.config.server import ServerSection
from inference_server.admission.overload import encode_limiter, score_limiter
from inference_server.batching.executor import LocalExecutor
from inference_server.batching.scheduler import Workload
from inference_server.batching.workloads import ScoreWorkload, SearchWorkload
from inference_server.bundles.loaded import LoadedBundles
from inference_server.engines import Engine
from inference_server.processes import wire_pb2 as wire
from inference_server.processes.codec import pack_failure, pack_results, unpack_work_item
from inference_server.processes.frames import FramedConnection
from inference_server.processes.metrics_aggregator import MetricsAggregator
from inference_server.telemetry.logs import event
from inference_server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)
PREPARE_TIMEOUT_S = 120.0
"""How long a frontend may take to load what goes with a bundle; one that takes longer is started again."""


class SharedExecutor(LocalExecutor):
    """Computes for the frontends that connect, and has them serve the bundles that are loaded."""

    def __init__(self, loaded: LoadedBundles, section: ServerSection, metrics: Metrics) -> None:
        super().__init__(loaded, section, metrics)
        self.aggregator = MetricsAggregator(metrics.registry)
        self.limiters = {wire.SCORE: score_limiter(section), wire.ENCODE: encode_limiter(section)}  # of all frontends
        self.frontends: set[FrontendConnection] = set()
        self.ids = itertools.count(1)

    async def listen(self, path: Path) -> asyncio.Server:
        return await asyncio.get_running_loop().create_unix_server(lambda: FrontendConnection(self), path)

    async def swap(self, loaded: LoadedBundles) -> None:
        """Have all frontends prepare the new bundles, then all serve them: none names one that another lacks."""
        frontends = list(self.frontends)
        ids = await asyncio.gather(*(frontend.prepare(loaded) for frontend in frontends))
        await super().swap(loaded)
        for frontend, bundle_set_id in zip(frontends, ids, strict=True):
            frontend.activate(bundle_set_id)
        for frontend in self.frontends.difference(frontends):
            frontend.catch_up()


class FrontendConnection(FramedConnection):
    """The connection of one frontend."""

    def __init__(self, executor: SharedExecutor) -> None:
        super().__init__()
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._engines: dict[int, Engine] = {}
        self._preparing: dict[int, asyncio.Future[None]] = {}
        self._catching_up: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._executor.frontends.add(self)
        self.catch_up()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._executor.frontends.discard(self)
        self._executor.aggregator.remove(self)
        for task in self._calls.values():
            task.cancel()
        for prepared in self._preparing.values():
            if not prepared.done():
                prepared.set_result(None)  # nobody is to wait for it
        self._engines.clear()

    def received(self, data: bytes) -> None:
        message = wire.FrontendMessage.FromString(data)
        match message.WhichOneof("kind"):
            case "submit":
                call_id = message.submit.call
                task = self._calls[call_id] = self._loop.create_task(self._answer(message.submit))
                task.add_done_callback(lambda _: self._calls.pop(call_id, None))
            case "cancel":
                cancelled = self._calls.get(message.cancel)
                if cancelled is not None:
                    cancelled.cancel()
            case "prepared":
                prepared = self._preparing.get(message.prepared)
                if prepared is not None and not prepared.done():
                    prepared.set_result(None)
            case "released":
                self._engines.pop(message.released, None)
            case "metrics":
                self._executor.aggregator.update(self, json.loads(message.metrics))

    async def prepare(self, loaded: LoadedBundles) -> int:
        """Returns once the frontend has what it needs of these bundles, or is gone; an id for `activate`."""
        bundle_set_id = next(self._executor.ids)
        prepared = self._preparing[bundle_set_id] = self._loop.create_future()
        engines = [
            wire.Engine(id=self._engine_id(engine), name=engine.name, path=str(engine.bundle.path.resolve()))
            for engine in loaded.engines.values()
        ]
        bundles = wire.BundleSet(id=bundle_set_id, current=loaded.current, engines=engines)
        self.send(wire.EngineMessage(prepare=bundles))
        if self not in self._executor.frontends:
            return bundle_set_id
        try:
            async with asyncio.timeout(PREPARE_TIMEOUT_S):
                await prepared
        except TimeoutError:
            self.refuse(f"no bundle prepared within {PREPARE_TIMEOUT_S} s")
        del self._preparing[bundle_set_id]
        return bundle_set_id

    def activate(self, bundle_set_id: int) -> None:
        self.send(wire.EngineMessage(activate=bundle_set_id))

    def catch_up(self) -> None:
        """Have a new frontend serve the bundles that are loaded."""
        task = self._loop.create_task(self._catch_up())
        self._catching_up.add(task)
        task.add_done_callback(self._catching_up.discard)

    async def _catch_up(self) -> None:
        loaded: LoadedBundles | None = None
        while loaded is not self._executor.loaded:  # they may change meanwhile
            loaded = self._executor.loaded
            self.activate(await self.prepare(loaded))

    def _engine_id(self, engine: Engine) -> int:
        known = (engine_id for engine_id, one in self._engines.items() if one is engine)
        engine_id = next(known, None) or next(self._executor.ids)
        self._engines[engine_id] = engine
        return engine_id

    async def _answer(self, request: wire.SubmitCall) -> None:
        reply = wire.CallReply(call=request.call)
        try:
            reply.result.CopyFrom(await self._compute(request))
            self.send(wire.EngineMessage(reply=reply))
        except Exception as error:
            self._fail(request.call, error)

    def _fail(self, call_id: int, error: Exception) -> None:
        failure = pack_failure(error, self._executor.pushback_ms())
        if failure.reason == wire.CallFailure.ERROR:
            event(log, logging.ERROR, "failed", error)
        self.send(wire.EngineMessage(reply=wire.CallReply(call=call_id, failure=failure)))

    async def _compute(self, request: wire.SubmitCall) -> wire.CallResult:
        deadline = time.monotonic() + request.remaining_s if request.HasField("remaining_s") else None
        engine = self._engines[request.engine]
        with self._executor.limiters.get(request.workload, nullcontext()):
            workload: Workload
            if request.workload == wire.ENCODE:
                workload = await self._executor.encode_workloads.get(engine)
            elif request.workload == wire.SCORE:
                workload = ScoreWorkload(engine)
            else:
                workload = SearchWorkload(engine, request.width)
            work_items = [unpack_work_item(request.workload, item) for item in request.work_items]
            result = await self._executor.submit(workload, work_items, deadline)
        return wire.CallResult(
            results=pack_results(request.workload, result.results),
            compute_ms=result.compute_ms,
            batch_sizes=result.batch_sizes,
        )
