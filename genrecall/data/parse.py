"""Checks of single values, and the loop that turns rows into a table and sets the bad ones aside.

Shared by the readers of items, queries, judgments and events. Every row ends in exactly one place: kept, or rejected
with a reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pyarrow as pa

from genrecall.data.rejects import Rejects
from genrecall.data.rows import Row
from genrecall.errors import BadRow
from genrecall.item_text import parse_text

BATCH = 16_384  # records turned into Arrow at a time
LONGEST_ID = 512  # bytes; OpenSearch takes no longer _id
LARGEST_GRADE = 1e9  # beyond it a grade is a mistake, and the smaller ones would vanish when divided by it
_PLAIN_ID = re.compile(rf"[!-~]{{1,{LONGEST_ID}}}").fullmatch
Record = tuple[Any, ...]  # in the order of a schema
RowParser = Callable[[Any], Record | None]


def parse_table(rows: Iterable[Row], schema: pa.Schema, parse: RowParser, rejects: Rejects, source: str) -> pa.Table:
    """The records of all rows as one table; arguments as of `parse_batches`."""
    return pa.Table.from_batches(parse_batches(rows, schema, parse, rejects, source), schema=schema)


def parse_batches(
    rows: Iterable[Row], schema: pa.Schema, parse: RowParser, rejects: Rejects, source: str, located: bool = False
) -> Iterator[pa.RecordBatch]:
    """The records of all rows, a batch at a time.

    Args:
        rows: of a file or index.
        schema: of the records.
        parse: from a row's value to its record, None for a row to leave out; raises BadRow.
        rejects: takes the bad rows and counts the others.
        source: what the rows are (items, queries, ...).
        located: whether the schema ends with `place` and `line`, to be filled with where the row was found.
    """
    stream = _records(rows, parse, rejects, source, located)
    while batch := list(islice(stream, BATCH)):
        columns = [pa.array(column, field.type) for column, field in zip(zip(*batch, strict=True), schema, strict=True)]
        yield pa.record_batch(columns, schema=schema)


def _records(rows: Iterable[Row], parse: RowParser, rejects: Rejects, source: str, located: bool) -> Iterator[Record]:
    for row in rows:
        try:
            if row.fault:
                raise BadRow(row.fault)
            record = parse(row.value)
        except BadRow as reason:
            rejects.reject(source, row.place, row.line, str(reason), row.value)
        else:
            rejects.accept(source)
            if record is not None:
                yield (*record, row.place, row.line) if located else record


def parse_id(value: Any, name: str) -> str:
    """A string or whole number as an id; BadRow where it is absent, empty, too long, or holds white space."""
    if isinstance(value, str) and _PLAIN_ID(value):  # nearly every id: twenty of them a logged query
        return value
    if value is None:
        raise BadRow(f"{name} is missing")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = parse_text(value, name)
    if not text:
        raise BadRow(f"{name} is empty")
    if " " in text:
        raise BadRow(f"{name} holds white space")
    if len(text.encode()) > LONGEST_ID:
        raise BadRow(f"{name} is longer than {LONGEST_ID} bytes")
    return text


def parse_texts(value: Any) -> Iterator[str]:
    """Every string and number in a value of nested lists, each as one line."""
    if isinstance(value, list):
        for part in value:
            yield from parse_texts(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif text := parse_text(value, "text"):
        yield text


def parse_grade(value: Any) -> float:
    """A finite number that is not negative; numbers written as text are read."""
    try:
        grade = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        grade = math.nan
    if not math.isfinite(grade):
        raise BadRow("grade is not a number")
    if not 0 <= grade <= LARGEST_GRADE:
        raise BadRow("grade is negative" if grade < 0 else "grade is too large")
    return grade


def parse_time(value: Any) -> datetime:
    """An ISO 8601 text, milliseconds since 1970, or a datetime; without a zone it is UTC."""
    try:
        if isinstance(value, str):
            value = int(value) if value.isdigit() else datetime.fromisoformat(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000, UTC)
        if isinstance(value, datetime):
            return value.replace(tzinfo=value.tzinfo or UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise BadRow("timestamp is missing" if value is None else "timestamp is not a time")


def parse_position(value: Any) -> int:
    """A 1-based rank; 0 where it is absent."""
    if value is None:
        return 0
    try:
        position = int(value)
    except (TypeError, ValueError, OverflowError):
        raise BadRow("position is not a whole number") from None
    if not 0 <= position < 1 << 31:
        raise BadRow("position is out of range")
    return position
