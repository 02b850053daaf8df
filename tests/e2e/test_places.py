"""Every place of a request where docs/clause.md says that the clause works, on a real node.

What each finds is compared with the same request in which the SIDs' own term queries stand in the clause's place.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opensearchpy import OpenSearch
from opensearchpy.helpers import bulk

from genrecall.evaluation.folds_node import plugin_endpoint
from index_mappings.pipelines import normalization
from index_mappings.search import sid_terms
from tests.faults import bundles, process

pytestmark = [pytest.mark.node, pytest.mark.slow]
INDEX, TEXT, K = "places", "red shoes", 40
CLAUSE = {"query_text": TEXT, "k": K, "timeout": "20s"}
SETTINGS = {"index.number_of_replicas": 0, "index.knn": True}
Body = dict[str, Any]
Clause = Body


class Shop:
    """300 items that have one of the SIDs, each with a child and a nested variant of the same SID."""

    def __init__(self, client: OpenSearch, sids: list[Body]) -> None:
        self.client = client
        self.terms = [sid["sid"] for sid in sids]
        self.scores = [sid["score"] for sid in sids]

    def pair(self, field: str = "sid") -> tuple[Clause, Clause]:
        """The clause, and what it becomes."""
        return {"generative": {field: CLAUSE}}, sid_terms(self.terms, self.scores, field)

    def search(self, body: Body, **params: object) -> Body:
        found: Body = self.client.search(index=INDEX, body={"size": 1000, **body}, params=params)
        assert found["_shards"]["failed"] == 0
        return found


@pytest.fixture(scope="module")
def shop(plugin_node, tmp_path_factory) -> Iterator[Shop]:
    root, client = tmp_path_factory.mktemp("places"), OpenSearch(plugin_node.url, timeout=60)
    paths = bundles.publish(root).items()["path"].to_pylist()
    keyword = {"type": "keyword"}
    properties = {
        "sid": keyword,
        "title": {"type": "text"},
        "price": {"type": "integer"},
        "brand": keyword,
        "vector": {
            "type": "knn_vector",
            "dimension": 2,
            "method": {"name": "hnsw", "engine": "lucene", "space_type": "l2"},
        },
        "variants": {"type": "nested", "properties": {"sid": keyword, "size": {"type": "integer"}}},
        "family": {"type": "join", "relations": {"item": "offer"}},
        "offer": {"properties": {"sid": keyword}},
    }
    mapping = {"_meta": {"genrecall": {"codebook": "v1"}}, "properties": properties}
    client.indices.create(index=INDEX, body={"settings": SETTINGS, "mappings": mapping})
    server = process.start(root, root / "server.log")
    try:
        with plugin_endpoint(client, server.endpoint):
            asked = {"codebook": "v1", **CLAUSE}
            reply = client.transport.perform_request("POST", "/_plugins/_genrecall/generate", body=asked)
            sids = reply["codebooks"]["v1"]["sids"]
            wanted = {sid["sid"].removeprefix("v1/") for sid in sids}
            rows = [path for path in paths if path in wanted] + [path for path in paths if path not in wanted][:100]
            bulk(client, documents(rows), refresh=True)
            yield Shop(client, sids)
    finally:
        server.end()
        client.indices.delete(index=f"{INDEX}*")


def documents(paths: list[str]) -> Iterator[Body]:
    for n, path in enumerate(paths):
        item = {
            "sid": f"v1/{path}",
            "title": f"{'red' if n % 2 else 'blue'} number {n}",
            "price": n % 37,
            "brand": f"brand {n % 5}",
            "vector": [n % 7, n % 11],
            "variants": [{"sid": f"v1/{path}", "size": n}, {"size": 1}],
            "family": "item",
        }
        yield {"_index": INDEX, "_id": f"item-{n}", "_routing": "a", **item}
        offer = {"offer": {"sid": f"v1/{path}"}, "family": {"name": "offer", "parent": f"item-{n}"}}
        yield {"_index": INDEX, "_id": f"offer-{n}", "_routing": "a", **offer}


RED = {"match": {"title": "red"}}
PLACES: dict[str, Callable[[Callable[..., Clause]], Body]] = {
    "nested": lambda of: {"query": {"nested": {"path": "variants", "query": of("variants.sid")}}},
    "nested, inner hits": lambda of: {
        "query": {"nested": {"path": "variants", "query": of("variants.sid"), "inner_hits": {}}}
    },
    "has_child": lambda of: {"query": {"has_child": {"type": "offer", "query": of("offer.sid"), "score_mode": "max"}}},
    "has_parent": lambda of: {"query": {"has_parent": {"parent_type": "item", "query": of(), "score": True}}},
    "wrapper": lambda of: {"query": {"wrapper": {"query": b64encode(json.dumps(of()).encode()).decode()}}},
    "filter of knn": lambda of: {"query": {"knn": {"vector": {"vector": [1, 1], "k": 500, "filter": of()}}}},
    "post filter": lambda of: {"query": RED, "post_filter": of()},
    "rescore": lambda of: {"query": RED, "rescore": {"window_size": 500, "query": {"rescore_query": of()}}},
    "filter of a sort": lambda of: {
        "query": {"match_all": {}},
        "sort": [{"variants.size": {"order": "desc", "nested": {"path": "variants", "filter": of("variants.sid")}}}],
    },
    "highlight query": lambda of: {
        "query": RED,
        "highlight": {"fields": {"title": {"highlight_query": {"bool": {"must": RED, "should": of()}}}}},
    },
    "collapse": lambda of: {"query": of(), "collapse": {"field": "brand"}},
    "hybrid, collapsed": lambda of: {
        "query": {"hybrid": {"queries": [RED, of()], "pagination_depth": 1000}},
        "collapse": {"field": "brand"},
        "search_pipeline": normalization((0.5, 0.5)),
    },
    "filter aggregation": lambda of: {"query": {"match_all": {}}, "aggs": {"generated": {"filter": of()}}},
    "template": lambda of: {"query": {"template": {"bool": {"must": of()}}}},
}


def outline(answer: Body) -> Any:
    """What must be equal: hits of one score may stand in any order."""
    hits = answer["hits"]["hits"]
    found = {
        hit["_id"]: (
            pytest.approx(hit["_score"], rel=1e-5) if hit["_score"] is not None else None,
            hit.get("highlight"),
            hit.get("sort"),
            {name: inner["hits"]["total"]["value"] for name, inner in hit.get("inner_hits", {}).items()},
        )
        for hit in hits
    }
    counts = {name: of["doc_count"] for name, of in answer.get("aggregations", {}).items()}
    return found, counts, answer["hits"]["total"]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_finds_what_the_sids_own_queries_find(shop: Shop, place: str):
    written = PLACES[place](lambda field="sid": shop.pair(field)[0])
    becomes = PLACES[place](lambda field="sid": shop.pair(field)[1])
    found, expected = shop.search(written), shop.search(becomes)
    assert found["hits"]["hits"]
    if place == "hybrid, collapsed":  # of several of one score in a group, either may stand for it
        assert {hit["fields"]["brand"][0] for hit in found["hits"]["hits"]} == {f"brand {n}" for n in range(5)}
    elif place == "collapse":
        assert [hit["_score"] for hit in found["hits"]["hits"]] == pytest.approx(
            [hit["_score"] for hit in expected["hits"]["hits"]], rel=1e-5
        )
    else:
        assert outline(found) == outline(expected)


def ids(answer: Body) -> list[str]:
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def test_all_pages_together_are_the_whole(shop: Shop):
    clause, _ = shop.pair()
    sort = [{"_score": "desc"}, {"price": "asc"}, {"_doc": "asc"}]
    whole = ids(shop.search({"query": clause, "sort": sort}))
    after: list[str] = []
    body: Body = {"query": clause, "sort": [{"_score": "desc"}, {"_id": "asc"}], "size": 7}
    while hits := shop.client.search(index=INDEX, body=body)["hits"]["hits"]:
        after += [hit["_id"] for hit in hits]
        body["search_after"] = hits[-1]["sort"]
    assert len(after) == len(whole)
    assert set(after) == set(whole)

    scrolled: list[str] = []
    page = shop.client.search(index=INDEX, body={"query": clause, "size": 7}, params={"scroll": "1m"})
    while page["hits"]["hits"]:
        scrolled += ids(page)
        page = shop.client.scroll(body={"scroll_id": page["_scroll_id"], "scroll": "1m"})
    assert len(scrolled) == len(whole)
    assert set(scrolled) == set(whole)

    pit = shop.client.create_pit(index=INDEX, params={"keep_alive": "1m"})["pit_id"]
    frozen = shop.client.search(body={"query": clause, "size": 1000, "pit": {"id": pit}})
    assert set(ids(frozen)) == set(whole)
    shop.client.delete_pit(body={"pit_id": [pit]})


def test_requests_that_are_no_plain_search(shop: Shop):
    clause, _ = shop.pair()
    whole = ids(shop.search({"query": clause}))
    lines = [{"index": INDEX}, {"query": clause, "size": 1000}, {"index": INDEX}, {"query": RED, "size": 1000}]
    answers = shop.client.msearch(body="\n".join(map(json.dumps, lines)) + "\n")["responses"]
    assert set(ids(answers[0])) == set(whole)
    assert ids(answers[1])
    assert shop.client.count(index=INDEX, body={"query": clause})["count"] == len(whole)
    assert shop.client.explain(index=INDEX, id=whole[0], body={"query": clause}, params={"routing": "a"})["matched"]
    valid = shop.client.indices.validate_query(index=INDEX, body={"query": clause}, params={"explain": "true"})
    assert valid["valid"], valid
    dfs = shop.search({"query": clause}, search_type="dfs_query_then_fetch")
    assert set(ids(dfs)) == set(whole)
    template = json.dumps({"query": clause, "size": 1000}).replace(json.dumps(TEXT), '"{{words}}"')
    found = shop.client.search_template(index=INDEX, body={"source": template, "params": {"words": TEXT}})
    assert set(ids(found)) == set(whole)
    rated = {
        "id": "q",
        "request": {"query": clause, "size": 10},
        "ratings": [{"_index": INDEX, "_id": whole[0], "rating": 1}],
    }
    metric = {"precision": {"k": 10, "relevant_rating_threshold": 1}}
    quality = shop.client.rank_eval(index=INDEX, body={"requests": [rated], "metric": metric})
    assert quality["metric_score"] > 0
    assert quality["failures"] == {}


def test_writes_by_query_and_a_filter_of_a_search_pipeline(shop: Shop):
    clause, _ = shop.pair()
    whole = ids(shop.search({"query": clause}))
    copy = f"{INDEX}-copy"
    mapping = shop.client.indices.get_mapping(index=INDEX)[INDEX]["mappings"]
    shop.client.indices.create(index=copy, body={"settings": SETTINGS, "mappings": mapping})
    body = {"source": {"index": INDEX, "query": clause}, "dest": {"index": copy}}
    assert shop.client.reindex(body=body, params={"refresh": "true"})["created"] == len(whole)
    updated = shop.client.update_by_query(index=copy, body={"query": clause}, params={"refresh": "true"})
    assert updated["updated"] == len(whole)
    deleted = shop.client.delete_by_query(index=copy, body={"query": clause}, params={"refresh": "true"})
    assert deleted["deleted"] == len(whole)
    pipeline = {"request_processors": [{"filter_query": {"query": clause}}]}
    filtered = shop.search({"query": {"match_all": {}}, "search_pipeline": pipeline})
    assert set(ids(filtered)) == set(whole)
