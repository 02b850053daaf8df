"""Messages that are too large, and bytes that are no message."""

from __future__ import annotations

import random

import grpc
import pytest

from genrecall.rpc import generative_recall_pb2 as pb
from tests.faults.conftest import MAX_REQUEST_BYTES
from tests.faults.load import REFUSED, connected
from tests.faults.process import LIGHT, OPTIONS, PATIENCE_S, Server

METHOD = "/genrecall.v1.GenerativeRecall/Generate"


def test_a_request_of_the_largest_size_is_answered_and_one_byte_more_is_refused(server: Server) -> None:
    with connected(server.endpoint) as stub:
        largest = sized(MAX_REQUEST_BYTES)
        assert stub.Describe(pb.DescribeRequest()).limits.max_request_bytes == largest.ByteSize()
        assert len(stub.Generate(largest, timeout=PATIENCE_S).results) == len(largest.queries)
        with pytest.raises(grpc.RpcError, match=str(MAX_REQUEST_BYTES)) as caught:
            stub.Generate(sized(MAX_REQUEST_BYTES + 1), timeout=PATIENCE_S)
        assert caught.value.code() is REFUSED


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(random.Random(0).randbytes(300), id="random"),
        pytest.param(LIGHT.SerializeToString()[:-1], id="cut"),
        pytest.param(bytes.fromhex("0affffffffffffffff7f"), id="a length of 2**63 - 1"),
        pytest.param(bytes.fromhex("12030a01ff"), id="not UTF-8"),
        pytest.param(b"\x12" * 100, id="nested without end"),
        pytest.param(bytes.fromhex("0d00"), id="another wire type"),
    ],
)
def test_bytes_that_are_no_request_are_refused_as_the_callers_mistake(server: Server, garbage: bytes) -> None:
    with grpc.insecure_channel(server.endpoint, OPTIONS) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(garbage, timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["Nothing", "Generate/", ""])
def test_a_method_that_is_not_there_is_unimplemented(server: Server, method: str) -> None:
    with grpc.insecure_channel(server.endpoint, OPTIONS) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/genrecall.v1.GenerativeRecall/{method}")(b"", timeout=PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def sized(size: int) -> pb.GenerateRequest:
    """A valid request of exactly `size` bytes."""
    lengths = [500] * (size // 600)
    share, rest = divmod(size - _of(lengths).ByteSize(), len(lengths))
    made = _of([length + share + (n < rest) for n, length in enumerate(lengths)])
    assert made.ByteSize() == size
    return made


def _of(lengths: list[int]) -> pb.GenerateRequest:
    return pb.GenerateRequest(queries=[pb.Query(text="x" * length) for length in lengths], k=5)
