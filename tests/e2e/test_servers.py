"""The plugin on a real node and two inference servers, one of which stops, dies or freezes under searches."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchWarning, TransportError
from opensearchpy.helpers import bulk

from index_mappings.pipelines import normalization
from tests.faults import bundles, process

pytestmark = [pytest.mark.node, pytest.mark.slow]
INDEX = "servers"
ITEMS = 300
PATIENCE_S = 30.0
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Body = dict[str, Any]


@dataclass
class Shop:
    client: OpenSearch
    bundles: Path
    logs: Path
    asked: int = 0

    def serve(self, port: int = 0) -> process.Server:
        return process.start(self.bundles, self.logs / f"{time.monotonic_ns()}.log", f"server.port={port}")

    def endpoints(self, *endpoints: str) -> None:
        self.client.cluster.put_settings(body={"persistent": {"genrecall.endpoint": list(endpoints) or None}})

    def search(self, headers: dict[str, str] | None = None, **options: object) -> Body:
        """What no search asked before, so that no cache answers."""
        self.asked += 1
        clause = {"query_text": f"red shoes {self.asked}", "timeout": "20s", **options}
        body = {"query": {"generative": {"sid": clause}}}
        return self.client.search(index=INDEX, body=body, headers=headers)

    def failed(self, times: int, **options: object) -> int:
        """How many of so many searches found no SIDs."""
        failures = 0
        for _ in range(times):
            try:
                assert self.search(**options)["hits"]["hits"]
            except TransportError as error:
                if error.status_code != 503:
                    raise
                failures += 1
        return failures

    def seen(self) -> dict[str, Body]:
        """address -> how it fares"""
        (node,) = self.client.transport.perform_request("GET", "/_plugins/_genrecall/stats")["nodes"].values()
        return {one["address"]: one for one in node["endpoints"]}


@pytest.fixture(scope="module")
def shop(plugin_node, tmp_path_factory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("servers")
    client = OpenSearch(plugin_node.url, timeout=60, max_retries=0)  # it would ask again after a 503
    paths = bundles.publish(folder / "bundles").items()["path"].to_pylist()[:ITEMS]
    properties = {"sid": {"type": "keyword"}, "title": {"type": "text"}}
    mapping = {"_meta": {"genrecall": {"codebook": "v1"}}, "properties": properties}
    client.indices.create(index=INDEX, body={"settings": {"number_of_replicas": 0}, "mappings": mapping})
    documents = ({"_index": INDEX, "sid": f"v1/{path}", "title": f"red number {n}"} for n, path in enumerate(paths))
    bulk(client, documents, refresh=True)
    yield Shop(client, folder / "bundles", folder)
    client.indices.delete(index=INDEX)


@pytest.fixture
def two(shop: Shop) -> Iterator[list[process.Server]]:
    """Both are asked in turns when a test begins."""
    servers = [shop.serve(process.steady_port()), shop.serve()]
    try:
        shop.endpoints(*(server.endpoint for server in servers))
        until(shop, lambda: all(is_asked(shop, server) for server in servers))
        yield servers
    finally:
        shop.endpoints()
        for server in servers:
            server.end()


def until(shop: Shop, holds: Any) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < ends, shop.seen()
        time.sleep(0.05)


def is_asked(shop: Shop, server: process.Server) -> bool:
    """Whether one of two searches goes there."""
    before = shop.seen().get(server.endpoint, {"answered": 0})["answered"]
    assert shop.failed(2) == 0
    return shop.seen()[server.endpoint]["answered"] > before


def test_a_server_that_is_killed_fails_no_search_and_is_asked_again_when_it_is_back(shop, two):
    two[0].process.kill()
    assert shop.failed(20) == 0
    two[0] = shop.serve(two[0].port)
    until(shop, lambda: is_asked(shop, two[0]))


def test_a_server_that_stops_fails_no_search(shop, two):
    two[0].process.send_signal(signal.SIGTERM)
    assert shop.failed(20) == 0
    two[0].process.wait(PATIENCE_S)
    assert shop.failed(20) == 0


def test_a_frozen_server_costs_some_searches_their_timeout_and_no_more(shop, two):
    assert shop.failed(40) == 0  # so that answers are known to be quick
    two[0].process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    failures = shop.failed(60, timeout="1s")
    print(f"\n{failures} of 60 searches failed, {time.monotonic() - began:.1f} s")
    assert failures <= 6  # three in a row, then one after 1, 2 and 4 s
    assert shop.seen()[two[0].endpoint]["circuit"] != "closed"
    assert shop.seen()[two[1].endpoint]["circuit"] == "closed"
    two[0].process.send_signal(signal.SIGCONT)
    until(shop, lambda: is_asked(shop, two[0]))
    assert shop.seen()[two[0].endpoint]["circuit"] == "closed"


def test_without_a_server_searches_fail_at_once_and_users_are_not_told_addresses(shop, two):
    for server in two:
        server.process.kill()
        server.process.wait()
    until(shop, lambda: shop.failed(1) == 1)
    began = time.monotonic()
    with pytest.raises(TransportError) as caught:
        shop.search()
    assert time.monotonic() - began < 5
    assert "the inference server cannot be reached" in str(caught.value.info)
    assert not any(str(server.port) in str(caught.value.info) for server in two)
    assert "refused" in shop.seen()[two[0].endpoint]["last_failure"]
    with pytest.warns(OpenSearchWarning, match=r"no SIDs \(unavailable\): \[on_failure\] took the place"):
        assert shop.search(on_failure={"match": {"title": "red"}})["hits"]["hits"]


def test_the_server_logs_the_id_of_the_search(shop, two):
    for number in range(2):
        shop.search({"X-Opaque-Id": f"basket-{number}", "traceparent": TRACE})
    logs = "".join(server.stderr for server in two)
    assert "request_id=basket-0" in logs
    assert "request_id=basket-1" in logs


def test_hits_of_a_hybrid_search_say_by_which_sid_they_were_found(shop, two):
    clause = {"query_text": "red shoes", "k": 30, "_name": "gen", "timeout": "20s"}
    order = {"query": {"match": {"title": "red"}}, "weight": 2}
    queries = [{"match": {"title": "number"}}, {"generative": {"sid": {**clause, "order_within": order}}}]
    body = {
        "size": ITEMS,
        "query": {"hybrid": {"queries": queries}},
        "search_pipeline": normalization((0.5, 0.5)),
        "ext": {"generative": {"evidence": True}},
    }
    asked = {"codebook": "v1", "query_text": "red shoes", "k": 30, "timeout": "20s"}
    sids = shop.client.transport.perform_request("POST", "/_plugins/_genrecall/generate", body=asked)
    ranked = {one["sid"]: (rank, one) for rank, one in enumerate(sids["codebooks"]["v1"]["sids"], start=1)}
    hits = shop.client.search(index=INDEX, body=body)["hits"]["hits"]
    assert len(hits) == ITEMS
    assert any(hit["_source"]["sid"] in ranked for hit in hits)
    for hit in hits:
        evidence = hit.get("fields", {}).get("_generative", [])
        if hit["_source"]["sid"] not in ranked:
            assert evidence == []
            continue
        rank, sid = ranked[hit["_source"]["sid"]]
        (one,) = evidence
        assert one.pop("order_within") > 0
        assert one.pop("probability") == pytest.approx(sid["score"])
        assert one == {"name": "gen", "sid": sid["sid"], "rank": rank, "items": sid["items"]}
