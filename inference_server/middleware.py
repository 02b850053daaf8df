"""Around every method of the service: a gRPC status for every error, metrics, a line of the access log, a span."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from grpc import StatusCode as Status

from genrecall.config.server import ServerSection
from inference_server.admission.interceptor import STOPPING
from inference_server.admission.overload import LimitExceeded
from inference_server.admission.validation import InvalidRequest
from inference_server.batching.batcher import QueueFull
from inference_server.batching.scheduler import DeadlineExceeded, Overdue, ShuttingDown, TooLate
from inference_server.bundles.loaded import BundleNotLoaded
from inference_server.call_context import CallContext
from inference_server.engines.base import OutOfMemory
from inference_server.telemetry.logs import ACCESS, event
from inference_server.telemetry.metrics import Metrics
from inference_server.telemetry.spans import Spans

R = TypeVar("R")
log = logging.getLogger(__name__)


class Middleware:
    """Runs the handlers of calls.

    Args:
        pushback_ms: how long a client that is refused now should wait before it retries.
        spans: None without tracing.
    """

    def __init__(
        self, section: ServerSection, metrics: Metrics, pushback_ms: Callable[[], int], spans: Spans | None
    ) -> None:
        self._section = section
        self._metrics = metrics
        self._pushback_ms = pushback_ms
        self._spans = spans

    async def handle(
        self, method: str, context: grpc.aio.ServicerContext, handler: Callable[[CallContext], Awaitable[R]]
    ) -> R:
        """The reply of `handler`; its errors end the call with the status that fits."""
        call = CallContext.of(method, context, self._section.client_metadata)
        code = Status.OK
        self._metrics.in_flight.labels(method).inc()
        try:
            return await handler(call)
        except asyncio.CancelledError:
            code = Status.CANCELLED
            raise
        except Exception as error:
            code, message = self._status(error, call)
            refused = code is Status.RESOURCE_EXHAUSTED
            metadata = (("grpc-retry-pushback-ms", str(self._pushback_ms())),) if refused else ()
            await context.abort(code, message, metadata)
            raise  # abort does
        finally:
            self._ended(call, code)

    def _status(self, error: Exception, call: CallContext) -> tuple[Status, str]:
        match error:
            case InvalidRequest():
                return Status.INVALID_ARGUMENT, str(error)
            case BundleNotLoaded():
                return Status.FAILED_PRECONDITION, str(error)
            case DeadlineExceeded():
                message = "the deadline passed, or could not be met, before the call was computed: allow more time"
                return Status.DEADLINE_EXCEEDED, message
            case QueueFull():
                limit = self._section.max_pending
                message = f"the call would exceed {limit} pending entries (server.max_pending): try again later"
                return Status.RESOURCE_EXHAUSTED, message
            case TooLate():
                return Status.RESOURCE_EXHAUSTED, f"the call would be late: {error}; allow more time, or try another"
            case LimitExceeded():
                self._metrics.on_dropped("busy")
                return Status.RESOURCE_EXHAUSTED, str(error)
            case OutOfMemory():
                event(log, logging.ERROR, "out of memory", error, method=call.method, request_id=call.request_id)
                message = "the device has no memory for the batch: try again later, or lower server.max_batch_tokens"
                return Status.RESOURCE_EXHAUSTED, message
            case Overdue():
                return Status.UNAVAILABLE, f"{error}: the server is started again"
            case ShuttingDown():
                return Status.UNAVAILABLE, STOPPING
            case _:
                event(log, logging.ERROR, "failed", error, method=call.method, request_id=call.request_id)
                return Status.INTERNAL, f"the server failed ({type(error).__name__}): its log says where"

    def _ended(self, call: CallContext, code: Status) -> None:
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
            **call.log_fields(),
            **keys,
            total_ms=round(total_ms, 2),
        )
