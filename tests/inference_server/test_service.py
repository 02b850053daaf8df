"""The service over real gRPC, with an engine whose answers and pace the test decides."""

import asyncio

import grpc
import numpy as np
import pytest

from genrecall.rpc import generative_recall_pb2 as pb
from inference_server.engines.base import OutOfMemory
from tests.inference_server.serving import SCORES, SIDS, ThreeSids, pending, refusal, request, score_request, served


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
        assert "'v9' is not loaded on this server; loaded: v2, v1" in error.details()
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
        (request("\u200b\u2060\ufeff\x00\x7f"), r"queries[0].text is empty"),
        (request("\u3164\u2800\u034f\ufe0f"), r"queries[0].text is empty"),
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


def test_bytes_that_are_no_request_are_the_callers_mistake():
    async def main():
        async with served(ThreeSids()) as (stub, _, channel):
            call = channel.unary_unary("/genrecall.v1.GenerativeRecall/Generate")
            error = await refusal(call(b"\x12" * 100))
            assert len((await stub.Generate(request("a"))).results) == 1
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "the request cannot be read" in error.details()

    asyncio.run(main())


def test_calls_of_one_moment_share_a_batch_and_each_gets_its_own_answer():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine) as (stub, running, _):
            first = stub.Generate(request("first"))
            await asyncio.to_thread(engine.running.wait, 10)
            waiting = [stub.Generate(request(*texts, k=k)) for texts, k in ((["a"], 3), (["b", "c"], 3), (["d"], 2))]
            await pending(running, 5)
            engine.gate.set()
            replies = [await call for call in (first, *waiting)]
        assert engine.calls == [["first"], ["a", "b", "c", "d"]]  # their beams are as wide: 8
        assert [[len(one.scores) for one in reply.results] for reply in replies] == [[3], [3], [3, 3], [2]]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("asked", "computed"),
    [({"k": 1}, 8), ({"k": 50}, 50), ({"k": 2, "beam_width": 51}, 64), ({"k": 2, "beam_width": 513}, 600)],
)
def test_a_beam_is_as_wide_as_the_next_width_that_is_computed_and_the_answer_has_k(asked, computed):
    async def main():
        engine = ThreeSids()
        async with served(engine, max_k=600, max_beam_width=600) as (stub, *_):
            reply = await stub.Generate(request("a", **asked))
        assert engine.widths == [computed]
        assert len(reply.results[0].scores) == min(asked["k"], len(SIDS))

    asyncio.run(main())


def test_an_engine_that_computes_less_than_the_settings_allow_says_so():
    async def main():
        narrow = ThreeSids("v2")
        narrow.max_beam_width = 90
        async with served(narrow, ThreeSids()) as (stub, *_):
            error = await refusal(stub.Generate(request("a", k=91)))
            await stub.Generate(request("a", k=70))
            await stub.Generate(request("a", k=91, codebook="v1"))
            described = await stub.Describe(pb.DescribeRequest())
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == "beam_width is 91, at most 90 is computed by this codebook's three-sids"
        assert narrow.widths == [90]
        assert [one.max_beam_width for one in described.codebooks] == [90, 1024]

    asyncio.run(main())


def test_memory_that_runs_out_is_overload_and_no_bug(caplog):
    async def main():
        engine = ThreeSids()
        engine.search = raises(OutOfMemory("2 GiB"))
        async with served(engine) as (stub, *_):
            error = await refusal(stub.Generate(request("a")))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "lower server.max_batch_tokens" in error.details()
        assert "grpc-retry-pushback-ms" in dict(error.trailing_metadata())

    asyncio.run(main())


def raises(error):
    def search(prompts, width):
        raise error

    return search


def test_a_large_call_is_cut_into_batches_and_answered_in_order():
    async def main():
        engine = ThreeSids()
        async with served(engine, max_batch=4) as (stub, *_):
            reply = await stub.Generate(request(*(f"text {n}" for n in range(10))))
        assert [len(batch) for batch in engine.calls] == [4, 4, 2]
        assert len(reply.results) == 10

    asyncio.run(main())


def test_score_answers_in_the_order_asked_and_a_sid_that_no_item_has_is_impossible():
    async def main():
        engine = ThreeSids()
        async with served(engine, ThreeSids("v2")) as (stub, *_):
            scoring = score_request(SIDS[2], (9, 9, 9), SIDS[0], SIDS[0], codebook="v1")
            reply = await stub.Score(scoring)
        assert (reply.codebook, reply.model) == ("v1", "lm-0")
        assert list(reply.scores) == [SCORES[2], -np.inf, SCORES[0], SCORES[0]]
        assert 0 < reply.timings.search_ms <= reply.timings.total_ms

    asyncio.run(main())


def test_a_large_score_is_cut_so_that_a_search_comes_in_between():
    async def main():
        engine = ThreeSids()
        engine.gate.clear()
        async with served(engine, max_beam_width=100, max_batch_tokens=128, default_k=10) as (stub, running, _):
            scoring = stub.Score(score_request(*[SIDS[0]] * 399, SIDS[1], text="x"))
            await asyncio.to_thread(engine.running.wait, 10)
            search = stub.Generate(request("a"))
            await pending(running, 5)
            scored_before = list(engine.scored)
            engine.gate.set()
            await search
            scores = list((await scoring).scores)
        assert scored_before == [100]
        assert engine.scored == [100] * 4
        assert scores == [SCORES[0]] * 399 + [SCORES[1]]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (pb.ScoreRequest(query=pb.Query(text=" "), codes=[0, 1, 2]), "query.text is empty"),
        (pb.ScoreRequest(query=pb.Query(text="a")), "codes has 0 entries: send 3 a SID"),
        (pb.ScoreRequest(query=pb.Query(text="a"), codes=[0, 1, 2, 3]), "codes has 4 entries: send 3 a SID"),
        (score_request(*[(0, 1, 2)] * 8193), "codes has 8193 SIDs, at most 8192"),
        (score_request((0, 1, 2), text="a" * 1001), "query.text has 1001 characters, at most 1000"),
    ],
)
def test_a_score_beyond_a_limit_is_refused_by_name_and_never_computed(bad, message):
    async def main():
        engine = ThreeSids()
        async with served(engine) as (stub, *_):
            error = await refusal(stub.Score(bad))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert message in error.details()
        assert engine.scored == []

    asyncio.run(main())


def test_an_engine_that_fails_fails_its_call_alone_and_the_client_learns_no_internals():
    class Broken(ThreeSids):
        def search(self, prompts, width):
            if "broken" in prompts:
                raise RuntimeError("/secret/path")
            return super().search(prompts, width)

    async def main():
        async with served(Broken()) as (stub, *_):
            error = await refusal(stub.Generate(request("broken")))
            assert len((await stub.Generate(request("a"))).results) == 1
        assert error.code() == grpc.StatusCode.INTERNAL
        assert "RuntimeError" in error.details()
        assert "secret" not in error.details()

    asyncio.run(main())


def test_one_call_never_holds_more_than_may_be_pending():
    async def main():
        engine = ThreeSids()
        async with served(engine, max_pending=8, max_beam_width=100, default_k=10) as (stub, *_):
            limits = (await stub.Describe(pb.DescribeRequest())).limits
            error = await refusal(stub.Generate(request(*["a"] * 9)))
            await stub.Generate(request(*["a"] * 8))
            await stub.Score(score_request(*[SIDS[0]] * 800))
        assert (limits.max_queries, limits.max_score_sids) == (8, 800)
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "queries has 9 entries, at most 8 are allowed in one call (server.max_pending)" in error.details()

    asyncio.run(main())
