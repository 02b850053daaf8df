"""The serving index follows the catalogue and its SIDs, document by document: what `genrecall index sync` runs.

For small changes between two codebooks: items that came, went or changed, and SIDs that moved within a codebook. A
whole new codebook moves every term, and is a refresh. Each document is compared with what it should be, and only what
differs is written: by partial updates that name the `_seq_no` they were compared at, so a writer in between is never
overwritten but seen, and the document compared again.

What a document should be: the fields of its item; the vector of its text; as SID the one of the bundle, or for an item
that the bundle does not know, the server's when it comes or its text changes, and until then the one it has. Fields
that the catalogue does not know are left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from index_mappings import bulk, lifecycle
from index_mappings.bulk import Document, Reject
from index_mappings.lifecycle import Meta
from index_mappings.migration import changes
from index_mappings.migration.changes import Written
from index_mappings.migration.lease import Job
from index_mappings.sids import Sids

CONFLICT, FORBIDDEN = 409, 403
Vectors = Callable[[Sequence[int]], np.ndarray]
"""rows of the catalogue -> float32 [rows, dim]; asked only for items that are new or changed."""


@dataclass
class Report:
    """What a run wrote. `conflicts`: documents that somebody else wrote meanwhile, and that were compared again."""

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


class Catalogue:
    """What the index should hold.

    Args:
        items: ITEMS.
        decimals: digits sent of each component of a vector.
    """

    def __init__(self, items: pa.Table, vectors: Vectors, sids: Sids, codebook: str, decimals: int) -> None:
        self._items, self._vectors, self._sids = items, vectors, sids
        self._codebook, self._decimals = codebook, decimals
        self.fields = [name for name in items.column_names if name != "item_id"]
        self.rows = {id: row for row, id in enumerate(items["item_id"].to_pylist())}

    def differences(self, found: Sequence[Written]) -> Iterator[tuple[str, Document]]:
        """(added | changed | moved | deleted, the write that makes it so) for the documents that differ.

        A document with `source` None is not in the index.
        """
        wanted = [self.rows.get(document.id) for document in found]
        known = [row for row in wanted if row is not None]
        items = {
            row: item
            for row, item in zip(known, self._items.take(pa.array(known, pa.int64())).to_pylist(), strict=True)
        }
        kinds: list[str] = []
        for document, row in zip(found, wanted, strict=True):
            if row is None:
                kinds.append("deleted" if document.source is not None else "same")
            elif document.source is None:
                kinds.append("added")
            else:
                kinds.append("changed" if self._changed(document.source, items[row]) else "same")
        terms = self._terms(found, wanted, items, kinds)
        new = [row for row, kind in zip(wanted, kinds, strict=True) if row is not None and kind in ("added", "changed")]
        vectors = dict(zip(new, self._vectors(new), strict=True)) if new else {}
        for document, row, kind, term in zip(found, wanted, kinds, terms, strict=True):
            guard = (document.seq_no, document.primary_term)
            if row is None:
                if kind == "deleted":
                    yield kind, Document(document.id, "", "delete", guard)
            elif kind == "same":
                if term != (document.source or {}).get("sid"):
                    yield "moved", Document(document.id, bulk.to_json({"sid": term}), "update", guard)
            else:
                vector = bulk.components(vectors[row], self._decimals)
                source = {**items[row], "vector": vector, **({"sid": term} if term or kind == "changed" else {})}
                write = ("create", None) if kind == "added" else ("update", guard)
                yield kind, Document(document.id, bulk.to_json(source), *write)

    def _changed(self, source: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
        return any((source.get(name) or None) != (item[name] or None) for name in self.fields)

    def _terms(
        self,
        found: Sequence[Written],
        wanted: Sequence[int | None],
        items: Mapping[int, Mapping[str, Any]],
        kinds: Sequence[str],
    ) -> list[str | None]:
        """The SID that each document should have; None also for those to be deleted."""
        terms: list[str | None] = []
        unplaced: list[int] = []
        for at, (document, row, kind) in enumerate(zip(found, wanted, kinds, strict=True)):
            has = (document.source or {}).get("sid")
            term = self._sids.terms.get(document.id) if row is not None else None
            if term is None and row is not None:
                if kind == "same" and isinstance(has, str) and has.startswith(f"{self._codebook}/"):
                    term = has
                else:
                    unplaced.append(at)
            terms.append(term)
        asked = [(found[at].id, items[row]) for at in unplaced if (row := wanted[at]) is not None]
        for at, term in zip(unplaced, self._sids.of(asked), strict=True):
            terms[at] = term
        return terms


def sync(
    client: OpenSearch,
    section: OpenSearchSection,
    meta: Meta,
    items: pa.Table,
    vectors: Vectors,
    sids: Sids,
    rejects: Path,
    tell: Callable[[str], None] = lambda line: None,
    advance: Callable[[int, int], None] = lambda done, documents: None,
) -> Report:
    """Write what differs between the index behind the alias and the catalogue.

    Args:
        meta: of the bundle; its codebook must be that of the index.
        rejects: file for what could not be written, with the reasons; made anew.
        advance: called with (documents compared, documents).

    Raises UserError while another job of this alias runs, for an index of another codebook or encoder, for more
    deletions than `opensearch.sync.max_delete_share` (a truncated catalogue must not empty a shop; nothing is deleted
    then), and for too many rejects. What was written is kept: the next run writes the rest.
    """
    began = time.monotonic()
    with Job.take(client, section.index, section.refresh.lease_s, tell):
        index = _serving(client, section, meta)
        report = Report(index)
        catalogue = Catalogue(items, vectors, sids, meta.codebook, section.vector.decimals)
        writer = _Writer(client, section, catalogue, report)
        documents = max(client.count(index=index)["count"], len(items))
        seen: set[str] = set()
        deletions: list[Document] = []
        until = changes.now(client, index)
        stream = changes.pages(
            client, index, changes.start(client, index), until, section.bulk.docs, [*catalogue.fields, "sid"]
        )
        for _, page in stream:
            seen.update(document.id for document in page)
            deletions += writer.write(page)
            report.compared += len(page)
            advance(report.compared, documents)
        missing = [id for id in catalogue.rows if id not in seen]
        for some in _parts(missing, section.bulk.docs):
            writer.write(writer.read(some))  # what others wrote since is read, what is not there is added
            advance(report.compared + len(some), documents)
        if len(deletions) > section.sync.max_delete_share * documents:
            raise UserError(
                f"{len(deletions):,} of {documents:,} documents of {index!r} are not in the catalogue, more than "
                f"opensearch.sync.max_delete_share = {section.sync.max_delete_share:.1%}: is it whole? Nothing was "
                "deleted; raise the limit if so many items are gone"
            )
        for batch in bulk.batches(deletions, section.bulk.docs, section.bulk.megabytes * 1e6):
            writer.send([("deleted", document) for document in batch])
        client.indices.refresh(index=index)
    report.seconds = time.monotonic() - began
    _tell_rejects(writer.rejects, rejects, report, section)
    return report


class _Writer:
    """Sends differences, and compares again where somebody else wrote in between."""

    def __init__(self, client: OpenSearch, section: OpenSearchSection, catalogue: Catalogue, report: Report) -> None:
        self._client, self._section, self._catalogue, self._report = client, section, catalogue, report
        self.rejects: list[Reject] = []

    def write(self, found: Sequence[Written]) -> list[Document]:
        """Write what differs of `found`, deletions aside, which are returned."""
        differences = list(self._catalogue.differences(found))
        self.send([(kind, document) for kind, document in differences if kind != "deleted"])
        return [document for kind, document in differences if kind == "deleted"]

    def send(self, differences: Sequence[tuple[str, Document]]) -> None:
        section = self._section.bulk
        for _ in range(section.attempts):
            if not differences:
                return
            kinds = {document.id: kind for kind, document in differences}
            refused: dict[str, Reject] = {}
            for batch in bulk.batches([d for _, d in differences], section.docs, section.megabytes * 1e6):
                refused |= {
                    reject.item_id: reject for reject in bulk.send(self._client, self._report.index, batch, section)
                }
            for id, kind in kinds.items():
                if id not in refused:
                    setattr(self._report, kind, getattr(self._report, kind) + 1)
            conflicts = [id for id, reject in refused.items() if reject.status == CONFLICT]
            final = [reject for reject in refused.values() if reject.status != CONFLICT]
            for reject in final:
                if reject.status == FORBIDDEN:
                    raise UserError(
                        f"index {self._report.index!r} takes no writes: {reject.reason}. A refresh that was killed at "
                        "its switch leaves it so: run that again, or `genrecall index refresh --abandon`"
                    )
            self.rejects += final
            self._report.conflicts += len(conflicts)
            differences = list(self._catalogue.differences(self.read(conflicts))) if conflicts else []
        self.rejects += [
            Reject(document.id, CONFLICT, f"written by others in each of {section.attempts} attempts")
            for _, document in differences
        ]

    def read(self, ids: Sequence[str]) -> list[Written]:
        """The documents of these ids as they are now; `source` None for those that are not there."""
        if not ids:
            return []
        fields = [*self._catalogue.fields, "sid"]
        docs = self._client.mget(
            index=self._report.index, body={"ids": list(ids)}, params={"_source": ",".join(fields)}
        )
        return [
            Written(doc["_id"], doc.get("_seq_no", -1), doc.get("_primary_term", 0), doc.get("_source"))
            for doc in docs["docs"]
        ]


def _serving(client: OpenSearch, section: OpenSearchSection, meta: Meta) -> str:
    index = lifecycle.serving(client, section)
    found = lifecycle.read_meta(client, index)
    if found.codebook != meta.codebook:
        raise UserError(
            f"{section.index} serves codebook {found.codebook!r}, and the bundle is {meta.codebook!r}: name that one "
            f"by --bundle {found.codebook}, or go over to the new one by `genrecall index refresh`"
        )
    if found.encoder != meta.encoder:
        raise UserError(
            f"index {index!r} holds vectors by {found.encoder!r}, but the bundle's are by {meta.encoder!r}: build "
            "it anew by `genrecall index load`"
        )
    return index


def _tell_rejects(rejects: Sequence[Reject], file: Path, report: Report, section: OpenSearchSection) -> None:
    """Write the reject file; UserError for too many."""
    report.rejected = len(rejects)
    file.unlink(missing_ok=True)
    bulk.append_rejects(file, rejects)
    if len(rejects) > section.bulk.max_reject_share * (report.written + len(rejects)):
        raise UserError(
            f"{len(rejects):,} of {report.written + len(rejects):,} writes to {report.index!r} were refused "
            f"(opensearch.bulk.max_reject_share is {section.bulk.max_reject_share:.1%}); reasons are in {file}"
        )


def _parts(ids: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (ids[first : first + size] for first in range(0, len(ids), size))
