"""Spans as a collector receives them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from genrecall.errors import UserError
from inference_server.telemetry import spans
from inference_server.telemetry.spans import Spans
from tests.inference_server.serving import ThreeSids, refusal, request, served

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(TraceServiceServicer):
    def __init__(self):
        self.spans = []

    def Export(self, request, context):
        self.spans += [span for resource in request.resource_spans for s in resource.scope_spans for span in s.spans]
        return ExportTraceServiceResponse()


@contextmanager
def collecting():
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(0)


def test_a_call_is_a_span_of_its_callers_trace_without_its_text():
    async def main(endpoint):
        async with served(ThreeSids(), otel_endpoint=endpoint) as (stub, *_):
            parent = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
            await stub.Generate(request("red shoes", k=2), metadata=parent)
            await refusal(stub.Generate(request("red shoes", k=5000)))

    with collecting() as (collector, endpoint):
        asyncio.run(main(endpoint))
    ours, refused = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
    attributes = {pair.key: pair.value for pair in ours.attributes}
    assert ours.trace_id.hex() == TRACE
    assert ours.name == "genrecall.v1.GenerativeRecall/Generate"
    assert attributes["genrecall.codebook"].string_value == "v1"
    milliseconds = (ours.end_time_unix_nano - ours.start_time_unix_nano) / 1e6
    assert 0 < attributes["genrecall.compute_ms"].double_value <= milliseconds
    assert refused.status.message == "INVALID_ARGUMENT"
    assert not any("red shoes" in str(span) for span in collector.spans)


def test_a_call_whose_caller_records_nothing_is_not_recorded():
    async def main(endpoint):
        async with served(ThreeSids(), otel_endpoint=endpoint) as (stub, *_):
            parent = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-00"),)
            await stub.Generate(request("a"), metadata=parent)

    with collecting() as (collector, endpoint):
        asyncio.run(main(endpoint))
    assert collector.spans == []


def test_without_opentelemetry_the_setting_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(spans, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"server.otel_endpoint is .* not installed: pip install 'genrecall\[tracing\]'"
    ):
        Spans("http://127.0.0.1:4317")
