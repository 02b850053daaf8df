"""The gRPC service: checks a request, has it computed in shared batches, packs the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc

import genrecall
from genrecall.config.server import ServerSection
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallServicer
from inference_server.admission.overload import Gate
from inference_server.admission.validation import check_encode, check_generate, check_score, describe
from inference_server.batching.compute import Compute
from inference_server.batching.scheduler import Job, Lane
from inference_server.batching.workloads import ScoreLane, SearchLane
from inference_server.bundles.loaded import Slots
from inference_server.call import Call
from inference_server.calls import Calls
from inference_server.engines import Engine
from inference_server.telemetry.metrics import Metrics
from inference_server.telemetry.spans import Spans

AT_ONCE = 8
"""Prompts made on the event loop; more would keep other calls waiting and are made on a thread."""


class GenerativeRecall(GenerativeRecallServicer):
    """The four calls of the contract, by whatever holds the bundles and computes."""

    def __init__(self, section: ServerSection, compute: Compute, metrics: Metrics) -> None:
        self.section = section
        self.metrics = metrics
        self.compute = compute
        self.spans = Spans(section.otel_endpoint) if section.otel_endpoint else None
        self._calls = Calls(section, self.metrics, compute.pushback_ms, self.spans)
        self._scores = Gate(section.max_concurrent_score, "server.max_concurrent_score")
        self._encodes = Gate(section.max_concurrent_encode, "server.max_concurrent_encode")

    async def Generate(self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext) -> pb.GenerateResponse:
        return await self._calls.answer("Generate", context, partial(self._generate, request))

    async def Score(self, request: pb.ScoreRequest, context: grpc.aio.ServicerContext) -> pb.ScoreResponse:
        return await self._calls.answer("Score", context, partial(self._score, request))

    async def Encode(self, request: pb.EncodeRequest, context: grpc.aio.ServicerContext) -> pb.EncodeResponse:
        return await self._calls.answer("Encode", context, partial(self._encode, request))

    async def Describe(self, request: pb.DescribeRequest, context: grpc.aio.ServicerContext) -> pb.DescribeResponse:
        return await self._calls.answer("Describe", context, self._describe)

    @property
    def slots(self) -> Slots:
        """The bundles held now."""
        return self.compute.slots

    async def _generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
        asked = check_generate(request, self.section)
        engine = self.slots.find(asked.codebook)
        bundle = engine.bundle
        call.facts.update(codebook=bundle.codebook, queries=len(asked.texts), k=asked.k, beam_width=asked.beam_width)
        call.texts = asked.texts
        prompts = await _prepare(engine, asked.texts, asked.users, call)
        lane = SearchLane(engine, asked.beam_width)
        found = await self._run(lane, lane.jobs(prompts), call)
        with call.stage("reply"):
            results = [
                pb.Generated(codes=one.codes[: asked.k].ravel().tolist(), scores=one.scores[: asked.k].tolist())
                for one in found
            ]
        return pb.GenerateResponse(
            codebook=bundle.codebook, model=bundle.model, results=results, timings=call.timings()
        )

    async def _score(self, request: pb.ScoreRequest, call: Call) -> pb.ScoreResponse:
        asked = check_score(request, self.section)
        engine = self.slots.find(asked.codebook)
        bundle = engine.bundle
        call.facts.update(codebook=bundle.codebook, sids=len(asked.codes))
        call.texts = [asked.text]
        with self._scores:
            (prompt,) = await _prepare(engine, [asked.text], [asked.user], call)
            lane = ScoreLane(engine)
            parts = await self._run(lane, lane.jobs(prompt, asked.codes, self.section.max_beam_width), call)
        with call.stage("reply"):
            scores = [score for part in parts for score in part.tolist()]
        return pb.ScoreResponse(codebook=bundle.codebook, model=bundle.model, scores=scores, timings=call.timings())

    async def _encode(self, request: pb.EncodeRequest, call: Call) -> pb.EncodeResponse:
        check_encode(request, self.section)
        engine = self.slots.find(request.codebook)
        call.facts.update(codebook=engine.bundle.codebook, items=len(request.items))
        with self._encodes:
            with call.stage("prepare"):
                lane = await self.compute.encoders.of(engine)
                jobs = await asyncio.to_thread(lane.jobs, request.items)
            found = await self._run(lane, jobs, call)
        with call.stage("reply"):
            codes = [code for sid in found for code in sid.tolist()]
        return pb.EncodeResponse(codebook=engine.bundle.codebook, codes=codes)

    async def _describe(self, call: Call) -> pb.DescribeResponse:
        return pb.DescribeResponse(
            server_version=genrecall.__version__,
            current_codebook=self.slots.current,
            codebooks=[_codebook(engine) for engine in self.slots.engines.values()],
            limits=describe(self.section),
        )

    async def _run(self, lane: Lane, jobs: Sequence[Job], call: Call) -> list[Any]:
        pending = self.metrics.pending.labels(lane.name)
        pending.inc(len(jobs))
        try:
            done = await self.compute.submit(lane, jobs, call.deadline)
        finally:
            pending.dec(len(jobs))
        call.stages.update(queue=done.queue_ms, compute=done.compute_ms)
        call.facts["batches"] = len(done.batch_sizes)
        return done.results


async def _prepare(
    engine: Engine, texts: Sequence[str], users: Sequence[pb.User | None], call: Call
) -> list[TokenizedPrompt]:
    with call.stage("prepare"):
        if len(texts) <= AT_ONCE:
            return engine.prepare(texts, users)
        return await asyncio.to_thread(engine.prepare, texts, users)


def _codebook(engine: Engine) -> pb.Codebook:
    manifest = engine.bundle.manifest
    return pb.Codebook(
        codebook=engine.bundle.codebook,
        model=engine.bundle.model,
        level_sizes=engine.bundle.level_sizes,
        sids=manifest["sids"],
        items=manifest["items"],
        kind=manifest["kind"],
        engine=engine.name,
    )
