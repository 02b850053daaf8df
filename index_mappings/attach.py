"""Gives SIDs to an index that a shop has already, in place: what `genrecall index attach` runs.

Adds one keyword field and names the codebook in the mapping; documents get that field by partial updates, guarded by
the `_seq_no` they were read at. Nothing else of the index changes: no template, no alias, no further field.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings import bulk, checks, fence
from index_mappings.bulk import Document, Reject
from index_mappings.lease import JobLease, refuse_unfinished
from index_mappings.meta import IndexMeta, read_mapping
from index_mappings.migration import changes
from index_mappings.migration.changes import Written
from index_mappings.progress import Progress
from index_mappings.sids import Sids

CONFLICT = 409
LEAST_KNOWN = 0.05  # of the documents must be items of the bundle: of a wrong field of ids, none are


@dataclass(frozen=True)
class OwnFields:
    """Where an index of one's own keeps what is needed. `id`: the item's id; "_id" for the document's own."""

    sid: str = "sid"
    id: str = "_id"
    title: str = "title"
    category: str = "category"
    brand: str = "brand"

    @property
    def read(self) -> list[str]:
        return [name for name in vars(self).values() if name != "_id"]


@dataclass
class AttachReport:
    """What a run did. `unknown`: documents that neither the bundle nor the server gives a SID."""

    index: str
    compared: int = 0
    written: int = 0
    unknown: int = 0
    conflicts: int = 0
    rejected: int = 0
    seconds: float = 0.0


def attach(
    client: OpenSearch,
    section: OpenSearchSection,
    name: str,
    meta: IndexMeta,
    sids: Sids,
    fields: OwnFields,
    rejects: Path,
    progress: Progress = Progress(),
) -> AttachReport:
    """Write the SIDs of `sids` into the documents of the index `name`, or of the one index behind that alias.

    The same call again writes what differs, so that it goes on after an interruption. Raises UserError, before the
    first write, while another job of that name runs, for an index that cannot be updated or has SIDs of another
    codebook, and where most documents are no items of the bundle; afterwards for too many rejects.
    """
    began = time.monotonic()
    index = _one_index(client, name)
    with JobLease.take(client, name, section.lease_s, progress.message) as lease:
        refuse_unfinished(lease.state)
        _check(client, index, meta, fields)
        _check_known(client, index, sids, fields, progress)
        _extend_mapping(client, index, meta, fields)
        report, final = AttachReport(index), list[Reject]()
        fence.open_for(client, index, lease.token)
        position, documents = changes.start(client, index), changes.count(client, index)
        for _ in range(section.bulk.attempts):  # a conflict is a later write of others, which the next reading brings
            until, conflicts = changes.now(client, index), list[Reject]()
            for _, page in changes.pages(client, index, position, until, section.bulk.docs, fields.read):
                updates = list(_updates(page, sids, fields, report))
                refused = bulk.send(client, index, updates, section.bulk, token=lease.token) if updates else []
                final += [reject for reject in refused if reject.status != CONFLICT]
                conflicts += [reject for reject in refused if reject.status == CONFLICT]
                report.written += len(updates) - len(refused)
                report.compared += len(page)
                progress.advance(report.compared, max(documents, report.compared))
            position = until
            report.conflicts += len(conflicts)
            if not conflicts:
                break
        final += conflicts  # of the last reading: others wrote these documents every time
        fence.close(client, index)
        client.indices.refresh(index=index)
    report.rejected, report.seconds = len(final), time.monotonic() - began
    rejects.unlink(missing_ok=True)
    bulk.append_rejects(rejects, final)
    if len(final) > section.bulk.max_reject_share * max(report.written + len(final), 1):
        raise UserError(f"{len(final):,} documents of {index!r} refused their SID; reasons are in {rejects}")
    return report


def _one_index(client: OpenSearch, name: str) -> str:
    found = list(client.indices.get(index=name, params={"ignore_unavailable": "true"}))
    if len(found) != 1:
        raise UserError(
            f"{name!r} is {'no index and no alias' if not found else 'an alias of ' + ', '.join(found)} of the "
            "cluster: name the one index that is to get SIDs"
        )
    if found[0] != name and not client.indices.exists_alias(name=name):
        raise UserError(f"{name!r} is a data stream, whose documents cannot be changed: it gets no SIDs")
    return found[0]


def _check(client: OpenSearch, index: str, meta: IndexMeta, fields: OwnFields) -> None:
    checks.check_readable(client, index)
    checks.check_no_final_pipeline(client, index)
    if blocked := checks.blocks(client, index):
        raise UserError(f"index {index!r} takes no writes: index.blocks.{blocked[0]} is set; remove it first")
    mapping = read_mapping(client, index)
    there = mapping.get("properties", {}).get(fields.sid, {"type": "keyword"})
    if there.get("type") != "keyword":
        raise UserError(
            f"field {fields.sid!r} of {index!r} is of type {there.get('type', 'object')}, and SIDs need a keyword "
            "field: choose another by --field"
        )
    if fields.id != "_id" and fields.id not in mapping.get("properties", {}):
        raise UserError(f"index {index!r} has no field {fields.id!r}: name the one that holds item ids by --id-field")
    served = mapping.get("_meta", {}).get("genrecall", {}).get("codebook", meta.codebook)
    if served != meta.codebook:
        raise UserError(
            f"index {index!r} has SIDs of codebook {served!r}. In place they would be of both for a while, and "
            f"searches would miss items: move to {meta.codebook!r} by `genrecall index refresh`, which needs an alias "
            "named opensearch.index and indices named <alias>-<codebook>"
        )


def _check_known(client: OpenSearch, index: str, sids: Sids, fields: OwnFields, progress: Progress) -> None:
    """UserError where the documents are not those of the bundle, or others cannot be given SIDs."""
    everything = changes.start(client, index), changes.now(client, index)
    source = False if fields.id == "_id" else [fields.id]
    documents, unknown = 0, list[Written]()
    known = 0
    for _, page in changes.pages(client, index, *everything, changes.IDS_A_PAGE, source):
        others = [document for document in page if _item_id(document, fields) not in sids.terms]
        documents, known = documents + len(page), known + len(page) - len(others)
        unknown = unknown or others[:1]
    progress.message(f"{known:,} of {documents:,} documents are items of the bundle")
    if known < LEAST_KNOWN * documents:
        raise UserError(
            f"only {known:,} of {documents:,} documents of {index!r} are items of the bundle; "
            f"{_item_id(unknown[0], fields)!r} is not. Is {fields.id!r} the field of item ids (--id-field), and was "
            "the bundle trained on this catalogue? Nothing was written"
        )
    if unknown:  # whether the server places others is found out now, and not behind half of the writes
        document = client.get(index=index, id=unknown[0].id)
        sids.of([(_item_id(unknown[0], fields), _as_item(document["_source"], fields))])


def _extend_mapping(client: OpenSearch, index: str, meta: IndexMeta, fields: OwnFields) -> None:
    mapping = read_mapping(client, index)
    ours = {"codebook": meta.codebook, "assignments": meta.assignments}
    own = {**mapping.get("_meta", {}).get("genrecall", {}), **ours}
    body: dict[str, Any] = {"_meta": {**mapping.get("_meta", {}), "genrecall": own}}
    if fields.sid not in mapping.get("properties", {}):
        body["properties"] = {fields.sid: {"type": "keyword"}}
    client.indices.put_mapping(index=index, body=body)


def _updates(page: Sequence[Written], sids: Sids, fields: OwnFields, report: AttachReport) -> Iterator[Document]:
    """The partial updates of documents that have not the SID they should have."""
    wanted = sids.of([(_item_id(document, fields), _as_item(document.source or {}, fields)) for document in page])
    for document, term in zip(page, wanted, strict=True):
        report.unknown += term is None
        if term is not None and (document.source or {}).get(fields.sid) != term:
            guard = (document.seq_no, document.primary_term)
            yield Document(document.id, bulk.to_json({fields.sid: term}), "update", guard)


def _item_id(document: Written, fields: OwnFields) -> str:
    return document.id if fields.id == "_id" else str((document.source or {}).get(fields.id, ""))


def _as_item(source: Mapping[str, Any], fields: OwnFields) -> dict[str, Any]:
    """The fields that `Encode` reads, under our names."""
    return {name: source.get(getattr(fields, name)) for name in ("title", "category", "brand")}
