"""What the clients send and what they make of the replies, each test with the blocking and the asynchronous one."""

import asyncio
import inspect

import grpc
import numpy as np
import pytest

from genrecall.client import AsyncClient, Client, Item, ServerError
from genrecall.client.messages import split
from genrecall.errors import UserError
from genrecall.rpc import generative_recall_pb2 as pb
from tests.client.scripted import Scripted, serving


def test_generate_answers_arrays_for_each_text_and_its_user(connect):
    with serving(Scripted()) as port:
        reply = connect(port).generate(["ab", "حذاء 👟"], users=[None, {"recent_sids": ["v1/0/0/0", "v1/0/0/1"]}])
    assert (reply.codebook, reply.model) == ("v1", "lm-0")
    assert [codes.tolist() for codes in reply.codes] == [[[2, 0, 1], [0, 2, 3]], [[6, 0, 1], [2, 2, 3]]]
    assert (reply.codes[0].dtype, reply.scores[0].dtype) == (np.int32, np.float32)
    assert reply.scores[1].tolist() == [-0.5, -1.0]
    assert [items.tolist() for items in reply.items] == [[4, 1], [4, 1]]
    assert reply.timings == {"queue": 1, "encode": 0, "search": 0, "total": 4}


def test_a_server_that_tells_no_sizes_is_read(connect):
    with serving(Scripted(items=())) as port:
        reply = connect(port).generate(["ab", "c"])
    assert [len(codes) for codes in reply.codes] == [2, 2]
    assert [len(items) for items in reply.items] == [0, 0]


def test_score_keeps_the_order_asked_and_gives_no_item_s_sid_minus_infinity(connect):
    with serving(Scripted()) as port:
        scores = connect(port).score("shoes", np.array([[3, 0, 0], [100, 0, 0], [1, 2, 3]]), codebook="v1")
    assert scores.dtype == np.float32
    assert scores.tolist() == [-3, -np.inf, -1]


def test_encode_takes_items_and_mappings(connect):
    rows = [Item("1", "boots", ["shoes", "winter"], "acme"), {"item_id": "2", "title": "cap"}]
    with serving(Scripted()) as port:
        codes = connect(port).encode(rows, codebook="v1")
    assert codes.dtype == np.int32
    assert codes.tolist() == [[5, 2, 4], [3, 0, 0]]


def test_nothing_to_score_or_encode_is_answered_without_a_call(connect):
    server = Scripted()
    with serving(server) as port:
        client = connect(port)
        assert client.score("a", np.empty((0, 3), int), codebook="v1").shape == (0,)
        assert client.encode([], codebook="v1").shape == (0, 3)
    assert server.requests == []


def test_describe_tells_what_the_server_holds(connect):
    with serving(Scripted(codebook="v7")) as port:
        assert connect(port).describe().current_codebook == "v7"


@pytest.mark.parametrize("limit", [{"max_queries": 3, "max_items": 2}, {"max_request_bytes": 128 + 3 * 25}])
def test_a_large_call_is_cut_by_the_server_s_limits_and_put_together(connect, limit):
    texts = ["x" * (10 + i) for i in range(7)]
    server = Scripted(**limit)
    with serving(server) as port:
        client = connect(port)
        reply = client.generate(texts, users=[{"recent_sids": ["s"] * (i % 3)} for i in range(7)])
        encoded = client.encode([Item(str(i), text) for i, text in enumerate(texts)], codebook="v1")
    assert encoded[:, 0].tolist() == [10, 11, 12, 13, 14, 15, 16]
    assert server.kinds().count("Encode") == (4 if "max_items" in limit else 3)
    assert [codes[0, 0] for codes in reply.codes] == [10, 11, 12, 13, 14, 15, 16]
    assert [codes[1, 0] for codes in reply.codes] == [0, 1, 2, 0, 1, 2, 0]
    generates = server.kinds().count("Generate")
    assert generates >= 3
    assert reply.timings["total"] == 4 * generates
    assert server.kinds().count("Describe") == 1
    # a new current codebook must not split an answer in two
    codebooks = [request.codebook for request in server.requests if isinstance(request, pb.GenerateRequest)]
    assert codebooks == ["", *["v1"] * (generates - 1)]


def test_a_single_text_is_one_call(connect):
    server = Scripted()
    with serving(server) as port:
        connect(port).generate(["a"])
    assert server.kinds() == ["Generate"]


@pytest.mark.parametrize(("most", "most_bytes"), [(1, 1 << 20), (4, 1 << 20), (100, 400), (3, 1), (0, 0)])
def test_parts_keep_order_and_both_limits(most, most_bytes):
    queries = [pb.Query(text="x" * (i * 37 % 150)) for i in range(40)]
    made = split(queries, most, most_bytes)
    assert [query for part in made for query in part] == queries
    for part in made:
        request = pb.GenerateRequest(codebook="c" * 64, k=1 << 31, beam_width=1 << 31, queries=part)
        assert len(part) <= max(1, most)
        assert request.ByteSize() <= most_bytes or len(part) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.generate("red shoes"), TypeError, "texts is one string, 'red shoes'"),
        (lambda c: c.generate(["a", "b"], users=[{}]), ValueError, "users has 1 entries for 2 texts"),
        (lambda c: c.score("a", [1, 2, 3], codebook="v1"), ValueError, r"shape \[n, 3\], found int64 \[3\]"),
        (lambda c: c.score("a", [[1.0, 2, 3]], codebook="v1"), ValueError, "must be integers"),
        (lambda c: c.score("a", [[-1, 0, 0]], codebook="v1"), ValueError, "codes has -1"),
        (lambda c: c.encode([Item("1", "a", "shoes")], codebook="v1"), TypeError, "category is one string, 'shoes'"),
        (lambda c: c.encode([{"id": "1"}], codebook="v1"), ValueError, "items\\[0\\]: an item has no field 'id'"),
    ],
)
def test_arguments_that_no_server_would_take_are_refused_by_name(connect, call, error, message):
    server = Scripted()
    with serving(server) as port, pytest.raises(error, match=message):
        call(connect(port))
    assert server.requests == []


def test_a_closed_client_says_so(connect):
    with serving(Scripted()) as port:
        client = connect(port)
        client.close()
        with pytest.raises(ValueError, match="closed: make a new one"):
            client.describe()


def test_an_answer_of_another_codebook_or_length_is_an_error(connect):
    class Broken(Scripted):
        def Score(self, request, context):
            return pb.ScoreResponse(codebook="v1", scores=[0.0])

        def Encode(self, request, context):
            return pb.EncodeResponse(codebook="v1", codes=[1, 2])

    class Uneven(Scripted):
        def Generate(self, request, context):
            return pb.GenerateResponse(codebook="v1", results=[pb.Generated(codes=[1, 2, 3], scores=[0.0, -1.0])])

    with serving(Broken()) as port, serving(Uneven()) as uneven, serving(Scripted(items=(4,))) as unsized:
        client = connect(port)
        for call, message in (
            (lambda: client.score("a", [[0, 0, 0], [1, 1, 1]], codebook="v1"), "2 values of codebook 'v1'.* 1 of"),
            (lambda: client.encode([Item("1", "a")], codebook="v1"), "3 values of codebook 'v1' expected, 2 of"),
            (lambda: client.generate(["a"], codebook="v2"), "codebook 'v2' expected, 1 of 'v1' found"),
            (lambda: connect(uneven).generate(["a"]), "6 values of codebook 'v1' expected, 3 of"),
            (lambda: connect(unsized).generate(["a"]), "2 values of codebook 'v1' expected, 1 of"),
        ):
            with pytest.raises(ServerError, match=message) as caught:
                call()
            assert caught.value.code == grpc.StatusCode.INTERNAL


def test_calls_are_spread_over_the_addresses_of_an_endpoint(connect):
    one, other = Scripted(), Scripted()
    with serving(one) as first, serving(other) as second:
        client = connect(f"ipv4:127.0.0.1:{first},127.0.0.1:{second}")
        for _ in range(20):
            client.describe()
    assert min(len(one.requests), len(other.requests)) > 5


def test_a_reply_beyond_max_reply_bytes_is_refused_once(connect):
    server = Scripted()
    with serving(server) as port, pytest.raises(ServerError, match="max_reply_bytes") as caught:
        connect(port, max_reply_bytes=20).generate(["a"])
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(server.requests) == 1


def test_tasks_share_an_asynchronous_client_and_a_cancelled_one_ends():
    async def main(port):
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            replies = await asyncio.gather(*(client.generate(["x" * n]) for n in range(1, 40)))
            assert [reply.codes[0][0, 0] for reply in replies] == list(range(1, 40))
            server.takes_s = 0.5
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.generate(["a"]), 0.1)
            server.takes_s = 0.0
            assert (await client.generate(["ab"])).codebook == "v1"

    server = Scripted()
    with serving(server) as port:
        asyncio.run(main(port))


def test_both_clients_have_the_same_calls_and_parameters():
    for name in ("__init__", "close", "generate", "score", "encode", "describe"):
        assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(AsyncClient, name)), name
    assert {n for n in vars(Client) if n[0] != "_"} == {n for n in vars(AsyncClient) if n[0] != "_"}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.generate(["a", None]), TypeError, r"texts\[1\] is None: give a string"),
        (lambda c: c.generate(["a\ud800"]), ValueError, r"texts\[0\] has half of a surrogate pair at character 1"),
        (lambda c: c.generate(["a"], k=-1), ValueError, "k is -1"),
        (lambda c: c.generate(["a"], beam_width=2**32), ValueError, "beam_width is 4294967296"),
        (lambda c: c.generate(["a"], k=None), ValueError, "k is None"),
        (lambda c: c.generate(None), TypeError, "texts is None: give a list"),
        (lambda c: c.generate("ab"), TypeError, "texts is one string, 'ab'"),
        (lambda c: c.generate(["a"], users=None), TypeError, "users is None: give a list"),
        (lambda c: c.generate(["a"], users=["f"]), TypeError, r"users\[0\] is 'f': give a mapping"),
        (lambda c: c.generate(["a"], users=[{"recent": []}]), ValueError, r"users\[0\]: a user has no field 'recent'"),
        (lambda c: c.generate(["a"], users=[{"gender": 5}]), TypeError, r"users\[0\].gender is 5: give a string"),
        (
            lambda c: c.generate(["a"], users=[{"recent_items": ["x", "\ud800"]}]),
            ValueError,
            r"users\[0\].recent_items\[1\] has half of a surrogate pair",
        ),
        (
            lambda c: c.generate(["a"], users=[{"recent_sids": "v1/1/2/3"}]),
            TypeError,
            r"users\[0\].recent_sids is one string",
        ),
        (lambda c: c.generate(["a"], codebook=None), TypeError, "codebook is None: give a string"),
        (lambda c: c.generate(["a"], codebook="\ud800"), ValueError, "codebook has half of a surrogate pair"),
        (lambda c: c.generate(["a"], timeout_s=-1), ValueError, "timeout_s is -1: give seconds"),
        (lambda c: c.generate(["a"], timeout_s="1"), ValueError, "timeout_s is '1': give seconds"),
        (lambda c: c.generate(["a"], timeout_s=float("nan")), ValueError, "timeout_s is nan: give seconds"),
        (lambda c: c.generate(["a"], timeout_s=float("inf")), ValueError, "timeout_s is inf: give seconds"),
        (lambda c: c.score("a", np.zeros((1, 3), int), codebook=""), ValueError, "codebook is empty"),
        (lambda c: c.score("a", [[1, 2], [1]], codebook="v1"), ValueError, "codes .* rows of several lengths"),
        (lambda c: c.encode(None, codebook="v1"), TypeError, "items is None: give a list"),
        (lambda c: c.encode([5], codebook="v1"), TypeError, r"items\[0\] is 5: give an Item"),
        (
            lambda c: c.encode([{"title": "x", "category": None}], codebook="v1"),
            TypeError,
            r"items\[0\].category is None: give a list",
        ),
        (lambda c: c.score(None, np.zeros((1, 3), int), codebook="v1"), TypeError, "text is None"),
        (lambda c: c.score("a", np.full((1, 3), 2**31), codebook="v1"), ValueError, "codes has 2147483648"),
        (lambda c: c.encode([{"item_id": "1", "title": None}], codebook="v1"), TypeError, r"items\[0\].title is None"),
        (lambda c: c.encode([{"titel": "x"}], codebook="v1"), ValueError, r"items\[0\]: an item has no field 'titel'"),
        (
            lambda c: c.encode([{"title": "x", "category": [1]}], codebook="v1"),
            TypeError,
            r"items\[0\].category\[0\] is 1",
        ),
    ],
)
def test_an_argument_that_no_server_would_take_is_named_before_anything_is_sent(connect, call, error, message):
    server = Scripted()
    with serving(server) as port, pytest.raises(error, match=message):
        call(connect(port))
    assert server.requests == []


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "localhost",
        "127.0.0.1:",
        ":50051",
        "http://127.0.0.1:50051",
        "host:port",
        "host:99999",
        "::1:50051",
        None,
        5,
        " host:50051",
    ],
)
def test_an_endpoint_of_another_form_is_named(endpoint):
    with pytest.raises(UserError, match=r"HOST:PORT|IPv6 address stands in brackets"):
        Client(endpoint)


def test_calls_to_this_machine_pass_by_a_proxy_of_the_environment(connect, monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(Scripted()) as port:
        assert len(connect(port).generate(["ab"]).codes) == 1
    with pytest.raises(ServerError, match="through the proxy of grpc_proxy: name the host in no_proxy"):
        Client("192.0.2.1:50051", timeout_s=1).describe()


def test_an_error_of_one_part_names_the_entry_of_the_whole_call(connect):
    server = Scripted(max_queries=3, refuse="bad")
    with serving(server) as port, pytest.raises(ServerError, match=r"queries\[7\].text is bad"):
        connect(port).generate(["a", "b", "c", "d", "e", "f", "g", "bad"])
