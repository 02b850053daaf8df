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
from genrecall.records import extra_names
from index_mappings import bulk, checks, fence
from index_mappings.alias import aliased, aliases_of, point_alias
from index_mappings.create import check_cluster, make
from index_mappings.index_settings import LOADING, put_settings, uuid_of
from index_mappings.lease import JobLease, refuse_unfinished, with_predecessor
from index_mappings.meta import IndexMeta, index_name
from index_mappings.progress import Progress


@dataclass(frozen=True)
class LoadInput:
    """What an index is filled with.

    Attributes:
        items: ITEMS, EXTRA.
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
        fresh: whether the index was empty when this load began.
        rejects: the reject file; absent when nothing was rejected.
    """

    def __init__(self, lease: JobLease, load: Mapping[str, object], rejects: Path) -> None:
        """Resumes what the lease's document says when it is of the same `load`; starts over otherwise."""
        self._lease, self._load, self.rejects = lease, dict(load), rejects
        self.done, self.rejected, self.fresh = 0, 0, False
        if self._load.items() <= lease.load.items():
            self.done, self.rejected = lease.load["done"], lease.load["rejected"]
            self.fresh = lease.load.get("fresh", False)

    def restart(self, fresh: bool) -> None:
        self.done, self.rejected, self.fresh = 0, 0, fresh
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
        return {**self._load, "done": self.done, "rejected": self.rejected, "fresh": self.fresh}


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

    Documents that an earlier load or others wrote are updated, so that their further fields stay.

    Raises UserError while another job of this alias runs, for an index that an unfinished migration works with, an
    index of something else, too many rejects, and an index that does not hold in the end what was sent. The alias is
    never moved to an index that is not complete.
    """
    began, items = time.monotonic(), source.items
    with JobLease.take(client, section.index, section.lease_s, progress.message) as lease:
        index = index_name(section, source.meta.codebook)
        refuse_unfinished(lease.state, *([] if switch else [index]))
        check_cluster(client, section, progress.message)
        make(client, section, source.meta, source.vectors.shape[1], extra_names(items))
        checks.check_readable(client, index)
        checks.check_no_final_pipeline(client, index)
        uuid, fingerprints = uuid_of(client, index), dict(source.fingerprints)
        load = {"index": index, "uuid": uuid, "rows": len(items), "fingerprints": fingerprints}
        state = LoadProgress(lease, load, folder / f"{index}.rejects.jsonl")
        if not state.done or _count(client, index) < state.done - state.rejected:
            state.restart(fresh=not _count(client, index))  # also where documents were deleted since
        resumed_at = state.done
        progress.advance(state.done, len(items))
        unused = not aliases_of(client, index)  # replicas and refreshes of one that is searched stay as they are
        if state.done < len(items):
            if unused:
                put_settings(client, index, LOADING)
            fence.open_for(client, index, lease.token)
            action = "index" if state.fresh else "upsert"
            stream = bulk.documents(items, source.terms, source.vectors, state.done, action)
            for batch in bulk.batches(stream, section.bulk.docs, section.bulk.megabytes * 1e6):
                state.advance(len(batch), bulk.send(client, index, batch, section.bulk, token=lease.token))
                progress.advance(state.done, len(items))
            fence.close(client, index)
        if unused:
            searching = {"refresh_interval": section.refresh_interval, "number_of_replicas": section.replicas}
            put_settings(client, index, searching)
        _verify(client, section, index, state)
        alias = _publish(client, section.index, index, switch, lease)
        documents = _count(client, index)
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


def _verify(client: OpenSearch, section: OpenSearchSection, index: str, state: LoadProgress) -> None:
    """UserError when too much was rejected, or the index does not hold the rest."""
    expected, documents = state.done - state.rejected, _count(client, index)
    if state.rejected > section.bulk.max_reject_share * state.done:
        raise UserError(
            f"index {index!r}: {state.rejected} of {state.done} documents were rejected "
            f"(opensearch.bulk.max_reject_share is {section.bulk.max_reject_share:.1%}); reasons are in "
            f"{state.rejects}. The alias was not moved"
        )
    if documents != expected:
        raise UserError(
            f"index {index!r} holds {documents} documents, but {expected} were expected: others write to it, or items "
            "left the catalogue. If it serves, `genrecall index sync` makes it equal to the catalogue; if not, delete "
            "it by `genrecall index create --replace` and load again. The alias was not moved"
        )
    vectors = _count(client, index, {"exists": {"field": "vector"}})
    if vectors != expected:
        raise UserError(f"only {vectors} of {expected} documents of {index!r} have a vector. The alias was not moved")


def _publish(client: OpenSearch, alias: str, index: str, switch: bool, lease: JobLease) -> str:
    """Point the alias here if it points nowhere yet, or `switch`; a sentence about where it points."""
    before = aliased(client, alias)
    if before == [index]:
        return f"{alias} points to {index}"
    if before and not switch:
        return f"{alias} still points to {', '.join(before)}; move it with --switch"
    point_alias(client, alias, index)
    for old in before:
        lease.note(history=with_predecessor(lease.state, old, uuid_of(client, old)))
    return f"{alias} now points to {index}" + (f", before to {', '.join(before)}" if before else "")


def _count(client: OpenSearch, index: str, query: Mapping[str, object] | None = None) -> int:
    client.indices.refresh(index=index)
    body = {"query": query} if query else None
    count: int = client.count(index=index, body=body, params={"preference": "_primary"})["count"]
    return count
