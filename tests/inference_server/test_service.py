"""The service over real gRPC, with an engine whose answers and pace the test decides."""

import asyncio
import subprocess
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from genrecall.bundle import Bundle
from genrecall.config.server import ServerSection
from genrecall.decoding import Generated
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.client import Client, ServerError
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from inference_server.server import SERVICE, start, stop
from inference_server.slots import Slots

SIDS = np.array([[0, 1, 2], [3, 0, 0], [1, 1, 1]], np.int32)
SCORES = np.array([-0.1, -2.0, -5.0], np.float32)


class ThreeSids:
    """Answers every text with the same three SIDs, once `gate` is open."""

    def __init__(self, codebook="v1"):
        manifest = {
            "codebook": codebook,
            "model": "lm-0",
            "kind": "lm",
            "level_sizes": [4, 4, 4],
            "sids": 3,
            "items": 5,
        }
        self.bundle = Bundle(Path("nowhere"), manifest)
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()
        self.calls: list[list[str]] = []

    def prepare(self, texts, users=None):
        self.users = users
        return list(texts)

    def search(self, prompts, width):
        self.calls.append(list(prompts))
        self.running.set()
        assert self.gate.wait(30)
        n = min(width, len(SIDS))
        codes = np.zeros((len(prompts), width, 3), np.int32)
        scores, valid = np.full(codes.shape[:2], -np.inf, np.float32), np.zeros(codes.shape[:2], bool)
        codes[:, :n], scores[:, :n], valid[:, :n] = SIDS[:n], SCORES[:n], True
        return Generated(codes, scores, valid)


@asynccontextmanager
async def served(*engines, **settings):
    section = ServerSection(port=0, grace_s=5, **settings)
    running = await start(Slots({e.bundle.codebook: e for e in engines}, engines[0].bundle.codebook), section)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        yield GenerativeRecallStub(channel), running, channel
    await stop(running)


def request(*texts, **fields):
    return pb.GenerateRequest(queries=[pb.Query(text=text) for text in texts], **fields)


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def test_generate_answers_packed_codes_and_descending_scores_in_the_order_asked():
    async def main():
        async with served(ThreeSids()) as (stub, *_):
            reply = await stub.Generate(request("red shoes", "حذاء أحمر 👟", k=2))
        assert (reply.codebook, reply.model) == ("v1", "lm-0")
        assert [list(r.codes) for r in reply.results] == [[0, 1, 2, 3, 0, 0]] * 2
        assert np.allclose(reply.results[0].scores, [-0.1, -2.0])
        spent = reply.timings
        assert 0 < spent.queue_ms + spent.encode_ms + spent.search_ms <= spent.total_ms + 1e-3
        assert min(spent.queue_ms, spent.encode_ms, spent.search_ms) > 0

    asyncio.run(main())


def test_a_codebook_with_fewer_sids_than_k_answers_those_it_has():
    async def main():
        async with served(ThreeSids()) as (stub, *_):
            reply = await stub.Generate(request("a", k=50))
        assert len(reply.results[0].scores) == 3

    asyncio.run(main())


def test_each_codebook_answers_for_itself_and_an_unknown_one_lists_those_held():
    async def main():
        async with served(ThreeSids("v2"), ThreeSids("v1")) as (stub, *_):
            answered = [(await stub.Generate(request("a", codebook=name))).codebook for name in ("", "v1", "v2")]
            error = await refusal(stub.Generate(request("a", codebook="v9")))
            described = await stub.Describe(pb.DescribeRequest())
        assert answered == ["v2", "v1", "v2"]
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "'v9' is not held by this server; held: v2, v1" in error.details()
        assert described.current_codebook == "v2"
        assert [c.codebook for c in described.codebooks] == ["v2", "v1"]
        assert list(described.codebooks[0].level_sizes) == [4, 4, 4]
        assert described.limits.max_k == 1024

    asyncio.run(main())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (request(), "queries is empty"),
        (request("a", "  "), r"queries[1].text is empty"),
        (request("a" * 10_000), "queries[0].text has 10000 characters, at most 1000"),
        (request("a", k=5000), "k is 5000, at most 1024"),
        (request("a", k=50, beam_width=10), "beam_width is 10, it must be at least k = 50"),
        (request("a", beam_width=5000), "beam_width is 5000, at most 1024"),
        (request(*["a"] * 257), "queries has 257 entries, at most 256"),
        (
            pb.GenerateRequest(queries=[pb.Query(text="a", user=pb.User(recent_sids=["x"] * 101))]),
            "recent_sids has 101",
        ),
    ],
)
def test_a_request_beyond_a_limit_is_refused_by_name_and_never_computed(bad, message):
    async def main():
        engine = ThreeSids()
        async with served(engine) as (stub, *_):
            error = await refusal(stub.Generate(bad))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert message in error.details()
        assert engine.calls == []

    asyncio.run(main())


def test_a_request_one_byte_too_large_is_refused_and_the_server_goes_on():
    async def main():
        async with served(ThreeSids(), max_request_bytes=2048) as (stub, *_):
            error = await refusal(stub.Generate(request("a" * 4096)))
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert len((await stub.Generate(request("a"))).results) == 1

    asyncio.run(main())


def test_calls_beyond_max_pending_are_turned_away_with_a_pushback():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine, max_pending=2, pushback_ms=70) as (stub, *_):
            first = stub.Generate(request("a"))
            await asyncio.to_thread(engine.running.wait, 10)
            second = stub.Generate(request("b"))
            await asyncio.sleep(0.2)
            error = await refusal(stub.Generate(request("c")))
            engine.gate.set()
            await first
            await second
            await stub.Generate(request("d"))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("grpc-retry-pushback-ms", "70") in list(error.trailing_metadata())
        assert [texts for (texts,) in engine.calls] == ["a", "b", "d"]

    asyncio.run(main())


def test_a_call_that_expires_or_is_cancelled_while_it_waits_is_never_computed():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine) as (stub, *_):
            first = stub.Generate(request("a"))
            await asyncio.to_thread(engine.running.wait, 10)
            expired = stub.Generate(request("b"), timeout=0.2)
            cancelled = stub.Generate(request("c"))
            await asyncio.sleep(0.1)
            cancelled.cancel()
            error = await refusal(expired)
            engine.gate.set()
            await first
            await stub.Generate(request("d"))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert [texts for (texts,) in engine.calls] == ["a", "d"]

    asyncio.run(main())


def test_a_stop_finishes_the_call_in_flight_and_refuses_new_ones():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        running = await start(Slots({"v1": engine}, "v1"), ServerSection(port=0, grace_s=10))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            stub = GenerativeRecallStub(channel)
            inflight = stub.Generate(request("a"))
            await asyncio.to_thread(engine.running.wait, 10)
            stopping = asyncio.create_task(stop(running))
            await asyncio.sleep(0.2)
            error = await refusal(stub.Generate(request("b"), timeout=1))
            engine.gate.set()
            assert len((await inflight).results) == 1
            await stopping
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert engine.calls == [["a"]]

    asyncio.run(main())


def test_health_and_reflection_name_the_service():
    async def main():
        async with served(ThreeSids()) as (_, __, channel):
            checks = health_pb2_grpc.HealthStub(channel)
            reply = await checks.Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            calls = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
            listed = [s.name async for answer in calls for s in answer.list_services_response.service]
            assert SERVICE in listed

    asyncio.run(main())


def test_score_and_encode_say_that_they_are_not_offered():
    async def main():
        async with served(ThreeSids()) as (stub, *_):
            for call in (stub.Score(pb.ScoreRequest()), stub.Encode(pb.EncodeRequest())):
                assert (await refusal(call)).code() == grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(main())


def test_a_port_in_use_and_half_a_tls_pair_are_clear_errors(tmp_path):
    async def main():
        async with served(ThreeSids()) as (_, running, __):
            with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{running.port}"):
                await start(Slots({"v1": ThreeSids()}, "v1"), ServerSection(port=running.port))
        with pytest.raises(UserError, match="belong together"):
            await start(Slots({"v1": ThreeSids()}, "v1"), ServerSection(port=0, tls_cert=tmp_path / "c.pem"))
        pair = {"tls_cert": tmp_path / "c.pem", "tls_key": tmp_path / "k.pem"}
        with pytest.raises(UserError, match="cannot be read"):
            await start(Slots({"v1": ThreeSids()}, "v1"), ServerSection(port=0, **pair))

    asyncio.run(main())


def test_with_a_certificate_only_clients_that_trust_it_are_answered(tmp_path):
    certificate, key = tmp_path / "server.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, *files], check=True, capture_output=True
    )

    async def main():
        running = await start(
            Slots({"v1": ThreeSids()}, "v1"), ServerSection(port=0, tls_cert=certificate, tls_key=key)
        )
        endpoint = f"127.0.0.1:{running.port}"

        def ask(**trust):
            with Client(endpoint, timeout_s=5, **trust) as client:
                return client.generate(["a"], k=2)

        assert len((await asyncio.to_thread(ask, trusted_certificates=certificate)).codes[0]) == 2
        with pytest.raises(ServerError, match="no inference server answers"):
            await asyncio.to_thread(ask)
        await stop(running)

    asyncio.run(main())
