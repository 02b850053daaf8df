"""Raw rows of files, one at a time, in bounded memory.

Owns which format a file is in, judged by what it begins with: Parquet, XML, JSON, delimited text, or the lines of
judgments. Rows of an index come from `genrecall.data.index_rows`; what rows mean belongs to `genrecall.data.readers`. A
row that cannot be parsed is still a row, with a reason in `fault`; a truncated file stops the run, because nobody knows
what is missing from it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from genrecall.config.data import Source
from genrecall.data import columns, judgment_lines
from genrecall.data.columns import plain
from genrecall.data.json_files import read_json
from genrecall.data.row import Row
from genrecall.data.tables import layout_of, read_table
from genrecall.data.text_files import PARQUET, encoding_of, head, lines_of
from genrecall.data.xml_files import read_xml
from genrecall.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_ROWS = 8192
LONGEST_NAME = 60  # characters of a column's name
ALIASES = {
    "items": columns.ITEM,
    "queries": columns.QUERY,
    "judgments": columns.JUDGMENT,
    "ubi_queries": columns.LOGGED_QUERY,
    "ubi_events": columns.LOGGED_EVENT,
}
# What the columns of a file without a header are, by their number. A `query` may be an id or a text.
UNNAMED = {
    "queries": {1: ("text",), 2: ("query_id", "text")},
    "judgments": {3: ("query", "item_id", "grade"), 4: ("query_id", "iteration", "item_id", "grade")},
}


def read_files(files: Sequence[Path], kind: str, source: Source | None = None) -> Iterator[Row]:
    """Rows of files. kind: what the rows are (a key of ALIASES); source: settings of them."""
    for path in files:
        yield from read_file(path, kind, source or Source())


def read_file(path: Path, kind: str, source: Source) -> Iterator[Row]:
    """Rows of one file, in the format that it begins with. Args as of `read_files`."""
    reader = format_of(path, kind, source)[1]
    return reader()


def format_of(path: Path, kind: str, source: Source) -> tuple[str, partial[Iterator[Row]]]:
    """What a file is, for people, and what reads it."""
    if head(path, 4) == PARQUET or path.name.endswith(".parquet"):
        return "Parquet", partial(_parquet, path)
    encoding = source.encoding or encoding_of(path)
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise UserError(f"encoding {encoding!r} is not known: such as utf-8, cp1252, utf-16, shift_jis") from None
    _, first = next(lines_of(path, encoding), (0, ""))
    first = first.lstrip("\ufeff \t")
    if not first:
        if kind.startswith("ubi_"):  # an hour without a visitor
            return "empty", partial(iter, ())
        raise UserError(f"{path} is empty")
    if first.startswith("<"):
        if first[:14].casefold().startswith(("<!doctype html", "<html")):
            raise UserError(f"{path} is a page in HTML, as of a log-in or an error: fetch the feed again")
        return "XML", partial(read_xml, path)
    if first[0] in "{[":
        return f"JSON, {encoding}", partial(read_json, path, encoding)
    if kind == "judgments" and (reader := judgment_lines.reader_of(path, encoding)):
        return f"{reader[0]}, {encoding}", reader[1]
    numbered = any(str(value).isdigit() for value in source.fields.model_dump(exclude_defaults=True).values())
    layout = layout_of(
        path,
        encoding,
        lambda rows: not numbered and _is_header(rows, kind),
        lambda width: UNNAMED.get(kind, {}).get(width, ()),
        source.delimiter,
    )
    mark = {"\t": "tab"}.get(layout.delimiter, repr(layout.delimiter))
    header = "" if layout.header else ", no header"
    return f"delimited by {mark}, {encoding}{header}", partial(read_table, path, layout)


def _is_header(rows: list[list[str]], kind: str) -> bool:
    """Whether the first row of a table names its columns: by known names, or words above a column of numbers.

    A header of items may be in any language: then its cells look like names.
    """
    cells = rows[0]
    if any(is_number(cell) for cell in cells):
        return False
    known = sum(plain(cell) in columns.names(ALIASES[kind]) for cell in cells)
    if known >= min(2, len(cells)) or _above_numbers(rows):
        return True
    filled = [cell for cell in cells if cell.strip()]
    looks = len(set(filled)) == len(filled) > 1 and all(len(cell) <= LONGEST_NAME for cell in filled)
    return kind == "items" and looks


def _above_numbers(rows: list[list[str]]) -> bool:
    """Whether a column has numbers in nearly all rows but the first, which has a word there."""
    for column, cell in enumerate(rows[0]):
        below = [row[column] for row in rows[1:] if len(row) > column and row[column].strip()]
        if cell.strip() and below and sum(map(is_number, below)) >= 0.8 * len(below):
            return True
    return False


def is_number(text: str) -> bool:
    try:
        float(text.strip().replace(",", "."))
    except ValueError:
        return False
    return text.strip().casefold() not in ("nan", "inf", "infinity")


def _with_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """`batch` with columns of bytes as texts where they are UTF-8: older writers do not say that they are."""
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            with suppress(pa.ArrowInvalid):
                batch = batch.set_column(place, field.name, batch.column(place).cast(pa.string()))
    return batch


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for value in _with_text(batch).to_pylist():
                    line += 1
                    yield Row(path.name, line, value)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole Parquet file ({error}): fetch or write it again") from None
