"""Sends documents to an index, in batches, and again after a transient failure.

Owns what a document looks like, the batches, the retries and the reject file. Every document is written under its item
id, so that sending one twice changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from opensearchpy import OpenSearch
from opensearchpy.exceptions import TransportError

from genrecall.config.opensearch import BulkSection
from genrecall.errors import UserError
from genrecall.opensearch import TRANSIENT, backoff, is_transient, reason_of, remedy
from genrecall.records import extra_names, item_rows
from index_mappings import fence

MAX_ID_BYTES = 512  # of OpenSearch; a longer id fails the whole request, so it never gets into one
PIPELINE = {"pipeline": "_none"}  # what is sent has its SID already; the index's default pipeline is for others
READ_ROWS = 1000  # of the items table at a time, to bound memory
EMPTY: tuple[Any, ...] = (None, "", [], {})
DECIMALS = 6  # of a vector's components; a float32 below 1 has 7 digits


@dataclass(frozen=True)
class Document:
    """One item as it is sent.

    Attributes:
        source: JSON: the whole document; of an update, the fields that change; empty for a deletion.
        action: index (replaces what is there), create, update, upsert (update, or create) or delete.
        guard: `_seq_no` and `_primary_term` that the document must still have; else it is refused with 409.
    """

    id: str
    source: str
    action: str = "index"
    guard: tuple[int, int] | None = None

    @property
    def lines(self) -> str:
        about: dict[str, Any] = {"_id": self.id}
        if self.guard:
            about["if_seq_no"], about["if_primary_term"] = self.guard
        upsert = self.action == "upsert"
        action = json.dumps({"update" if upsert else self.action: about}, separators=(",", ":"))
        if upsert:
            return f'{action}\n{{"doc":{self.source},"doc_as_upsert":true}}\n'
        if self.action == "update":
            return f'{action}\n{{"doc":{self.source}}}\n'
        return f"{action}\n{self.source}\n" if self.source else f"{action}\n"


@dataclass(frozen=True)
class Reject:
    """A document that the cluster refused for what it is; sending it again would not help."""

    item_id: str
    status: int
    reason: str


def documents(
    items: pa.Table, terms: Mapping[str, str], vectors: np.ndarray, start: int = 0, action: str = "index"
) -> Iterator[Document]:
    """The documents of `items` (ITEMS, EXTRA) from row `start` on, without empty fields: they would be facets.

    Args:
        terms: item id -> SID term; an item that is not in it gets no `sid` and the clause never finds it.
        vectors: float32 [len(items), dim], in the order of `items`.
    """
    if len(vectors) != len(items):
        raise ValueError(f"vectors must have {len(items)} rows, found {len(vectors)}")
    none = dict.fromkeys(extra_names(items)) if action == "upsert" else {}
    for first in range(start, len(items), READ_ROWS):
        rows = item_rows(items.slice(first, READ_ROWS))
        for row, vector in zip(rows, components(vectors[first : first + READ_ROWS]), strict=True):
            source = {**none, **row, "sid": terms.get(row["item_id"]), "vector": vector}
            kept = filled(source) if action == "index" else empty_as_null(source)
            yield Document(row["item_id"], to_json(kept), action)


def filled(source: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in source.items() if value not in EMPTY}


def empty_as_null(source: Mapping[str, Any]) -> dict[str, Any]:
    """Of an update: null removes a value that the document had."""
    return {name: None if value in EMPTY else value for name, value in source.items()}


def batches(stream: Iterable[Document], count: int, size: float) -> Iterator[list[Document]]:
    """Consecutive documents, at most `count` and `size` bytes a batch; a larger document is a batch of its own."""
    batch: list[Document] = []
    filled = 0
    for document in stream:
        length = len(document.lines.encode())
        if batch and (len(batch) == count or filled + length > size):
            yield batch
            batch, filled = [], 0
        batch.append(document)
        filled += length
    if batch:
        yield batch


def send(
    client: OpenSearch,
    index: str,
    batch: Sequence[Document],
    section: BulkSection,
    wait: Callable[[float], None] = time.sleep,
    token: str | None = None,
) -> list[Reject]:
    """Index `batch`; returns the documents that were rejected.

    token: of a lease for which the index is open (`fence`): without that any longer, nothing is written.

    After a lost connection or a transient refusal it sends again, `section.attempts` times at most, with exponential
    backoff. Raises UserError after the last, where `token` no longer counts, and the client's error for one that is
    not transient.
    """
    name, params = (index, PIPELINE) if token is None else (fence.PREFIX + token, {**PIPELINE, **fence.PARAMS})
    rejects = [Reject(d.id, 400, f"id of more than {MAX_ID_BYTES} bytes") for d in batch if not _fits(d.id)]
    pending = [document for document in batch if _fits(document.id)]
    reason = ""
    for attempt in range(section.attempts):
        if not pending:
            return rejects
        if attempt:
            wait(backoff(section, attempt))
        try:
            response = client.bulk(index=name, body="".join(document.lines for document in pending), params=params)
        except TransportError as error:
            if not is_transient(error):
                raise
            reason = f"{error.status_code} {reason_of(error.info) or error.error}"
            continue
        if token and response["errors"] and "index_not_found_exception" in json.dumps(response["items"]):
            raise UserError(
                f"index {index!r} is no longer open to this job: another process took it over, or the index was "
                "deleted or recreated. Nothing was written to it since; see `genrecall index status`"
            )
        pending, rejected, reason = _sort(pending, response)
        rejects += rejected
    if pending:
        raise UserError(
            f"index {index!r}: {len(pending)} documents could not be sent in {section.attempts} attempts, the last "
            f"with {reason!r}{remedy(reason)}. What was sent is kept: run the same command again to go on"
        )
    return rejects


def append_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Append to a reject file, one JSON line each; the file is made with its first."""
    if rejects:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(vars(reject), ensure_ascii=False) + "\n" for reject in rejects)


def to_json(source: Mapping[str, Any]) -> str:
    """As `Document.source` has it."""
    return json.dumps(source, ensure_ascii=False, separators=(",", ":"))


def components(vectors: np.ndarray) -> list[Any]:
    """float32 [..., dim] as sent: lists of floats, rounded to DECIMALS."""
    rounded: list[Any] = np.round(vectors.astype(np.float64), DECIMALS).tolist()
    return rounded


def _fits(item_id: str) -> bool:
    return len(item_id.encode()) <= MAX_ID_BYTES


def _sort(batch: Sequence[Document], response: Mapping[str, Any]) -> tuple[list[Document], list[Reject], str]:
    """Of a response: the documents to send again, the rejected ones, and the last reason for sending again."""
    again, rejected, reason = [], [], ""
    for document, result in zip(batch, response["items"], strict=True):
        (outcome,) = result.values()
        status = outcome["status"]
        if status in TRANSIENT:
            again.append(document)
            reason = f"{status} {reason_of(outcome)}"
        elif status >= 300 and not (document.action == "delete" and status == 404):  # deleted already
            rejected.append(Reject(document.id, status, reason_of(outcome)))
    return again, rejected, reason
