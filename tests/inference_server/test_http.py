"""The door for those who have no gRPC: the same answers, the same refusals."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import grpc
import pytest
from google.protobuf import json_format

from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from inference_server import http_door
from inference_server.server import stop
from tests.inference_server.serving import ThreeSids, loaded, pending, refusal, request, served, start

BODY = {"queries": [{"text": "red shoes", "user": {"recent_items": ["a"]}}], "k": 2}


@asynccontextmanager
async def door(engine, **settings):
    async with (
        served(engine, http_port=0, **settings) as (stub, running, _),
        aiohttp.ClientSession(f"http://127.0.0.1:{running.http_port}") as session,
    ):
        yield session, stub, running


async def refused(session, **options):
    async with session.post("/v1/generate", **options) as answer:
        return answer.status, await answer.json(), answer.headers


def test_it_answers_as_grpc_does():
    async def main():
        async with door(ThreeSids()) as (session, stub, running):
            async with session.post("/v1/generate", json=BODY, headers={"x-request-id": "r1"}) as answer:
                assert answer.status == 200
                reply = json_format.ParseDict(await answer.json(), pb.GenerateResponse())
            over_grpc = await stub.Generate(json_format.ParseDict(BODY, pb.GenerateRequest()))
            async with session.get("/v1/describe") as answer:
                described = json_format.ParseDict(await answer.json(), pb.DescribeResponse())
            assert described == await stub.Describe(pb.DescribeRequest())
            assert running.service.metrics.calls.labels("Generate", "OK")._value.get() == 2
        assert (reply.codebook, reply.model, reply.results) == (over_grpc.codebook, over_grpc.model, over_grpc.results)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "status", "code", "message"),
    [
        ({"json": {"queries": [{"text": " "}]}}, 400, 3, "queries[0].text is empty"),
        ({"json": {"queries": [{"text": "a"}], "k": 5000}}, 400, 3, "k is 5000, at most 1024"),
        ({"json": {"queries": [{"text": "a"}], "k": -1}}, 400, 3, "the request cannot be read"),
        ({"json": {"queries": [{"txt": "a"}]}}, 400, 3, 'has no field named "txt"'),
        ({"json": {**BODY, "codebook": "v9"}}, 400, 9, "'v9' is not loaded"),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, 3, "the request cannot be read"),
        ({"data": b"\xff", "headers": {"Content-Type": "application/json"}}, 400, 3, "the request cannot be read"),
        ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 400, 3, "send application/json"),
        ({"json": BODY, "headers": {"Grpc-Timeout": "soon"}}, 400, 3, "Grpc-Timeout is 'soon'"),
        ({"json": BODY, "headers": {"Grpc-Timeout": "0S"}}, 504, 4, "the deadline passed"),
    ],
)
def test_a_refusal_says_what_grpc_says(options, status, code, message):
    async def main():
        async with door(ThreeSids()) as (session, *_):
            return await refused(session, **options)

    found, body, _ = asyncio.run(main())
    assert (found, body["code"]) == (status, code)
    assert message in body["message"]


def test_a_body_that_is_too_large_is_refused():
    async def main():
        async with door(ThreeSids(), max_request_bytes=2048) as (session, *_):
            async with session.post("/v1/generate", json={"queries": [{"text": "a" * 3000}]}) as answer:
                assert answer.status == 413
            assert (await refused(session, json=BODY))[0] == 200

    asyncio.run(main())


def test_a_full_queue_a_deadline_and_a_failure_have_their_statuses():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with door(engine, max_pending=1) as (session, stub, running):
            first = stub.Generate(request("a"))
            await pending(running, 1)
            status, body, headers = await refused(session, json=BODY)
            assert (status, body["code"]) == (429, 8)
            assert int(headers["grpc-retry-pushback-ms"]) >= 50
            engine.gate.set()
            await first
            engine.search = lambda *_: 1 / 0
            status, body, _ = await refused(session, json=BODY)
            assert (status, body["code"]) == (500, 13)
            assert "ZeroDivisionError" in body["message"]

    asyncio.run(main())


def test_a_call_whose_client_leaves_gives_its_place_back():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with door(engine) as (session, stub, running):
            first = stub.Generate(request("a"))
            await pending(running, 1)
            leaving = asyncio.create_task(refused(session, json=BODY))
            await pending(running, 2)
            leaving.cancel()
            await pending(running, 1)
            engine.gate.set()
            await first
        assert engine.calls == [["a"]]

    asyncio.run(main())


def test_a_stop_finishes_the_call_in_flight():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        running = await start(loaded(engine), ServerSection(port=0, http_port=0, shutdown_delay_s=0))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{running.http_port}") as session:
            call = asyncio.create_task(refused(session, json=BODY))
            await pending(running, 1)
            stopping = asyncio.create_task(stop(running))
            await asyncio.sleep(0.2)
            engine.gate.set()
            assert (await call)[0] == 200
            await stopping
            with pytest.raises(aiohttp.ClientConnectorError):
                await refused(session, json=BODY)

    asyncio.run(main())


def test_it_is_shut_unless_it_is_asked_for_and_says_what_it_lacks(monkeypatch):
    async def main():
        async with served(ThreeSids()) as (_, running, __):
            assert running.http_port is None
        async with door(ThreeSids()) as (_, __, running):
            with pytest.raises(UserError, match=rf"HTTP cannot listen on 127\.0\.0\.1:{running.http_port}"):
                await start(loaded(ThreeSids()), ServerSection(port=0, http_port=running.http_port))
        monkeypatch.setattr(http_door, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=r"pip install 'genrecall\[http\]'"):
            await start(loaded(ThreeSids()), ServerSection(port=0, http_port=0))

    asyncio.run(main())


def test_a_limit_is_worded_as_over_grpc():
    async def main():
        async with door(ThreeSids(), max_queries=1) as (session, stub, _):
            two = {"queries": [{"text": "a"}, {"text": "b"}]}
            _, body, _ = await refused(session, json=two)
            error = await refusal(stub.Generate(request("a", "b")))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert body["message"] == error.details()

    asyncio.run(main())
