"""What every method of the service shares: deadline, time by stage, a status for every failure, metrics, log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from grpc import StatusCode as Status

from genrecall.config.server import ServerSection
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.batcher import Full
from inference_server.limits import Invalid
from inference_server.logs import ACCESS, event
from inference_server.metrics import Metrics
from inference_server.overload import Busy
from inference_server.scheduler import Expired, Stopped
from inference_server.slots import NotHeld

R = TypeVar("R")
log = logging.getLogger(__name__)


@dataclass
class Call:
    """One call under way.

    Attributes:
        request_id: `x-request-id` of its metadata, "" where the client sent none.
        deadline: on the clock of `time.monotonic`; None where the client set none.
        stages: milliseconds by stage: prepare, queue, compute, reply.
        facts: what the log tells of it, by key.
        texts: of its queries; logged only where `server.log_queries` says so.
    """

    method: str
    peer: str
    request_id: str
    arrived: float
    deadline: float | None
    stages: dict[str, float] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    texts: Sequence[str] = ()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.stages[name] = (time.monotonic() - began) * 1e3

    @property
    def total_ms(self) -> float:
        return (time.monotonic() - self.arrived) * 1e3

    def timings(self) -> pb.Timings:
        return pb.Timings(
            queue_ms=self.stages["queue"],
            encode_ms=self.stages["prepare"],
            search_ms=self.stages["compute"],
            total_ms=self.total_ms,
        )


class Calls:
    """Answers calls, or ends them with the status that fits.

    Args:
        pushback_ms: the wait to ask of a client that is turned away now.
    """

    def __init__(self, section: ServerSection, metrics: Metrics, pushback_ms: Callable[[], int]) -> None:
        self._section = section
        self._metrics = metrics
        self._pushback_ms = pushback_ms

    async def answer(self, method: str, context: grpc.aio.ServicerContext, work: Callable[[Call], Awaitable[R]]) -> R:
        call = _call(method, context)
        code = Status.OK
        self._metrics.in_flight.labels(method).inc()
        try:
            return await work(call)
        except asyncio.CancelledError:
            code = Status.CANCELLED
            raise
        except Exception as error:
            code, message = self._status(error, call)
            pushback = (
                (("grpc-retry-pushback-ms", str(self._pushback_ms())),) if code is Status.RESOURCE_EXHAUSTED else ()
            )
            await context.abort(code, message, pushback)
            raise  # abort does
        finally:
            self._ended(call, code)

    def _status(self, error: Exception, call: Call) -> tuple[Status, str]:
        match error:
            case Invalid():
                return Status.INVALID_ARGUMENT, str(error)
            case NotHeld():
                return Status.FAILED_PRECONDITION, str(error)
            case Expired():
                message = "the deadline passed, or could not be met, before the call's turn came: allow more time"
                return Status.DEADLINE_EXCEEDED, message
            case Full():
                most = self._section.max_pending
                message = f"the call would exceed {most} pending entries (server.max_pending): try again later"
                return Status.RESOURCE_EXHAUSTED, message
            case Busy():
                self._metrics.left("busy")
                return Status.RESOURCE_EXHAUSTED, str(error)
            case Stopped():
                return Status.UNAVAILABLE, "the server is stopping: ask another one"
            case _:
                event(log, logging.ERROR, "failed", error, method=call.method, request_id=call.request_id)
                return Status.INTERNAL, f"the server failed ({type(error).__name__}): its log says where"

    def _ended(self, call: Call, code: Status) -> None:
        total_ms = call.total_ms
        self._metrics.in_flight.labels(call.method).dec()
        self._metrics.calls.labels(call.method, code.name).inc()
        if code is Status.OK:
            for stage, spent_ms in {**call.stages, "total": total_ms}.items():
                self._metrics.stages.labels(call.method, stage).observe(spent_ms / 1e3)
        keys: dict[str, object] = {"code": code.name, "peer": call.peer, **call.facts}
        keys |= {f"{stage}_ms": round(spent_ms, 2) for stage, spent_ms in call.stages.items()}
        if call.request_id:
            keys["request_id"] = call.request_id
        if self._section.log_queries:
            keys["texts"] = list(call.texts)
        event(ACCESS, logging.INFO, call.method.lower(), **keys, total_ms=round(total_ms, 2))


def _call(method: str, context: grpc.aio.ServicerContext) -> Call:
    arrived, remaining = time.monotonic(), context.time_remaining()
    metadata = dict(context.invocation_metadata() or ())
    return Call(
        method,
        context.peer(),
        str(metadata.get("x-request-id", ""))[:128],
        arrived,
        None if remaining is None else arrived + remaining,
    )
