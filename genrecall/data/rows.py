"""Raw rows of files, one at a time, in bounded memory.

Owns the formats: JSON lines (also gzipped), Parquet, TSV, TREC qrels, the judgment list of OpenSearch's Search
Relevance Workbench. Rows of an index come from `genrecall.data.index_rows`; what rows mean belongs to
`genrecall.data.readers`. A row that cannot be parsed is still a row, with a reason in `fault`; a truncated file stops
the run, because nobody knows what is missing from it.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from genrecall.errors import UserError

QUERY_COLUMNS = ("query_id", "text")
PARQUET_ROWS = 8192


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
