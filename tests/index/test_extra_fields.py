"""Further columns of the catalogue in the index: loaded, kept up to date by sync, copied by a refresh."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import connect
from genrecall.records import EXTRA
from index_mappings.meta import IndexMeta
from index_mappings.migration.context import MigrationContext
from index_mappings.migration.refresh import refresh
from index_mappings.sids import Sids
from index_mappings.sync import SyncInput, SyncReport, sync
from tests.index.conftest import META, Shop, everything, fill

pytestmark = pytest.mark.node
COUNT = 20
MAPPED = {
    "price": {"type": "float"},
    "stock": {"type": "integer"},
    "new": {"type": "boolean"},
    "tags": {"type": "keyword"},
    "offer": {"type": "object", "dynamic": True},
}


def values_of(number: int) -> dict[str, Any]:
    return {
        "price": number + 0.5,
        "stock": number % 2,
        "new": number % 2 == 1,
        "tags": [f"t{number}", "all"],
        "offer": {"seller": f"s{number % 3}", "rebate": number},
    }


def priced(count: int = COUNT, of: Callable[[int], dict[str, Any]] = values_of) -> Shop:
    shop = Shop.of(count)
    return replace(shop, items=shop.items.append_column(EXTRA, pa.array([json.dumps(of(n)) for n in range(count)])))


@pytest.fixture
def section(section: OpenSearchSection) -> OpenSearchSection:
    connect(section).cluster.put_component_template(
        name="own-fields", body={"template": {"mappings": {"properties": MAPPED}}}
    )
    return section.model_copy(update={"components": ("own-fields",), "lease_s": 1})


def follow(section: OpenSearchSection, folder: Path, shop: Shop, embedded: list[int] | None = None) -> SyncReport:
    def embed(rows):
        (embedded if embedded is not None else []).extend(rows)
        return shop.vectors[rows]

    source = SyncInput(META, shop.items, embed, Sids(shop.terms, None))
    return sync(connect(section), section, source, folder / "sync.rejects.jsonl")


def test_a_load_brings_them_with_their_types(section: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    fill(section, priced(), tmp_path)
    found = everything(client, section.index)
    assert {name: found["B0007"][name] for name in MAPPED} == values_of(7)
    assert "extra" not in found["B0007"]
    filtered = {"query": {"bool": {"filter": [{"range": {"price": {"lt": 3}}}, {"term": {"new": True}}]}}}
    assert [hit["_id"] for hit in client.search(index=section.index, body=filtered)["hits"]["hits"]] == ["B0001"]


def test_prices_of_a_table_are_numbers_by_the_mapping(section: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    shop = priced(of=lambda number: {"price": "12.90" if number else "9,90 EUR"})
    report = fill(
        section.model_copy(update={"bulk": section.bulk.model_copy(update={"max_reject_share": 0.1})}), shop, tmp_path
    )
    assert report.rejected == 1, "a price with its currency is no number"
    average = {"size": 0, "aggs": {"price": {"avg": {"field": "price"}}}}
    assert client.search(index=section.index, body=average)["aggregations"]["price"]["value"] == pytest.approx(12.9)


def test_loading_again_follows_them_and_keeps_fields_of_ones_own(
    section: OpenSearchSection, client: OpenSearch, tmp_path
):
    fill(section, priced(), tmp_path)
    index = f"{section.index}-v1"
    client.indices.put_mapping(index=index, body={"properties": {"mine": {"type": "keyword"}}})
    client.update(index=index, id="B0003", body={"doc": {"mine": "yes"}}, refresh=True)
    client.delete(index=index, id="B0005")
    fill(section, priced(of=lambda n: {"price": 1.0} if n == 3 else values_of(n)), tmp_path)
    found = everything(client, index)
    assert (found["B0003"]["mine"], found["B0003"]["price"]) == ("yes", 1.0)
    assert found["B0003"]["tags"] is None, "what the catalogue no longer says is gone"
    assert found["B0004"]["tags"] == ["t4", "all"]


def test_sync_writes_what_differs_and_makes_no_vector_for_a_price(
    section: OpenSearchSection, client: OpenSearch, tmp_path
):
    fill(section, priced(), tmp_path)
    assert follow(section, tmp_path, priced()).written == 0
    before = everything(client, section.index)

    def changed(number: int) -> dict[str, Any]:
        own = values_of(number)
        if number == 2:
            own |= {"price": 0, "stock": 0.0, "offer": {"seller": "other"}}
        if number == 3:
            del own["tags"]
            own["new"] = False
        return own

    embedded: list[int] = []
    shop = priced(COUNT + 1, changed)
    report = follow(section, tmp_path, shop, embedded)
    assert (report.added, report.changed, report.moved, report.deleted) == (1, 2, 0, 0)
    assert embedded == [COUNT], "the new item's alone"
    found = everything(client, section.index)
    assert found["B0002"]["price"] == 0
    assert found["B0002"]["offer"] == {"seller": "other", "rebate": None}
    assert found["B0002"]["vector"] == before["B0002"]["vector"]
    assert found["B0003"]["new"] is False
    assert found["B0003"]["tags"] is None
    assert found[f"B00{COUNT}"]["price"] == COUNT + 0.5
    assert follow(section, tmp_path, shop).written == 0, "what was written is what was compared with"


def test_a_text_and_a_price_that_changed_are_one_write(section: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    fill(section, priced(), tmp_path)
    shop = priced(of=lambda number: values_of(number) | {"price": 99.0})
    rows = shop.items.to_pylist()
    rows[1]["title"] = "another title"
    embedded: list[int] = []
    report = follow(section, tmp_path, replace(shop, items=pa.Table.from_pylist(rows, shop.items.schema)), embedded)
    assert (report.changed, embedded) == (COUNT, [1])
    found = everything(client, section.index)["B0001"]
    assert (found["title"], found["price"]) == ("another title", 99.0)


def test_a_strict_mapping_without_them_is_refused_before_the_first_write(
    section: OpenSearchSection, client, tmp_path: Path
):
    shop = priced(of=lambda number: values_of(number) | {"colour": "red"})
    with pytest.raises(UserError, match=r"strict mapping without colour.*opensearch\.components.*opensearch\.dynamic"):
        fill(section, shop, tmp_path)
    assert not client.indices.exists(index=f"{section.index}-v1"), "the next try is to make it otherwise"
    loose = section.model_copy(update={"dynamic": "true"})
    fill(loose, shop, tmp_path)
    facet = {"size": 0, "aggs": {"c": {"terms": {"field": "colour.keyword"}}}}
    assert client.search(index=section.index, body=facet)["aggregations"]["c"]["buckets"][0]["doc_count"] == COUNT


def test_sync_says_what_a_strict_mapping_lacks(section: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    fill(section, priced(), tmp_path)
    with pytest.raises(UserError, match=r"strict mapping without colour.*_mapping"):
        follow(section, tmp_path, priced(of=lambda number: {"colour": "red"}))
    client.indices.put_mapping(index=section.index, body={"properties": {"colour": {"type": "keyword"}}})
    assert follow(section, tmp_path, priced(of=lambda n: values_of(n) | {"colour": "red"})).changed == COUNT


def test_a_refresh_copies_them(section: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    fill(section, priced(), tmp_path)
    meta = IndexMeta("v2", "b" * 64, META.encoder)
    context = MigrationContext(
        Sids({id: f"v2/1/1/{n}" for n, id in enumerate(Shop.of(COUNT).terms)}, None), None, (), tmp_path
    )
    refresh(client, section, meta, context)
    found = everything(client, section.index)
    assert found["B0007"]["sid"].startswith("v2/")
    assert {name: found["B0007"][name] for name in MAPPED} == values_of(7)
