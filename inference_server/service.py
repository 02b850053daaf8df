"""The gRPC service: checks a request, waits for its turn, packs the answer. Every failure is a gRPC status."""

from __future__ import annotations

import logging
import time

import grpc

import genrecall
from genrecall.config.server import ServerSection
from genrecall.decoding import Generated
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallServicer
from inference_server.engines import Engine
from inference_server.limits import Invalid, check_generate, describe
from inference_server.queue import ComputeQueue, Expired, Full
from inference_server.slots import NotHeld, Slots

log = logging.getLogger(__name__)


class GenerativeRecall(GenerativeRecallServicer):
    """`Generate` and `Describe`; `Score` and `Encode` answer UNIMPLEMENTED, as the generated base class does."""

    def __init__(self, slots: Slots, section: ServerSection) -> None:
        self.slots = slots
        self.section = section
        self.queue = ComputeQueue(section.max_pending)

    async def Generate(self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext) -> pb.GenerateResponse:
        arrived = time.monotonic()
        remaining = context.time_remaining()
        deadline = None if remaining is None else arrived + remaining
        try:
            asked = check_generate(request, self.section)
            engine = self.slots.find(asked.codebook)
            prompts = engine.prepare(asked.texts, asked.users)
            prepared = time.monotonic()
            result, queue_ms = await self.queue.run(lambda: engine.search(prompts, asked.beam_width), deadline)
        except Invalid as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except NotHeld as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except Expired:
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed while the call waited for its turn"
            )
        except Full:
            pushback = (("grpc-retry-pushback-ms", str(self.section.pushback_ms)),)
            message = f"{self.queue.max_pending} calls wait already (server.max_pending): try again later"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message, pushback)
        total_ms, encode_ms = (time.monotonic() - arrived) * 1e3, (prepared - arrived) * 1e3
        log.info(
            "generate codebook=%s queries=%d k=%d queue_ms=%.1f total_ms=%.1f",
            *(engine.bundle.codebook, len(asked.texts), asked.k, queue_ms, total_ms),
        )
        timings = pb.Timings(
            queue_ms=queue_ms, encode_ms=encode_ms, search_ms=total_ms - queue_ms - encode_ms, total_ms=total_ms
        )
        return _response(engine, result, asked.k, timings)

    async def Describe(self, request: pb.DescribeRequest, context: grpc.aio.ServicerContext) -> pb.DescribeResponse:
        return pb.DescribeResponse(
            server_version=genrecall.__version__,
            current_codebook=self.slots.current,
            codebooks=[_codebook(engine) for engine in self.slots.engines.values()],
            limits=describe(self.section),
        )


def _response(engine: Engine, found: Generated, k: int, timings: pb.Timings) -> pb.GenerateResponse:
    results = [
        pb.Generated(codes=codes[:n].ravel().tolist(), scores=scores[:n].tolist())
        for codes, scores, n in zip(found.codes, found.scores, found.valid[:, :k].sum(axis=1), strict=True)
    ]
    return pb.GenerateResponse(
        codebook=engine.bundle.codebook, model=engine.bundle.model, results=results, timings=timings
    )


def _codebook(engine: Engine) -> pb.Codebook:
    manifest = engine.bundle.manifest
    return pb.Codebook(
        codebook=engine.bundle.codebook,
        model=engine.bundle.model,
        level_sizes=engine.bundle.level_sizes,
        sids=manifest["sids"],
        items=manifest["items"],
        kind=manifest["kind"],
    )
