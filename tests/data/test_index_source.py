"""Items, judgments and logs read from a real OpenSearch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch
from opensearchpy.helpers import bulk

from genrecall.config.data import (
    DataSection,
    ItemFields,
    ItemSource,
    JudgmentSource,
    LoggedEventSource,
    LoggedQuerySource,
    QuerySource,
)
from genrecall.config.logs import LogsSection
from genrecall.config.opensearch import ClusterSection
from genrecall.data import index_rows
from genrecall.data.importing import import_files
from genrecall.data.index_rows import index_state
from genrecall.data.readers import read_dataset
from genrecall.data.rejects import Rejects
from genrecall.errors import UserError
from genrecall.local_node.node import Node
from trainer.logs import build_requests, open_requests

COUNT = 1050
PREFIX = "data-source-test"


def documents() -> Iterator[dict[str, Any]]:
    for n in range(COUNT):
        source = {"name": f"נעל {n} 👟", "path": ["Shoes", "Running"], "maker": {"name": "Ana"}}
        yield {"_index": f"{PREFIX}-items", "_id": f"p{n:04}", **source}
    yield {"_index": f"{PREFIX}-items", "_id": "nameless", "path": []}
    yield {"_index": f"{PREFIX}-queries", "query_id": "q1", "text": "running shoes"}
    for n in range(3):
        yield {"_index": f"{PREFIX}-judgments", "query_id": "q1", "item_id": f"p{n:04}", "grade": 3 - n}
    shown = {"query_id": "s1", "user_query": "running shoes", "client_id": "c1", "timestamp": "2025-03-01T10:00:00Z"}
    yield {"_index": f"{PREFIX}-ubi_queries", **shown, "query_response_hit_ids": ["p0001", "p0000"]}
    clicked = {"object": {"object_id": "p0001"}, "position": {"ordinal": 1}}
    yield {"_index": f"{PREFIX}-ubi_events", **shown, "action_name": "click", "event_attributes": clicked}


@pytest.fixture(scope="module")
def section(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataSection]:
    client = OpenSearch(node.url, timeout=60)
    client.indices.delete(index=f"{PREFIX}-*")
    client.indices.create(index=f"{PREFIX}-items", body={"settings": {"number_of_shards": 3}})
    bulk(client, documents(), refresh=True)
    yield DataSection(
        folder=tmp_path_factory.mktemp("empty"),
        name="shop",
        cluster=ClusterSection(url=node.url),
        items=ItemSource(
            index=f"{PREFIX}-items", fields=ItemFields(id="_id", title="name", category="path[:1]", brand="maker.name")
        ),
        queries=QuerySource(index=f"{PREFIX}-queries"),
        judgments=JudgmentSource(index=f"{PREFIX}-judgments"),
        ubi_queries=LoggedQuerySource(index=f"{PREFIX}-ubi_queries"),
        ubi_events=LoggedEventSource(index=f"{PREFIX}-ubi_events"),
    )
    client.indices.delete(index=f"{PREFIX}-*")
    client.close()


@pytest.mark.node
def test_every_document_is_read_once_page_by_page(
    section: DataSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_rows, "PAGE_ROWS", 100)
    data = read_dataset(section, tmp_path / "rejects.jsonl")
    assert sorted(data.items["item_id"].to_pylist()) == [f"p{n:04}" for n in range(COUNT)]
    row = next(row for row in data.items.to_pylist() if row["item_id"] == "p0007")
    assert row == {"item_id": "p0007", "title": "נעל 7 👟", "category": ["Shoes"], "brand": "Ana", "text": ""}
    assert dict(zip(data.judgments["item_id"].to_pylist(), data.judgments["grade"].to_pylist(), strict=True)) == {
        "p0000": pytest.approx(1.0),
        "p0001": pytest.approx(2 / 3),
        "p0002": pytest.approx(1 / 3),
    }
    assert set(data.fingerprints) == {f"index {PREFIX}-{name}" for name in ("items", "queries", "judgments")}
    rejected = json.loads((tmp_path / "rejects.jsonl").read_text())
    assert (rejected["place"], rejected["reason"]) == (f"{PREFIX}-items", "title is empty")
    assert "nameless" in rejected["raw"]


@pytest.mark.node
def test_logs_are_read_from_their_indices_again_only_when_those_change(section: DataSection, tmp_path: Path) -> None:
    items = read_dataset(section.model_copy(update={"max_reject_share": 0.01})).items
    path = build_requests(section, LogsSection(partitions=2), items, tmp_path, Rejects(), progress=False)
    (row,) = open_requests(path).to_pylist()
    assert (row["exposed"], row["clicked"], row["purchased"]) == (["p0001", "p0000"], ["p0001"], [])
    built = path.stat().st_mtime_ns
    assert index_state(section, f"{PREFIX}-ubi_queries") == index_state(section, f"{PREFIX}-ubi_queries")
    build_requests(section, LogsSection(partitions=2), items, tmp_path, Rejects(), progress=False)
    assert path.stat().st_mtime_ns == built

    client = OpenSearch(section.cluster.url, timeout=60)
    shown: dict[str, Any] = {
        "query_id": "s2",
        "user_query": "shoes",
        "client_id": "c1",
        "timestamp": "2025-03-02T10:00:00Z",
    }
    shown["query_response_hit_ids"] = ["p0002"]
    client.index(index=f"{PREFIX}-ubi_queries", body=shown, params={"refresh": "true"})
    client.close()
    path = build_requests(section, LogsSection(partitions=2), items, tmp_path, Rejects(), progress=False)
    assert [row["recent"] for row in open_requests(path).to_pylist()] == [[], ["p0001"]]


@pytest.mark.node
def test_missing_index_is_named(section: DataSection) -> None:
    with pytest.raises(UserError, match=r"index 'absent' of data\.cluster .*could not be read"):
        read_dataset(section.model_copy(update={"items": ItemSource(index="absent")}))


def test_cluster_that_is_down_is_named(tmp_path: Path) -> None:
    section = DataSection(
        folder=tmp_path, cluster=ClusterSection(url="http://127.0.0.1:9"), items=ItemSource(index="products")
    )
    with pytest.raises(
        UserError, match=r"data\.cluster http://127\.0\.0\.1:9 could not be read.*genrecall node status"
    ):
        read_dataset(section)


@pytest.mark.node
def test_indices_are_imported_by_their_addresses(section: DataSection, tmp_path: Path) -> None:
    url = section.cluster.url
    names = [f"{url}/{PREFIX}-{name}" for name in ("items", "queries", "judgments", "ubi_queries", "ubi_events")]
    mapping = {"items.id": "_id", "category": "path"}
    found = import_files(names, tmp_path / "shop", DataSection(), mapping)
    assert [row["kind"] for row in found.files] == ["catalogue", "queries", "judgments", "logs", "logs"]
    assert found.counts.pop("ubi_queries") in (1, 2), "another test adds one"
    assert found.counts == {"items": COUNT, "queries": 1, "judgments": 3, "ubi_events": 1}
    data = read_dataset(DataSection(folder=tmp_path / "shop", max_reject_share=0))
    assert data.judgments["grade"].to_pylist() == pytest.approx([1.0, 2 / 3, 1 / 3])
    assert {tuple(path) for path in data.items["category"].to_pylist()} == {("Shoes", "Running")}
    with pytest.raises(UserError, match="names no index"):
        import_files([url], tmp_path / "none", DataSection(), {})
    with pytest.raises(UserError, match=r"index 'x' of data\.cluster http://127\.0\.0\.1:9 could not be read"):
        import_files([*names, "http://127.0.0.1:9/x"], tmp_path / "none", DataSection(), {})
