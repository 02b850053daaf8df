"""Sends documents to an index: in batches, again after a failure that passes, and from where it stopped when run again.

Owns what a document looks like, the batches, the retries, the journal and the reject file. Every document is written
under its item id, so sending one twice changes nothing: a batch that was sent but not yet noted when the process was
killed is sent again.
"""

from __future__ import annotations

import json
import os
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
from index_mappings.client import PASSING, backoff, passes, reason_of, remedy

MAX_ID_BYTES = 512  # of OpenSearch; a longer id fails the whole request, so it never gets into one
PIPELINE = {"pipeline": "_none"}  # what is sent has its SID already; the index's default pipeline is for others
READ_ROWS = 1000  # of the items table at a time, to keep memory bounded


@dataclass(frozen=True)
class Document:
    """One item as it is sent.

    Attributes:
        source: JSON: the whole document; of an update, the fields that change; empty for a deletion.
        action: index (replaces what is there), create, update or delete.
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
        action = json.dumps({self.action: about}, separators=(",", ":"))
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
    items: pa.Table, terms: Mapping[str, str], vectors: np.ndarray, decimals: int, start: int = 0
) -> Iterator[Document]:
    """The documents of `items` (ITEMS) from row `start` on.

    Args:
        terms: item id -> SID term; an item that is not in it gets no `sid` and the clause never finds it.
        vectors: float32 [len(items), dim], in the order of `items`.
        decimals: digits kept of each component: what a float32 of a unit vector holds is 7.
    """
    if len(vectors) != len(items):
        raise ValueError(f"vectors must have {len(items)} rows, found {len(vectors)}")
    for first in range(start, len(items), READ_ROWS):
        rows = items.slice(first, READ_ROWS).to_pylist()
        for row, vector in zip(rows, components(vectors[first : first + READ_ROWS], decimals), strict=True):
            term = terms.get(row["item_id"])
            source = {**row, "vector": vector} if term is None else {**row, "sid": term, "vector": vector}
            yield Document(row["item_id"], to_json(source))


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
) -> list[Reject]:
    """Index `batch`; the documents that were refused.

    A lost connection, and what the cluster turned away for now, is sent again after a doubling, slightly random wait.
    Raises UserError after `section.attempts`, and the client's error for what no repetition mends.
    """
    rejects = [Reject(d.id, 400, f"id of more than {MAX_ID_BYTES} bytes") for d in batch if not _fits(d.id)]
    pending = [document for document in batch if _fits(document.id)]
    trouble = ""
    for attempt in range(section.attempts):
        if not pending:
            return rejects
        if attempt:
            wait(backoff(section, attempt))
        try:
            answer = client.bulk(index=index, body="".join(document.lines for document in pending), params=PIPELINE)
        except TransportError as error:
            if not passes(error):
                raise
            trouble = f"{error.status_code} {reason_of(error.info) or error.error}"
            continue
        pending, refused, trouble = _sort(pending, answer)
        rejects += refused
    if pending:
        raise UserError(
            f"index {index!r}: {len(pending)} documents could not be sent in {section.attempts} attempts, the last "
            f"with {trouble!r}{remedy(trouble)}. What was sent is kept: run the same command again to go on"
        )
    return rejects


class Journal:
    """How far a load has come: a small file, replaced as a whole after each batch.

    Attributes:
        done: rows of the catalogue that are behind us, rejected ones included.
        rejected: how many of them were rejected.
        rejects: the reject file, beside the journal; absent when nothing was rejected.
    """

    def __init__(self, path: Path, load: Mapping[str, Any]) -> None:
        """Take up the journal at `path` when it is of the same `load`; begin anew otherwise."""
        self.path, self.load = path, dict(load)
        self.rejects = path.with_suffix(".rejects.jsonl")
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.done, self.rejected = known.get("done", 0), known.get("rejected", 0)
        if known.get("load") != self.load:
            self.begin()

    def begin(self) -> None:
        """Forget what was done."""
        self.done, self.rejected = 0, 0
        self.rejects.unlink(missing_ok=True)
        self._write()

    def advance(self, rows: int, rejects: Sequence[Reject]) -> None:
        """Note that `rows` more are behind us. Rejects are written first: killed between, they are listed twice."""
        append_rejects(self.rejects, rejects)
        self.done += rows
        self.rejected += len(rejects)
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(
            json.dumps({"load": self.load, "done": self.done, "rejected": self.rejected}, indent=2) + "\n",
            encoding="utf-8",
        )
        os.replace(temporary, self.path)


def append_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Add to a reject file, one JSON line each; the file is made with its first."""
    if rejects:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(vars(reject), ensure_ascii=False) + "\n" for reject in rejects)


def to_json(source: Mapping[str, Any]) -> str:
    """As `Document.source` has it."""
    return json.dumps(source, ensure_ascii=False, separators=(",", ":"))


def components(vectors: np.ndarray, decimals: int) -> list[Any]:
    """float32 [..., dim] as sent: lists of floats with `decimals` digits."""
    rounded: list[Any] = np.round(vectors.astype(np.float64), decimals).tolist()
    return rounded


def _fits(item_id: str) -> bool:
    return len(item_id.encode()) <= MAX_ID_BYTES


def _sort(batch: Sequence[Document], answer: Mapping[str, Any]) -> tuple[list[Document], list[Reject], str]:
    """Of an answer: what to send again, what was refused, and the last reason for sending again."""
    again, refused, trouble = [], [], ""
    for document, result in zip(batch, answer["items"], strict=True):
        (outcome,) = result.values()
        status = outcome["status"]
        if status in PASSING:
            again.append(document)
            trouble = f"{status} {reason_of(outcome)}"
        elif status >= 300 and not (document.action == "delete" and status == 404):  # gone already
            refused.append(Reject(document.id, status, reason_of(outcome)))
    return again, refused, trouble
