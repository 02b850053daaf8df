"""Raw rows of an OpenSearch index, and the state of an index as a key of what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from genrecall.config.data import DataSection
from genrecall.config.opensearch import RetrySection
from genrecall.data.row import Row
from genrecall.errors import UserError

PAGE_ROWS = 1000
KEEP_ALIVE = "5m"  # of the point in time, between two pages


def scan_index(section: DataSection, index: str) -> Iterator[Row]:
    """Every document of an index, as one unchanging view (point in time, search_after over `_shard_doc`).

    The value is the `_source` with `_id` added, so that a mapping may use it; the line is the position in the scan.
    """
    body: dict[str, Any] = {"size": PAGE_ROWS, "sort": [{"_shard_doc": "asc"}], "track_total_hits": False}
    whole = {"allow_partial_search_results": "false"}  # a shard that fails is an error, not a smaller catalogue
    line = 0
    with _connected(section, index) as client:
        pit = client.create_pit(index=index, params={"keep_alive": KEEP_ALIVE})["pit_id"]
        try:
            while True:
                body["pit"] = {"id": pit, "keep_alive": KEEP_ALIVE}
                hits = client.search(body=body, params=whole)["hits"]["hits"]
                for hit in hits:
                    line += 1
                    yield Row(index, line, {"_id": hit["_id"], **hit.get("_source", {})})
                if not hits:
                    return
                body["search_after"] = hits[-1]["sort"]
        finally:
            client.delete_pit(body={"pit_id": [pit]})


def index_state(section: DataSection, index: str) -> list[Any]:
    """The state of an index, or of those of an alias, without reading it: the same state has the same documents.

    [[name, uuid, [[shard, the number of its last operation]]]], in order of the names.
    """
    with _connected(section, index) as client:
        stats = client.indices.stats(index=index, metric="docs", params={"level": "shards"})["indices"]
    return [
        [name, about["uuid"], [[shard, _last_operation(copies)] for shard, copies in sorted(about["shards"].items())]]
        for name, about in sorted(stats.items())
    ]


def _last_operation(copies: list[dict[str, Any]]) -> int:
    return max(copy["seq_no"]["max_seq_no"] for copy in copies)


@contextmanager
def _connected(section: DataSection, index: str) -> Iterator[Any]:
    """A client of `data.cluster`; its errors become a UserError about `index`."""
    from genrecall.opensearch import connect, explain_errors

    client = connect(section.cluster, retry=RetrySection(attempts=3))
    try:
        with explain_errors(section.cluster, "data.cluster"):
            yield client
    except UserError as error:
        raise UserError(
            f"index {index!r} of data.cluster {section.cluster.url} could not be read: {error}. `genrecall node "
            "status` shows local nodes"
        ) from None
    finally:
        client.close()
