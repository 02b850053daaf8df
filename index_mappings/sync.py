"""Updates the serving index from the catalogue, document by document: what `genrecall index sync` runs.

For small changes between two codebooks: items that were added, removed or changed, and SIDs that moved within a
codebook. A whole new codebook moves every term, and is a refresh. Each document is compared with what it should be, and
only differences are written: by partial updates that name the `_seq_no` they were compared at, so that a concurrent
write is never overwritten but causes a conflict, and the document is compared again.

What a document should be: the fields of its item; the vector of its text; as SID the one of the bundle, or for an item
that the bundle lacks, the server's when it is new or its text changes, and otherwise the one it has. Further fields of
the catalogue, such as a price, are no part of the text. Fields that the catalogue does not have are left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.records import ITEMS, extra_names, item_rows
from index_mappings import bulk, checks, fence
from index_mappings.alias import serving
from index_mappings.bulk import Document, Reject
from index_mappings.lease import JobLease
from index_mappings.meta import IndexMeta, read_mapping, read_meta
from index_mappings.migration import changes
from index_mappings.migration.changes import Written
from index_mappings.progress import Progress
from index_mappings.sids import Sids

CONFLICT, FORBIDDEN = 409, 403
Embed = Callable[[Sequence[int]], np.ndarray]
"""rows of the catalogue -> float32 [rows, dim]; called only for items that are new or changed."""


@dataclass(frozen=True)
class SyncInput:
    """What the index should hold.

    Attributes:
        meta: of the bundle; its codebook must be that of the index.
        items: ITEMS, EXTRA.
    """

    meta: IndexMeta
    items: pa.Table
    embed: Embed
    sids: Sids


@dataclass
class SyncReport:
    """What a run wrote. `conflicts`: documents that others wrote meanwhile, and that were compared again."""

    index: str
    compared: int = 0
    added: int = 0
    changed: int = 0
    moved: int = 0
    deleted: int = 0
    conflicts: int = 0
    rejected: int = 0
    seconds: float = 0.0

    @property
    def written(self) -> int:
        return self.added + self.changed + self.moved + self.deleted


class CatalogueDiff:
    """Compares documents with the catalogue."""

    def __init__(self, source: SyncInput) -> None:
        self._source = source
        self.texts = [name for name in ITEMS.names if name != "item_id"]
        self.extra = extra_names(source.items)
        self._prefix = f"{source.meta.codebook}/"
        self.fields = [*self.texts, *self.extra]
        self.rows = {id: row for row, id in enumerate(source.items["item_id"].to_pylist())}

    def glance(self, found: Sequence[Written]) -> tuple[list[str], list[Document]]:
        """(ids that differ, deletions of what the catalogue lacks), without a vector and without asking for a SID."""
        rows = [self.rows.get(document.id) for document in found]
        items = self._items(rows)
        different, deletions = [], []
        for document, row in zip(found, rows, strict=True):
            kind, known = self._kind(document, items.get(row)), self._source.sids.terms.get(document.id)
            own = (document.source or {}).get("sid")
            kept = own == known if known else isinstance(own, str) and own.startswith(self._prefix)
            if kind == "deleted":
                deletions.append(Document(document.id, "", "delete", (document.seq_no, document.primary_term)))
            elif kind != "same" or not kept:
                different.append(document.id)
        return different, deletions

    def _items(self, rows: Sequence[int | None]) -> dict[int | None, dict[str, Any]]:
        known = [row for row in rows if row is not None]
        return dict(zip(known, item_rows(self._source.items.take(pa.array(known, pa.int64()))), strict=True))

    def differences(self, found: Sequence[Written]) -> Iterator[tuple[str, Document]]:
        """(added | changed | moved | deleted, the write that makes it so) for the documents that differ.

        A document with `source` None is not in the index.
        """
        rows = [self.rows.get(document.id) for document in found]
        items = self._items(rows)
        kinds = [self._kind(document, items.get(row)) for document, row in zip(found, rows, strict=True)]
        terms = self._terms(found, [items.get(row) for row in rows], kinds)
        new = [row for row, kind in zip(rows, kinds, strict=True) if row is not None and kind in ("added", "changed")]
        vectors = dict(zip(new, self._source.embed(new), strict=True)) if new else {}
        for document, row, kind, term in zip(found, rows, kinds, terms, strict=True):
            guard = (document.seq_no, document.primary_term)
            if kind == "deleted":
                yield kind, Document(document.id, "", "delete", guard)
            elif kind == "same" and term != (document.source or {}).get("sid"):
                yield "moved", Document(document.id, bulk.to_json({"sid": term}), "update", guard)
            elif kind == "extra":
                source = {**self._extra(document.source or {}, items[row]), "sid": term}
                yield "changed", Document(document.id, bulk.to_json(source), "update", guard)
            elif kind in ("added", "changed") and row is not None:
                source = {**items[row], "sid": term, "vector": bulk.components(vectors[row])}
                source |= self._extra(document.source or {}, items[row])
                if kind == "added":
                    yield kind, Document(document.id, bulk.to_json(bulk.filled(source)), "create")
                else:
                    yield kind, Document(document.id, bulk.to_json(bulk.empty_as_null(source)), "update", guard)

    def _kind(self, document: Written, item: Mapping[str, Any] | None) -> str:
        """added | changed | extra (only further fields differ) | same | deleted; "" for neither item nor document."""
        source = document.source
        if item is None:
            return "" if source is None else "deleted"
        if source is None:
            return "added"
        if any((source.get(name) or None) != (item[name] or None) for name in self.texts):
            return "changed"
        return "extra" if self._extra(source, item) else "same"

    def _extra(self, source: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
        """The further fields of `item` that the document's `source` lacks or has otherwise; null for what is gone."""
        both = ((name, source.get(name), item.get(name)) for name in self.extra)
        return {name: _over(old, new) for name, old, new in both if not _same(old, new)}

    def _terms(
        self, found: Sequence[Written], items: Sequence[Mapping[str, Any] | None], kinds: Sequence[str]
    ) -> list[str | None]:
        """The SID that each document should have; None also for those without an item."""
        sids = self._source.sids
        terms: list[str | None] = [None] * len(found)
        unassigned: dict[int, tuple[str, Mapping[str, Any]]] = {}
        for at, (document, item, kind) in enumerate(zip(found, items, kinds, strict=True)):
            if item is None:
                continue
            own = (document.source or {}).get("sid")
            if kind in ("same", "extra") and isinstance(own, str) and own.startswith(self._prefix):
                terms[at] = own
            if document.id in sids.terms:
                terms[at] = sids.terms[document.id]
            elif terms[at] is None:
                unassigned[at] = document.id, item
        for at, term in zip(unassigned, sids.of([*unassigned.values()]), strict=True):
            terms[at] = term
        return terms


def _same(old: Any, new: Any) -> bool:
    """Whether a value in the index is that of the catalogue: 1 and 1.0 are one, true and 1 are not, null is nothing."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return all(_same(old.get(name), new.get(name)) for name in {*old, *new})
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    if isinstance(old, bool) is not isinstance(new, bool):
        return False
    return old == new or (old in bulk.EMPTY and new in bulk.EMPTY)


def _over(old: Any, new: Any) -> Any:
    """What a partial update must say for `new`: OpenSearch merges objects, so that what is gone must be null."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {name: _over(old.get(name), new.get(name)) for name in {**old, **new}}
    return new


def sync(
    client: OpenSearch,
    section: OpenSearchSection,
    source: SyncInput,
    rejects: Path,
    progress: Progress = Progress(),
) -> SyncReport:
    """Write what differs between the index behind the alias and the catalogue.

    Args:
        rejects: file for what could not be written, with the reasons; replaced.

    Raises UserError, before the first write, while another job of this alias runs, for an index of another bundle or
    encoder or one that cannot be updated, and for more deletions or additions than `opensearch.sync` allows: a
    truncated or foreign catalogue must not spoil a shop. Afterwards for too many rejects; what was written is kept
    then, and the next run writes the rest.
    """
    began, items = time.monotonic(), source.items
    with JobLease.take(client, section.index, section.lease_s, progress.message) as lease:
        index = _serving(client, section, source)
        report, diff = SyncReport(index), CatalogueDiff(source)
        writer = _Writer(client, section, diff, report, lease.token)
        found = _compare(client, section, diff, report, progress)
        _check_shares(found, len(items), section, index)
        fence.open_for(client, index, lease.token)
        written, total = 0, len(found.different) + len(found.missing)
        for some in changes.parts([*found.different, *found.missing], section.bulk.docs):
            writer.write(writer.read(some))  # as they are now: others may have written them since
            written += len(some)
            progress.advance(written, total)
        for batch in bulk.batches(found.deletions, section.bulk.docs, section.bulk.megabytes * 1e6):
            writer.send([("deleted", document) for document in batch])
        fence.close(client, index)
        client.indices.refresh(index=index)
    report.seconds = time.monotonic() - began
    _write_rejects(writer.rejects, rejects, report, section)
    return report


@dataclass
class _Compared:
    """Ids that differ or are missing in the index, and the deletions of what is not in the catalogue."""

    documents: int
    different: list[str]
    missing: list[str]
    deletions: list[Document]


def _compare(
    client: OpenSearch, section: OpenSearchSection, diff: CatalogueDiff, report: SyncReport, progress: Progress
) -> _Compared:
    index, missing = report.index, dict.fromkeys(diff.rows)
    found = _Compared(changes.count(client, index), [], [], [])
    fields, until = [*diff.fields, "sid"], changes.now(client, index)
    for _, page in changes.pages(client, index, changes.start(client, index), until, section.bulk.docs, fields):
        for document in page:
            missing.pop(document.id, None)
        different, deleted = diff.glance(page)
        found.different += different
        found.deletions += deleted
        report.compared += len(page)
        progress.advance(report.compared, max(found.documents, report.compared))
    found.missing = list(missing)
    return found


def _check_shares(found: _Compared, items: int, section: OpenSearchSection, index: str) -> None:
    """UserError, before anything is written, where the catalogue looks like another one."""
    documents, settings = found.documents, section.sync
    if len(found.deletions) > settings.max_delete_share * documents:
        raise UserError(
            f"{len(found.deletions):,} of {documents:,} documents of {index!r} are not in the catalogue, more than "
            f"opensearch.sync.max_delete_share = {settings.max_delete_share:.1%}: is it complete, and the right one? "
            "Nothing was written; raise the limit if so many items are gone"
        )
    if len(found.missing) > settings.max_add_share * max(documents, 1):
        raise UserError(
            f"{len(found.missing):,} of {items:,} items of the catalogue are not in {index!r}, which holds "
            f"{documents:,} documents: more than opensearch.sync.max_add_share = {settings.max_add_share:.0%} of them "
            "would be new. Is it the right catalogue? Nothing was written; raise the limit if so many items are new"
        )


class _Writer:
    """Sends differences, and compares again after a conflict."""

    def __init__(
        self, client: OpenSearch, section: OpenSearchSection, diff: CatalogueDiff, report: SyncReport, token: str
    ) -> None:
        self._client, self._section, self._diff, self._report = client, section, diff, report
        self._token = token
        self.rejects: list[Reject] = []

    def write(self, found: Sequence[Written]) -> None:
        """Write what differs of `found`."""
        self.send(list(self._diff.differences(found)))

    def send(self, differences: Sequence[tuple[str, Document]]) -> None:
        section = self._section.bulk
        for _ in range(section.attempts):
            if not differences:
                return
            kinds = {document.id: kind for kind, document in differences}
            rejected: dict[str, Reject] = {}
            for batch in bulk.batches([d for _, d in differences], section.docs, section.megabytes * 1e6):
                sent = bulk.send(self._client, self._report.index, batch, section, token=self._token)
                rejected |= {reject.item_id: reject for reject in sent}
            for id, kind in kinds.items():
                if id not in rejected:
                    setattr(self._report, kind, getattr(self._report, kind) + 1)
            conflicts = [id for id, reject in rejected.items() if reject.status == CONFLICT]
            final = [reject for reject in rejected.values() if reject.status != CONFLICT]
            for reject in final:
                if reject.status == FORBIDDEN:
                    raise UserError(
                        f"index {self._report.index!r} takes no writes: {reject.reason}. A refresh that was killed at "
                        "its switch leaves it so: run that again, or `genrecall index refresh --abandon`"
                    )
            self.rejects += final
            self._report.conflicts += len(conflicts)
            differences = list(self._diff.differences(self.read(conflicts))) if conflicts else []
        self.rejects += [
            Reject(document.id, CONFLICT, f"written by others in each of {section.attempts} attempts")
            for _, document in differences
        ]

    def read(self, ids: Sequence[str]) -> list[Written]:
        """The documents of these ids as they are now; `source` None for those that are not there."""
        if not ids:
            return []
        fields = [*self._diff.fields, "sid"]
        docs = changes.by_id(self._client, self._report.index, ids, fields)
        return [
            Written(doc["_id"], doc.get("_seq_no", -1), doc.get("_primary_term", 0), doc.get("_source")) for doc in docs
        ]


def _serving(client: OpenSearch, section: OpenSearchSection, source: SyncInput) -> str:
    """The index behind the alias; UserError where it cannot be updated from `source`."""
    index, meta = serving(client, section.index), source.meta
    found = read_meta(client, index)
    if found.codebook != meta.codebook:
        raise UserError(
            f"{section.index} serves codebook {found.codebook!r}, and the bundle is {meta.codebook!r}: name that one "
            f"by --bundle {found.codebook}, or move to the new one by `genrecall index refresh`"
        )
    if found.assignments != meta.assignments:
        raise UserError(
            f"index {index!r} was made for another bundle of the name {meta.codebook!r}, with other SIDs. Choose that "
            "one (run.bundles_dir), or publish the new one under another codebook name and move there by `genrecall "
            "index refresh`; to move single SIDs within the codebook use --assignments"
        )
    if not meta.same_encoder(found):
        raise UserError(
            f"index {index!r} holds vectors by {found.encoder!r}, but the bundle's are by {meta.encoder!r}: build "
            "it anew by `genrecall index load` under another codebook name"
        )
    checks.check_sid_field(client, index)
    checks.check_readable(client, index)
    checks.check_no_final_pipeline(client, index)
    lacking = {*ITEMS.names, "vector"} - read_mapping(client, index).get("properties", {}).keys()
    if lacking - {"item_id"}:
        raise UserError(
            f"index {index!r} has no field {', '.join(sorted(lacking))}, which sync writes: it is for indices made by "
            "`genrecall index load`. A refresh works for any mapping; keep other fields up to date yourself"
        )
    checks.check_maps(client, index, extra_names(source.items))
    return index


def _write_rejects(rejects: Sequence[Reject], file: Path, report: SyncReport, section: OpenSearchSection) -> None:
    """Write the reject file; UserError for too many."""
    report.rejected = len(rejects)
    file.unlink(missing_ok=True)
    bulk.append_rejects(file, rejects)
    if len(rejects) > section.bulk.max_reject_share * (report.written + len(rejects)):
        raise UserError(
            f"{len(rejects):,} of {report.written + len(rejects):,} writes to {report.index!r} were refused "
            f"(opensearch.bulk.max_reject_share is {section.bulk.max_reject_share:.1%}); reasons are in {file}"
        )
