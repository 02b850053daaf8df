"""Fills the index of a codebook with a catalogue: the steps of `genrecall index load`.

Owns their order: settings for loading, documents from where an interrupted load stopped, settings for searching, the
count, the alias. It holds the lease of the alias (`lease`), whose document also keeps how far the load is: so
it runs alone, and killed at any step, the same call resumes on any machine. A batch that was sent but not
noted is sent again, which changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings import bulk
from index_mappings.alias import aliased, point_alias
from index_mappings.create import create
from index_mappings.index_settings import LOADING, put_settings, uuid_of
from index_mappings.lease import JobLease
from index_mappings.meta import IndexMeta
from index_mappings.progress import Progress


@dataclass(frozen=True)
class LoadInput:
    """What an index is filled with.

    Attributes:
        items: ITEMS.
        terms: item id -> SID term. Items without one are indexed without SID, and counted.
        vectors: float32 [len(items), dim].
        fingerprints: of what the items were read from: a load of other items is not resumed.
    """

    meta: IndexMeta
    items: pa.Table
    terms: Mapping[str, str]
    vectors: np.ndarray
    fingerprints: Mapping[str, str]


@dataclass(frozen=True)
class LoadReport:
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


class LoadProgress:
    """How far a load is, kept in the lease's document.

    Attributes:
        done: rows of the catalogue that are done, rejected ones included.
        rejected: how many of them were rejected.
        rejects: the reject file; absent when nothing was rejected.
    """

    def __init__(self, lease: JobLease, load: Mapping[str, object], rejects: Path) -> None:
        """Resumes what the lease's document says when it is of the same `load`; starts over otherwise."""
        self._lease, self._load, self.rejects = lease, dict(load), rejects
        self.done, self.rejected = lease.load.get("done", 0), lease.load.get("rejected", 0)
        if lease.load != self._document():
            self.restart()

    def restart(self) -> None:
        self.done, self.rejected = 0, 0
        self.rejects.unlink(missing_ok=True)
        self._store()

    def advance(self, rows: int, rejects: Sequence[bulk.Reject]) -> None:
        """Note that `rows` more are done. Rejects are written first: killed in between, they are listed twice."""
        bulk.append_rejects(self.rejects, rejects)
        self.done += rows
        self.rejected += len(rejects)
        self._store()

    def _store(self) -> None:
        self._lease.note_load(self._document())

    def _document(self) -> dict[str, object]:
        return {**self._load, "done": self.done, "rejected": self.rejected}


def terms_of(assignments: pa.Table, codebook: str) -> dict[str, str]:
    """Item id -> SID term, of an ASSIGNMENTS table."""
    paths = zip(assignments["item_id"].to_pylist(), assignments["path"].to_pylist(), strict=True)
    return {item: f"{codebook}/{path}" for item, path in paths}


def load(
    client: OpenSearch,
    section: OpenSearchSection,
    source: LoadInput,
    folder: Path,
    switch: bool = False,
    progress: Progress = Progress(),
) -> LoadReport:
    """Index `source` into the index of its codebook, which is created when it does not exist.

    Args:
        folder: of the reject file.
        switch: point the alias here when the load is complete, also where it points to another codebook's index.

    Raises UserError while another job of this alias runs, for an index of something else, too many rejects, and an
    index that does not hold in the end what was sent. The alias is never moved to an index that is not complete.
    """
    began, items = time.monotonic(), source.items
    with JobLease.take(client, section.index, section.lease_s, progress.message) as lease:
        index, _ = create(client, section, source.meta, source.vectors.shape[1])
        uuid, fingerprints = uuid_of(client, index), dict(source.fingerprints)
        load = {"index": index, "uuid": uuid, "rows": len(items), "fingerprints": fingerprints}
        state = LoadProgress(lease, load, folder / f"{index}.rejects.jsonl")
        if state.done == len(items) and _count(client, index) < state.done - state.rejected:
            state.restart()  # complete once, but documents were deleted since
        resumed_at = state.done
        progress.advance(state.done, len(items))
        if state.done < len(items):
            put_settings(client, index, LOADING)
            stream = bulk.documents(items, source.terms, source.vectors, start=state.done)
            for batch in bulk.batches(stream, section.bulk.docs, section.bulk.megabytes * 1e6):
                state.advance(len(batch), bulk.send(client, index, batch, section.bulk))
                progress.advance(state.done, len(items))
        searching = {"refresh_interval": section.refresh_interval, "number_of_replicas": section.replicas}
        put_settings(client, index, searching)
        documents = _count(client, index)
        _verify(section, index, state, documents)
        alias = _publish(client, section.index, index, switch)
    ids = set(items["item_id"].to_pylist())
    return LoadReport(
        index=index,
        rows=len(items),
        resumed_at=resumed_at,
        rejected=state.rejected,
        without_sid=len(ids - source.terms.keys()),
        not_in_catalogue=len(source.terms.keys() - ids),
        documents=documents,
        seconds=time.monotonic() - began,
        alias=alias,
    )


def _verify(section: OpenSearchSection, index: str, state: LoadProgress, documents: int) -> None:
    """UserError when too much was rejected, or the index does not hold the rest."""
    expected = state.done - state.rejected
    if state.rejected > section.bulk.max_reject_share * state.done:
        raise UserError(
            f"index {index!r}: {state.rejected} of {state.done} documents were rejected "
            f"(opensearch.bulk.max_reject_share is {section.bulk.max_reject_share:.1%}); reasons are in "
            f"{state.rejects}. The alias was not moved"
        )
    if documents != expected:
        raise UserError(
            f"index {index!r} holds {documents} documents, but {expected} were expected: others write to it, or items "
            "left the catalogue; rebuild it with `genrecall index create --replace`. The alias was not moved"
        )


def _publish(client: OpenSearch, alias: str, index: str, switch: bool) -> str:
    """Point the alias here if it points nowhere yet, or `switch`; a sentence about where it points."""
    before = aliased(client, alias)
    if before == [index]:
        return f"{alias} points to {index}"
    if before and not switch:
        return f"{alias} still points to {', '.join(before)}; move it with --switch"
    point_alias(client, alias, index)
    return f"{alias} now points to {index}" + (f", before to {', '.join(before)}" if before else "")


def _count(client: OpenSearch, index: str) -> int:
    client.indices.refresh(index=index)
    count: int = client.count(index=index)["count"]
    return count
