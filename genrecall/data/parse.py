"""Checks of single values, and the loop that turns rows into a table and sets the bad ones aside.

Shared by the readers of items, queries, judgments and events. Every row ends in exactly one place: kept, or rejected
with a reason.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

import pyarrow as pa

from genrecall.data.rejects import Rejects
from genrecall.data.row import Row
from genrecall.errors import BadRow
from genrecall.item_text import is_absent, parse_text

BATCH = 16_384  # records turned into Arrow at a time
LONGEST_ID = 512  # bytes; OpenSearch takes no longer _id
FIRST_YEAR, LAST_YEAR = 1995, 2100  # of a log
LARGEST_GRADE = 1e9  # beyond it a grade is a mistake, and the smaller ones would vanish when divided by it
_UNITS: tuple[tuple[float, float], ...] = (
    (1e11, 1),
    (1e14, 1e3),
    (1e17, 1e6),
    (1e20, 1e9),
)  # a number below -> what it counts, a second
_DAY = re.compile(r"(19|20)\d{6}")
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE]\+?\d+)?")
_PLAIN_ID = re.compile(rf"[!-~]{{1,{LONGEST_ID}}}").fullmatch
Record = tuple[Any, ...]  # in the order of a schema
RowParser = Callable[[Any], Record | list[Record] | None]


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
        parse: from a row's value to its record, or records; None for a row to leave out; raises BadRow.
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
            found = parse(row.value)
        except (BadRow, RecursionError) as error:
            reason = str(error) if isinstance(error, BadRow) else "nested too deeply"
            rejects.reject(source, row.place, row.line, reason, row.value)
        else:
            rejects.accept(source)
            for record in found if isinstance(found, list) else [] if found is None else [found]:
                yield (*record, row.place, row.line) if located else record


def parse_id(value: Any, name: str) -> str:
    """A string or whole number as an id, without spaces around it; BadRow where it is absent, empty or too long.

    Spaces and slashes inside belong to it; line breaks and other control characters are refused.
    """
    if isinstance(value, str) and _PLAIN_ID(value):  # nearly every id: twenty of them a logged query
        return value
    if value is None:
        raise BadRow(f"{name} is missing")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = value.strip() if isinstance(value, str) else parse_text(value, name)
    if not text:
        raise BadRow(f"{name} is empty")
    parse_text(text, name)
    if not text.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in text):
        raise BadRow(f"{name} holds a line break or control character")
    if len(text.encode()) > LONGEST_ID:
        raise BadRow(f"{name} is longer than {LONGEST_ID} bytes")
    return text


def parse_item_id(value: Any, name: str) -> str:
    """As `parse_id`; what exports write where there is nothing (NaN, null) is no id."""
    text = parse_id(value, name)
    if is_absent(text):
        raise BadRow(f"{name} is missing")
    return text


def parse_number(value: Any, name: str) -> float:
    """A finite number, also as text with a decimal comma or a percent sign; BadRow for anything else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        try:
            number = float(value.strip().removesuffix("%").replace(",", ".")) if isinstance(value, str) else math.nan
        except ValueError:
            number = math.nan
    if not math.isfinite(number):
        raise BadRow(f"{name} is not a number" if value is not None else f"{name} is missing")
    return number


def parse_time(value: Any) -> datetime:
    """When something happened: a time in ISO 8601 or RFC 2822, or a number since 1970; without a zone it is UTC.

    A number is in seconds, milliseconds, micro- or nanoseconds, whichever gives a time of these decades. BadRow for a
    time before 1995 or after 2100: it is in another unit than it seems.
    """
    if isinstance(value, list | dict) and len(value) == 1:  # {"$date": ...}
        value = value[0] if isinstance(value, list) else next(iter(value.values()))
    if value is None or value == "":
        raise BadRow("timestamp is missing")
    try:
        time = _time(value)
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        time = None
    if time is None:
        raise BadRow("timestamp is not a time")
    if not FIRST_YEAR <= time.year < LAST_YEAR:
        raise BadRow(f"timestamp is not between the years {FIRST_YEAR} and {LAST_YEAR}")
    return time


def _time(value: Any) -> datetime | None:
    if isinstance(value, str):
        text = value.strip()
        if _DAY.fullmatch(text):
            return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
        if _NUMBER.fullmatch(text):
            value = float(text)
        else:
            for read in (datetime.fromisoformat, parsedate_to_datetime, _slashed, _local):
                try:
                    found = read(text)
                except (ValueError, TypeError, IndexError, OverflowError):
                    continue
                return _utc(found)
            return None
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        value = float(value)
        for largest, unit in _UNITS:
            if abs(value) < largest:
                return datetime.fromtimestamp(value / unit, UTC)
        return None
    if isinstance(value, datetime):
        return _utc(value)
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _slashed(text: str) -> datetime:
    """`2024/03/05 10:00:00`, `2024-03-05 10:00:00 UTC`."""
    text = text.replace("/", "-").removesuffix(" UTC").removesuffix(" GMT")
    return datetime.fromisoformat(text)


def _local(text: str) -> datetime:
    """`31.01.2024 14:00:00`, `1/31/2024 2:00:00 PM` (day and month are told by what follows), and as Dashboards write
    tables: `Jan 31, 2024 @ 14:00:00.000`.
    """
    forms = (
        "%b %d, %Y @ %H:%M:%S.%f",
        "%d.%m.%Y",
        "%d.%m.%Y %H:%M",
        "%d.%m.%Y %H:%M:%S",
        "%m/%d/%Y %I:%M %p",
        "%m/%d/%Y %I:%M:%S %p",
    )
    for form in forms:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    raise ValueError(text)


def parse_grade(value: Any, labels: Mapping[str, float] = {}) -> float:
    """A finite number, also as text, below LARGEST_GRADE; one of `labels` (in lower case) is its number."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (label := labels.get(" ".join(value.split()).casefold())) is not None:
        return label
    grade = parse_number(value, "grade")
    if abs(grade) > LARGEST_GRADE:
        raise BadRow("grade is too large")
    return grade


def parse_position(value: Any) -> int:
    """A rank, from 0 or from 1; -1 where it is absent."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if value is None or value == "" or isinstance(value, dict):  # coordinates on a screen
        return -1
    if isinstance(value, float) and math.isnan(value):
        return -1
    try:
        position = int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise BadRow("position is not a whole number") from None
    if not -1 <= position < 1 << 31:
        raise BadRow("position is out of range")
    return position
