"""What `genrecall index status` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from index_mappings.alias import aliased
from index_mappings.index_settings import settings_of
from index_mappings.lease import JobLease, unfinished
from index_mappings.meta import vector_dimension


@dataclass(frozen=True)
class IndexStatus:
    """An index of an alias. `job`: the unfinished job that fills it and its progress, empty without one."""

    index: str
    codebook: str
    encoder: str
    dimension: int
    aliased: bool
    documents: int
    with_sid: int
    megabytes: float
    health: str
    writable: bool
    job: str


def status(client: OpenSearch, section: OpenSearchSection) -> list[IndexStatus]:
    """Every index of this alias that genrecall made, the aliased one first."""
    pattern = f"{section.index}-*"
    mappings = client.indices.get_mapping(index=pattern, params={"ignore_unavailable": "true"})
    rows = {row["index"]: row for row in client.cat.indices(index=pattern, format="json", bytes="b")}
    current, (state, load) = aliased(client, section.index), JobLease.peek(client, section.index)
    found = []
    for index, body in mappings.items():
        meta = body["mappings"].get("_meta", {}).get("genrecall", {})
        if index != f"{section.index}-{meta.get('codebook')}":
            continue  # of another alias with the same prefix (`shop-eu` beside `shop`), or not ours
        found.append(
            IndexStatus(
                index=index,
                codebook=meta["codebook"],
                encoder=meta.get("encoder", ""),
                dimension=vector_dimension(body["mappings"]),
                aliased=index in current,
                documents=client.count(index=index)["count"],
                with_sid=client.count(index=index, body={"query": {"exists": {"field": "sid"}}})["count"],
                megabytes=int(rows[index]["store.size"] or 0) / 1e6,
                health=rows[index]["health"],
                writable="write" not in settings_of(client, index).get("blocks", {}),
                job=_job(state, load, index),
            )
        )
    return sorted(found, key=lambda one: (not one.aliased, one.index))


def _job(state: Mapping[str, Any], load: Mapping[str, Any], index: str) -> str:
    if unfinished(state) and index == state["target"]:
        return f"{state['kind']} unfinished: step {state['step']}, {state.get('copied', 0):,} documents copied"
    if load and index == load["index"] and load["done"] < load["rows"]:
        return f"load unfinished: {load['done']:,} of {load['rows']:,} documents"
    return ""
