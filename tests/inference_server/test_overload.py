"""Too much at once: who is turned away, what is dropped, when to come back."""

import asyncio

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
