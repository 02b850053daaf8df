"""New products: PUT -> the processor `sid` -> gRPC server -> SID -> recalled by the clause. Real node, real server."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from genrecall.client import Client
from genrecall.config import Config, load
from genrecall.evaluation.folds_node import plugin_endpoint
from genrecall.evaluation.server_process import inference_server
from genrecall.sid import Sid
from tests.e2e.commands import CONFIG, folders, genrecall

pytestmark = [pytest.mark.node, pytest.mark.slow]
ALIAS, INDEX = "ingest", "ingest-v1"
QUERY = "red shoes"
NOWHERE = "127.0.0.1:1"


@dataclass
class Shop:
    """A shop whose index has the processor in its default pipeline."""

    client: OpenSearch
    endpoint: str

    def put(self, item_id: str, product: dict, **params: Any) -> dict:
        return self.client.index(index=ALIAS, id=item_id, body=product, params=params)

    def bulk(self, products: dict[str, dict], **params: Any) -> list[dict]:
        lines = [line for key, product in products.items() for line in ({"index": {"_id": key}}, product)]
        answer = self.client.bulk(index=ALIAS, body=lines, params=params)
        return [item["index"] for item in answer["items"]]

    def source(self, item_id: str) -> dict:
        return self.client.get(index=ALIAS, id=item_id)["_source"]

    def found(self) -> set[str]:
        clause = {"generative": {"sid": {"query_text": QUERY, "k": 50, "timeout": "20s"}}}
        hits = self.client.search(index=ALIAS, body={"query": clause, "size": 1000})["hits"]["hits"]
        return {hit["_id"] for hit in hits}

    def terms(self, products: list[dict]) -> list[str]:
        """What the server makes of products, asked without OpenSearch."""
        items = [{"title": p["title"], "brand": p.get("brand") or "", "category": path_of(p)} for p in products]
        with Client(self.endpoint) as client:
            return [Sid(*codes).term("v1") for codes in client.encode(items, codebook="v1").tolist()]

    def recalled_product(self) -> dict:
        """A product whose SID the server writes for QUERY."""
        with Client(self.endpoint) as client:
            reply = client.generate([QUERY], codebook="v1", k=50)
        written = {Sid(*codes).term("v1") for codes in reply.codes[0].tolist()}
        body = {"query": {"terms": {"sid": sorted(written)}}, "size": 100, "_source": ["title", "category", "brand"]}
        products = [hit["_source"] for hit in self.client.search(index=ALIAS, body=body)["hits"]["hits"]]
        fitting = (product for product, term in zip(products, self.terms(products), strict=True) if term in written)
        return next(fitting)


def path_of(product: dict) -> list[str]:
    category = product.get("category") or []
    return [category] if isinstance(category, str) else category


@pytest.fixture(scope="module")
def shop(plugin_node, tmp_path_factory) -> Iterator[Shop]:
    work = tmp_path_factory.mktemp("ingest")
    overrides = [
        *folders(work, plugin_node.url),
        "quantizer.candidates=[hierarchical]",
        f"opensearch.index={ALIAS}",
    ]
    genrecall("data", "synthesize", "--items", 1000, "--out", work / "shop")
    genrecall("train", "-c", CONFIG, *overrides)
    genrecall("index", "load", "-c", CONFIG, *overrides)
    client = OpenSearch(plugin_node.url)
    with (
        inference_server(load(Config, CONFIG, overrides), ["v1"], work / "server.log") as endpoint,
        plugin_endpoint(client, endpoint),
    ):
        pipeline(client, "sids", {"sid": {}})
        client.indices.put_settings(index=INDEX, body={"index.default_pipeline": "sids"})
        yield Shop(client, endpoint)
    client.indices.delete(index=f"{ALIAS}-*")
    for name in client.ingest.get_pipeline():
        client.ingest.delete_pipeline(id=name)


def pipeline(client: OpenSearch, name: str, *processors: dict) -> None:
    client.ingest.put_pipeline(id=name, body={"processors": list(processors)})


def products(count: int, brand: str | None = "Acme") -> dict[str, dict]:
    kinds = (["Shoes", "Running"], ["Home", "Kitchen", "Pans"], [], "Toys")
    return {
        f"bulk-{brand}-{n}": {
            "title": f"{['red', 'blue', 'green'][n % 3]} thing {n}",
            "brand": brand,
            "category": kinds[n % 4],
        }
        for n in range(count)
    }


def test_a_new_product_is_recalled_seconds_after_it_was_indexed(shop, record_property):
    product = shop.recalled_product()
    shop.put("warm", {"title": "the encoder is loaded when the first item comes"})
    assert "new" not in shop.found()
    started = time.monotonic()
    shop.put("new", product)
    indexed = time.monotonic()
    while "new" not in shop.found():
        assert time.monotonic() - started < 10
    found = time.monotonic()
    assert shop.source("new")["sid"] == shop.terms([product])[0]
    assert {key: shop.source("new")[key] for key in product} == product
    record_property("ms until indexed", round(1e3 * (indexed - started)))
    record_property("ms until found", round(1e3 * (found - started)))
    print(f"\nPUT answered after {1e3 * (indexed - started):.0f} ms, recalled after {1e3 * (found - started):.0f} ms")


def test_a_product_is_recalled_at_once_where_the_write_waits_for_the_refresh(shop):
    shop.put("waited", shop.recalled_product(), refresh="wait_for")
    assert "waited" in shop.found()


def test_a_bulk_gives_every_document_the_sid_that_the_server_makes_of_it(shop):
    batch = {**products(250), **products(50, brand=None)}
    started = time.monotonic()
    done = shop.bulk(batch, refresh="true")
    print(f"\nbulk of {len(batch)} documents: {time.monotonic() - started:.2f} s")
    assert {item["status"] for item in done} == {201}
    found = shop.client.mget(index=ALIAS, body={"ids": list(batch)})["docs"]
    assert [doc["_source"]["sid"] for doc in found] == shop.terms([*batch.values()])


def test_a_bad_document_fails_alone(shop):
    good = {"title": "good neighbour"}
    done = shop.bulk({"good-1": good, "none": {"brand": "x"}, "long": {"title": "x" * 20_001}, "good-2": good})
    assert [item["status"] for item in done] == [201, 400, 400, 201]
    reasons = [item["error"]["reason"] for item in done if "error" in item]
    for reason, message in zip(reasons, ("is missing or empty", "has 20001 characters"), strict=True):
        assert f"[sid] field [title] {message}" in reason


def test_values_of_other_types_fail_no_write(shop):
    done = shop.bulk({"odd-1": {"title": 1984, "brand": ["Acme", 7]}, "odd-2": {"title": ["red", "shoes"]}})
    assert {item["status"] for item in done} == {201}
    assert [shop.source("odd-1")["sid"]] == shop.terms([{"title": "1984", "brand": "Acme 7"}])
    assert [shop.source("odd-2")["sid"]] == shop.terms([{"title": "red shoes"}])


def test_a_document_that_is_sent_again_keeps_its_sid_while_its_text_is_the_same(shop):
    pipeline(shop.client, "sids-keeping", {"sid": {"skip_existing": True, "hash_field": "text"}})
    shop.put("kept", {"title": "red shoes"}, pipeline="sids-keeping")
    kept = {**shop.source("kept"), "sid": "v1/0/0/0"}  # as if it had another one of this codebook
    shop.put("kept", kept, pipeline="sids-keeping")
    assert shop.source("kept")["sid"] == "v1/0/0/0"
    shop.put("kept", {**kept, "title": "blue shoes"}, pipeline="sids-keeping")
    assert [shop.source("kept")["sid"]] == shop.terms([{"title": "blue shoes"}])


def test_update_by_query_encodes_what_bears_a_sid_of_another_codebook(shop):
    batch = products(20, brand="Stale")
    done = shop.bulk(
        {key: {**product, "sid": "v0/0/0/0"} for key, product in batch.items()}, pipeline="_none", refresh="true"
    )
    assert {item["status"] for item in done} == {201}
    assert shop.source("bulk-Stale-0")["sid"] == "v0/0/0/0"
    stale = {"query": {"bool": {"must_not": {"prefix": {"sid": "v1/"}}, "filter": {"exists": {"field": "sid"}}}}}
    done = shop.client.update_by_query(index=ALIAS, body=stale)
    assert (done["updated"], done["failures"]) == (20, [])
    found = shop.client.mget(index=ALIAS, body={"ids": list(batch)})["docs"]
    assert [doc["_source"]["sid"] for doc in found] == shop.terms([*batch.values()])


def test_reindex_encodes(shop):
    product, source = {"title": "red running shoes"}, "products-without-sids"
    shop.client.index(index=source, id="reindexed", body=product, params={"refresh": "true"})
    done = shop.client.reindex(body={"source": {"index": source}, "dest": {"index": ALIAS}})
    shop.client.indices.delete(index=source)
    assert (done["created"], done["failures"]) == (1, [])
    assert shop.source("reindexed") == {**product, "sid": shop.terms([product])[0]}


def test_an_update_alone_encodes_the_merged_document_again_but_one_in_a_bulk_does_not(shop):
    before, after = {"title": "red running shoes"}, {"title": "cast iron pan for the kitchen"}
    old, new = shop.terms([before, after])
    assert old != new
    shop.put("partial", before)
    shop.client.update(index=ALIAS, id="partial", body={"doc": after})
    assert shop.source("partial") == {**after, "sid": new}
    shop.client.update(index=ALIAS, id="partial", body={"doc": {"brand": "Acme"}})
    assert shop.source("partial")["sid"] == shop.terms([{**after, "brand": "Acme"}])[0]
    shop.put("partial", before)
    shop.client.bulk(index=ALIAS, body=[{"update": {"_id": "partial"}}, {"doc": after}])
    assert shop.source("partial") == {**after, "sid": old}


def test_an_upsert_is_encoded_as_it_was_sent(shop):
    update, product = {"update": {"_id": "upserted"}}, {"title": "red running shoes"}
    shop.client.bulk(index=ALIAS, body=[update, {"doc": {"brand": "x"}, "upsert": product}])
    assert shop.source("upserted") == {**product, "sid": shop.terms([product])[0]}
    answer = shop.client.bulk(index=ALIAS, body=[update, {"doc": {"brand": "Acme"}, "doc_as_upsert": True}])
    (item,) = answer["items"][0].values()
    assert "field [title] is missing" in item["error"]["reason"]


def test_a_data_stream_is_encoded_in_the_codebook_of_its_write_index(shop):
    name, indices = "stream-of-products", shop.client.indices
    template = {
        "settings": {"index.default_pipeline": "sids", "number_of_replicas": 0},
        "mappings": {"_meta": {"genrecall": {"codebook": "v1"}}, "properties": {"sid": {"type": "keyword"}}},
    }
    indices.put_index_template(name=name, body={"index_patterns": [name], "data_stream": {}, "template": template})
    try:
        indices.create_data_stream(name=name)
        product = {"@timestamp": "2026-01-01T00:00:00Z", "title": "red shoes"}
        shop.client.index(index=name, body=product, params={"op_type": "create", "refresh": "true"})
        (hit,) = shop.client.search(index=name)["hits"]["hits"]
        assert [hit["_source"]["sid"]] == shop.terms([product])
    finally:
        indices.delete_data_stream(name=name)
        indices.delete_index_template(name=name)


def test_a_condition_spares_documents_that_bring_their_sid(shop):
    pipeline(shop.client, "sids-if", {"sid": {"if": "ctx.sid == null"}})
    product = {"title": "red running shoes"}
    done = shop.bulk({"with": {**product, "sid": "v1/0/0/0"}, "without": product}, pipeline="sids-if")
    assert {item["status"] for item in done} == {201}
    assert shop.source("with")["sid"] == "v1/0/0/0"
    assert [shop.source("without")["sid"]] == shop.terms([product])


def test_without_the_server_writes_fail_and_say_so(shop):
    with plugin_endpoint(shop.client, NOWHERE):
        with pytest.raises(TransportError) as caught:
            shop.put("down", {"title": "red shoes"})
        assert caught.value.status_code == 503
        assert "the inference server cannot be reached" in str(caught.value.info)
        done = shop.bulk(products(3, brand="Down"))
    assert {item["status"] for item in done} == {503}
    assert not shop.client.exists(index=ALIAS, id="down")


def test_without_the_server_ignored_failures_are_indexed_without_sid_and_encoded_later(shop):
    pipeline(shop.client, "sids-ignoring", {"sid": {"ignore_failure": True}})
    batch = products(3, brand="Later")
    with plugin_endpoint(shop.client, NOWHERE):
        assert {item["status"] for item in shop.bulk(batch, pipeline="sids-ignoring", refresh="true")} == {201}
        assert shop.put("later", {"title": "alone"}, pipeline="sids-ignoring", refresh="true")["result"] == "created"
    lost = {"query": {"bool": {"must_not": {"exists": {"field": "sid"}}}}}
    assert {"later", *batch} <= {
        hit["_id"] for hit in shop.client.search(index=ALIAS, body={**lost, "size": 100})["hits"]["hits"]
    }
    shop.client.update_by_query(index=ALIAS, body=lost, params={"refresh": "true", "conflicts": "proceed"})
    assert all("sid" in shop.source(item_id) for item_id in ("later", *batch))


def test_without_the_server_on_failure_takes_over(shop):
    note = {"set": {"field": "text", "value": "{{ _ingest.on_failure_message }}"}}
    pipeline(shop.client, "sids-noting", {"sid": {"on_failure": [note]}})
    with plugin_endpoint(shop.client, NOWHERE):
        assert {item["status"] for item in shop.bulk(products(2, brand="Noted"), pipeline="sids-noting")} == {201}
    source = shop.source("bulk-Noted-1")
    assert "sid" not in source
    assert "[sid] the inference server cannot be reached" in source["text"]


def test_simulate_shows_the_sid(shop):
    doc = {"_index": ALIAS, "_id": "1", "_source": {"title": "red shoes"}}
    answer = shop.client.ingest.simulate(
        body={"pipeline": {"processors": [{"sid": {}}]}, "docs": [doc, {"_source": {"title": "a"}}]}
    )
    first, second = answer["docs"]
    assert [first["doc"]["_source"]["sid"]] == shop.terms([{"title": "red shoes"}])
    assert "give [codebook] in the processor" in second["error"]["reason"]


def test_a_pipeline_with_an_unknown_option_is_refused(shop):
    with pytest.raises(TransportError) as caught:
        pipeline(shop.client, "wrong", {"sid": {"titel_field": "title"}})
    assert caught.value.status_code == 400
    assert "titel_field" in str(caught.value.info)


def test_statistics_count_documents(shop):
    answer = shop.client.transport.perform_request("GET", "/_plugins/_genrecall/stats")
    (node,) = answer["nodes"].values()
    assert node["ingest"]["encoded"] >= 300
    assert node["ingest"]["calls"]["count"] < node["ingest"]["encoded"]
    assert node["ingest"]["failures"]["invalid_request"] >= 3
    assert node["ingest"]["failures"]["unavailable"] >= 4
