"""Behaviour logs: User Behavior Insights 1.3 (`ubi_queries`, `ubi_events`) as streams of record batches.

A batch at a time is in memory, so a log may be of any size. What needs the whole log (a query logged twice, an event of
a query that was not logged) and what is derived from it (requests, a client's recent items) belongs to `trainer.logs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from genrecall.config.data import DataSection
from genrecall.data.field_mapping import getter
from genrecall.data.parse import Record, RowParser, parse_batches, parse_id, parse_position, parse_time
from genrecall.data.rejects import Rejects
from genrecall.data.sources import has_source, read_rows, resolve_sources
from genrecall.errors import BadRow
from genrecall.item_text import parse_text

_TIME = pa.timestamp("ms", tz="UTC")
_WHERE = [pa.field("place", pa.string(), nullable=False), pa.field("line", pa.int64(), nullable=False)]

# A row of `ubi_queries`, and the file or index and the line where it was found.
LOGGED_QUERIES = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("client_id", pa.string(), nullable=False),  # "" where unknown, as are gender and age_band
        pa.field("timestamp", _TIME, nullable=False),
        pa.field("gender", pa.string(), nullable=False),
        pa.field("age_band", pa.string(), nullable=False),
        pa.field("hits", pa.list_(pa.string()), nullable=False),  # the items shown, best first
        *_WHERE,
    ]
)

# A row of `ubi_events`, of an action that `data.actions` lists.
LOGGED_EVENTS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("client_id", pa.string(), nullable=False),
        pa.field("timestamp", _TIME, nullable=False),
        pa.field("action", pa.string(), nullable=False),  # exposure | click | purchase
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),  # 1-based rank in the answer; 0 where unknown
        *_WHERE,
    ]
)


def has_logs(section: DataSection) -> bool:
    """Whether the dataset that `section` names comes with logs."""
    return has_source(resolve_sources(section)[0], "ubi_queries")


def logged_queries(section: DataSection, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    """LOGGED_QUERIES, in the order of the log; bad rows go to `rejects`. section: resolved (`resolve_sources`)."""
    rows = read_rows(section, "ubi_queries")
    return parse_batches(rows, LOGGED_QUERIES, _logged_query(section), rejects, "ubi_queries", located=True)


def logged_events(section: DataSection, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    """LOGGED_EVENTS, in the order of the log. An event of an action that `data.actions` does not list is left out."""
    rows = read_rows(section, "ubi_events")
    return parse_batches(rows, LOGGED_EVENTS, _logged_event(section), rejects, "ubi_events", located=True)


def _logged_query(section: DataSection) -> RowParser:
    fields = section.ubi_queries.fields
    get_id, get_text, get_client = getter(fields.query_id), getter(fields.user_query), getter(fields.client_id)
    get_time, get_hits = getter(fields.timestamp), getter(fields.hits)
    get_gender, get_age = getter(fields.gender), getter(fields.age_band)

    def parse(row: Any) -> Record:
        hits = get_hits(row) or []
        if not isinstance(hits, list):
            raise BadRow("the items shown are not a list")
        return (
            parse_id(get_id(row), "query_id"),
            parse_text(get_text(row), "user_query"),
            parse_text(get_client(row), "client_id"),
            parse_time(get_time(row)),
            parse_text(get_gender(row), "gender"),
            parse_text(get_age(row), "age_band"),
            [parse_id(hit, "item_id") for hit in hits],
        )

    return parse


def _logged_event(section: DataSection) -> RowParser:
    fields = section.ubi_events.fields
    get_action, get_id, get_client = getter(fields.action), getter(fields.query_id), getter(fields.client_id)
    get_time, get_item, get_position = getter(fields.timestamp), getter(fields.item_id), getter(fields.position)

    def parse(row: Any) -> Record | None:
        name = parse_id(get_action(row), "action_name")
        if name not in section.actions:
            return None
        return (
            parse_id(get_id(row), "query_id"),
            parse_text(get_client(row), "client_id"),
            parse_time(get_time(row)),
            section.actions[name],
            parse_id(get_item(row), "item_id"),
            parse_position(get_position(row)),
        )

    return parse
