"""The serving index follows the catalogue, on the real node, with others writing to it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import connect
from genrecall.records import ITEMS
from index_mappings.lease import JobLease
from index_mappings.meta import IndexMeta
from index_mappings.migration.indices import block_writes
from index_mappings.sids import Sids
from index_mappings.sync import SyncInput, SyncReport, sync
from tests.index.conftest import META, Shop, everything, fill

pytestmark = pytest.mark.node
COUNT = 45


@pytest.fixture
def loaded(section: OpenSearchSection, tmp_path: Path) -> OpenSearchSection:
    fill(section, Shop.of(COUNT), tmp_path)
    return section.model_copy(update={"lease_s": 1})


def run(section: OpenSearchSection, folder: Path, shop: Shop, encode: Callable | None = None) -> SyncReport:
    embedded: list[int] = []

    def embed(rows):
        embedded.extend(rows)
        return shop.vectors[rows]

    source = SyncInput(META, shop.items, embed, Sids(shop.terms, encode))
    report = sync(connect(section), section, source, folder / "sync.rejects.jsonl")
    assert len(embedded) == report.added + report.changed + report.conflicts, "vectors are made for these alone"
    return report


def with_rows(shop: Shop, change: Callable[[list[dict]], list[dict]]) -> Shop:
    return replace(shop, items=pa.Table.from_pylist(change(shop.items.to_pylist()), ITEMS))


def source_of(shop: Shop, encode: Callable | None = None, meta: IndexMeta = META) -> SyncInput:
    return SyncInput(meta, shop.items, lambda rows: shop.vectors[rows], Sids(shop.terms, encode))


def wrote(report: SyncReport) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.moved, report.deleted


def test_an_index_that_is_up_to_date_is_not_written_to(loaded: OpenSearchSection, tmp_path: Path):
    before = connect(loaded).indices.stats(index=loaded.index)["_all"]["primaries"]["indexing"]["index_total"]
    report = run(loaded, tmp_path, Shop.of(COUNT))
    assert (report.compared, report.written) == (COUNT, 0)
    after = connect(loaded).indices.stats(index=loaded.index)["_all"]["primaries"]["indexing"]["index_total"]
    assert after == before


def test_a_sid_that_moved_is_written_alone(loaded: OpenSearchSection, tmp_path: Path):
    shop, before = Shop.of(COUNT), everything(connect(loaded), loaded.index)
    shop.terms["B0003"] = "v1/9/9/9"
    assert wrote(run(loaded, tmp_path, shop)) == (0, 0, 1, 0)
    after = everything(connect(loaded), loaded.index)
    assert after["B0003"] == before["B0003"] | {"sid": "v1/9/9/9"}
    assert {id: doc for id, doc in after.items() if id != "B0003"} == {i: d for i, d in before.items() if i != "B0003"}


def test_items_added_changed_and_gone_are_followed(loaded: OpenSearchSection, tmp_path: Path):
    client = connect(loaded)
    client.indices.put_mapping(index=loaded.index, body={"properties": {"price": {"type": "float"}}})
    client.update(index=loaded.index, id="B0004", body={"doc": {"price": 9.5}})

    def change(rows: list[dict]) -> list[dict]:
        rows[4]["title"] = "another title"
        return [row for row in rows if row["item_id"] != "B0007"]

    shop = with_rows(Shop.of(COUNT + 1), change)
    assert wrote(run(loaded, tmp_path, shop)) == (1, 1, 0, 1)
    after = everything(connect(loaded), loaded.index)
    assert (after["B0004"]["title"], after["B0004"]["price"]) == ("another title", 9.5)
    assert "B0007" not in after
    assert after[f"B00{COUNT}"]["sid"] == shop.terms[f"B00{COUNT}"]
    assert wrote(run(loaded, tmp_path, shop)) == (0, 0, 0, 0)


def test_items_that_the_bundle_lacks_are_placed_once(loaded: OpenSearchSection, tmp_path: Path):
    shop, calls = Shop.of(COUNT + 1), []
    new = f"B00{COUNT}"
    del shop.terms[new]

    def encode(items):
        calls.append([item["item_id"] for item in items])
        return [f"v1/8/8/{len(calls)}"] * len(items)

    assert wrote(run(loaded, tmp_path, shop, encode)) == (1, 0, 0, 0)
    assert everything(connect(loaded), loaded.index)[new]["sid"] == "v1/8/8/1"
    assert wrote(run(loaded, tmp_path, shop, encode)) == (0, 0, 0, 0)
    assert calls == [[new]]

    def change(rows: list[dict]) -> list[dict]:
        rows[-1]["title"] = "quite another thing"
        return rows

    assert wrote(run(loaded, tmp_path, with_rows(shop, change), encode)) == (0, 1, 0, 0)
    assert everything(connect(loaded), loaded.index)[new]["sid"] == "v1/8/8/2"


def test_a_sid_of_another_codebook_is_mended(loaded: OpenSearchSection, tmp_path: Path):
    """As an item has that was written just as the alias moved."""
    shop = Shop.of(COUNT)
    del shop.terms["B0003"]
    connect(loaded).update(index=loaded.index, id="B0003", body={"doc": {"sid": "v0/1/1/1"}})
    assert wrote(run(loaded, tmp_path, shop, lambda items: ["v1/8/8/8"])) == (0, 0, 1, 0)
    assert everything(connect(loaded), loaded.index)["B0003"]["sid"] == "v1/8/8/8"


def test_a_document_that_others_write_meanwhile_is_compared_again(loaded: OpenSearchSection, tmp_path: Path):
    client, shop = connect(loaded), Shop.of(COUNT)
    client.indices.put_mapping(index=loaded.index, body={"properties": {"price": {"type": "float"}}})
    del shop.terms["B0003"]
    client.update(index=loaded.index, id="B0003", body={"doc": {"sid": "v0/1/1/1"}}, refresh=True)

    def meanwhile(items):  # after the document was read, before it is written
        if not waiting.pop():
            client.update(index=loaded.index, id="B0003", body={"doc": {"price": 9.5}})
        return ["v1/8/8/8"]

    waiting = [True, False]
    file = tmp_path / "rejects.jsonl"
    report = sync(client, loaded, source_of(shop, meanwhile), file)
    assert (report.moved, report.conflicts, report.rejected) == (1, 1, 0)
    found = everything(connect(loaded), loaded.index)["B0003"]
    assert (found["sid"], found["price"]) == ("v1/8/8/8", 9.5)


def test_what_is_never_left_alone_is_in_the_reject_file(loaded: OpenSearchSection, tmp_path: Path):
    client, shop = connect(loaded), Shop.of(COUNT)
    del shop.terms["B0003"]
    client.update(index=loaded.index, id="B0003", body={"doc": {"sid": "v0/1/1/1"}}, refresh=True)

    def always(items):
        client.update(index=loaded.index, id="B0003", body={"script": "ctx._source.brand = 'x' + System.nanoTime()"})
        return ["v1/8/8/8"] * len(items)

    file = tmp_path / "rejects.jsonl"
    tolerant = loaded.model_copy(update={"bulk": loaded.bulk.model_copy(update={"max_reject_share": 1.0})})
    report = sync(client, tolerant, source_of(shop, always), file)
    assert report.rejected == 1
    (reject,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert (reject["item_id"], reject["status"]) == ("B0003", 409)


def test_refused_documents_are_in_the_reject_file_and_the_rest_is_written(loaded: OpenSearchSection, tmp_path: Path):
    shop = Shop.of(COUNT + 2)
    shop.vectors[COUNT] = 0  # cosine has no answer for a zero vector
    with pytest.raises(UserError, match=r"1 of 2 writes to .*-v1' were refused .*sync.rejects.jsonl"):
        run(loaded, tmp_path, shop)
    assert len(everything(connect(loaded), loaded.index)) == COUNT + 1


def test_a_truncated_catalogue_deletes_nothing(loaded: OpenSearchSection, tmp_path: Path):
    with pytest.raises(UserError, match=r"25 of 45 documents .* are not in the catalogue.*Nothing was written"):
        run(loaded, tmp_path, Shop.of(20))
    assert len(everything(connect(loaded), loaded.index)) == COUNT


def test_an_index_of_another_codebook_is_refused(loaded: OpenSearchSection, tmp_path: Path):
    source = source_of(Shop.of(COUNT), meta=replace(META, codebook="v2"))
    with pytest.raises(UserError, match=r"serves codebook 'v1', and the bundle is 'v2'.*index refresh"):
        sync(connect(loaded), loaded, source, tmp_path / "rejects.jsonl")


def test_while_a_refresh_runs_a_sync_is_refused(loaded: OpenSearchSection, tmp_path: Path):
    with JobLease.take(connect(loaded), loaded.index, 1), pytest.raises(UserError, match="is running already"):
        run(loaded, tmp_path, Shop.of(COUNT))


def test_an_index_that_takes_no_writes_is_reported(loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    shop = Shop.of(COUNT)
    shop.terms["B0003"] = "v1/9/9/9"
    block_writes(client, f"{loaded.index}-v1", True)
    with pytest.raises(UserError, match=r"takes no writes: .*--abandon"):
        run(loaded, tmp_path, shop)
    block_writes(client, f"{loaded.index}-v1", False)
    assert wrote(run(loaded, tmp_path, shop)) == (0, 0, 1, 0)
