"""The ids of an index at one moment, and which of them were written again or deleted since, without reading it again.

A deletion leaves no number that a later reading could find (`changes`). Whether there was one is told by counting, in a
time that does not grow with the index (`Snapshot.deletions`). Which document it was is told by its own number, which is
gone: documents are counted by ranges of `_seq_no`, and only ranges in which some are missing are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from opensearchpy import OpenSearch

from genrecall.errors import UserError
from genrecall.opensearch import reason_of
from index_mappings.migration import changes
from index_mappings.migration.changes import Position

RANGES = 2_000  # of numbers that are counted apart, in each shard
TOGETHER = 50  # ranges read in one request


@dataclass(frozen=True)
class Snapshot:
    """Documents of `index` whose last write is not later than a position.

    Attributes:
        numbers: shard -> int64 [n], ascending, `_seq_no` of each document.
        ids: shard -> string [n], in the same order.
    """

    index: str
    numbers: dict[int, np.ndarray]
    ids: dict[int, pa.Array]

    @classmethod
    def take(cls, client: OpenSearch, index: str, until: Position) -> Snapshot:
        """A document that is written again while this runs is not in it."""
        numbers: dict[int, list[np.ndarray]] = {shard: [] for shard in until}
        ids: dict[int, list[pa.Array]] = {shard: [] for shard in until}
        everything = dict.fromkeys(until, -1), until
        for shard, page in changes.pages(client, index, *everything, changes.IDS_A_PAGE, source=False):
            numbers[shard].append(np.array([document.seq_no for document in page]))
            ids[shard].append(pa.array([document.id for document in page], pa.large_string()))
        return cls(
            index,
            {shard: np.concatenate([np.empty(0, np.int64), *parts]) for shard, parts in numbers.items()},
            {shard: pa.concat_arrays([pa.array([], pa.large_string()), *parts]) for shard, parts in ids.items()},
        )

    def __len__(self) -> int:
        return sum(len(some) for some in self.numbers.values())

    @cached_property
    def hashes(self) -> np.ndarray:
        """int64 [n], ascending: a number of each id, which another has by a chance of one in 2 ** 64."""
        shards = (pa.table({"id": some}) for some in self.ids.values())
        pages = (page for shard in shards for page in shard.to_batches(max_chunksize=changes.IDS_A_PAGE))
        each = (hash(id) for page in pages for id in page["id"].to_pylist())
        return np.sort(np.fromiter(each, np.int64, len(self)))

    def deletions(self, known: Collection[str], alive: int, now: int) -> int:
        """How many of its documents were deleted since, besides those of `known`; documents are not read for that.

        Args:
            known: ids that were written since, all of them; alive: how many of them there are now.
            now: documents of the index.
        """
        wanted = np.fromiter(map(hash, known), np.int64, len(known))
        at = np.searchsorted(self.hashes, wanted).clip(max=max(0, len(self) - 1))
        among_these = int((self.hashes[at] == wanted).sum()) if len(self) else 0
        return len(self) - among_these - (now - alive)

    def without(self, other: Snapshot) -> list[str]:
        """Ids that `other` has not."""
        theirs = pa.chunked_array(list(other.ids.values()), pa.large_string())
        return [
            id
            for some in self.ids.values()
            for id in some.filter(pc.invert(pc.is_in(some, value_set=theirs))).to_pylist()
        ]

    def leaving_out(self, ids: Collection[str]) -> Snapshot:
        """Without documents that are known to be written again or deleted since: `changed` need not look for them."""
        known = pa.array(list(ids), pa.large_string())
        kept = {shard: pc.invert(pc.is_in(some, value_set=known)) for shard, some in self.ids.items()}
        return Snapshot(
            self.index,
            {shard: some[kept[shard].to_numpy(zero_copy_only=False)] for shard, some in self.numbers.items()},
            {shard: some.filter(kept[shard]) for shard, some in self.ids.items()},
        )

    def changed(self, client: OpenSearch) -> list[str]:
        """Ids of documents that were written again or deleted since, as far as searches see it."""
        found: list[str] = []
        for shard, numbers in self.numbers.items():
            if len(numbers):
                lost = np.isin(numbers, self._missing(client, shard, numbers))
                found += self.ids[shard].filter(pa.array(lost)).to_pylist()
        return found

    def _missing(self, client: OpenSearch, shard: int, numbers: np.ndarray) -> np.ndarray:
        """Those of `numbers` that no document of the shard has now."""
        span = int(numbers[-1]) + 1
        width = min(max(-(-span // RANGES), 1), changes.IDS_A_PAGE)
        where = {"preference": f"_shards:{shard}|_primary"}
        counted = client.search(
            index=self.index,
            body={
                "size": 0,
                "query": {"range": {"_seq_no": {"lte": span - 1}}},
                "aggs": {"ranges": {"histogram": {"field": "_seq_no", "interval": width, "min_doc_count": 1}}},
            },
            params={**where, "allow_partial_search_results": "false"},
        )["aggregations"]["ranges"]["buckets"]
        now = np.zeros(-(-span // width), np.int64)
        now[[int(bucket["key"]) // width for bucket in counted]] = [bucket["doc_count"] for bucket in counted]
        fewer = np.flatnonzero(now < np.bincount(numbers // width, minlength=len(now)))
        missing = [np.empty(0, np.int64)]
        for some in changes.parts(fewer.tolist(), TOGETHER):
            lines: list[dict[str, Any]] = []
            for at in some:
                query = {"range": {"_seq_no": {"gte": at * width, "lt": (at + 1) * width}}}
                body = {"query": query, "size": width, "_source": False, "seq_no_primary_term": True}
                lines += [{"index": self.index, **where}, body]
            for at, answer in zip(some, client.msearch(body=lines)["responses"], strict=True):
                if "error" in answer or answer["_shards"]["failed"]:
                    raise UserError(f"{self.index!r} cannot be read: {reason_of(answer)}; run the same command again")
                first, last = np.searchsorted(numbers, (at * width, (at + 1) * width))
                left = [hit["_seq_no"] for hit in answer["hits"]["hits"]]
                missing.append(np.setdiff1d(numbers[first:last], left, assume_unique=True))
        return np.concatenate(missing)


def absent(client: OpenSearch, index: str, ids: Iterable[str]) -> set[str]:
    """Those of `ids` that the index does not hold at this moment. Raises as `changes.by_id`."""
    documents = changes.by_id(client, index, sorted(set(ids)), source=False)
    return {document["_id"] for document in documents if not document["found"]}
