"""A front's end: the compute of its service is in the engine process, and so is the choice of bundles."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from genrecall import bundle
from genrecall.decoding import GeneratedSids
from genrecall.decoding.config import CONFIG, GeneratorConfig
from genrecall.decoding.request_tokenizer import RequestTokenizer, TokenizedPrompt
from inference_server.batching.scheduler import Done, Job, Lane, Stopped
from inference_server.batching.workloads import ScoreLane, SearchLane
from inference_server.bundles.encode import EncodeLanes, ItemReader
from inference_server.bundles.loaded import Slots
from inference_server.engines import Engine
from inference_server.processes import wire_pb2 as wire
from inference_server.processes.codec import LANES, pack_job, unpack_failure, unpack_results
from inference_server.processes.frames import Frames
from inference_server.telemetry.logs import event

log = logging.getLogger(__name__)


class FarEngine(Engine):
    """Prepares prompts here, for the engine of that `number` in the other process. Loads no weights."""

    def __init__(self, told: wire.Engine) -> None:
        opened = bundle.open(Path(told.path), check=False)  # the engine process compared the checksums
        config = opened.generator_dir / CONFIG
        block = GeneratorConfig.read(json.loads(config.read_text(encoding="utf-8")), config)
        super().__init__(opened, RequestTokenizer.load(opened.generator_dir, block, opened.space))
        self.number = told.number
        self.name = told.name

    def search(self, prompts: Sequence[TokenizedPrompt], width: int) -> GeneratedSids:
        raise NotImplementedError("computed in the engine process")

    def score_rows(self, prompt: TokenizedPrompt, rows: np.ndarray) -> np.ndarray:
        raise NotImplementedError("computed in the engine process")


class FarEncodeLane:
    """Reads items here, to be encoded there. Keeps no engine: its lane is to go with it."""

    name = "encode"

    def __init__(self, engine: Engine) -> None:
        assert isinstance(engine, FarEngine)
        self.number = engine.number
        self.jobs = ItemReader.open(engine.bundle).jobs

    def run(self, payloads: list[Any]) -> list[Any]:
        raise NotImplementedError("computed in the engine process")


class Link(Frames):
    """`Compute` by way of a connection; many calls are under way on it.

    Attributes:
        slots: the bundles held; there from the moment when `ready` is set.
        lost: set when the engine process is gone. Calls are refused from then on.
    """

    slots: Slots

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.encoders: EncodeLanes[Any] = EncodeLanes(FarEncodeLane)
        self.lost = asyncio.Event()
        self.ready = asyncio.Event()
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[wire.Answer]] = {}
        self._engines: weakref.WeakValueDictionary[int, FarEngine] = weakref.WeakValueDictionary()
        self._loading: set[asyncio.Task[None]] = set()
        self._loaded: dict[int, Slots] = {}  # by the number of what was told
        self._pushback_ms = 0

    async def submit(self, lane: Lane, jobs: Sequence[Job], deadline: float | None = None) -> Done:
        """As `Scheduler.submit`; Stopped where the engine process is gone."""
        began, number = time.monotonic(), next(self._numbers)
        if self.lost.is_set():
            raise Stopped
        kind = LANES[lane.name]
        answer = self._calls[number] = self._loop.create_future()
        try:
            self.send(
                wire.FromFront(
                    submit=wire.Submit(
                        call=number,
                        engine=_number(lane),
                        lane=kind,
                        width=lane.width if isinstance(lane, SearchLane) else 0,
                        remaining_s=None if deadline is None else deadline - began,
                        jobs=map(pack_job, jobs),
                    )
                )
            )
            told = await answer
        except asyncio.CancelledError:
            self.send(wire.FromFront(cancel=number))
            raise
        finally:
            del self._calls[number]
        if told.HasField("failed"):
            self._pushback_ms = told.failed.pushback_ms
            raise unpack_failure(told.failed)
        done = told.done
        queue_ms = max(0.0, (time.monotonic() - began) * 1e3 - done.compute_ms)
        return Done(unpack_results(kind, done.results), queue_ms, done.compute_ms, list(done.batch_sizes))

    def pushback_ms(self) -> int:
        return self._pushback_ms

    def push(self, metrics: bytes) -> None:
        """Tell what this front counted so far."""
        self.send(wire.FromFront(metrics=metrics))

    async def close(self) -> None:
        self.end()
        await self.lost.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(Stopped())

    def received(self, data: bytes) -> None:
        message = wire.FromEngine.FromString(data)
        match message.WhichOneof("kind"):
            case "answer":
                waiting = self._calls.get(message.answer.call)
                if waiting is not None and not waiting.done():  # its client may have left
                    waiting.set_result(message.answer)
            case "held":
                loading = self._loop.create_task(self._load(message.held))
                loading.add_done_callback(self._loading.discard)
                self._loading.add(loading)
            case "use":
                self.slots = self._loaded.pop(message.use)
                self.ready.set()

    async def _load(self, held: wire.Held) -> None:
        try:
            engines = {engine.bundle.codebook: engine for engine in [await self._engine(told) for told in held.engines]}
        except Exception as error:  # this front cannot go on as the others do: it ends, and is started again
            event(log, logging.ERROR, "loading failed", error)
            self.end()
            return
        self._loaded[held.number] = Slots(engines, held.current)
        self.send(wire.FromFront(loaded=held.number))

    async def _engine(self, told: wire.Engine) -> FarEngine:
        known = self._engines.get(told.number)
        if known is not None:
            return known
        engine = self._engines[told.number] = await asyncio.to_thread(FarEngine, told)
        weakref.finalize(engine, self._release, told.number)
        return engine

    def _release(self, number: int) -> None:
        """No call names that engine any more. On whichever thread."""
        with suppress(RuntimeError):  # the loop has ended, and everything with it
            self._loop.call_soon_threadsafe(self.send, wire.FromFront(released=number))


def _number(lane: Lane) -> int:
    """Of its engine."""
    match lane:
        case FarEncodeLane(number=number) | SearchLane(engine=FarEngine(number=number)):
            return number
        case ScoreLane(engine=FarEngine(number=number)):
            return number
    raise TypeError(f"{lane} is of no engine in another process")
