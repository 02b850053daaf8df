"""SIDs in an index of one's own, in place, on the real node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import random
from typing import Any

import pytest
from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings import attach as module
from index_mappings.attach import AttachReport, OwnFields, attach
from index_mappings.meta import read_mapping
from index_mappings.sids import Sids
from tests.index.conftest import META, everything

pytestmark = pytest.mark.node
COUNT = 30
TERMS = {f"SKU/{n} é": f"v1/{n % 3}/{n % 2}/0" for n in range(COUNT)}
OWN = OwnFields(id="sku", title="name", category="path", brand="maker")


@pytest.fixture
def own(client: OpenSearch, section: OpenSearchSection) -> Iterator[str]:
    """Other field names, ids of its own, a strict mapping, further fields; behind an alias."""
    name, index = f"own-{section.index}", f"own-{section.index}-3"
    fields = {kind: {"type": kind} for kind in ("float", "date")}
    fields |= {"sku": {"type": "keyword"}, "name": {"type": "text"}, "maker": {"type": "keyword"}}
    fields |= {"path": {"type": "keyword"}}
    body = {"dynamic": "strict", "_meta": {"owner": "shop"}, "properties": fields}
    client.indices.create(index=index, body={"mappings": body, "settings": {"number_of_shards": 2}})
    client.indices.put_alias(index=index, name=name)
    for n in range(COUNT):
        document = {"sku": f"SKU/{n} é", "name": f"thing {n}", "maker": "m", "path": ["a", "b"], "float": n / 2}
        client.index(index=index, id=str(n), body=document)
    client.indices.refresh(index=index)
    yield name
    client.indices.delete(index=index)


def run(client: OpenSearch, section: OpenSearchSection, name: str, folder: Path, **changes: Any) -> AttachReport:
    given = {"meta": META, "sids": Sids(TERMS, None), "fields": OWN, **changes}
    return attach(client, section, name, rejects=folder / "rejects.jsonl", **given)


def test_documents_get_their_sid_and_keep_all_else(
    client: OpenSearch, section: OpenSearchSection, own: str, tmp_path: Path
):
    before = everything(client, own)
    report = run(client, section, own, tmp_path)
    assert (report.compared, report.written, report.unknown) == (COUNT, COUNT, 0)
    after = everything(client, own)
    assert after == {id: {**doc, "sid": TERMS[doc["sku"]]} for id, doc in before.items()}
    meta = read_mapping(client, report.index)["_meta"]
    assert meta == {"owner": "shop", "genrecall": {"codebook": "v1", "assignments": META.assignments}}
    client.update(index=own, id="3", body={"doc": {"sid": "v1/9/9/9"}})
    again = run(client, section, own, tmp_path)
    assert (again.written, everything(client, own)) == (1, after)
    assert not any("writes" in name for name in client.indices.get_alias(index=own)[report.index]["aliases"])


def test_documents_that_the_bundle_lacks_are_placed_by_the_server(
    client: OpenSearch, section: OpenSearchSection, own: str, tmp_path: Path
):
    asked: list[Any] = []

    def encode(items: Any) -> list[str]:
        asked.extend(items)
        return ["v1/7/7/7"] * len(items)

    some = dict(list(TERMS.items())[: COUNT - 2])
    assert run(client, section, own, tmp_path, sids=Sids(some, None)).unknown == 2
    assert run(client, section, own, tmp_path, sids=Sids(some, encode)).written == 2
    placed = {"item_id": "SKU/29 é", "title": "thing 29", "category": ["a", "b"], "brand": "m"}
    assert placed in asked
    assert everything(client, own)["29"]["sid"] == "v1/7/7/7"


def test_a_document_that_others_write_meanwhile_is_looked_at_again(
    client: OpenSearch, section: OpenSearchSection, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made, once = module._updates, []

    def updates(page: Any, *rest: Any) -> Any:
        found = list(made(page, *rest))
        if not once:
            once.append(client.update(index=own, id=found[0].id, body={"doc": {"name": "newer"}}))
        return found

    monkeypatch.setattr(module, "_updates", updates)
    report = run(client, section, own, tmp_path)
    assert (report.conflicts, report.written) == (1, COUNT)
    after = everything(client, own)
    assert {doc["sku"]: doc["sid"] for doc in after.values()} == TERMS
    assert [doc["name"] for doc in after.values()].count("newer") == 1


def test_a_document_that_is_never_left_alone_is_a_reject(
    client: OpenSearch, section: OpenSearchSection, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = module._updates

    def updates(page: Any, *rest: Any) -> Any:
        found = list(made(page, *rest))
        client.update(index=own, id="3", body={"doc": {"float": random()}})
        return found

    monkeypatch.setattr(module, "_updates", updates)
    with pytest.raises(UserError, match=r"1 documents of .* refused their SID"):
        run(client, section, own, tmp_path)
    (reject,) = (tmp_path / "rejects.jsonl").read_text().splitlines()
    assert '"item_id": "3", "status": 409' in reject


def refused(message: str, client: OpenSearch, section: OpenSearchSection, name: str, folder: Path, **given: Any):
    before = client.indices.get_mapping(index=name)
    with pytest.raises(UserError, match=message):
        run(client, section, name, folder, **given)
    assert client.indices.get_mapping(index=name) == before, "nothing was written"


def test_what_does_not_fit_is_refused_before_the_first_write(
    client: OpenSearch, section: OpenSearchSection, own: str, tmp_path: Path
):
    case = (client, section, own, tmp_path)
    refused(r"only 0 of 30 documents .*'\d+' is not.*--id-field", *case, fields=OwnFields())
    refused("has no field 'nr'.*--id-field", *case, fields=OwnFields(id="nr"))
    refused("field 'name' of .* is of type text.*--field", *case, fields=OwnFields(sid="name", id="sku"))

    def down(items: Any) -> list[str]:
        raise UserError("the inference server could not assign SIDs")

    refused("could not assign", *case, sids=Sids(dict(list(TERMS.items())[:20]), down))
    with pytest.raises(UserError, match="'nowhere' is no index and no alias"):
        run(client, section, "nowhere", tmp_path)
    client.index(index=own, id="R", body={"sku": "r"}, routing="x", params={"refresh": "true"})
    refused("a routing of their own", *case)
    client.delete(index=own, id="R", routing="x", params={"refresh": "true"})
    run(*case)
    from dataclasses import replace

    refused("has SIDs of codebook 'v1'.*refresh", *case, meta=replace(META, codebook="v2"))
