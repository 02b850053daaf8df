"""Behaviour logs: User Behavior Insights 1.3 (`ubi_queries`, `ubi_events`) as one flat table of events.

Exposures are the `query_response_hit_ids` of a logged query; clicks and purchases are events. What is derived from them
(pairs to train on, a user's recent items) belongs to the trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from genrecall.config.data import DataSection
from genrecall.field_mapping import getter
from genrecall.parse import id_of, position_of, table, text_of, time_of
from genrecall.readers import describe, rows_of
from genrecall.records import EVENTS
from genrecall.rejects import BadRow, Rejects
from genrecall.rows import paths

LOGGED_QUERY_FILES = ("ubi_queries.jsonl", "ubi_queries.jsonl.gz", "ubi_queries.parquet")
LOGGED_EVENT_FILES = ("ubi_events.jsonl", "ubi_events.jsonl.gz", "ubi_events.parquet")


def open_events(section: DataSection, rejects: Path | Rejects | None = None) -> pa.Table:
    """The logs of the dataset that `section` names, as EVENTS; arguments and errors as of `readers.open_dataset`."""
    return read_events(describe(section)[0], rejects if isinstance(rejects, Rejects) else Rejects(rejects))


def has_events(section: DataSection) -> bool:
    """Whether the dataset that `section` names comes with logs."""
    section = describe(section)[0]
    found = paths(section.folder, section.ubi_queries, LOGGED_QUERY_FILES)
    return bool(section.ubi_queries.index or found)


def read_events(section: DataSection, rejects: Rejects) -> pa.Table:
    """EVENTS: first every exposure, in the order of the logged queries, then the events in their order.

    An event of an action that `data.actions` does not list is left out; one of a query that was not logged is a reject,
    since nobody knows what was asked. Items are not compared with a catalogue: they may have been sold out since.
    """
    asked: dict[str, str] = {}
    parts = []
    for source, names, parser in (
        ("ubi_queries", LOGGED_QUERY_FILES, _logged_query),
        ("ubi_events", LOGGED_EVENT_FILES, _logged_event),
    ):
        rows = rows_of(section, getattr(section, source), names, source)
        parts.append(table(rows, EVENTS, parser(section, asked), rejects, source))
        rejects.check(source, section.max_reject_share)
    return pa.concat_tables(parts)


def _logged_query(section: DataSection, asked: dict[str, str]) -> Callable[[Any], Iterator[tuple[Any, ...]]]:
    fields = section.ubi_queries.fields
    get_id, get_text, get_client = getter(fields.query_id), getter(fields.user_query), getter(fields.client_id)
    get_time, get_hits = getter(fields.timestamp), getter(fields.hits)

    def parse(row: Any) -> Iterator[tuple[Any, ...]]:
        query_id, text = id_of(get_id(row), "query_id"), text_of(get_text(row), "user_query")
        client, time = text_of(get_client(row), "client_id"), time_of(get_time(row))
        hits = get_hits(row) or []
        if not isinstance(hits, list):
            raise BadRow("the items shown are not a list")
        records = [
            (query_id, text, client, time, "exposure", id_of(hit, "item_id"), rank) for rank, hit in enumerate(hits, 1)
        ]
        if query_id in asked:
            raise BadRow("query_id is a duplicate")
        asked[query_id] = text
        return iter(records)

    return parse


def _logged_event(section: DataSection, asked: dict[str, str]) -> Callable[[Any], Iterator[tuple[Any, ...]]]:
    fields = section.ubi_events.fields
    get_action, get_id, get_client = getter(fields.action), getter(fields.query_id), getter(fields.client_id)
    get_time, get_item, get_position = getter(fields.timestamp), getter(fields.item_id), getter(fields.position)

    def parse(row: Any) -> Iterator[tuple[Any, ...]]:
        name = id_of(get_action(row), "action_name")
        if name not in section.actions:
            return
        query_id = id_of(get_id(row), "query_id")
        if query_id not in asked:
            raise BadRow("no such logged query")
        client, time = text_of(get_client(row), "client_id"), time_of(get_time(row))
        item, position = id_of(get_item(row), "item_id"), position_of(get_position(row))
        yield query_id, asked[query_id], client, time, section.actions[name], item, position

    return parse
