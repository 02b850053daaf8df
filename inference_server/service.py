"""The gRPC service: validates a request, has it computed in shared batches, packs the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc
import numpy as np

import genrecall
from genrecall.bundle import Bundle
from genrecall.config.server import ServerSection
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallServicer
from inference_server.admission.overload import encode_limiter, score_limiter
from inference_server.admission.validation import check_encode, check_generate, check_score, limits_message
from inference_server.batching.executor import Executor
from inference_server.batching.scheduler import WorkItem, Workload
from inference_server.batching.workloads import ScoreWorkload, SearchWorkload
from inference_server.bundles.loaded import LoadedBundles
from inference_server.call_context import CallContext
from inference_server.engines import Engine
from inference_server.middleware import Middleware
from inference_server.telemetry.spans import Spans

INLINE_PROMPTS = 8
"""Prompts tokenized on the event loop; more would delay other calls and are tokenized on a thread."""


class GenerativeRecall(GenerativeRecallServicer):
    """The four methods of the contract, on the bundles of an executor."""

    def __init__(self, section: ServerSection, executor: Executor) -> None:
        self.section = section
        self.metrics = executor.metrics
        self.executor = executor
        self.spans = Spans(section.otel_endpoint) if section.otel_endpoint else None
        self._middleware = Middleware(section, self.metrics, executor.pushback_ms, self.spans)
        self._score_limiter = score_limiter(section)
        self._encode_limiter = encode_limiter(section)

    async def Generate(self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext) -> pb.GenerateResponse:
        return await self._middleware.handle("Generate", context, partial(self._generate, request))

    async def Score(self, request: pb.ScoreRequest, context: grpc.aio.ServicerContext) -> pb.ScoreResponse:
        return await self._middleware.handle("Score", context, partial(self._score, request))

    async def Encode(self, request: pb.EncodeRequest, context: grpc.aio.ServicerContext) -> pb.EncodeResponse:
        return await self._middleware.handle("Encode", context, partial(self._encode, request))

    async def Describe(self, request: pb.DescribeRequest, context: grpc.aio.ServicerContext) -> pb.DescribeResponse:
        return await self._middleware.handle("Describe", context, self._describe)

    @property
    def loaded(self) -> LoadedBundles:
        """The bundles served now."""
        return self.executor.loaded

    async def _generate(self, request: pb.GenerateRequest, call: CallContext) -> pb.GenerateResponse:
        engine = self.loaded.find(request.codebook)
        params = check_generate(request, self.section, engine.max_beam_width, engine.name)
        bundle, k, beam_width = engine.bundle, params.k, params.beam_width
        call.attributes.update(codebook=bundle.codebook, queries=len(params.texts), k=k, beam_width=beam_width)
        call.texts = params.texts
        workload = SearchWorkload(engine, params.width(self._widths(engine)))
        self.executor.require_time(workload, workload.work_item(), len(params.texts), call.deadline, call.client)
        prompts = await _prepare(engine, params.texts, params.users, params.remember, call)
        generated = await self._run(workload, workload.work_items(prompts), call)
        with call.stage("reply"):
            results = [_generated(bundle, one.codes[:k], one.scores[:k]) for one in generated]
        return pb.GenerateResponse(
            codebook=bundle.codebook, model=bundle.model, results=results, timings=call.timings()
        )

    async def _score(self, request: pb.ScoreRequest, call: CallContext) -> pb.ScoreResponse:
        params = check_score(request, self.section)
        engine = self.loaded.find(params.codebook)
        bundle = engine.bundle
        call.attributes.update(codebook=bundle.codebook, sids=len(params.codes))
        call.texts = [params.text]
        with self._score_limiter:
            (prompt,) = await _prepare(engine, [params.text], [params.user], [params.remember], call)
            workload = ScoreWorkload(engine)
            work_items = workload.work_items(prompt, params.codes, chunk=self.section.max_beam_width)
            parts = await self._run(workload, work_items, call)
        with call.stage("reply"):
            scores = [score for part in parts for score in part.tolist()]
        return pb.ScoreResponse(codebook=bundle.codebook, model=bundle.model, scores=scores, timings=call.timings())

    async def _encode(self, request: pb.EncodeRequest, call: CallContext) -> pb.EncodeResponse:
        check_encode(request, self.section)
        engine = self.loaded.find(request.codebook)
        call.attributes.update(codebook=engine.bundle.codebook, items=len(request.items))
        with self._encode_limiter:
            with call.stage("prepare"):
                workload = await self.executor.encode_workloads.get(engine)
                work_items = await asyncio.to_thread(workload.work_items, request.items)
            sids = await self._run(workload, work_items, call)
        with call.stage("reply"):
            codes = _kept(engine.bundle, request.items, np.stack(sids))
        return pb.EncodeResponse(codebook=engine.bundle.codebook, codes=codes.ravel().tolist())

    async def _describe(self, call: CallContext) -> pb.DescribeResponse:
        return pb.DescribeResponse(
            server_version=genrecall.__version__,
            current_codebook=self.loaded.current,
            codebooks=[_codebook(engine, self._widths(engine)[-1]) for engine in self.loaded.engines.values()],
            limits=limits_message(self.section),
        )

    def _widths(self, engine: Engine) -> list[int]:
        return self.section.computed_widths(engine.max_beam_width)

    async def _run(self, workload: Workload, work_items: Sequence[WorkItem], call: CallContext) -> list[Any]:
        pending = self.metrics.pending.labels(workload.name)
        pending.inc(len(work_items))
        try:
            result = await self.executor.submit(workload, work_items, call.deadline, call.client)
        finally:
            pending.dec(len(work_items))
        call.stages.update(queue=result.queue_ms, compute=result.compute_ms)
        call.attributes["batches"] = len(result.batch_sizes)
        return result.results


def _generated(bundle: Bundle, codes: np.ndarray, scores: np.ndarray) -> pb.Generated:
    items = bundle.items_per_sid[bundle.space.index_of(codes)]
    return pb.Generated(codes=codes.ravel().tolist(), scores=scores.tolist(), items=items.tolist())


def _kept(bundle: Bundle, items: Sequence[pb.Item], codes: np.ndarray) -> np.ndarray:
    """The SIDs int [n, 3] of `items`: `codes` follow from their texts, and those that the codebook has keep theirs.

    A SID that many items share is split by its third code, which no text tells: without this the items of a whole feed
    would fall together again. Where the first two codes are others, the text is, and the item gets the SID of that.
    """
    rows = bundle.item_table.rows([item.item_id for item in items])
    own = bundle.space.sids[rows]
    keeps = (rows >= 0) & (own[:, :2] == codes[:, :2]).all(axis=1)
    return np.where(keeps[:, None], own, codes)


async def _prepare(
    engine: Engine,
    texts: Sequence[str],
    users: Sequence[pb.User | None],
    remember: Sequence[bool],
    call: CallContext,
) -> list[TokenizedPrompt]:
    with call.stage("prepare"):
        if len(texts) <= INLINE_PROMPTS:
            return engine.prepare(texts, users, remember)
        return await asyncio.to_thread(engine.prepare, texts, users, remember)


def _codebook(engine: Engine, max_beam_width: int) -> pb.Codebook:
    manifest = engine.bundle.manifest
    return pb.Codebook(
        codebook=engine.bundle.codebook,
        model=engine.bundle.model,
        level_sizes=engine.bundle.level_sizes,
        sids=manifest["sids"],
        items=manifest["items"],
        kind=manifest["kind"],
        engine=engine.name,
        max_beam_width=max_beam_width,
    )
