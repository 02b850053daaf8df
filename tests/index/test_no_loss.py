"""What was once lost or spoiled while a command reported success, on the real node: refused now, or right."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import RequestError, TransportError

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import connect
from genrecall.records import ITEMS
from index_mappings import bulk, checks, fence
from index_mappings.alias import aliased, may_be_auto_created
from index_mappings.bulk import Document
from index_mappings.create import create
from index_mappings.index_settings import put_settings, settings_of, uuid_of
from index_mappings.lease import JobLease
from index_mappings.meta import read_mapping
from index_mappings.migration import changes, indices, refresh, verify
from index_mappings.migration.alias_migration import AliasMigration
from index_mappings.migration.context import IndexPair
from index_mappings.migration.snapshot import Snapshot, absent
from index_mappings.sync import sync
from tests.index.conftest import DIMENSION, META, Shop, everything, fill
from tests.index.test_refresh import COUNT, NEXT, context, interrupt, quick, second
from tests.index.test_sync import source_of

pytestmark = pytest.mark.node
THIRD = replace(META, codebook="v3", assignments="c" * 64)


@pytest.fixture
def loaded(section: OpenSearchSection, tmp_path: Path) -> OpenSearchSection:
    fill(section, Shop.of(COUNT), tmp_path)
    return quick(section)


def remade(section: OpenSearchSection, **changes: Any) -> None:
    """The serving index again, with the same documents and another mapping or settings."""
    client, index = connect(section), f"{section.index}-v1"
    documents = everything(client, index)
    mapping = {**read_mapping(client, index), **changes.get("mappings", {})}
    client.indices.delete(index=index)
    body = {"mappings": mapping, "settings": changes.get("settings", {})}
    client.indices.create(index=index, body=body)
    client.indices.put_alias(index=index, name=section.index)
    bulk.send(client, index, [Document(id, bulk.to_json(doc)) for id, doc in documents.items()], section.bulk)
    client.indices.refresh(index=index)


# --- what `_source` hides


@pytest.mark.parametrize(
    ("source", "settings", "named"),
    [
        ({"excludes": ["vector"]}, {}, r"_source.excludes = \['vector'\]"),
        ({"excludes": ["tit*"]}, {}, r"_source.excludes = \['tit\*'\]"),
        ({"includes": ["title", "sid"]}, {}, "_source.includes"),
        ({"enabled": False}, {}, "_source.enabled = false"),
    ],
)
def test_an_index_that_hides_part_of_its_documents_is_left_alone(
    loaded: OpenSearchSection, tmp_path: Path, source: dict, settings: dict, named: str
):
    client = connect(loaded)
    remade(loaded, mappings={"_source": source}, settings=settings)
    before = everything(client, loaded.index) if source.get("enabled", True) else None
    with pytest.raises(UserError, match=named):
        refresh.refresh(client, loaded, NEXT, context(tmp_path))
    shop = Shop.of(COUNT)
    shop.terms["B0003"] = "v1/9/9/9"
    with pytest.raises(UserError, match=named):
        sync(client, loaded, source_of(shop), tmp_path / "rejects")
    assert not client.indices.exists(index=f"{loaded.index}-v2")
    assert before is None or everything(client, loaded.index) == before


def test_a_derived_source_of_all_fields_is_refused_and_that_of_vectors_passes(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    name = f"derived-{loaded.index}"
    client.indices.create(
        index=name,
        body={
            "settings": {"index": {"derived_source": {"enabled": True}}},
            "mappings": {"properties": {"sid": {"type": "keyword"}}},
        },
    )
    with pytest.raises(UserError, match=r"derived_source.enabled = true"):
        checks.check_readable(client, name)
    client.indices.delete(index=name)
    derived = settings_of(client, f"{loaded.index}-v1").get("knn.derived_source", {"enabled": "true"})
    assert str(derived["enabled"]).lower() == "true"
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert client.count(index=loaded.index, body={"query": {"exists": {"field": "vector"}}})["count"] == COUNT


def test_a_field_that_is_lost_on_the_way_stops_the_switch(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever loses it: here the copies themselves."""
    import index_mappings.migration.alias_migration as module

    whole = module.with_sid
    monkeypatch.setattr(
        module, "with_sid", lambda id, source, term: whole(id, {**source, "brand": None, "vector": None}, term)
    )
    with pytest.raises(UserError, match=r"field '(brand|vector)\S*' is in 45 documents of .*-v1', but in 0 of .*-v2'"):
        refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert aliased(client, loaded.index) == [f"{loaded.index}-v1"]


def test_documents_are_counted_by_every_leaf_of_the_mapping(loaded: OpenSearchSection, client: OpenSearch):
    own = {"maker": {"properties": {"country": {"type": "keyword"}}}}
    client.indices.put_mapping(index=loaded.index, body={"properties": own})
    client.update(
        index=loaded.index, id="B0001", body={"doc": {"maker": {"country": "FI"}}}, params={"refresh": "true"}
    )
    counts = verify.documents_with_fields(client, f"{loaded.index}-v1")
    assert (counts["maker.country"], counts["vector"], counts["title"]) == (1, COUNT, COUNT)
    pair = IndexPair("a", "b", "", new=True)
    verify.check_fields({"x": 5, "sid": 9}, {"x": 3}, 2, pair)
    with pytest.raises(UserError, match="field 'x' is in 5 documents of 'a', but in 3 of 'b'"):
        verify.check_fields({"x": 5}, {"x": 3}, 1, pair)


# --- one lease for every verb


def test_nothing_else_touches_the_indices_of_an_unfinished_refresh(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    interrupt(client, loaded, tmp_path)
    shop, unfinished = Shop.of(COUNT), r"the refresh to '.*-v2' is unfinished \(step copy\)"
    for attempt in (
        lambda: fill(loaded, shop, tmp_path, THIRD, switch=True),
        lambda: fill(loaded, shop, tmp_path, NEXT),
        lambda: fill(loaded, shop, tmp_path),
        lambda: create(client, loaded, NEXT, DIMENSION, replace=True),
        lambda: create(client, loaded, META, DIMENSION, replace=True),
    ):
        with pytest.raises(UserError, match=unfinished):
            attempt()
    fill(loaded, shop, tmp_path, THIRD)  # a candidate of its own
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert len(everything(client, loaded.index)) == COUNT
    assert client.count(index=f"{loaded.index}-v3")["count"] == COUNT, "a candidate that never served stays"


def test_create_takes_the_lease(loaded: OpenSearchSection, client: OpenSearch):
    with JobLease.take(client, loaded.index, 60), pytest.raises(UserError, match="is running already"):
        create(client, loaded, NEXT, DIMENSION)


def test_a_source_that_was_emptied_meanwhile_empties_nothing(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """All documents deleted through the alias, when all are copied."""
    compare = AliasMigration._compare

    def after_an_accident(self: AliasMigration) -> Any:
        query = {"query": {"range": {"_seq_no": {"gte": 0}}}}
        client.delete_by_query(index=loaded.index, body=query, params={"refresh": "true"})
        return compare(self)

    monkeypatch.setattr(AliasMigration, "_compare", after_an_accident)
    with pytest.raises(UserError, match=r"45 of 45 documents vanished .*max_delete_share = 10.0%"):
        refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert client.count(index=f"{loaded.index}-v2")["count"] == COUNT
    assert aliased(client, loaded.index) == [f"{loaded.index}-v1"]
    assert "write" not in settings_of(client, f"{loaded.index}-v1").get("blocks", {})


def test_a_source_that_was_recreated_meanwhile_stops_the_refresh(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    interrupt(client, loaded, tmp_path)
    remade(loaded)
    with pytest.raises(UserError, match="-v1' was deleted or recreated since the refresh began"):
        refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert "gave up" in refresh.abandon(client, loaded, print)
    assert len(everything(client, loaded.index)) == COUNT


# --- the serving index and the alias's name


def test_the_index_behind_an_alias_is_not_replaced(loaded: OpenSearchSection, client: OpenSearch):
    for alias in (loaded.index, "someone-else"):
        client.indices.put_alias(index=f"{loaded.index}-v1", name="someone-else")
        with pytest.raises(UserError, match=rf"is behind the alias .*{alias}.*refresh"):
            create(client, loaded, META, DIMENSION, replace=True)
    assert len(everything(client, loaded.index)) == COUNT


def test_an_index_that_a_write_made_in_the_place_of_the_alias_is_recognized(
    section: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    warned: list[str] = []
    create(client, section, META, DIMENSION, message=warned.append)
    assert any("action.auto_create_index" in line for line in warned)
    client.index(index=section.index, id="X", body={"title": "by a writer"}, params={"refresh": "true"})
    try:
        for attempt in (
            lambda: fill(section, Shop.of(3), tmp_path),
            lambda: refresh.refresh(client, quick(section), NEXT, context(tmp_path)),
            lambda: sync(client, section, source_of(Shop.of(3)), tmp_path / "rejects"),
        ):
            with pytest.raises(UserError, match=rf"is an index of 1 documents.*_reindex.*DELETE /{section.index}"):
                attempt()
    finally:
        client.indices.delete(index=section.index)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("false", False), ("true", True), ("-shop*,+*", False), ("+other*", False), ("+shop*,-*", True), (None, True)],
)
def test_whether_writes_make_indices_is_known(client: OpenSearch, rule: str | None, expected: bool):
    try:
        client.cluster.put_settings(body={"transient": {"action.auto_create_index": rule}})
        assert may_be_auto_created(client, "shop9") == expected
    finally:
        client.cluster.put_settings(body={"transient": {"action.auto_create_index": None}})


def test_a_data_stream_is_refused(section: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    name = section.index
    template = {"index_patterns": [name], "data_stream": {}, "priority": 999}
    client.indices.put_index_template(name="a-stream", body=template)
    client.indices.create_data_stream(name=name)
    try:
        with pytest.raises(UserError, match="is a data stream"):
            fill(section, Shop.of(3), tmp_path)
    finally:
        client.indices.delete_data_stream(name=name)
        client.indices.delete_index_template(name="a-stream")


# --- sync


def test_sync_with_another_bundle_of_the_name_writes_nothing(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    before, shop = everything(client, loaded.index), Shop.of(COUNT)
    shop.terms.update(dict.fromkeys(shop.terms, "v1/9/9/9"))
    source = source_of(shop, meta=replace(META, assignments="f" * 64))
    with pytest.raises(UserError, match="made for another bundle of the name 'v1'"):
        sync(client, loaded, source, tmp_path / "rejects")
    assert everything(client, loaded.index) == before


def test_sync_with_another_catalogue_writes_nothing(loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    before, shop = everything(client, loaded.index), Shop.of(COUNT)
    others = [{**row, "item_id": f"X{n}"} for n, row in enumerate(shop.items.to_pylist())]
    foreign = replace(shop, items=pa.Table.from_pylist(others, ITEMS))
    with pytest.raises(UserError, match=r"45 of 45 documents .* not in the catalogue.*Nothing was written"):
        sync(client, loaded, source_of(foreign), tmp_path / "rejects")
    larger = replace(shop, items=pa.concat_tables([shop.items, foreign.items]))
    with pytest.raises(UserError, match=r"45 of 90 items .*max_add_share = 50%.*Nothing was written"):
        sync(client, loaded, source_of(larger), tmp_path / "rejects")
    assert everything(client, loaded.index) == before


def test_an_index_of_ones_own_is_refreshed_and_not_synced(
    section: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    """No vectors, other fields, ids of its own, no encoder named."""
    section, index = quick(section), f"{section.index}-v1"
    own = {"name": {"type": "text"}, "sid": {"type": "keyword"}, "price": {"type": "float"}}
    meta = {"genrecall": {"codebook": "v1", "assignments": META.assignments}}
    client.indices.create(index=index, body={"mappings": {"_meta": meta, "properties": own}})
    client.indices.put_alias(index=index, name=section.index)
    for n in range(20):
        client.index(index=index, id=f"B{n:04}", body={"name": f"thing {n}", "price": n})
    with pytest.raises(UserError, match=r"by '', but|has no field"):
        sync(client, section, source_of(Shop.of(20)), tmp_path / "rejects")
    refresh.refresh(client, section, NEXT, context(tmp_path))
    after = everything(client, section.index)
    assert after["B0007"] == {"name": "thing 7", "price": 7, "sid": second()["B0007"]}
    assert len(after) == 20


# --- retention


def test_only_predecessors_without_an_alias_are_deleted(loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    said: list[str] = []
    fill(loaded, Shop.of(COUNT), tmp_path, replace(META, codebook="v9", assignments="9" * 64))  # never served
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    client.indices.put_alias(index=f"{loaded.index}-v1", name="archive")
    terms = {id: term.replace("v2/", "v3/") for id, term in second().items()}
    planned = refresh.plan(client, loaded, THIRD, terms)
    assert planned.removes == [], "v1 has an alias of others"
    refresh.refresh(client, loaded, THIRD, context(tmp_path, terms))
    client.indices.delete_alias(index=f"{loaded.index}-v1", name="archive")
    fourth = replace(META, codebook="v4", assignments="d" * 64)
    terms = {id: term.replace("v3/", "v4/") for id, term in terms.items()}
    assert set(refresh.plan(client, loaded, fourth, terms).removes) == {f"{loaded.index}-v1", f"{loaded.index}-v2"}
    report = refresh.refresh(client, loaded, fourth, context(tmp_path, terms, message=said.append))
    assert set(report.removed) == {f"{loaded.index}-v1", f"{loaded.index}-v2"}
    assert sum("which served before" in line for line in said) == 2
    left = set(client.indices.get_alias(index=f"{loaded.index}-*"))
    assert left == {f"{loaded.index}-{name}" for name in ("v3", "v4", "v9")}


def test_an_abandoned_refresh_leaves_the_way_back(loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    refresh.refresh(client, loaded, NEXT, context(tmp_path))

    def stop(done: int, documents: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh.refresh(client, loaded, THIRD, context(tmp_path, advance=stop))
    refresh.abandon(client, loaded, print)
    assert refresh.rollback(client, loaded, context(tmp_path, Shop.of(COUNT).terms)).target == f"{loaded.index}-v1"


# --- ids


def test_equal_counts_do_not_hide_other_ids(loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    """A is deleted through the alias, B in the new index by name, while the refresh runs; and on the way back."""

    def spoil(target: str, gone: str, lost: str) -> Any:
        def once(done: int, documents: int) -> None:
            if done >= COUNT and client.exists(index=target, id=lost):
                client.delete(index=loaded.index, id=gone)
                client.delete(index=target, id=lost)

        return once

    v1, v2 = f"{loaded.index}-v1", f"{loaded.index}-v2"
    refresh.refresh(client, loaded, NEXT, context(tmp_path, advance=spoil(v2, "B0003", "B0010")))
    assert set(everything(client, v2)) == set(second()) - {"B0003"}
    put_settings(client, v1, {"blocks.write": None})
    client.delete(index=v2, id="B0004")
    client.delete(index=v1, id="B0011")
    refresh.rollback(client, loaded, context(tmp_path, Shop.of(COUNT).terms))
    assert set(everything(client, v1)) == set(second()) - {"B0003", "B0004"}


@pytest.mark.parametrize("shards", [1, 3])
def test_deletions_of_the_last_moment_are_found_without_reading_all(
    section: OpenSearchSection, client: OpenSearch, shards: int
):
    index = f"{section.index}-ids"
    client.indices.create(
        index=index,
        body={"settings": {"number_of_shards": shards}, "mappings": {"properties": {"title": {"type": "text"}}}},
    )
    ids = [f"id {n} é" for n in range(3_000)]
    for first in range(0, len(ids), 500):
        bulk.send(client, index, [Document(id, '{"title": "x"}') for id in ids[first : first + 500]], section.bulk)
    snapshot = Snapshot.take(client, index, changes.now(client, index))
    assert len(snapshot) == len(ids)
    assert snapshot.changed(client) == []
    assert snapshot.deletions([], 0, len(ids)) == 0
    gone, again = set(ids[5::701]), set(ids[9::997])
    bulk.send(client, index, [Document(id, "", "delete") for id in gone], section.bulk)
    bulk.send(client, index, [Document(id, '{"title": "again"}') for id in again], section.bulk)
    bulk.send(client, index, [Document("new", '{"title": "new"}')], section.bulk)
    later = Snapshot.take(client, index, changes.now(client, index))
    now = changes.count(client, index)
    assert now == len(ids) - len(gone) + 1
    assert snapshot.deletions({*again, "new"}, len(again) + 1, now) == len(gone)
    some = set(sorted(gone)[:2])  # known to be written since, and gone again
    assert snapshot.deletions({*again, "new", *some}, len(again) + 1, now) == len(gone) - 2
    assert set(snapshot.changed(client)) == gone | again
    assert set(snapshot.leaving_out(again).changed(client)) == gone
    assert absent(client, index, snapshot.changed(client)) == gone
    assert set(snapshot.without(later)) == gone
    assert later.without(snapshot) == ["new"]


@pytest.mark.parametrize("last", ["nothing", "deletion", "deletion in the target"])
def test_documents_are_looked_for_while_writers_wait_only_if_some_are_gone(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
):
    """Else they would wait longer, the larger the index and the more was deleted during the copy or written since."""
    found, changed, compare = [], Snapshot.changed, AliasMigration._compare

    def noting(snapshot: Snapshot, client: OpenSearch) -> list[str]:
        found.append(changed(snapshot, client))
        return found[-1]

    def comparing(migration: AliasMigration) -> tuple[Snapshot, Snapshot]:
        snapshots = compare(migration)
        client.update(index=loaded.index, id="B0020", body={"doc": {"title": "written before the block"}})
        if last == "deletion":
            client.delete(index=loaded.index, id="B0021")
        if last == "deletion in the target":
            client.delete(index=f"{loaded.index}-{NEXT.codebook}", id="B0022")
        return snapshots

    def delete(done: int, documents: int) -> None:
        if done >= COUNT:
            client.delete(index=loaded.index, id="B0003", ignore=404)

    monkeypatch.setattr(Snapshot, "changed", noting)
    monkeypatch.setattr(AliasMigration, "_compare", comparing)
    refresh.refresh(client, loaded, NEXT, context(tmp_path, advance=delete))
    assert found == {"nothing": [], "deletion": [["B0021"]], "deletion in the target": [["B0022"]]}[last]
    after = everything(client, loaded.index)
    assert set(after) == set(second()) - {"B0003"} - ({"B0021"} if last == "deletion" else set())
    assert after["B0020"]["title"] == "written before the block"


# --- templates


def test_a_template_that_adds_an_alias_is_named_and_nothing_is_made(
    section: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    section = quick(section)
    fill(section, Shop.of(COUNT), tmp_path)
    template = {
        "index_patterns": [f"{section.index}-*"],
        "priority": 900,
        "template": {"aliases": {section.index: {}}},
    }
    client.indices.put_index_template(name="of-the-shop", body=template)
    try:
        wrong = rf"'of-the-shop' \(priority 900\).*alias '{section.index}' is added"
        with pytest.raises(UserError, match=wrong):
            refresh.refresh(client, section, NEXT, context(tmp_path))
        with pytest.raises(UserError, match=wrong):
            fill(section, Shop.of(COUNT), tmp_path, THIRD)
        assert aliased(client, section.index) == [f"{section.index}-v1"]
    finally:
        client.indices.delete_index_template(name="of-the-shop")
    refresh.refresh(client, section, NEXT, context(tmp_path))


def test_a_template_of_everything_with_a_higher_priority_is_named(
    section: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    body = {
        "index_patterns": [f"{section.index}*"],
        "priority": 500,
        "template": {"settings": {"refresh_interval": "9s"}},
    }
    client.indices.put_index_template(name="everything", body=body)
    try:
        with pytest.raises(
            UserError, match=r"'everything' \(priority 500\).*'\S+-v1'.*sid.type is None, not 'keyword'"
        ):
            fill(section, Shop.of(3), tmp_path)
        assert not client.indices.exists(index=f"{section.index}-v1")
        higher = section.model_copy(update={"template_priority": 501})
        fill(higher, Shop.of(3), tmp_path)
    finally:
        client.indices.delete_index_template(name="everything")


def test_component_templates_of_ones_own_are_part_of_the_index(
    section: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    own = {"template": {"mappings": {"properties": {"price": {"type": "float"}}}}}
    client.cluster.put_component_template(name="prices", body=own)
    section = section.model_copy(update={"components": ("prices",), "dynamic": "false"})
    fill(section, Shop.of(3), tmp_path)
    mapping = read_mapping(client, f"{section.index}-v1")
    assert mapping["properties"]["price"] == {"type": "float"}
    client.index(index=section.index, id="X", body={"title": "x", "price": 3.5, "unknown": 1})


# --- a process that wakes up late


def test_a_batch_of_a_job_that_was_taken_over_is_refused_whole(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    index = f"{loaded.index}-v1"
    before = everything(client, index)
    late = [Document("B0001", '{"title": "old"}'), Document("B0002", "", "delete"), Document("NEW", '{"title": "x"}')]
    fence.open_for(client, index, "first")
    fence.open_for(client, index, "second")
    with pytest.raises(UserError, match="no longer open to this job"):
        bulk.send(client, index, late, loaded.bulk, token="first")
    assert everything(client, index) == before
    assert bulk.send(client, index, late[:1], loaded.bulk, token="second") == []
    fence.close(client, index)
    with pytest.raises(UserError, match="no longer open to this job"):
        bulk.send(client, index, late[1:], loaded.bulk, token="second")
    assert not client.indices.exists(index=fence.PREFIX + "second")


def test_a_refresh_that_was_frozen_in_a_request_changes_nothing_once_another_finished(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    frozen, go_on, send = threading.Event(), threading.Event(), bulk.send
    failed: list[BaseException] = []

    def suspended(own: OpenSearch, index: str, batch: Any, section: Any, **options: Any) -> Any:
        if threading.current_thread().name.startswith("frozen") or not frozen.is_set():
            frozen.set()
            go_on.wait(60)
        return send(own, index, batch, section, **options)

    def first() -> None:
        try:
            refresh.refresh(connect(loaded), loaded, NEXT, context(tmp_path))
        except UserError as error:
            failed.append(error)

    monkeypatch.setattr(bulk, "send", suspended)
    monkeypatch.setattr(JobLease, "_renew", lambda self: None)  # a process that is suspended renews nothing
    thread = threading.Thread(target=first)
    thread.start()
    frozen.wait(60)
    monkeypatch.setattr(bulk, "send", send)
    import index_mappings.lease as module

    monkeypatch.setattr(module, "_has_ended", lambda holder: True)
    refresh.refresh(client, loaded, NEXT, context(tmp_path / "second"))
    client.index(index=loaded.index, id="B0001", body={"title": "newer"}, params={"refresh": "true"})
    client.delete(index=loaded.index, id="B0002", params={"refresh": "true"})
    go_on.set()
    thread.join(60)
    assert failed
    assert "no longer open" in str(failed[0])
    after = everything(client, loaded.index)
    assert after["B0001"] == {"title": "newer"}
    assert "B0002" not in after


# --- load


def test_a_load_leaves_fields_of_the_shop_alone_and_stores_no_empty_ones(
    section: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    def without_brand(rows: list[dict]) -> list[dict]:
        return [{**row, "brand": "" if n < 10 else row["brand"]} for n, row in enumerate(rows)]

    shop = Shop.of(COUNT)
    bare = replace(shop, items=pa.Table.from_pylist(without_brand(shop.items.to_pylist()), ITEMS))
    fill(section, bare, tmp_path)
    facet = {"size": 0, "aggs": {"brands": {"terms": {"field": "brand.keyword"}}}}
    found = client.search(index=section.index, body=facet)["aggregations"]["brands"]["buckets"]
    assert [one["key"] for one in found if not one["key"]] == []
    client.indices.put_mapping(index=section.index, body={"properties": {"price": {"type": "float"}}})
    client.update(index=section.index, id="B0007", body={"doc": {"price": 9.5}})
    client.delete(index=section.index, id="B0008")
    fill(section, shop, tmp_path)  # sends all again, since one is missing
    after = everything(client, section.index)
    assert (after["B0007"]["price"], after["B0007"]["brand"]) == (9.5, "brand 2")
    assert len(after) == COUNT


def test_a_load_into_an_index_that_is_searched_leaves_its_replicas_and_refreshes(
    section: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    shop = Shop.of(COUNT)
    fill(section, shop, tmp_path)
    client.delete(index=section.index, id="B0008")
    seen: list[str] = []

    def look(done: int, total: int) -> None:
        seen.append(settings_of(client, f"{section.index}-v1")["refresh_interval"])

    fill(section, shop, tmp_path, advance=look)
    assert set(seen) == {section.refresh_interval}


# --- found before the copy begins


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"blocks.read_only": True}, "index.blocks.read_only"),
        ({"blocks.write": True}, "index.blocks.write"),
        ({"final_pipeline": "rewrites"}, "index.final_pipeline = 'rewrites'"),
    ],
)
def test_what_would_stop_or_spoil_a_refresh_is_found_first(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path, settings: dict, named: str
):
    client.ingest.put_pipeline(id="rewrites", body={"processors": [{"remove": {"field": "brand"}}]})
    index = f"{loaded.index}-v1"
    put_settings(client, index, settings)
    try:
        with pytest.raises(UserError, match=named):
            refresh.refresh(client, loaded, NEXT, context(tmp_path))
        assert not client.indices.exists(index=f"{loaded.index}-v2")
        assert settings_of(client, index)["uuid"] == uuid_of(client, index)
        for name, value in settings.items():
            found = settings_of(client, index)
            assert (
                str((found["blocks"] if "blocks" in name else found)[name.split(".")[-1]]).lower() == str(value).lower()
            )
    finally:
        put_settings(client, index, dict.fromkeys(settings))


def test_routing_is_refused_at_once(loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path):
    client.index(index=loaded.index, id="R", body={"title": "x"}, routing="other", params={"refresh": "true"})
    with pytest.raises(UserError, match="a routing of their own"):
        refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert not client.indices.exists(index=f"{loaded.index}-v2")


def test_a_rollback_target_that_is_closed_or_recreated_is_found_first(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    old, terms = f"{loaded.index}-v1", Shop.of(COUNT).terms
    client.indices.close(index=old)
    with pytest.raises(UserError, match=f"is closed: open it by `POST {old}/_open`"):
        refresh.rollback(client, loaded, context(tmp_path, terms))
    client.indices.open(index=old)
    client.indices.put_settings(index=old, body={"index": {"final_pipeline": "rewrites"}})
    client.ingest.put_pipeline(id="rewrites", body={"processors": [{"remove": {"field": "brand"}}]})
    with pytest.raises(UserError, match=r"index.final_pipeline = 'rewrites'"):
        refresh.rollback(client, loaded, context(tmp_path, terms))
    client.indices.put_settings(index=old, body={"index": {"final_pipeline": None}})
    client.indices.delete(index=old)
    create(client, loaded, META, DIMENSION)
    with pytest.raises(UserError, match="was deleted or recreated since"):
        refresh.rollback(client, loaded, context(tmp_path, terms))


def test_settings_that_a_user_may_not_set_are_left_out_of_the_copy(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Those of a restored index, which needs a repository to be made; the node refuses them all the same."""
    real = indices.settings_of

    def restored(own: OpenSearch, index: str) -> dict[str, Any]:
        return {**real(own, index), "history": {"uuid": "abc"}}

    with pytest.raises(RequestError, match="private index setting"):
        client.indices.create(index=f"{loaded.index}-x", body={"settings": {"index": {"history": {"uuid": "abc"}}}})
    monkeypatch.setattr(indices, "settings_of", restored)
    refresh.refresh(client, loaded, NEXT, context(tmp_path))
    assert len(everything(client, loaded.index)) == COUNT


@pytest.mark.parametrize("state", ["target deleted", "target closed", "source read-only", "alias moved"])
def test_a_refresh_can_always_be_given_up(loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path, state: str):
    source, target = f"{loaded.index}-v1", f"{loaded.index}-v2"
    interrupt(client, loaded, tmp_path)
    if state == "target deleted":
        client.indices.delete(index=target)
    elif state == "target closed":
        client.indices.close(index=target)
    elif state == "source read-only":
        put_settings(client, source, {"blocks.read_only": True})
    else:
        client.indices.update_aliases(
            body={
                "actions": [
                    {"remove": {"index": source, "alias": loaded.index}},
                    {"add": {"index": target, "alias": loaded.index}},
                ]
            }
        )
    refresh.abandon(client, loaded, print)
    put_settings(client, source, {"blocks.read_only": None})
    assert refresh.abandon(client, loaded, print).startswith("no move of")
    if state != "alias moved":
        assert refresh.refresh(client, loaded, NEXT, context(tmp_path)).sent == COUNT
    else:
        assert aliased(client, loaded.index) == [target]


def test_a_writer_of_the_alias_is_never_refused_by_a_job_that_was_refused(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    client.index(index=loaded.index, id="R", body={"title": "x"}, routing="other", params={"refresh": "true"})
    with pytest.raises(UserError):
        refresh.refresh(client, loaded, NEXT, context(tmp_path))
    try:
        client.index(index=loaded.index, id="W", body={"title": "x"})
    except TransportError as error:  # pragma: no cover
        pytest.fail(f"a writer was refused: {error}")


def test_the_way_back_is_open_whatever_share_has_no_sid_and_keeps_its_replicas(
    loaded: OpenSearchSection, client: OpenSearch, tmp_path: Path
):
    for n in range(20):
        client.index(index=loaded.index, id=f"NEW{n}", body={"title": "of nobody"})
    tolerant = quick(loaded, max_without_sid=1.0)
    refresh.refresh(client, tolerant, NEXT, context(tmp_path))
    old, seen = f"{loaded.index}-v1", []

    def look(done: int, documents: int) -> None:
        seen.append(settings_of(client, old)["refresh_interval"])

    client.index(index=loaded.index, id="LATE", body={"title": "late"})
    refresh.rollback(client, loaded, context(tmp_path, Shop.of(COUNT).terms, advance=look))
    assert len(everything(client, loaded.index)) == COUNT + 21
    assert set(seen) == {"1s"}, "an index that served is not set up for loading"
