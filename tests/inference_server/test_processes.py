"""Fronts and the engine's end of their links, in one process but over real sockets; tests/faults kills real ones."""

import asyncio
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from genrecall.config.server import ServerSection
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from genrecall.rpc.generative_recall_pb2_grpc import GenerativeRecallStub
from inference_server.batching.encode_workload import EncodeWorkloads, ItemTokenizer
from inference_server.bundles.loaded import load_bundles
from inference_server.bundles.reload import Reloader
from inference_server.processes import wire_pb2 as wire
from inference_server.processes.frames import HEADER, MAX_FRAME
from inference_server.processes.metrics_aggregator import MetricsAggregator, snapshot
from inference_server.processes.remote_executor import RemoteEncodeWorkload, RemoteEngine, RemoteExecutor
from inference_server.processes.shared_executor import SharedExecutor
from inference_server.processes.supervisor import shared_port
from inference_server.server import start_service, stop
from inference_server.service import GenerativeRecall
from inference_server.telemetry.metrics import Metrics
from tests.faults.bundles import publish
from tests.inference_server.serving import refusal, request, score_request


@asynccontextmanager
async def frontends(root, count=2, **settings):
    """The executor, and a stub of each frontend."""
    section = ServerSection(**{"port": 0, "shutdown_delay_s": 0, "device": "cpu", **settings})
    executor = SharedExecutor(load_bundles(root, (), section), section, Metrics())
    with tempfile.TemporaryDirectory() as folder:  # a socket's path may not be long
        async with await executor.listen(Path(folder) / "engine.sock"), AsyncExitStack() as closing:
            closing.push_async_callback(executor.close)
            stubs = [await _frontend(section, Path(folder) / "engine.sock", closing) for _ in range(count)]
            yield executor, stubs


async def _frontend(section, socket, closing):
    remote = RemoteExecutor()
    await asyncio.get_running_loop().create_unix_connection(lambda: remote, str(socket))
    await remote.ready.wait()
    running = await start_service(GenerativeRecall(section, remote, Metrics()), None)
    closing.push_async_callback(stop, running)
    channel = await closing.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{running.port}"))
    return GenerativeRecallStub(channel)


@asynccontextmanager
async def held_back(executor):
    """The engine's searches wait meanwhile; yields an event that is set when one does."""
    engine = executor.loaded.engines[executor.loaded.current]
    release, waiting, search = threading.Event(), threading.Event(), engine.search

    def slow(prompts, width):
        waiting.set()
        assert release.wait(30)
        return search(prompts, width)

    engine.search = slow
    try:
        yield waiting
    finally:
        release.set()
        engine.search = search


async def until(true):
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def test_calls_of_two_frontends_share_batches(root):
    async def main():
        async with frontends(root) as (executor, stubs):
            async with held_back(executor) as waiting:
                calls = [stubs[0].Generate(request("lamp"))]
                await asyncio.to_thread(waiting.wait, 20)
                calls += [stub.Generate(request("red shoes")) for stub in stubs]
                await until(lambda: executor.pending == 3)
            replies = await asyncio.gather(*calls)
            assert executor.metrics.batch_entries.labels("search")._sum.get() == 3
            assert [bucket.get() for bucket in executor.metrics.batch_entries.labels("search")._buckets][:2] == [1, 1]
            assert replies[1].results == replies[2].results

    asyncio.run(main())


def test_a_call_whose_client_leaves_gives_its_places_back(root):
    async def main():
        async with frontends(root) as (executor, (stub, other)):
            async with held_back(executor) as waiting:
                first = other.Generate(request("lamp"))
                await asyncio.to_thread(waiting.wait, 20)
                leaving = stub.Generate(request("red", "blue"))
                await until(lambda: executor.pending == 3)
                leaving.cancel()
                await until(lambda: executor.pending == 1)
            await first

    asyncio.run(main())


def test_bounds_hold_for_all_frontends_together(root):
    async def main():
        async with frontends(root, max_pending=2, max_concurrent_score=1) as (executor, (stub, other)):
            async with held_back(executor) as waiting:
                calls = [stub.Generate(request("lamp"))]
                await asyncio.to_thread(waiting.wait, 20)
                calls.append(stub.Score(score_request([0, 1, 2])))
                await until(lambda: executor.pending == 2)
                full = await refusal(other.Generate(request("red")))
                busy = await refusal(other.Score(score_request([0, 1, 2])))
                late = await refusal(other.Generate(request("red"), timeout=0.2))
            await asyncio.gather(*calls)
        assert full.code() == busy.code() == late.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 pending entries (server.max_pending)" in full.details()
        assert "(server.max_concurrent_score)" in busy.details()
        assert dict(full.trailing_metadata())["grpc-retry-pushback-ms"] == "50"

    asyncio.run(main())


def test_a_failure_of_the_engine_is_internal_and_told_in_its_log(root, caplog):
    async def main():
        async with frontends(root, 1) as (executor, (stub,)):
            executor.loaded.engines["v1"].search = lambda *_: 1 / 0
            error = await refusal(stub.Generate(request("red shoes")))
        assert error.code() == grpc.StatusCode.INTERNAL
        assert "ZeroDivisionError" in error.details()

    asyncio.run(main())
    (failed,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert failed.exc_info


def test_a_new_bundle_reaches_every_frontend_at_once_and_the_old_one_leaves_with_its_last_call(root):
    async def main():
        async with frontends(root, max_loaded=1) as (executor, stubs):
            assert [(await stub.Generate(request("red"))).codebook for stub in stubs] == ["v1", "v1"]
            publish(root, "v2")
            (old,) = executor.loaded.engines.values()
            async with held_back(executor) as waiting:
                late = stubs[0].Generate(request("red shoes"))
                await asyncio.to_thread(waiting.wait, 20)
                looking = asyncio.create_task(Reloader(root, (), executor).reload())
                await asyncio.sleep(0.2)
                assert [(await stub.Describe(pb.DescribeRequest())).current_codebook for stub in stubs] == ["v1", "v1"]
            await looking
            assert (await late).codebook == "v1"
            await until(lambda: all(old not in frontend._engines.values() for frontend in executor.frontends))
            for stub in stubs:
                assert [c.codebook for c in (await stub.Describe(pb.DescribeRequest())).codebooks] == ["v2"]
                assert (await stub.Generate(request("red"))).codebook == "v2"
                gone = await refusal(stub.Generate(request("red", codebook="v1")))
                assert gone.code() == grpc.StatusCode.FAILED_PRECONDITION

    asyncio.run(main())


def test_the_encoder_of_a_bundle_keeps_no_engine(root, monkeypatch):
    monkeypatch.setattr(ItemTokenizer, "open", lambda bundle: ItemTokenizer(Tokenizer(WordLevel({}))))
    engine = RemoteEngine(wire.Engine(id=1, name="remote", path=str(root / "v1")))
    gone = weakref.ref(engine)
    workloads = EncodeWorkloads(RemoteEncodeWorkload)

    async def twice(engine):
        assert await workloads.get(engine) is await workloads.get(engine)

    asyncio.run(twice(engine))
    del engine
    assert gone() is None


def test_calls_never_notice_a_swap(root):
    async def main():
        async with frontends(root) as (executor, stubs):
            publish(root, "v2")
            looking, seen = asyncio.create_task(Reloader(root, (), executor).reload()), []
            while not looking.done() or seen[-1:] != ["v2"]:
                replies = await asyncio.gather(*(stub.Generate(request("red shoes"), timeout=20) for stub in stubs))
                seen += sorted(reply.codebook for reply in replies)
            assert seen == sorted(seen)
            assert seen[0] == "v1"

    asyncio.run(main())


@pytest.mark.parametrize("data", [HEADER.pack(MAX_FRAME + 1), HEADER.pack(3) + b"\xff\xff\xff"])
def test_what_is_no_message_ends_its_connection_alone(root, data):
    async def main():
        async with frontends(root, 1) as (executor, (stub,)):
            stray = RemoteExecutor()
            await asyncio.get_running_loop().create_unix_connection(lambda: stray, _socket_of(executor))
            stray._transport.write(data)
            async with asyncio.timeout(20):
                await stray.lost.wait()
            assert len((await stub.Generate(request("red"))).results) == 1

    asyncio.run(main())


def _socket_of(executor):
    (frontend,) = executor.frontends
    return frontend._transport.get_extra_info("sockname")


def test_totals_add_up_and_never_fall_when_a_frontend_leaves():
    own, frontend, other = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    for registry, count in ((own, 1), (frontend, 2), (other, 4)):
        Counter("calls", "Calls.", ["code"], registry=registry).labels("OK").inc(count)
        Gauge("inside", "Now.", registry=registry).set(count)
    aggregator = MetricsAggregator(own)

    def shown():
        samples = [sample for family in aggregator.collect() for sample in family.samples]
        return {sample.name: sample.value for sample in samples}

    aggregator.update("front", snapshot(frontend.collect()))
    aggregator.update("other", snapshot(other.collect()))
    assert shown() == {"calls_total": 7, "inside": 7}
    aggregator.remove("other")
    assert shown() == {"calls_total": 7, "inside": 3}
    aggregator.remove("front")
    assert shown() == {"calls_total": 7, "inside": 1}


def test_a_port_is_shared_by_the_frontends_of_one_server_alone():
    with shared_port("127.0.0.1", 0) as port, pytest.raises(UserError, match=f"listen on 127.0.0.1:{port}"):
        shared_port("127.0.0.1", port).__enter__()
    with shared_port("127.0.0.1", port) as again:
        assert again == port


def test_a_frontend_loads_no_torch():
    code = "import sys, inference_server.processes.frontend; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
