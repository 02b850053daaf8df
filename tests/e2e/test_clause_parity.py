"""The clause with the plugin and the clause composed without it: one node, one inference server, the same answers.

Every case is searched twice, as it is written and composed, by the blocking and by the asynchronous composer.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import AsyncOpenSearch, OpenSearch
from opensearchpy.exceptions import TransportError
from opensearchpy.helpers import bulk

from genrecall.client import AsyncClient, Client
from genrecall.decoding.user import UserConfig
from genrecall.evaluation.folds_node import plugin_endpoint
from index_mappings.compose.composer import AsyncComposer, ClauseError, Composer, NoSids, Settings
from index_mappings.pipelines import normalization
from tests.faults import bundles, process

pytestmark = [pytest.mark.node, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[2] / "examples"
QUERY = "red shoes"
WORDS = ["red", "blue", "shoes", "lamp"]
DOCUMENTS = 600
NOWHERE = "127.0.0.1:1"
PIPELINE = "parity-fusion"
USER = UserConfig(("gender=f", "gender=m"), recent=5, related=0)

Body = dict[str, Any]
Compose = Callable[[Body, str], Body]


@dataclass
class Shops:
    """Two indices of two codebooks, one of a codebook that no server holds, one that knows nothing of SIDs."""

    client: OpenSearch
    url: str
    endpoint: str
    sids: list[str] = field(default_factory=list)

    def search(self, body: Body, index: str, **params: object) -> Body:
        return self.client.search(index=index, body={"size": 3000, **body}, params=params)

    def refusal(self, body: Body, index: str) -> tuple[int, str]:
        with pytest.raises(TransportError) as caught:
            self.search(body, index)
        return caught.value.status_code, json.dumps(caught.value.info)


def generative(**options: object) -> Body:
    return {"generative": {"sid": {"query_text": QUERY, "k": 100, "timeout": "20s", **options}}}


def given(*sids: object, **options: object) -> Body:
    return {"generative": {"sid": {"sids": list(sids), **options}}}


@pytest.fixture(scope="module")
def shops(plugin_node, tmp_path_factory) -> Iterator[Shops]:
    root, client = tmp_path_factory.mktemp("bundles"), OpenSearch(plugin_node.url)
    published = [bundles.publish(root, codebook, seed, USER) for seed, codebook in enumerate(("v1", "v2"))]
    terms = [[f"{of.codebook}/{path}" for path in of.items()["path"].to_pylist()[:DOCUMENTS]] for of in published]
    fields = {"sid": {"type": "keyword"}, "same": {"type": "alias", "path": "sid"}, "price": {"type": "integer"}}
    indices = {"v1": fields, "v2": fields, "v9": fields, "plain": {"price": {"type": "integer"}}}
    for name, properties in indices.items():
        mapping: Body = {"properties": {**properties, "title": {"type": "text"}}}
        if name != "plain":
            mapping["_meta"] = {"genrecall": {"codebook": name}}
        shards = {"number_of_shards": 2, "number_of_replicas": 0}
        client.indices.create(index=f"parity-{name}", body={"settings": {"index": shards}, "mappings": mapping})
    for codebook, sids in zip(("v1", "v2", "plain"), [*terms, [None] * DOCUMENTS], strict=True):
        bulk(client, (document(codebook, n, term) for n, term in enumerate(sids)), refresh=True)
    client.indices.put_alias(index="parity-v1", name="parity")
    client.search_pipeline.put(id=PIPELINE, body=normalization((0.3, 0.7)))
    narrow = "server.max_beam_width=256"  # below what the cluster allows: the server has something to refuse
    server = process.start(root, tmp_path_factory.mktemp("server") / "server.log", narrow)
    try:
        with plugin_endpoint(client, server.endpoint):
            yield Shops(client, plugin_node.url, server.endpoint, [*dict.fromkeys(terms[0])])
    finally:
        server.end()
        client.indices.delete(index="parity-*")
        client.transport.perform_request("DELETE", f"/_search/pipeline/{PIPELINE}")


def document(codebook: str, n: int, term: str | None) -> Body:
    title = f"{WORDS[n % 4]} {WORDS[n // 4 % 4]} number {n}"
    source = {"title": title, "price": n % 100} | ({"sid": term} if term else {})
    return {"_index": f"parity-{codebook}", "_id": f"item-{n}", "_source": source}


@contextmanager
def composer(kind: str, url: str, endpoint: str) -> Iterator[Compose]:
    if kind == "blocking":
        with Client(endpoint) as server:
            yield Composer(OpenSearch(url), server).compose
        return
    with asyncio.Runner() as runner:

        async def opened() -> tuple[AsyncOpenSearch, AsyncClient]:
            return AsyncOpenSearch(url), AsyncClient(endpoint)

        client, server = runner.run(opened())
        composing = AsyncComposer(client, server)
        yield lambda body, index: runner.run(composing.compose(body, index))
        runner.run(client.close())
        runner.run(server.close())


@pytest.fixture(scope="module", params=["blocking", "async"])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def compose(kind, shops) -> Iterator[Compose]:
    with composer(kind, shops.url, shops.endpoint) as made:
        yield made


@pytest.fixture
def alone(kind, shops) -> Iterator[Compose]:
    """A composer, and the plugin, whose server is gone."""
    with plugin_endpoint(shops.client, NOWHERE), composer(kind, shops.url, NOWHERE) as made:
        yield made


def same(one: Body, other: Body) -> None:
    """The same hits at the same scores. Documents of one score may stand in any order among themselves."""
    assert one["_shards"] == other["_shards"]
    assert one["hits"]["total"] == other["hits"]["total"]
    first, second = one["hits"]["hits"], other["hits"]["hits"]
    assert [hit["_score"] for hit in first] == pytest.approx([hit["_score"] for hit in second], rel=1e-6, abs=1e-6)
    scores, names = (
        {(h["_index"], h["_id"]): h[key] for h in second if key in h} for key in ("_score", "matched_queries")
    )
    assert {(h["_index"], h["_id"]): h["_score"] for h in first} == pytest.approx(scores, rel=1e-6, abs=1e-6)
    found = {(h["_index"], h["_id"]): h["matched_queries"] for h in first if "matched_queries" in h}
    assert found.keys() == names.keys()
    for key, matched in found.items():
        assert (
            matched == pytest.approx(names[key], rel=1e-6, abs=1e-6)
            if isinstance(matched, dict)
            else matched == names[key]
        )
    assert plain(one.get("aggregations")) == plain(other.get("aggregations"))


def plain(node: Any) -> Any:
    """Aggregations without the empty `meta` that a rewritten one bears."""
    return {key: plain(value) for key, value in node.items() if key != "meta"} if isinstance(node, dict) else node


@dataclass(frozen=True)
class Case:
    body: Body
    index: str = "parity-v1"
    params: Body = field(default_factory=dict)
    empty: bool = False


def query(clause: Body, index: str = "parity-v1", empty: bool = False, **params: object) -> Case:
    return Case({"query": clause}, index, params, empty)


MATCH = {"match": {"title": "red"}}
SIZED = [{"sid": f"@{n}", "score": 0.5 / (n + 1), "items": n % 5 + 1} for n in range(60)]
WITHIN = {"query": MATCH, "weight": 2}
CHEAP = {"range": {"price": {"lt": 50}}}
CASES = {
    "top level": query(generative()),
    "defaults": query({"generative": {"sid": {"query_text": QUERY, "timeout": "20s"}}}),
    "a wider beam": query(generative(k=20, beam_width=100)),
    "without memory": query(generative(k=20, memory=False)),
    "an alias": query(generative(), "parity"),
    "an alias of the field": query({"generative": {"same": {"query_text": QUERY, "k": 100, "timeout": "20s"}}}),
    "boost": query(generative(boost=2.5)),
    "boost of zero": query(generative(boost=0)),
    "min_score": query(generative(min_score=0.002)),
    "min_score above all": query(generative(min_score=0.999), empty=True),
    "its codebook asserted": query(generative(codebook="v1")),
    "a user": query(generative(user={"gender": "f", "recent_sids": ["v1/1/1/1"], "recent_items": ["item-3", "?"]})),
    "nobody": query(generative(user={})),
    "bool with filter": query({"bool": {"must": [generative()], "filter": [CHEAP], "must_not": [MATCH]}}),
    "beside BM25": query({"bool": {"should": [MATCH, generative(boost=100)]}}),
    "two prompts": query({"dis_max": {"queries": [generative(), generative(query_text="blue lamp")]}}),
    "one prompt twice": query({"bool": {"should": [generative(boost=2), generative()]}}),
    "a name": Case(
        {
            "query": {
                "bool": {"should": [{"match": {"title": {"query": "red", "_name": "bm25"}}}, generative(_name="gen")]}
            }
        },
        params={"include_named_queries_score": "true"},
    ),
    "a name without score": query({"bool": {"should": [MATCH, generative(_name="gen", min_score=0.002)]}}),
    "hybrid": query(
        {"hybrid": {"queries": [MATCH, generative(_name="gen")], "pagination_depth": 3000}}, search_pipeline=PIPELINE
    ),
    "hybrid, min_score": query(
        {"hybrid": {"queries": [MATCH, generative(min_score=0.004, _name="gen")], "pagination_depth": 3000}},
        search_pipeline=PIPELINE,
    ),
    "filter of hybrid": query(
        {"hybrid": {"queries": [MATCH, {"match_all": {}}], "filter": generative(), "pagination_depth": 3000}},
        search_pipeline=PIPELINE,
    ),
    "function_score": query(
        {"function_score": {"query": MATCH, "functions": [{"filter": generative(), "weight": 3}], "min_score": 0.1}}
    ),
    "script_score": query({"script_score": {"query": generative(), "script": {"source": "_score * 10"}}}),
    "constant_score": query({"constant_score": {"filter": generative(), "boost": 3}}),
    "boosting": query({"boosting": {"positive": MATCH, "negative": generative(), "negative_boost": 0.1}}),
    "post_filter": Case({"query": MATCH, "post_filter": generative()}),
    "rescore": Case(
        {"query": MATCH, "rescore": {"window_size": 500, "query": {"rescore_query": generative(boost=50)}}}
    ),
    "aggregations": Case(
        {
            "query": {"match_all": {}},
            "aggs": {
                "generative": {"filter": generative(), "aggs": {"price": {"avg": {"field": "price"}}}},
                "named": {"filters": {"filters": {"generative": generative(), "other": MATCH}}},
            },
        }
    ),
    "collapse": Case({"query": generative(), "collapse": {"field": "sid"}}),
    "two codebooks": query(generative(), "parity-v1,parity-v2"),
    "two codebooks by a pattern, named": query(generative(_name="gen", boost=3), "parity-v1,parity-v2*"),
    "a pattern without a match": query(generative(), "nothing-*", empty=True),
    "ignore_unmapped": query(generative(ignore_unmapped=True), "parity-v1,parity-plain"),
    "SIDs": query(given("@0", "@1", "@2")),
    "SIDs with scores": query(given({"sid": "@0", "score": 0.25}, {"sid": "@1", "score": 0}, {"sid": "@2"}, boost=2)),
    "SIDs, min_score": query(given({"sid": "@0", "score": 0.3}, {"sid": "@1", "score": 0.29}, min_score=0.3)),
    "SIDs of two codebooks": query(given("@0", {"sid": "v2/1/1/1", "score": 0.5}), "parity-v1,parity-v2"),
    "order_within of a prompt": query(generative(order_within=WITHIN)),
    "order_within of two codebooks": query(generative(order_within=WITHIN, boost=2), "parity-v1,parity-v2"),
    "order_within": query(given(*SIZED, order_within=WITHIN)),
    "order_within, boosted and named": query(
        given(
            *SIZED, order_within={"query": {"match": {"title": {"query": "red", "_name": "text"}}}}, boost=3, _name="g"
        )
    ),
    "order_within of nothing": query(given(*SIZED, order_within={"query": {"match": {"title": "no"}}, "weight": 0})),
    "order_within by a function": query(
        given(
            *SIZED,
            order_within={"query": {"function_score": {"query": MATCH, "field_value_factor": {"field": "price"}}}},
            min_score=0.005,
        )
    ),
    "order_within in hybrid": query(
        {"hybrid": {"queries": [MATCH, given(*SIZED, order_within=WITHIN)], "pagination_depth": 3000}},
        search_pipeline=PIPELINE,
    ),
    "order_within with filter": query(
        {"bool": {"must": [given(*SIZED, order_within=WITHIN)], "filter": [CHEAP], "should": [MATCH]}}
    ),
    "no SIDs of a codebook": query(given(codebook="v1"), empty=True),
    "on_failure that is not needed": query(generative(on_failure={"match_all": {}})),
    "a codebook that is not held, match_none": query(generative(on_failure="match_none"), "parity-v9", empty=True),
    "one of two is not held": query(generative(on_failure=MATCH), "parity-v1,parity-v9"),
    "no codebook, a query": query(generative(on_failure=MATCH), "parity-plain"),
    "refused by the server": query(generative(beam_width=400, on_failure=MATCH)),
    "no text": query(generative(query_text=" ", on_failure=MATCH)),
    "a text that is too long": query(generative(query_text="a" * 1001, on_failure=MATCH)),
    "one of two prompts is refused by the server": query(
        {"bool": {"should": [generative(beam_width=400, on_failure="match_none"), generative()]}}
    ),
}


def filled(node: Any, sids: list[str]) -> Any:
    """`@n` stands for the n-th of the items' SIDs."""
    if isinstance(node, dict):
        return {key: filled(value, sids) for key, value in node.items()}
    if isinstance(node, list):
        return [filled(value, sids) for value in node]
    return sids[int(node[1:])] if isinstance(node, str) and node.startswith("@") else node


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_body_finds_the_same_with_the_plugin_and_composed(shops, compose, case):
    body = filled(case.body, shops.sids)
    composed = compose(body, case.index)
    assert '{"generative": {"s' not in json.dumps(composed)
    plugin = shops.search(body, case.index, **case.params)
    same(plugin, shops.search(composed, case.index, **case.params))
    assert bool(plugin["hits"]["hits"]) is not case.empty


def test_the_cases_would_notice_a_difference(shops):
    """A user, a codebook and a prompt change what is found; else the cases above would prove little."""
    found = [
        [hit["_score"] for hit in shops.search({"query": clause}, index)["hits"]["hits"]]
        for clause, index in [
            (generative(), "parity-v1"),
            (generative(user={"gender": "f"}), "parity-v1"),
            (generative(query_text="blue lamp"), "parity-v1"),
            (generative(), "parity-v2"),
        ]
    ]
    assert all(len(scores) > 5 for scores in found)
    assert all(one != pytest.approx(other) for n, one in enumerate(found) for other in found[:n])


DOWN = {
    "match_none": generative(on_failure="match_none"),
    "match_none, named and boosted": generative(on_failure="match_none", _name="gen", boost=2),
    "a query": generative(on_failure={"match": {"title": {"query": "red", "_name": "fallback"}}}, _name="gen", boost=2),
    "a query that takes over boost and name": generative(on_failure=MATCH, _name="gen", boost=2),
    "a query with a boost of its own": generative(on_failure={"match_all": {"boost": 3}}, _name="gen", boost=2),
    "a clause of SIDs": generative(on_failure=given("@0", "@1"), _name="gen", boost=2),
    "a clause of SIDs in order": generative(
        on_failure=given({"sid": "@0", "items": 2}, {"sid": "@1", "items": 1}, order_within=WITHIN), boost=2
    ),
    "a clause that fails in turn": generative(
        on_failure=generative(query_text="blue", on_failure=MATCH), order_within=WITHIN
    ),
    "beside BM25": {"bool": {"should": [MATCH, generative(on_failure="match_none")]}},
    "all that must match": {"bool": {"must": [MATCH, generative(on_failure="match_none")]}},
}


@pytest.mark.parametrize("clause", DOWN.values(), ids=DOWN)
def test_on_failure_finds_the_same_with_the_plugin_and_composed(shops, alone, clause):
    body = {"query": filled(clause, shops.sids)}
    same(shops.search(body, "parity-v1"), shops.search(alone(body, "parity-v1"), "parity-v1"))


def test_a_server_that_is_gone_is_an_error_with_both(shops, alone):
    body = {"query": generative(timeout="1s")}
    assert shops.refusal(body, "parity-v1")[0] == 503
    with pytest.raises(NoSids) as caught:
        alone(body, "parity-v1")
    assert caught.value.kind == "unavailable"


@pytest.mark.parametrize(
    ("index", "options", "status", "said", "kind_of_failure"),
    [
        ("parity-v9", {}, 503, "'v9' is not loaded", "codebook_not_held"),
        ("parity-v1,parity-v9", {}, 503, "'v9' is not loaded", "codebook_not_held"),
        ("parity-plain", {}, 400, "no codebook is named", "no_codebook"),
        ("parity-v1", {"beam_width": 400}, 400, "beam_width is 400", "invalid_request"),
    ],
)
def test_a_failure_is_of_the_same_kind_with_both(shops, compose, index, options, status, said, kind_of_failure):
    body = {"query": generative(**options)}
    found, message = shops.refusal(body, index)
    assert found == status
    assert said in message
    with pytest.raises(NoSids, match=said) as caught:
        compose(body, index)
    assert caught.value.kind == kind_of_failure


REFUSED = [
    ({"sid": {}}, "query_text"),
    ({"sid": {"query_text": "a", "sids": ["v1/0/0/0"]}}, "sids"),
    ({"sid": {"query_text": "a"}, "same": {"query_text": "a"}}, "one field"),
    ({"sid": {"query_text": "a", "kk": 1}}, "kk"),
    ({"sid": {"query_text": " "}}, "query_text"),
    ({"sid": {"query_text": "a" * 1001}}, "query_text"),
    ({"sid": {"query_text": 7}}, "query_text"),
    ({"sid": {"query_text": "a", "k": 0}}, "k"),
    ({"sid": {"query_text": "a", "k": 513}}, "max_k"),
    ({"sid": {"query_text": "a", "k": 1025}}, "1024"),
    ({"sid": {"query_text": "a", "k": "x"}}, "k"),
    ({"sid": {"query_text": "a", "beam_width": 3}}, "beam_width"),
    ({"sid": {"query_text": "a", "timeout": "0s"}}, "timeout"),
    ({"sid": {"query_text": "a", "timeout": "1.5s"}}, "timeout"),
    ({"sid": {"query_text": "a", "timeout": "2m"}}, "timeout"),
    ({"sid": {"query_text": "a", "timeout": 40}}, "timeout"),
    ({"sid": {"query_text": "a", "on_failure": "give_up"}}, "on_failure"),
    ({"sid": {"query_text": "a", "on_failure": {}}}, ""),
    ({"sid": {"query_text": "a", "on_failure": generative(k=0)}}, "k"),
    ({"sid": {"query_text": "a", "order_within": {}}}, "order_within has no query"),
    ({"sid": {"query_text": "a", "order_within": {"query": MATCH, "weight": -1}}}, "weight [-1.0]"),
    ({"sid": {"query_text": "a", "order_within": {"query": MATCH, "wait": 1}}}, "wait"),
    ({"sid": {"query_text": "a", "order_within": {"query": generative()}}}, "its query holds another"),
    ({"sid": {"sids": [{"sid": "v1/0/0/0", "items": 0}]}}, "items [0]"),
    ({"sid": {"query_text": "a", "codebook": "v 1"}}, "codebook"),
    ({"sid": {"query_text": "a", "codebook": "v2", "timeout": "20s"}}, "codebook"),
    ({"sid": {"query_text": "a", "min_score": -1}}, "min_score"),
    ({"sid": {"query_text": "a", "boost": -1}}, "boost"),
    ({"sid": {"query_text": "a", "_name": 3}}, "_name"),
    ({"sid": {"query_text": "a", "ignore_unmapped": 1}}, "ignore_unmapped"),
    ({"sid": {"query_text": "a", "user": "f"}}, "user"),
    ({"sid": {"query_text": "a", "user": {"sex": "f"}}}, "sex"),
    ({"sid": {"query_text": "a", "user": {"gender": "f" * 65}}}, "gender"),
    ({"sid": {"query_text": "a", "user": {"recent_sids": ["7"]}}}, "recent_sids"),
    ({"sid": {"query_text": "a", "user": {"recent_items": ["B"] * 101}}}, "recent_items"),
    ({"sid": {"sids": []}}, "sids"),
    ({"sid": {"sids": ["v1/1/2"]}}, "SID term"),
    ({"sid": {"sids": ["v1/1/2/3", "v1/1/2/3"]}}, "twice"),
    ({"sid": {"sids": [{"score": 1}]}}, "no sid"),
    ({"sid": {"sids": [{"sid": "v1/1/2/3", "score": -1}]}}, "score"),
    ({"sid": {"sids": ["v2/1/2/3"], "codebook": "v1"}}, "codebook"),
    ({"sid": {"sids": ["v2/1/2/3"]}}, "codebook"),
    ({"sid": {"sids": ["v1/1/2/3"], "k": 3}}, "k"),
    ({"title": {"query_text": "a", "timeout": "20s"}}, "keyword"),
    ({"price": {"sids": ["v1/1/2/3"]}}, "keyword"),
    ({"nothing": {"query_text": "a", "timeout": "20s"}}, "ignore_unmapped"),
]


@pytest.mark.parametrize(("fields", "named"), REFUSED, ids=str)
def test_a_mistake_is_refused_by_both_and_both_name_it(shops, compose, fields, named):
    body = {"query": {"generative": fields}}
    status, message = shops.refusal(body, "parity-v1")
    assert status == 400
    assert named in message
    with pytest.raises((ClauseError, NoSids)) as caught:
        compose(body, "parity-v1")
    assert named in str(caught.value)


# --- the examples


def run(*command: str) -> list[str]:
    """The lines that a program of examples/ prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=EXAMPLES.parent, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()


def test_the_python_example_prints_what_the_clause_adds_to_bm25(shops):
    example = [sys.executable, "-m", "examples.search_without_plugin"]
    lines = run(*example, QUERY, "--index", "parity", "--url", shops.url, "--endpoint", shops.endpoint)
    assert any("  generative  " in line for line in lines)
    assert all(" number " in line for line in lines)
    without = run(*example, QUERY, "--index", "parity", "--url", shops.url, "--endpoint", NOWHERE)
    assert all("  BM25 only   " in line for line in without)
    assert any("usage" in line for line in run(*example, "--help"))


@pytest.mark.skipif(shutil.which("jq") is None, reason="the example needs jq")
def test_the_curl_example_prints_the_same_with_and_without_the_plugin(shops):
    script = str(EXAMPLES / "search_with_curl.sh")
    composed = run(script, QUERY, "parity", shops.url, shops.endpoint)
    assert composed
    by_plugin = run(script, "--plugin", QUERY, "parity", shops.url)
    scores = [[float(line.split("\t")[0]) for line in lines] for lines in (composed, by_plugin)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert sorted(line.split("\t")[1:] for line in composed) == sorted(line.split("\t")[1:] for line in by_plugin)
    assert any("--plugin" in line for line in run(script, "--help"))


# --- where composing is weaker


def test_an_index_of_several_that_does_not_fit_fails_its_shards_or_the_composition(shops, compose):
    body = {"query": generative()}
    assert shops.search(body, "parity-v1,parity-plain")["_shards"]["failed"] == 2
    with pytest.raises(ClauseError, match=r"no field \[sid\] in index \[parity-plain\]"):
        compose(body, "parity-v1,parity-plain")


def test_an_alias_that_moves_meanwhile_empties_the_clause_unless_its_indices_are_searched(shops):
    body = {"query": generative()}
    with Client(shops.endpoint) as server:
        composing = Composer(shops.client, server, Settings(mapping_ttl_s=60))
        index = composing.indices("parity")
        assert index == "parity-v1"
        by_alias, by_index = composing.compose(body, "parity"), composing.compose(body, index)
        move(shops, "parity-v1", "parity-v2")
        try:
            assert not shops.search(by_alias, "parity")["hits"]["hits"]
            assert shops.search(by_index, index)["hits"]["hits"]
            fresh = Composer(shops.client, server).compose(body, "parity")
            same(shops.search(body, "parity"), shops.search(fresh, "parity"))
        finally:
            move(shops, "parity-v2", "parity-v1")


def test_a_document_with_sids_of_two_codebooks_scores_the_sum_where_both_are_searched(shops, compose):
    source = {"title": "of both", "price": 1, "sid": ["v1/1/1/1", "v2/1/1/1"]}
    shops.client.index(index="parity-v1", id="both", body=source, refresh=True)
    body = {"query": given({"sid": "v1/1/1/1", "score": 0.5}, {"sid": "v2/1/1/1", "score": 0.25})}
    try:
        for found, score in ((body, 0.5), (compose(body, "parity-v1,parity-v2"), 0.75)):
            hits = shops.search(found, "parity-v1,parity-v2")["hits"]["hits"]
            assert [hit["_score"] for hit in hits if hit["_id"] == "both"] == [score]
    finally:
        shops.client.delete(index="parity-v1", id="both", refresh=True)


def test_sids_of_two_codebooks_count_together_towards_the_limit_of_clauses(shops, compose):
    sids = [f"v{1 + n % 2}/{n // 256}/{n // 16 % 16}/{n % 16}" for n in range(1024)]
    body = {"query": {"bool": {"should": [{"match": {"title": "red shoes"}}, given(*sids)]}}}
    assert shops.search(body, "parity-v1,parity-v2")["hits"]["hits"]
    status, message = shops.refusal(compose(body, "parity-v1,parity-v2"), "parity-v1,parity-v2")
    assert status >= 400
    assert "maxClauseCount" in message


def move(shops: Shops, old: str, new: str) -> None:
    actions = [{"remove": {"index": old, "alias": "parity"}}, {"add": {"index": new, "alias": "parity"}}]
    shops.client.indices.update_aliases(body={"actions": actions})
