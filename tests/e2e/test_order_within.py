"""`order_within` against its definition applied to every document: three shards, several segments, deleted documents,
items of two SIDs, random SIDs with random sizes, on a real node, with the plugin and composed without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opensearchpy import OpenSearch
from opensearchpy.helpers import bulk

from genrecall.client import Client
from genrecall.config.opensearch import OpenSearchSection
from genrecall.evaluation.folds_node import plugin_endpoint
from genrecall.rpc import generative_recall_pb2 as pb
from index_mappings import search
from index_mappings.compose.composer import ClauseError, Composer
from index_mappings.pipelines import normalization
from tests.client.scripted import Scripted, serving

pytestmark = pytest.mark.node
INDEX, PIPELINE = "within", "within-fusion"
SECTION = OpenSearchSection(bm25_fields=("title^2", "brand"))
WORDS = ["red", "blue", "shoes", "lamp", "chair", "wool"]
SIDS = [f"v1/{n // 10}/{n % 10}/0" for n in range(60)]
DIMENSION = 8
MAPPING = {
    "_meta": {"genrecall": {"codebook": "v1"}},
    "properties": {
        "sid": {"type": "keyword"},
        "title": {"type": "text"},
        "brand": {"type": "text"},
        "price": {"type": "integer"},
        "vector": {"type": "knn_vector", "dimension": DIMENSION, "method": {"name": "hnsw", "engine": "lucene"}},
        "parts": {"type": "nested", "properties": {"name": {"type": "keyword"}}},
    },
}


class Shop:
    def __init__(self, client: OpenSearch, items: dict[str, dict[str, Any]]) -> None:
        self.client, self.items = client, items

    def scores(self, query: dict[str, Any], **more: Any) -> dict[str, float]:
        found = self.client.search(index=INDEX, body={"query": query, "size": 1000, **more})
        assert not found["_shards"]["failed"]
        assert found["hits"]["total"]["value"] == len(found["hits"]["hits"])
        scores = [hit["_score"] for hit in found["hits"]["hits"]]
        assert scores == sorted(scores, reverse=True)
        return {hit["_id"]: hit["_score"] for hit in found["hits"]["hits"]}


@pytest.fixture(scope="module")
def shop(plugin_node) -> Iterator[Shop]:
    client, rng = OpenSearch(plugin_node.url), np.random.default_rng(7)
    client.indices.create(
        index=INDEX,
        body={"settings": {"number_of_shards": 3, "number_of_replicas": 0, "knn": True}, "mappings": MAPPING},
    )
    client.search_pipeline.put(id=PIPELINE, body=normalization((0.4, 0.6)))
    items = {f"B{n:03}": item(rng, n) for n in range(500)}
    names = list(items)
    for first in range(0, 500, 100):  # a segment in each shard
        lines = ({"_index": INDEX, "_id": name, "_source": items[name]} for name in names[first : first + 100])
        bulk(client, lines, refresh=True)
    for name in rng.choice(names, 40, replace=False).tolist():
        client.delete(index=INDEX, id=name)
        del items[name]
    client.indices.refresh(index=INDEX)
    yield Shop(client, items)
    client.indices.delete(index=INDEX)
    client.transport.perform_request("DELETE", f"/_search/pipeline/{PIPELINE}")


def item(rng: np.random.Generator, n: int) -> dict[str, Any]:
    sids = rng.choice(SIDS, 2 if n % 5 == 0 else 1, replace=False).tolist()
    source = {
        "sid": sids,
        "title": " ".join(rng.choice(WORDS, rng.integers(1, 5))),
        "brand": str(rng.choice(WORDS)),
        "price": int(rng.integers(1, 100)),
        "parts": [{"name": str(rng.choice(WORDS))}],
    }
    return source if n % 11 == 0 else {**source, "vector": rng.normal(size=DIMENSION).tolist()}


def expected(
    shop: Shop, sids: list[dict[str, Any]], query: dict[str, float], weight: float, min_score: float = 0.0
) -> dict[str, float]:
    """The definition, over every document; `query`: its score of each document that it matches."""
    logs = {s["sid"]: float(np.log(s["score"]) - np.log(s["items"])) for s in sids if s["score"] >= min_score}
    least = min(logs.values(), default=0)
    best = {
        name: max(logs[sid] for sid in source["sid"] if sid in logs)
        for name, source in shop.items.items()
        if logs.keys() & set(source["sid"])
    }
    return {name: 1 + score - least + weight * query.get(name, 0) for name, score in best.items()}


VECTOR = np.random.default_rng(8).normal(size=DIMENSION).astype(np.float32)


def cosines(shop: Shop) -> dict[str, float]:
    """(1 + cosine) / 2 of the items that have a vector: what `knn_score` tells."""
    found = {}
    for name, source in shop.items.items():
        if "vector" in source:
            vector = np.array(source["vector"])
            found[name] = float(1 + vector @ VECTOR / np.linalg.norm(vector) / np.linalg.norm(VECTOR)) / 2
    return found


def both(shop: Shop) -> dict[str, float]:
    text, cosine = shop.scores(search.bm25("red wool shoes", SECTION)), cosines(shop)
    return {name: 0.5 * text.get(name, 0) + 20 * 2 * cosine.get(name, 0) for name in {*text, *cosine}}


MATCH = {"match": {"title": "red shoes"}}
MULTI = {"multi_match": {"query": "blue wool", "fields": ["title^2", "brand"], "type": "most_fields"}}
PRICE = {"function_score": {"query": MATCH, "field_value_factor": {"field": "price"}, "boost_mode": "replace"}}
VECTORS = search.order_by_text_and_vector("red wool shoes", VECTOR, SECTION, 0.5, 20.0)["query"]
SCRIPT = VECTORS["bool"]["should"][1]
QUERIES: dict[str, tuple[dict[str, Any], Callable[[Shop], dict[str, float]]]] = {
    "match": (MATCH, lambda shop: shop.scores(MATCH)),
    "multi_match": (MULTI, lambda shop: shop.scores(MULTI)),
    "constant": ({"constant_score": {"filter": MATCH, "boost": 3}}, lambda shop: dict.fromkeys(shop.scores(MATCH), 3)),
    "function_score": (PRICE, lambda shop: {name: shop.items[name]["price"] for name in shop.scores(MATCH)}),
    "exact vectors": (
        {"script_score": {**SCRIPT["script_score"], "boost": 2}},
        lambda shop: {name: 2 * score for name, score in cosines(shop).items()},
    ),
    "text of the template": (
        search.order_by_text("red wool shoes", SECTION)["query"],
        lambda shop: shop.scores(search.bm25("red wool shoes", SECTION)),
    ),
    "text and vectors of the template": (VECTORS, both),
    "all": ({"match_all": {}}, lambda shop: dict.fromkeys(shop.items, 1)),
    "none": ({"match_none": {}}, lambda shop: {}),
}


@pytest.fixture(scope="module")
def composer(shop) -> Iterator[Composer]:
    with Client("127.0.0.1:1") as nobody:  # SIDs are given, so that none is asked
        yield Composer(shop.client, nobody)


@st.composite
def sids(draw: st.DrawFn) -> list[dict[str, Any]]:
    chosen = draw(st.lists(st.sampled_from(SIDS), min_size=1, max_size=40, unique=True))
    scores = st.one_of(st.floats(2**-20, 1.0, width=32), st.floats(2**-126, 2**-20, width=32))
    return [{"sid": sid, "score": draw(scores), "items": draw(st.integers(1, 5000))} for sid in chosen]


def clause(of: list[dict[str, Any]], query: dict[str, Any], weight: float, **options: Any) -> dict[str, Any]:
    within = {"query": query, "weight": weight}
    return {"generative": {"sid": {"sids": of, "order_within": within, **options}}}


@given(sids(), st.sampled_from([*QUERIES]), st.sampled_from([1.0, 0.0, 0.25, 20.0]), st.sampled_from([0.0, 1e-3]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scores_and_order_are_those_of_the_definition_over_every_document(shop, composer, of, kind, weight, min_score):
    query, scores_of = QUERIES[kind]
    wanted = pytest.approx(expected(shop, of, scores_of(shop), weight, min_score), rel=2e-6, abs=2e-5)
    body = clause(of, query, weight, min_score=min_score)
    assert shop.scores(body) == wanted
    assert shop.scores(composer.compose(body, INDEX)) == wanted


SOME = [{"sid": sid, "score": 0.5 / (n + 1), "items": n % 7 + 1} for n, sid in enumerate(SIDS[:30])]


class Model(Scripted):
    """Answers every prompt with the first k of SOME; `told`: whether it tells their sizes."""

    def __init__(self, told: bool) -> None:
        super().__init__()
        self.told = told

    def Generate(self, request, context):
        some = SOME[: request.k]
        one = pb.Generated(
            codes=[int(code) for sid in some for code in sid["sid"].split("/")[1:]],
            scores=[np.log(sid["score"]) for sid in some],
            items=[sid["items"] for sid in some] if self.told else [],
        )
        return pb.GenerateResponse(codebook="v1", results=[one] * len(request.queries))


def test_generated_sids_bring_their_sizes(shop):
    asked = {"query_text": "red shoes", "k": 20, "timeout": "20s"}
    body = {"generative": {"sid": {**asked, "order_within": {"query": MATCH, "weight": 2.0}, "boost": 3}}}
    wanted = {name: 3 * score for name, score in expected(shop, SOME[:20], shop.scores(MATCH), 2.0).items()}
    with serving(Model(told=True)) as port, plugin_endpoint(shop.client, f"127.0.0.1:{port}"):
        assert shop.scores(body) == pytest.approx(wanted, rel=2e-6, abs=2e-5)
        with Client(f"127.0.0.1:{port}") as server:
            composed = Composer(shop.client, server).compose(body, INDEX)
        assert shop.scores(composed) == pytest.approx(wanted, rel=2e-6, abs=2e-5)
        dry = shop.client.transport.perform_request(
            "POST", "/_plugins/_genrecall/generate", body={**asked, "index": INDEX}
        )["codebooks"]["v1"]["sids"]
    assert dry == [{**sid, "score": pytest.approx(sid["score"])} for sid in SOME[:20]]
    assert shop.scores(clause(dry, MATCH, 2.0, boost=3)) == pytest.approx(wanted, rel=2e-6, abs=2e-5)


def test_an_older_server_that_tells_no_sizes_is_served_by_document_frequencies_or_refused(shop):
    body = {"generative": {"sid": {"query_text": "blue", "k": 20, "order_within": {"query": MATCH}}}}
    untold = [{"sid": sid["sid"], "score": sid["score"]} for sid in SOME[:20]]
    with serving(Model(told=False)) as port, plugin_endpoint(shop.client, f"127.0.0.1:{port}"):
        assert shop.scores(body) == pytest.approx(shop.scores(clause(untold, MATCH, 1.0)), abs=1e-5)
        with Client(f"127.0.0.1:{port}") as server, pytest.raises(ClauseError, match="number of items"):
            Composer(shop.client, server).compose(body, INDEX)


def test_the_best_few_are_the_first_of_all_and_pages_join(shop):
    """Where only the best are wanted Lucene skips what cannot compete."""
    body = clause(SOME, MATCH, 2.0)
    everything = shop.client.search(index=INDEX, body={"query": body, "size": 1000})["hits"]["hits"]
    pages = []
    for start in range(0, 60, 20):
        request = {"query": body, "size": 20, "from": start, "track_total_hits": False}
        pages += shop.client.search(index=INDEX, body=request)["hits"]["hits"]
    assert [hit["_score"] for hit in pages] == [hit["_score"] for hit in everything[:60]]
    assert len({hit["_id"] for hit in pages}) == 60


@pytest.mark.parametrize("mode", ["all", "none"])
def test_concurrent_segment_search_gives_the_same(shop, mode):
    before = shop.scores(clause(SOME, VECTORS, 1.0))
    shop.client.indices.put_settings(index=INDEX, body={"index": {"search.concurrent_segment_search.mode": mode}})
    try:
        assert shop.scores(clause(SOME, VECTORS, 1.0)) == before
    finally:
        shop.client.indices.put_settings(index=INDEX, body={"index": {"search.concurrent_segment_search.mode": None}})


def test_sizes_that_are_not_told_are_the_document_frequencies_of_each_shard(shop):
    """As BM25 has it: with the documents that were deleted and not yet merged away."""
    of = [{"sid": sid["sid"], "score": sid["score"]} for sid in SOME]
    found = shop.scores(clause(of, {"match_none": {}}, 1.0))
    assert found.keys() == expected(shop, SOME, {}, 1.0).keys()
    largest = np.log(2**31 - 1)
    least = min(np.log(sid["score"]) for sid in of) - largest - 1
    by_sid = {sid["sid"]: np.log(sid["score"]) - least for sid in of}
    for name, score in found.items():
        sizes = [np.exp(by_sid[sid] - score) for sid in shop.items[name]["sid"] if sid in by_sid]
        assert any(size == pytest.approx(round(size), abs=1e-3) and 1 <= round(size) <= 30 for size in sizes)


def test_explain_tells_the_sids_part_and_the_querys(shop):
    hit = shop.client.search(index=INDEX, body={"query": clause(SOME, MATCH, 20.0, _name="gen"), "explain": True})[
        "hits"
    ]["hits"][0]
    ordered, _nested = hit["_explanation"]["details"]  # the latter is of any search where the mapping has nested fields
    of_sid, of_query = ordered["details"]
    assert of_sid["value"] + of_query["value"] == pytest.approx(hit["_score"], rel=1e-6)
    assert any(f"ConstantScore(sid:{sid})" in str(of_sid) for sid in shop.items[hit["_id"]]["sid"])
    assert "weight(title:" in str(of_query)
    assert hit["matched_queries"] == ["gen"]
    alone = shop.client.explain(index=INDEX, id=hit["_id"], body={"query": clause(SOME, MATCH, 20.0)})
    assert alone["matched"]
    assert alone["explanation"]["value"] == pytest.approx(hit["_score"], rel=1e-6)


def test_filters_hybrid_highlights_and_inner_hits_work_as_of_any_clause(shop, composer):
    red = {"match": {"title": "red"}}
    ordered = clause(SOME, red, 2.0)
    filtered = {"bool": {"must": [ordered], "filter": [{"range": {"price": {"lt": 50}}}]}}
    whole = shop.scores(ordered)
    assert shop.scores(filtered) == {n: s for n, s in whole.items() if shop.items[n]["price"] < 50}
    assert shop.scores({"constant_score": {"filter": ordered}}) == dict.fromkeys(whole, 1.0)

    body = {"query": ordered, "size": 1000, "highlight": {"fields": {"title": {}}}}
    for hit in shop.client.search(index=INDEX, body=body)["hits"]["hits"]:
        assert ("red" in hit["_source"]["title"].split()) == ("<em>red</em>" in str(hit.get("highlight")))

    parts = {"nested": {"path": "parts", "query": {"term": {"parts.name": "lamp"}}, "inner_hits": {}}}
    for hit in shop.client.search(index=INDEX, body={"query": clause(SOME, parts, 1.0), "size": 1000})["hits"]["hits"]:
        inner = hit["inner_hits"]["parts"]["hits"]["total"]["value"]
        assert inner == (hit["_source"]["parts"][0]["name"] == "lamp")

    hybrid = search.body(search.hybrid([MATCH, ordered], depth=1000), 1000, PIPELINE)
    one, other = (shop.client.search(index=INDEX, body=b) for b in (hybrid, composer.compose(hybrid, INDEX)))
    assert {h["_id"]: h["_score"] for h in one["hits"]["hits"]} == pytest.approx(
        {h["_id"]: h["_score"] for h in other["hits"]["hits"]}, abs=1e-5
    )
    assert {h["_id"] for h in one["hits"]["hits"]} == {*shop.scores(MATCH), *whole}


def test_a_query_within_may_look_its_terms_up(shop):
    """Which the coordinating node does, before the shards see it."""
    shop.client.index(index="within-lookup", id="wanted", body={"names": SIDS[:5]}, refresh=True)
    try:
        lookup = {"terms": {"sid": {"index": "within-lookup", "id": "wanted", "path": "names"}}}
        found = shop.scores(clause(SOME, lookup, 3.0))
        matched = {n: 1.0 for n, source in shop.items.items() if set(SIDS[:5]) & set(source["sid"])}
        assert found == pytest.approx(expected(shop, SOME, matched, 3.0), abs=1e-5)
    finally:
        shop.client.indices.delete(index="within-lookup")
