"""The engine process's end: one owner of the compute for all fronts.

An engine stays for as long as a front may still send calls for it: each connection keeps those that its front was told
of, until the front releases them or is gone.
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
from inference_server.admission.overload import Gate
from inference_server.batching.compute import LocalCompute
from inference_server.batching.scheduler import Lane
from inference_server.batching.workloads import ScoreLane, SearchLane
from inference_server.bundles.loaded import Slots
from inference_server.engines import Engine
from inference_server.processes import wire_pb2 as wire
from inference_server.processes.codec import pack_failure, pack_results, unpack_job
from inference_server.processes.frames import Frames
from inference_server.processes.totals import Totals
from inference_server.telemetry.logs import event
from inference_server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)
LOAD_S = 120.0
"""How long a front may take to load what goes with a bundle; one that takes longer is started again."""


class Hub(LocalCompute):
    """Computes for the fronts that connect, and tells them which bundles are held."""

    def __init__(self, slots: Slots, section: ServerSection, metrics: Metrics) -> None:
        super().__init__(slots, section, metrics)
        self.totals = Totals(metrics.registry)
        self.gates = {  # of all fronts together
            wire.SCORE: Gate(section.max_concurrent_score, "server.max_concurrent_score"),
            wire.ENCODE: Gate(section.max_concurrent_encode, "server.max_concurrent_encode"),
        }
        self.fronts: set[Front] = set()
        self.numbers = itertools.count(1)

    async def listen(self, path: Path) -> asyncio.Server:
        return await asyncio.get_running_loop().create_unix_server(lambda: Front(self), path)

    async def swap(self, slots: Slots) -> None:
        """Have all fronts load what is new, then all use it: none names a codebook that another does not have yet."""
        fronts = list(self.fronts)
        numbers = await asyncio.gather(*(front.load(slots) for front in fronts))
        await super().swap(slots)
        for front, number in zip(fronts, numbers, strict=True):
            front.use(number)
        for front in self.fronts.difference(fronts):
            front.catch_up()


class Front(Frames):
    """The connection of one front."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._engines: dict[int, Engine] = {}
        self._loading: dict[int, asyncio.Future[None]] = {}
        self._catching_up: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._hub.fronts.add(self)
        self.catch_up()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._hub.fronts.discard(self)
        self._hub.totals.left(self)
        for task in self._calls.values():
            task.cancel()
        for loaded in self._loading.values():
            if not loaded.done():
                loaded.set_result(None)  # nobody is to wait for it
        self._engines.clear()

    def received(self, data: bytes) -> None:
        message = wire.FromFront.FromString(data)
        match message.WhichOneof("kind"):
            case "submit":
                number = message.submit.call
                task = self._calls[number] = self._loop.create_task(self._answer(message.submit))
                task.add_done_callback(lambda _: self._calls.pop(number, None))
            case "cancel":
                left = self._calls.get(message.cancel)
                if left is not None:
                    left.cancel()
            case "loaded":
                loaded = self._loading.get(message.loaded)
                if loaded is not None and not loaded.done():
                    loaded.set_result(None)
            case "released":
                self._engines.pop(message.released, None)
            case "metrics":
                self._hub.totals.told(self, json.loads(message.metrics))

    async def load(self, slots: Slots) -> int:
        """Returns once the front has what it needs of these bundles, or is gone; a number for `use`."""
        number = next(self._hub.numbers)
        loaded = self._loading[number] = self._loop.create_future()
        told = [
            wire.Engine(number=self._number(engine), name=engine.name, path=str(engine.bundle.path.resolve()))
            for engine in slots.engines.values()
        ]
        self.send(wire.FromEngine(held=wire.Held(number=number, current=slots.current, engines=told)))
        if self not in self._hub.fronts:
            return number
        try:
            async with asyncio.timeout(LOAD_S):
                await loaded
        except TimeoutError:
            self.refuse(f"loaded no bundle for {LOAD_S} s")
        del self._loading[number]
        return number

    def use(self, number: int) -> None:
        self.send(wire.FromEngine(use=number))

    def catch_up(self) -> None:
        """Tell a front that is new what is held."""
        task = self._loop.create_task(self._catch_up())
        self._catching_up.add(task)
        task.add_done_callback(self._catching_up.discard)

    async def _catch_up(self) -> None:
        slots: Slots | None = None
        while slots is not self._hub.slots:  # they may change meanwhile
            slots = self._hub.slots
            self.use(await self.load(slots))

    def _number(self, engine: Engine) -> int:
        known = (number for number, one in self._engines.items() if one is engine)
        number = next(known, None) or next(self._hub.numbers)
        self._engines[number] = engine
        return number

    async def _answer(self, asked: wire.Submit) -> None:
        answer = wire.Answer(call=asked.call)
        try:
            answer.done.CopyFrom(await self._compute(asked))
            self.send(wire.FromEngine(answer=answer))
        except Exception as error:
            self._fail(asked.call, error)

    def _fail(self, call: int, error: Exception) -> None:
        failed = pack_failure(error, self._hub.pushback_ms())
        if failed.reason == wire.Failed.ERROR:
            event(log, logging.ERROR, "failed", error)
        self.send(wire.FromEngine(answer=wire.Answer(call=call, failed=failed)))

    async def _compute(self, asked: wire.Submit) -> wire.Done:
        deadline = time.monotonic() + asked.remaining_s if asked.HasField("remaining_s") else None
        engine = self._engines[asked.engine]
        with self._hub.gates.get(asked.lane, nullcontext()):
            lane: Lane
            if asked.lane == wire.ENCODE:
                lane = await self._hub.encoders.of(engine)
            elif asked.lane == wire.SCORE:
                lane = ScoreLane(engine)
            else:
                lane = SearchLane(engine, asked.width)
            jobs = [unpack_job(asked.lane, job) for job in asked.jobs]
            done = await self._hub.submit(lane, jobs, deadline)
        return wire.Done(
            results=pack_results(asked.lane, done.results),
            compute_ms=done.compute_ms,
            batch_sizes=done.batch_sizes,
        )
