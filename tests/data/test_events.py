"""User Behavior Insights logs are read in batches, from any shape that can be mapped."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genrecall.config.data import (
    DataSection,
    LoggedEventFields,
    LoggedEventSource,
    LoggedQueryFields,
    LoggedQuerySource,
)
from genrecall.data.events import LOGGED_EVENTS, LOGGED_QUERIES, has_logs, logged_events, logged_queries
from genrecall.data.rejects import Rejects
from genrecall.errors import UserError

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


def read(section: DataSection, rejects: Rejects | None = None) -> tuple[pa.Table, pa.Table]:
    bad = rejects or Rejects()
    queries = pa.Table.from_batches(logged_queries(section, bad), LOGGED_QUERIES)
    return queries, pa.Table.from_batches(logged_events(section, bad), LOGGED_EVENTS)


def test_queries_keep_what_was_shown_and_events_their_action(tmp_path: Path) -> None:
    queries, events = read(write(tmp_path, EVENT_ROWS))
    assert queries.to_pylist()[0] == {
        "query_id": "s1",
        "text": "red shoes",
        "client_id": "c1",
        "timestamp": datetime(2025, 3, 1, 10, 0, 0, 250_000, UTC),
        "gender": "",
        "age_band": "",
        "hits": ["b", "a"],
        "place": "ubi_queries.jsonl",
        "line": 1,
    }
    assert queries["hits"][1].as_py() == [], "a query that showed nothing"
    rows = [(row["action"], row["item_id"], row["position"], row["line"]) for row in events.to_pylist()]
    assert rows == [("click", "a", 2, 1), ("purchase", "a", -1, 3)]
    assert events["timestamp"][0].as_py() == datetime(2025, 3, 1, 10, tzinfo=UTC), "zones are brought to UTC"


def test_gender_and_age_band_come_from_where_the_mapping_says(tmp_path: Path) -> None:
    attributes = {"query_attributes": {"gender": " f ", "age_band": "25-34"}, "who": {"sex": "m"}}
    rows = [{**QUERIES[0], **attributes}, QUERIES[1], {**QUERIES[1], "query_attributes": {"gender": ["f", "m"]}}]
    section, rejects = write(tmp_path, EVENT_ROWS, rows), Rejects()
    queries, _ = read(section, rejects)
    assert [(row["gender"], row["age_band"]) for row in queries.to_pylist()] == [("f", "25-34"), ("", "")]
    assert rejects.reasons["ubi_queries"] == {"gender is a list, not text": 1}
    mapped = LoggedQuerySource(fields=LoggedQueryFields(gender="who.sex"))
    queries, _ = read(section.model_copy(update={"ubi_queries": mapped}))
    assert queries["gender"].to_pylist() == ["m", "", ""]


def test_bad_rows_are_rejected_by_reason(tmp_path: Path) -> None:
    bad = [
        event("click", "s1", None),
        event("click", "s1", "a", "first"),
        event("click", "s1", "a", time="yesterday"),
        event("click", "s1", "a", time=None),
    ]
    queries = [*QUERIES, {**QUERIES[0], "timestamp": []}, {**QUERIES[0], "query_response_hit_ids": [True]}]
    rejects = Rejects(tmp_path / "rejects.jsonl")
    assert [len(table) for table in read(write(tmp_path, [*EVENT_ROWS, *bad], queries), rejects)] == [2, 2]
    rows = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [(row["source"], row["line"], row["reason"]) for row in rows] == [
        ("ubi_queries", 3, "timestamp is missing"),
        ("ubi_queries", 4, "item_id is true or false, not text"),
        ("ubi_events", 4, "item_id is missing"),
        ("ubi_events", 5, "position is not a whole number"),
        ("ubi_events", 6, "timestamp is not a time"),
        ("ubi_events", 7, "timestamp is missing"),
    ]


def test_parquet_with_flattened_names_reads_the_same(tmp_path: Path) -> None:
    expected = read(write(tmp_path, EVENT_ROWS))
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
    for table, same in zip(read(section), expected, strict=True):
        assert table.drop_columns("place").equals(same.drop_columns("place"))


def test_dataset_without_logs_names_the_remedy(tmp_path: Path) -> None:
    section = DataSection(folder=tmp_path)
    assert not has_logs(section)
    with pytest.raises(UserError, match=r"none of ubi_queries\.jsonl.*data\.ubi_queries\.path"):
        read(section)
