"""OpenTelemetry: one span per call, with `server.otel_endpoint`. Needs the extra `tracing`.

A call with a `traceparent` becomes part of that trace, and is sampled where its caller is.
"""

from __future__ import annotations

import time
from importlib.util import find_spec

from grpc import StatusCode as Status

from genrecall.errors import UserError
from inference_server.call_context import CallContext

NANOSECONDS = 1_000_000  # of a millisecond
TIMEOUT_S = 2.0  # of sending to the collector; what cannot be sent is dropped


class Spans:
    """Sends spans to the collector at `endpoint` (OTLP over gRPC), from a thread of its own.

    Raises UserError where OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        if find_spec("opentelemetry") is None:
            raise UserError(
                f"server.otel_endpoint is {endpoint!r}, but OpenTelemetry is not installed: "
                "pip install 'genrecall[tracing]', or leave it out"
            )
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import DEFAULT_ON

        # All set here: the library would read environment variables otherwise.
        self._provider = TracerProvider(sampler=DEFAULT_ON, resource=Resource({"service.name": "genrecall"}))
        exporter = OTLPSpanExporter(endpoint, timeout=TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("genrecall")

    def ended(self, call: CallContext, code: Status, total_ms: float) -> None:
        """Send the span of a call that ends now: its status, attributes, and milliseconds by stage. Never a text."""
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        end = time.time_ns()
        span = self._tracer.start_span(
            f"genrecall.v1.GenerativeRecall/{call.method}",
            TraceContextTextMapPropagator().extract(call.metadata),
            SpanKind.SERVER,
            {
                "rpc.grpc.status_code": code.value[0],
                **{f"genrecall.{key}": value for key, value in call.log_fields().items()},
            },
            start_time=end - int(total_ms * NANOSECONDS),
        )
        if code is not Status.OK:
            span.set_status(StatusCode.ERROR, code.name)
        span.end(end)

    def close(self) -> None:
        """Send the spans that wait."""
        self._provider.shutdown()
