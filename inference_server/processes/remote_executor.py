"""The executor of a frontend: work is computed in the engine process, which also chooses the bundles to serve."""

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
from typing import TYPE_CHECKING, Any

import numpy as np

from genrecall import bundle
from genrecall.decoding.config import CONFIG, GeneratorConfig
from genrecall.decoding.request_tokenizer import RequestTokenizer, TokenizedPrompt
from inference_server.batching.encode_workload import EncodeWorkloads, ItemTokenizer
from inference_server.batching.scheduler import CallResult, ShuttingDown, WorkItem, Workload
from inference_server.batching.workloads import ScoreWorkload, SearchWorkload
from inference_server.bundles.loaded import LoadedBundles
from inference_server.engines import Engine
from inference_server.processes import wire_pb2 as wire
from inference_server.processes.codec import WORKLOADS, pack_work_item, unpack_failure, unpack_results
from inference_server.processes.frames import FramedConnection
from inference_server.telemetry.logs import event

if TYPE_CHECKING:
    from genrecall.decoding import GeneratedSids

log = logging.getLogger(__name__)


class RemoteEngine(Engine):
    """Tokenizes requests here, for the engine of that `id` in the engine process. Loads no weights."""

    def __init__(self, message: wire.Engine) -> None:
        opened = bundle.open(Path(message.path), check=False)  # the engine process compared the checksums
        config = opened.generator_dir / CONFIG
        block = GeneratorConfig.read(json.loads(config.read_text(encoding="utf-8")), config)
        super().__init__(opened, RequestTokenizer.load(opened.generator_dir, block, opened.space))
        self.id = message.id
        self.name = message.name

    def search(self, prompts: Sequence[TokenizedPrompt], width: int) -> GeneratedSids:
        raise NotImplementedError("computed in the engine process")

    def score_rows(self, prompt: TokenizedPrompt, rows: np.ndarray) -> np.ndarray:
        raise NotImplementedError("computed in the engine process")


class RemoteEncodeWorkload:
    """Tokenizes items here, to be encoded in the engine process. Refers to no engine, so that it ends with it."""

    name = "encode"

    def __init__(self, engine: Engine) -> None:
        assert isinstance(engine, RemoteEngine)
        self.engine_id = engine.id
        self.work_items = ItemTokenizer.open(engine.bundle).work_items

    def run(self, payloads: list[Any]) -> list[Any]:
        raise NotImplementedError("computed in the engine process")


class RemoteExecutor(FramedConnection):
    """`Executor` over a connection to the engine process, on which many calls may be in flight.

    Attributes:
        loaded: the bundles served; set once `ready` is.
        lost: set when the engine process is gone. Calls are refused from then on.
    """

    loaded: LoadedBundles

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.encode_workloads: EncodeWorkloads[Any] = EncodeWorkloads(RemoteEncodeWorkload)
        self.lost = asyncio.Event()
        self.ready = asyncio.Event()
        self._call_ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[wire.CallReply]] = {}
        self._engines: weakref.WeakValueDictionary[int, RemoteEngine] = weakref.WeakValueDictionary()
        self._preparing: set[asyncio.Task[None]] = set()
        self._prepared: dict[int, LoadedBundles] = {}  # by id of the `BundleSet`
        self._pushback_ms = 0

    async def submit(
        self, workload: Workload, work_items: Sequence[WorkItem], deadline: float | None = None
    ) -> CallResult:
        """As `Scheduler.submit`; ShuttingDown where the engine process is gone."""
        began, call_id = time.monotonic(), next(self._call_ids)
        if self.lost.is_set():
            raise ShuttingDown
        kind = WORKLOADS[workload.name]
        future = self._calls[call_id] = self._loop.create_future()
        try:
            self.send(
                wire.FrontendMessage(
                    submit=wire.SubmitCall(
                        call=call_id,
                        engine=_engine_id(workload),
                        workload=kind,
                        width=workload.width if isinstance(workload, SearchWorkload) else 0,
                        remaining_s=None if deadline is None else deadline - began,
                        work_items=map(pack_work_item, work_items),
                    )
                )
            )
            reply = await future
        except asyncio.CancelledError:
            self.send(wire.FrontendMessage(cancel=call_id))
            raise
        finally:
            del self._calls[call_id]
        if reply.HasField("failure"):
            self._pushback_ms = reply.failure.pushback_ms
            raise unpack_failure(reply.failure)
        result = reply.result
        queue_ms = max(0.0, (time.monotonic() - began) * 1e3 - result.compute_ms)
        return CallResult(unpack_results(kind, result.results), queue_ms, result.compute_ms, list(result.batch_sizes))

    def pushback_ms(self) -> int:
        return self._pushback_ms

    def send_metrics(self, snapshot: bytes) -> None:
        """Report what this frontend has counted so far."""
        self.send(wire.FrontendMessage(metrics=snapshot))

    async def close(self) -> None:
        self.end()
        await self.lost.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(ShuttingDown())

    def received(self, data: bytes) -> None:
        message = wire.EngineMessage.FromString(data)
        match message.WhichOneof("kind"):
            case "reply":
                future = self._calls.get(message.reply.call)
                if future is not None and not future.done():  # its client may have disconnected
                    future.set_result(message.reply)
            case "prepare":
                preparing = self._loop.create_task(self._prepare(message.prepare))
                preparing.add_done_callback(self._preparing.discard)
                self._preparing.add(preparing)
            case "activate":
                self.loaded = self._prepared.pop(message.activate)
                self.ready.set()

    async def _prepare(self, bundles: wire.BundleSet) -> None:
        try:
            opened = [await self._engine(message) for message in bundles.engines]
        except Exception as error:  # this frontend cannot go on as the others do: it ends, and is started again
            event(log, logging.ERROR, "loading failed", error)
            self.end()
            return
        self._prepared[bundles.id] = LoadedBundles({e.bundle.codebook: e for e in opened}, bundles.current)
        self.send(wire.FrontendMessage(prepared=bundles.id))

    async def _engine(self, message: wire.Engine) -> RemoteEngine:
        known = self._engines.get(message.id)
        if known is not None:
            return known
        engine = self._engines[message.id] = await asyncio.to_thread(RemoteEngine, message)
        weakref.finalize(engine, self._release, message.id)
        return engine

    def _release(self, engine_id: int) -> None:
        """No call refers to that engine any more. May be called on any thread."""
        with suppress(RuntimeError):  # the loop has ended, and everything with it
            self._loop.call_soon_threadsafe(self.send, wire.FrontendMessage(released=engine_id))


def _engine_id(workload: Workload) -> int:
    match workload:
        case SearchWorkload(engine=RemoteEngine() as engine) | ScoreWorkload(engine=RemoteEngine() as engine):
            return engine.id
        case RemoteEncodeWorkload():
            return workload.engine_id
    raise TypeError(f"{workload} does not belong to an engine of another process")
