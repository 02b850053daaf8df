"""Too much at once: who is turned away, what is dropped, when to come back."""

import asyncio
import time

import grpc
import pytest

from inference_server.admission.overload import BacklogEstimator
from tests.inference_server.serving import SIDS, ThreeSids, pending, refusal, request, score_request, served


def pushback_ms(error):
    return int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])


def test_calls_beyond_max_pending_are_turned_away_with_a_pushback():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine, max_pending=8, max_batch=1) as (stub, running, _):
            first = stub.Generate(request("a"))
            await asyncio.to_thread(engine.running.wait, 10)
            second = stub.Generate(request(*"bcdefg"))
            await pending(running, 7)
            error = await refusal(stub.Generate(request(*"xy")))  # refused whole, though there is room for one
            third = stub.Generate(request("h"))
            await pending(running, 8)
            engine.gate.set()
            await asyncio.gather(first, second, third)
            await stub.Generate(request("i"))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "8 pending entries (server.max_pending)" in error.details()
        assert pushback_ms(error) == 50
        assert sorted(text for (text,) in engine.calls) == sorted("abcdefghi")

    asyncio.run(main())


class Silent:
    def on_batch(self, *_):
        pass

    on_dropped = on_batch


@pytest.mark.parametrize(("pending", "expected"), [(0, 50), (4, 50), (10, 100), (1000, 2000)])
def test_the_pushback_is_the_time_of_half_the_backlog_within_its_bounds(pending, expected):
    backlog = BacklogEstimator(Silent())
    assert backlog.pushback_ms(1000) == 50  # nothing is known yet
    backlog.on_batch(None, 4, 0, 0, 0.08)
    assert backlog.pushback_ms(pending) == expected


def test_rerankers_leave_room_for_searches():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine, max_concurrent_score=2) as (stub, running, _):
            scoring = [stub.Score(score_request(SIDS[0])) for _ in range(2)]
            await pending(running, 2)
            error = await refusal(stub.Score(score_request(SIDS[0])))
            search = stub.Generate(request("a"))
            await pending(running, 3)
            engine.gate.set()
            await asyncio.gather(search, *scoring)
            await stub.Score(score_request(SIDS[0]))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 such calls are in flight already (server.max_concurrent_score)" in error.details()
        assert pushback_ms(error) >= 50

    asyncio.run(main())


def test_a_call_that_expires_or_is_cancelled_while_it_waits_is_never_computed():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine) as (stub, running, _):
            first = stub.Generate(request("a"))
            await asyncio.to_thread(engine.running.wait, 10)
            cancelled = stub.Generate(request("b"))
            await pending(running, 2)
            cancelled.cancel()
            await pending(running, 1)
            error = await refusal(stub.Generate(request("c"), timeout=0.2))
            await pending(running, 1)
            engine.gate.set()
            await first
            await stub.Generate(request("d"))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert [texts for (texts,) in engine.calls] == ["a", "d"]

    asyncio.run(main())


def slow(engine, seconds):
    """Each of its searches takes so long."""
    search = engine.search

    def slowly(prompts, width):
        time.sleep(seconds)
        return search(prompts, width)

    engine.search = slowly


def test_a_call_that_will_be_late_is_refused_at_once_and_nothing_is_prepared_for_it():
    async def main():
        engine = ThreeSids()
        slow(engine, 0.2)
        async with served(engine, max_batch=1) as (stub, running, _):
            await stub.Generate(request("a"))  # from now on it is known how long one takes
            waiting = [stub.Generate(request(text)) for text in "bcdef"]
            await pending(running, 5)
            began = time.monotonic()
            error = await refusal(stub.Generate(request("late"), timeout=0.7))
            took = time.monotonic() - began
            in_time = await stub.Generate(request("in time"), timeout=10)
            await asyncio.gather(*waiting)
            assert running.service.metrics.shed.labels("late")._value.get() == 1
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the call would be late: the calls before take" in error.details()
        assert pushback_ms(error) >= 50
        assert took < 0.6
        assert engine.prepared == 7
        assert len(in_time.results) == 1

    asyncio.run(main())


def test_an_idle_server_tries_whatever_the_batch_before_took():
    async def main():
        engine = ThreeSids()
        slow(engine, 0.5)
        async with served(engine) as (stub, running, _):
            await stub.Generate(request("a"))
            error = await refusal(stub.Generate(request("b"), timeout=0.3))
            await pending(running, 0)
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert engine.calls == [["a"], ["b"]]

    asyncio.run(main())


@pytest.mark.parametrize("metadata", [(("x-client-id", "other"),), ()])
def test_one_client_that_floods_does_not_make_another_wait(metadata):
    """By the name in the metadata; without one, callers of one address are one client."""

    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine, max_batch=1, max_pending=20) as (stub, running, _):
            names = (("x-client-id", "flood"),) if metadata else ()
            flood = [stub.Generate(request("flood"), metadata=names) for _ in range(20)]
            await pending(running, 20)
            other = stub.Generate(request("other"), metadata=metadata)
            async with asyncio.timeout(10):
                while not running.service.metrics.shed.labels("refused")._value.get():
                    await asyncio.sleep(0.005)
            engine.gate.set()
            ended = await asyncio.gather(*flood, other, return_exceptions=True)
        refused = [one.code() for one in ended if isinstance(one, grpc.aio.AioRpcError)]
        assert refused == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert isinstance(ended[-1], grpc.aio.AioRpcError) != bool(metadata)
        order = [text for (text,) in engine.calls]
        assert ("other" in order[:4]) == bool(metadata)

    asyncio.run(main())
