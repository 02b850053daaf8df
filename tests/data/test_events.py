"""User Behavior Insights logs become one flat table of events."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genrecall.config.data import DataSection, LoggedEventFields, LoggedEventSource, LoggedQuerySource
from genrecall.errors import UserError
from genrecall.events import open_events
from genrecall.records import EVENTS

QUERIES = [
    {
        "query_id": "s1",
        "user_query": "red shoes",
        "client_id": "c1",
        "timestamp": "2025-03-01T10:00:00.250Z",
        "query_response_hit_ids": ["b", "a"],
    },
    {"query_id": "s2", "user_query": "bag", "client_id": "c2", "timestamp": 1740823200000},
]


def event(action: str, query: str, item: Any, position: Any = 1, time: Any = "2025-03-01T11:00:00+01:00") -> dict:
    attributes = {"object": {"object_id": item, "object_id_field": "item_id"}, "position": {"ordinal": position}}
    return {
        "action_name": action,
        "query_id": query,
        "client_id": "c1",
        "timestamp": time,
        "event_attributes": attributes,
    }


EVENT_ROWS = [event("click", "s1", "a", 2), event("scroll", "s1", "a"), event("purchase", "s1", "a", None)]


def write(folder: Path, events: list[dict], queries: list[dict] = QUERIES) -> DataSection:
    for name, rows in (("ubi_queries.jsonl", queries), ("ubi_events.jsonl", events)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSection(folder=folder, max_reject_share=1)


def test_exposures_clicks_and_purchases_are_flattened(tmp_path: Path) -> None:
    events = open_events(write(tmp_path, EVENT_ROWS))
    assert events.schema == EVENTS
    rows = [(row["action"], row["item_id"], row["position"], row["user_query"]) for row in events.to_pylist()]
    assert rows == [
        ("exposure", "b", 1, "red shoes"),
        ("exposure", "a", 2, "red shoes"),
        ("click", "a", 2, "red shoes"),
        ("purchase", "a", 0, "red shoes"),
    ]
    assert events["timestamp"][0].as_py() == datetime(2025, 3, 1, 10, 0, 0, 250_000, UTC)
    assert events["timestamp"][2].as_py() == datetime(2025, 3, 1, 10, tzinfo=UTC), "zones are brought to UTC"


def test_bad_events_are_rejected_by_reason(tmp_path: Path) -> None:
    bad = [
        event("click", "s9", "a"),
        event("click", "s1", None),
        event("click", "s1", "a", "first"),
        event("click", "s1", "a", time="yesterday"),
        event("click", "s1", "a", time=None),
    ]
    section = write(
        tmp_path, [*EVENT_ROWS, *bad], [*QUERIES, QUERIES[0], {**QUERIES[0], "query_id": "s3", "timestamp": []}]
    )
    assert len(open_events(section, tmp_path / "rejects.jsonl")) == 4
    rows = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [(row["source"], row["line"], row["reason"]) for row in rows] == [
        ("ubi_queries", 3, "query_id is a duplicate"),
        ("ubi_queries", 4, "timestamp is not a time"),
        ("ubi_events", 4, "no such logged query"),
        ("ubi_events", 5, "item_id is missing"),
        ("ubi_events", 6, "position is not a whole number"),
        ("ubi_events", 7, "timestamp is not a time"),
        ("ubi_events", 8, "timestamp is missing"),
    ]


def test_parquet_with_flattened_names_reads_the_same(tmp_path: Path) -> None:
    expected = open_events(write(tmp_path, EVENT_ROWS))
    flat = [
        {
            **{key: row[key] for key in ("action_name", "query_id", "client_id", "timestamp")},
            "event_attributes.object.object_id": row["event_attributes"]["object"]["object_id"],
            "rank": row["event_attributes"]["position"]["ordinal"],
        }
        for row in EVENT_ROWS
    ]
    pq.write_table(pa.Table.from_pylist(flat), tmp_path / "events.parquet")
    times = [datetime(2025, 3, 1, 10, 0, 0, 250_000, UTC), datetime(2025, 3, 1, 10, tzinfo=UTC)]
    queries = [{**row, "timestamp": time} for row, time in zip(QUERIES, times, strict=True)]
    pq.write_table(pa.Table.from_pylist(queries), tmp_path / "queries.parquet")
    section = DataSection(
        folder=tmp_path,
        ubi_queries=LoggedQuerySource(path="queries.parquet"),
        ubi_events=LoggedEventSource(path="events.parquet", fields=LoggedEventFields(position="rank")),
    )
    assert open_events(section).equals(expected)


def test_dataset_without_logs_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of ubi_queries\.jsonl.*data\.ubi_queries\.path"):
        open_events(DataSection(folder=tmp_path))
