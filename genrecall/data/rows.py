"""Raw rows of files and OpenSearch indices, one at a time, in bounded memory.

Owns formats: JSON lines (also gzipped), Parquet, TSV, TREC qrels, the judgment list of OpenSearch's Search Relevance
Workbench, an index. What the rows mean belongs to `genrecall.data.readers`. A row that cannot be parsed is still a row,
with a reason in `fault`; a file that ends too early stops the run, because nobody knows what is missing from it.
"""

from __future__ import annotations

import codecs
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from genrecall.config.data import DataSection
from genrecall.errors import UserError

QUERY_COLUMNS = ("query_id", "text")
PARQUET_ROWS = 8192
TIMEOUT_S, KEEP_ALIVE = 60, "5m"  # of a page of an index, and of the view of it between two pages


@dataclass(frozen=True, slots=True)
class Row:
    """A raw row: its place (file or index), 1-based line or row number there, value, and why it cannot be parsed."""

    place: str
    line: int
    value: Any
    fault: str = ""


def read_files(files: list[Path]) -> Iterator[Row]:
    """Rows of files, each in the format that its name says."""
    for path in files:
        name = path.name.removesuffix(".gz")
        reader: Callable[[Path], Iterator[Row]]
        if name.endswith(".parquet"):
            reader = _parquet
        elif name.endswith(".tsv"):
            reader = _tsv
        elif name.endswith(".txt"):
            reader = _qrels
        elif name.endswith((".jsonl", ".ndjson", ".json")):
            reader = _json_lines
        else:
            raise UserError(f"{path}: format not known by its name; use .jsonl, .json.gz, .parquet, .tsv or TREC .txt")
        yield from reader(path)


def scan_index(section: DataSection, index: str) -> Iterator[Row]:
    """Every document of an index, as one unchanging view (point in time, search_after over `_shard_doc`).

    The value is the `_source` with `_id` added, so that a mapping may use it; the line is the position in the scan.
    """
    body: dict[str, Any] = {"size": section.page_size, "sort": [{"_shard_doc": "asc"}], "track_total_hits": False}
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
        [
            name,
            index["uuid"],
            [
                [n, max(copy["seq_no"]["max_seq_no"] for copy in copies)]
                for n, copies in sorted(index["shards"].items())
            ],
        ]
        for name, index in sorted(stats.items())
    ]


@contextmanager
def _connected(section: DataSection, index: str) -> Iterator[Any]:
    """A client of `data.cluster`; what it fails with is a UserError about `index`."""
    from opensearchpy import OpenSearch
    from opensearchpy.exceptions import OpenSearchException

    user = os.environ.get("GENRECALL_OPENSEARCH_USER")
    auth = (user, os.environ.get("GENRECALL_OPENSEARCH_PASSWORD", "")) if user else None
    client = OpenSearch(
        section.cluster,
        http_auth=auth,
        ca_certs=str(section.ca_certs) if section.ca_certs else None,
        timeout=TIMEOUT_S,
        max_retries=3,
        retry_on_timeout=True,
    )
    try:
        yield client
    except OpenSearchException as error:
        raise UserError(
            f"index {index!r} of data.cluster {section.cluster} could not be read ({error}): check that the cluster is "
            "up (`genrecall node status`), that the index exists, and GENRECALL_OPENSEARCH_USER / _PASSWORD"
        ) from None
    finally:
        client.close()


def is_judgment_list(path: Path) -> bool:
    """Whether a file is one JSON document with `judgmentRatings` rather than JSON lines."""
    if not path.name.endswith(".json"):
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(1 << 16).lstrip().startswith("{") and '"judgmentRatings"' in path.read_text("utf-8", "replace")


def read_judgment_list(path: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """Queries and their ratings: [(query text, [{"docId": ..., "rating": ...}])], in the file's order."""
    try:
        queries = json.loads(path.read_text(encoding="utf-8"))["judgmentRatings"]
        return [(str(query["query"]), list(query["ratings"])) for query in queries]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a judgment list ({error!r}): it must hold judgmentRatings: "
                        '[{"query": ..., "ratings": [{"docId": ..., "rating": ...}]}]') from None  # fmt: skip


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank."""
    line = 0
    try:
        with _open(path) as file:
            for line, text in enumerate(file, 1):
                if line == 1:
                    text = text.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901
                if text.strip():
                    yield line, text.rstrip(b"\r\n")
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path} cannot be read after line {line} ({error}): fetch or write it again") from None


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _json_lines(path: Path) -> Iterator[Row]:
    for line, text in _lines(path):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            yield Row(path.name, line, text.decode("utf-8", "backslashreplace"), "not JSON")
            continue
        yield Row(path.name, line, value, "" if isinstance(value, dict) else "not a JSON object")


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for value in batch.to_pylist():
                    line += 1
                    yield Row(path.name, line, value)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file ({error}): fetch or write it again") from None


def _tsv(path: Path) -> Iterator[Row]:
    """`query_id<TAB>text`; a first line with just those names is a header."""
    for line, raw in _lines(path):
        text, fault = _decode(raw)
        cells = tuple(text.split("\t"))
        if line == 1 and cells == QUERY_COLUMNS:
            continue
        if not fault and len(cells) != len(QUERY_COLUMNS):
            fault = "not two columns"
        yield Row(path.name, line, text if fault else dict(zip(QUERY_COLUMNS, cells, strict=True)), fault)


def _qrels(path: Path) -> Iterator[Row]:
    """TREC: `query_id iteration item_id grade`, separated by white space."""
    for line, raw in _lines(path):
        text, fault = _decode(raw)
        cells = text.split()
        if not fault and len(cells) != 4:
            fault = "not four columns"
        value = text if fault else {"query_id": cells[0], "item_id": cells[2], "grade": cells[3]}
        yield Row(path.name, line, value, fault)


def _decode(raw: bytes) -> tuple[str, str]:
    try:
        return raw.decode("utf-8"), ""
    except UnicodeDecodeError:
        return raw.decode("utf-8", "backslashreplace"), "not UTF-8"
