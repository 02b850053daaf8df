"""What every method of the service shares: a status for every failure, metrics, a line of log, a span."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from grpc import StatusCode as Status

from genrecall.config.server import ServerSection
from inference_server.admission.overload import Busy
from inference_server.admission.validation import Invalid
from inference_server.batching.batcher import Full
from inference_server.batching.compute import EngineFailed
from inference_server.batching.scheduler import Expired, Stopped
from inference_server.bundles.loaded import NotHeld
from inference_server.call import Call
from inference_server.telemetry.logs import ACCESS, event
from inference_server.telemetry.metrics import Metrics
from inference_server.telemetry.spans import Spans

R = TypeVar("R")
log = logging.getLogger(__name__)


class Calls:
    """Answers calls, or ends them with the status that fits.

    Args:
        pushback_ms: the wait to ask of a client that is turned away now.
        spans: None where nobody asked for them.
    """

    def __init__(
        self, section: ServerSection, metrics: Metrics, pushback_ms: Callable[[], int], spans: Spans | None
    ) -> None:
        self._section = section
        self._metrics = metrics
        self._pushback_ms = pushback_ms
        self._spans = spans

    async def answer(self, method: str, context: grpc.aio.ServicerContext, work: Callable[[Call], Awaitable[R]]) -> R:
        call = Call.of(method, context)
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
            case EngineFailed():
                return Status.INTERNAL, f"the server failed ({error}): its log says where"
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
        if self._spans:
            self._spans.ended(call, code, total_ms)
        keys = {"texts": list(call.texts)} if self._section.log_queries else {}
        event(
            ACCESS,
            logging.INFO,
            call.method.lower(),
            code=code.name,
            **call.told(),
            **keys,
            total_ms=round(total_ms, 2),
        )
