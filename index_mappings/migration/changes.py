"""An index read in the order in which it was written.

Each shard numbers its writes (`_seq_no`), and a document carries the number of its last one. So a copy reads from
number -1 to now, what was written meanwhile is read from there on, and a reader that was killed goes on after the last
number that it noted. Writers need not maintain a field for that, and no clocks are compared.

What numbers do not show is a deletion: the document is gone, and its number with it. Those are found by comparing ids
(`snapshot`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from opensearchpy import OpenSearch

from genrecall.errors import UserError
from genrecall.opensearch import reason_of

T = TypeVar("T")
Position = dict[int, int]
"""shard -> the highest number read, -1 where nothing was"""

SHARD_TIMEOUT_S = 60.0  # wait for unavailable shards
SERVING = ("STARTED", "RELOCATING")
EXPANDED = 3  # about as much larger than its index on disk is a document as JSON
IDS_LOOKED_UP = 1_000  # in one request
IDS_A_PAGE = 10_000  # the most that OpenSearch returns at once by default


@dataclass(frozen=True)
class Written:
    """A document as it is now. `source` is None where it was not requested or the document does not exist."""

    id: str
    seq_no: int
    primary_term: int
    source: dict[str, Any] | None


def start(client: OpenSearch, index: str) -> Position:
    """The position before everything."""
    return dict.fromkeys(_primaries(client, index), -1)


def now(client: OpenSearch, index: str, blocked: bool = False) -> Position:
    """The position of this moment. What was written up to it is visible to every reading that begins afterwards.

    It is the global checkpoint: all writes up to that number are done, while a higher one may be done before a lower.

    blocked: no write is under way, so that there is none higher; waited for, since the checkpoint of a primary that
        took over from another may lag behind for a moment. UserError where it does not come up.
    """
    deadline = time.monotonic() + SHARD_TIMEOUT_S
    while True:
        shards = {number: primary["seq_no"] for number, primary in _primaries(client, index).items()}
        behind = [n for n, shard in shards.items() if shard["global_checkpoint"] < shard["max_seq_no"]]
        if not blocked or not behind:
            break
        if time.monotonic() > deadline:
            raise UserError(
                f"shard {behind[0]} of {index!r} has writes that its copies have not confirmed: `GET "
                "_cat/recovery?active_only` says what they wait for. Nothing is lost: run the same command again"
            )
        time.sleep(0.05)
    client.indices.refresh(index=index)
    return {number: shard["global_checkpoint"] for number, shard in shards.items()}


def pages(
    client: OpenSearch, index: str, after: Position, until: Position, size: int, source: bool | list[str] = True
) -> Iterator[tuple[int, list[Written]]]:
    """(shard, documents) whose last write lies in (after, until], each shard's in order, at most `size` at a time.

    A document that is written again while this runs leaves its place and is not shown: it comes with the next reading.
    """
    for shard, last in until.items():
        at = after[shard]
        while at < last:
            answer = client.search(
                index=index,
                body={
                    "query": {"range": {"_seq_no": {"gt": at, "lte": last}}},
                    "sort": [{"_seq_no": "asc"}],
                    "size": size,
                    "seq_no_primary_term": True,
                    "track_total_hits": False,
                    "_source": source,
                },
                params={"preference": f"_shards:{shard}|_primary", "allow_partial_search_results": "false"},
            )
            hits = answer["hits"]["hits"]
            if not hits:
                break
            if any("_routing" in hit for hit in hits):
                routed = next(hit["_id"] for hit in hits if "_routing" in hit)
                raise UserError(
                    f"index {index!r} has documents with a routing of their own, such as {routed!r}: they would land "
                    "in other shards, which is not supported"
                )
            page = [Written(hit["_id"], hit["_seq_no"], hit["_primary_term"], hit.get("_source")) for hit in hits]
            at = page[-1].seq_no
            yield shard, page


def page_size(client: OpenSearch, index: str, most: int, megabytes: float) -> int:
    """Documents to read at a time: at most `most`, and about `megabytes` by what they take on disk, compressed."""
    primaries = _primaries(client, index).values()
    stored = sum(one["store"]["size_in_bytes"] for one in primaries)
    documents = sum(one["docs"]["count"] for one in primaries)
    return int(max(1, min(most, IDS_A_PAGE, megabytes * 1e6 * documents / max(1, stored * EXPANDED))))


def pending(client: OpenSearch, index: str, after: Position) -> int:
    """Documents written since `after`, as far as searches see them."""
    ranges = ((shard, {"range": {"_seq_no": {"gt": at}}}) for shard, at in after.items())
    return sum(count(client, index, query, shard) for shard, query in ranges)


def ids(client: OpenSearch, index: str) -> Iterator[str]:
    """The id of every document."""
    for _, page in pages(client, index, start(client, index), now(client, index), IDS_A_PAGE, source=False):
        yield from (document.id for document in page)


def by_id(client: OpenSearch, index: str, ids: Sequence[str], source: bool | list[str] = True) -> list[dict[str, Any]]:
    """What `_mget` says of each id, as the primaries have it at this moment; `found` tells whether it is there.

    UserError where a shard does not say: a document there must not be taken for one that is gone.
    """
    params = {
        "preference": "_primary",
        "_source": ",".join(source) if isinstance(source, list) else str(source).lower(),
    }
    documents: list[dict[str, Any]] = []
    for some in parts(ids, IDS_LOOKED_UP):
        documents += client.mget(index=index, body={"ids": list(some)}, params=params)["docs"]
    if failed := [document["error"] for document in documents if "error" in document]:
        raise UserError(
            f"{len(failed)} documents of {index!r} cannot be read: {reason_of(failed[0])}. Nothing is lost: run the "
            "same command again"
        )
    return documents


def parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive values, `size` at a time."""
    return (values[first : first + size] for first in range(0, len(values), size))


def from_json(position: Mapping[str, int]) -> Position:
    """JSON knows only text as keys."""
    return {int(shard): number for shard, number in position.items()}


def count(client: OpenSearch, index: str, query: Mapping[str, Any] | None = None, shard: int | None = None) -> int:
    """Documents of `index`, or of one of its shards, that match. UserError where a shard did not answer, as the count
    would lack its documents.
    """
    params = {"preference": "_primary" if shard is None else f"_shards:{shard}|_primary"}
    answer = client.count(index=index, body={"query": query} if query else None, params=params)
    if answer["_shards"]["successful"] < answer["_shards"]["total"]:
        raise UserError(_unavailable(index, answer["_shards"]["successful"], answer["_shards"]["total"]))
    found: int = answer["count"]
    return found


def _primaries(client: OpenSearch, index: str) -> dict[int, dict[str, Any]]:
    """Statistics of the primary of each shard. Waits for unavailable ones, as after the restart of a node.

    OpenSearch leaves unavailable shards out of its statistics, as if the index had fewer; a reader that relied on them
    would lose what those shards hold.
    """
    wanted = int(client.indices.get_settings(index=index)[index]["settings"]["index"]["number_of_shards"])
    deadline = time.monotonic() + SHARD_TIMEOUT_S
    while True:
        stats = client.indices.stats(index=index, params={"level": "shards"})["indices"].get(index, {})
        found = {
            int(number): copy
            for number, copies in stats.get("shards", {}).items()
            for copy in copies
            if copy["routing"]["primary"] and copy["routing"]["state"] in SERVING and copy.get("seq_no")
        }
        if len(found) == wanted:
            return found
        if time.monotonic() > deadline:
            raise UserError(_unavailable(index, len(found), wanted))
        time.sleep(0.2)


def _unavailable(index: str, answering: int, shards: int) -> str:
    return (
        f"{answering} of {shards} shards of {index!r} answer: `GET _cluster/allocation/explain` says why the others do "
        "not; then run the same command again. Nothing is lost"
    )
