"""Fills the index of a codebook with a catalogue: the steps of `genrecall index load`.

Owns their order: settings for a load, documents from where the journal stands, settings for searching, the count, the
alias. Killed at any step, the same call goes on from there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings import bulk, lifecycle


@dataclass(frozen=True)
class Report:
    """What a load did. `resumed_at`: rows that an earlier, interrupted load had done."""

    index: str
    rows: int
    resumed_at: int
    rejected: int
    without_sid: int
    not_in_catalogue: int
    documents: int
    seconds: float
    alias: str

    @property
    def per_second(self) -> float:
        return (self.rows - self.resumed_at) / self.seconds if self.seconds else 0.0


def terms_of(assignments: pa.Table, codebook: str) -> dict[str, str]:
    """Item id -> SID term, of an ASSIGNMENTS table."""
    paths = zip(assignments["item_id"].to_pylist(), assignments["path"].to_pylist(), strict=True)
    return {item: f"{codebook}/{path}" for item, path in paths}


def fingerprint(items: pa.Table) -> str:
    """sha256 of a table's rows, read in the same order."""
    digest = hashlib.sha256()
    for batch in items.to_batches(max_chunksize=65_536):
        digest.update(batch.serialize())
    return digest.hexdigest()


def load(
    client: OpenSearch,
    section: OpenSearchSection,
    meta: lifecycle.Meta,
    items: pa.Table,
    terms: Mapping[str, str],
    vectors: np.ndarray,
    source: Mapping[str, str],
    folder: Path,
    switch: bool = False,
    advance: Callable[[int, int], None] = lambda done, rows: None,
) -> Report:
    """Index `items`, each with its SID and vector, into the index of `meta.codebook`, created when it is not there.

    Args:
        items: ITEMS.
        terms: item id -> SID term. Items without one are indexed without SID, and counted.
        vectors: float32 [len(items), dim].
        source: fingerprints of what the items were read from: a journal of other items is not taken up.
        folder: where the journal and the reject file go.
        switch: point the alias here when the load is complete, also where it points to another codebook's index.
        advance: called with (rows done, rows) after each batch.

    Raises UserError for an index of something else, too many rejects, and an index that does not hold in the end what
    was sent. The alias is never moved to an index that is not complete.
    """
    began = time.monotonic()
    index, _ = lifecycle.create(client, section, meta, vectors.shape[1])
    identity = {
        "index": index,
        "uuid": client.indices.get_settings(index=index)[index]["settings"]["index"]["uuid"],
        "rows": len(items),
        "source": dict(source),
    }
    journal = bulk.Journal(folder / f"{index}.json", identity)
    if journal.done == len(items) and _count(client, index) < journal.done - journal.rejected:
        journal.begin()  # complete once, but documents were deleted since
    resumed_at = journal.done
    advance(journal.done, len(items))
    if journal.done < len(items):
        lifecycle.put_settings(client, index, {"refresh_interval": "-1", "number_of_replicas": 0})
        stream = bulk.documents(items, terms, vectors, section.vector.decimals, start=journal.done)
        for batch in bulk.batches(stream, section.bulk.docs, section.bulk.megabytes * 1e6):
            journal.advance(len(batch), bulk.send(client, index, batch, section.bulk))
            advance(journal.done, len(items))
    lifecycle.put_settings(
        client, index, {"refresh_interval": section.refresh_interval, "number_of_replicas": section.replicas}
    )
    documents = _count(client, index)
    _verify(section, index, journal, documents)
    ids = set(items["item_id"].to_pylist())
    return Report(
        index=index,
        rows=len(items),
        resumed_at=resumed_at,
        rejected=journal.rejected,
        without_sid=len(ids - terms.keys()),
        not_in_catalogue=len(terms.keys() - ids),
        documents=documents,
        seconds=time.monotonic() - began,
        alias=_publish(client, section, index, switch),
    )


def _verify(section: OpenSearchSection, index: str, journal: bulk.Journal, documents: int) -> None:
    """UserError when too much was rejected, or the index does not hold the rest."""
    expected = journal.done - journal.rejected
    if journal.rejected > section.bulk.max_reject_share * journal.done:
        raise UserError(
            f"index {index!r}: {journal.rejected} of {journal.done} documents were rejected "
            f"(opensearch.bulk.max_reject_share is {section.bulk.max_reject_share:.1%}); reasons are in "
            f"{journal.rejects}. The alias was not moved"
        )
    if documents != expected:
        raise UserError(
            f"index {index!r} holds {documents} documents, but {expected} were expected: others write to it, or items "
            "left the catalogue; make it anew with `genrecall index create --replace`. The alias was not moved"
        )


def _publish(client: OpenSearch, section: OpenSearchSection, index: str, switch: bool) -> str:
    """Point the alias here if it points nowhere yet, or `switch`; a sentence about where it points."""
    before = lifecycle.aliased(client, section)
    if before == [index]:
        return f"{section.index} points to {index}"
    if before and not switch:
        return f"{section.index} still points to {', '.join(before)}; move it with --switch"
    lifecycle.point_alias(client, section, index)
    return f"{section.index} now points to {index}" + (f", before to {', '.join(before)}" if before else "")


def _count(client: OpenSearch, index: str) -> int:
    client.indices.refresh(index=index)
    count: int = client.count(index=index)["count"]
    return count
