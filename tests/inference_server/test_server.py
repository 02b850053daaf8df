"""Starting, stopping, and what stands beside the service: health, reflection, addresses."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from inference_server.server import SERVICE, stop
from tests.inference_server.serving import ThreeSids, loaded, refusal, request, served, start

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_stop_finishes_the_call_in_flight_and_refuses_new_ones():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        running = await start(loaded(engine), ServerSection(port=0, shutdown_grace_s=10, shutdown_delay_s=0))
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


def test_a_stop_says_not_serving_before_it_refuses_anybody():
    async def main():
        running = await start(loaded(ThreeSids()), ServerSection(port=0, shutdown_delay_s=2.0))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            stub, checks = GenerativeRecallStub(channel), health_pb2_grpc.HealthStub(channel)
            states = checks.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
            await states.read()
            stopping = asyncio.create_task(stop(running))
            state = await states.read()
            reply = await stub.Generate(request("a"))
            assert not stopping.done()
            await stopping
        assert state.status == NOT_SERVING
        assert len(reply.results) == 1

    asyncio.run(main())


def test_a_call_that_outlasts_the_grace_is_ended():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        running = await start(loaded(engine), ServerSection(port=0, shutdown_grace_s=0.1, shutdown_delay_s=0))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            inflight = GenerativeRecallStub(channel).Generate(request("a"))
            await asyncio.to_thread(engine.running.wait, 10)
            stopping = asyncio.create_task(stop(running))
            error = await refusal(inflight)
            engine.gate.set()
            await stopping
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

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


def test_hundreds_of_idle_connections_are_no_burden():
    async def main():
        async with served(ThreeSids()) as (stub, running, _):
            options = [("grpc.use_local_subchannel_pool", 1)]
            target = f"127.0.0.1:{running.port}"
            idle = [grpc.aio.insecure_channel(target, options) for _ in range(200)]
            await asyncio.gather(*(asyncio.wait_for(channel.channel_ready(), 30) for channel in idle))
            assert len((await stub.Generate(request("a"), timeout=10)).results) == 1
            await asyncio.gather(*(channel.close() for channel in idle))

    asyncio.run(main())


def test_a_port_in_use_is_a_clear_error():
    async def main():
        async with served(ThreeSids(), metrics_port=0) as (_, running, __):
            with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{running.port}"):
                await start(loaded(ThreeSids()), ServerSection(port=running.port))
            with pytest.raises(UserError, match=rf"metrics cannot listen on 127\.0\.0\.1:{running.metrics_port}"):
                await start(loaded(ThreeSids()), ServerSection(port=0, metrics_port=running.metrics_port))

    asyncio.run(main())


@pytest.mark.parametrize("host", ["::1", "[::1]", "localhost"])
def test_an_address_of_any_kind_is_bound_as_asked(host):
    async def main():
        running = await start(loaded(ThreeSids()), ServerSection(host=host, port=0, shutdown_delay_s=0))
        async with grpc.aio.insecure_channel(running.section.address(running.port)) as channel:
            reply = await GenerativeRecallStub(channel).Generate(request("a"), timeout=10)
        await stop(running)
        assert len(reply.results) == 1

    asyncio.run(main())


def test_a_connection_that_grows_old_is_replaced_and_no_call_notices():
    async def main():
        async with served(ThreeSids(), max_connection_age_s=0.5) as (stub, running, _):
            peers = set()
            handle = running.service._middleware.handle

            async def seen(method, context, handler):
                peers.add(context.peer())
                return await handle(method, context, handler)

            running.service._middleware.handle = seen
            async with asyncio.timeout(30):
                while len(peers) < 3:
                    await asyncio.gather(*(stub.Generate(request("a"), timeout=10) for _ in range(3)))

    asyncio.run(main())


@pytest.mark.parametrize("host", ["unix:/tmp/socket", "http://127.0.0.1", "127.0.0.1:50051", "", "::zz"])
def test_what_is_no_address_is_refused_by_name(host):
    with pytest.raises(ValueError, match="is no address to listen on"):
        ServerSection(host=host)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"device": "tpu"}, "device"), ({"max_k": 5}, "default_k is 50 and max_k 5"), ({"max_beam_width": 5}, "refused")],
)
def test_settings_that_cannot_serve_are_refused_at_the_start(settings, message):
    with pytest.raises(ValueError, match=message):
        ServerSection(**settings)


def test_reflection_answers_in_both_versions():
    async def main():
        async with served(ThreeSids()) as (_, __, channel):
            method = channel.stream_stream(
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            asked = method(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            async for answer in asked:
                return {service.name for service in answer.list_services_response.service}

    assert {SERVICE, "grpc.reflection.v1.ServerReflection"} <= asyncio.run(main())
