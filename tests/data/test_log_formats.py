"""Logs as the plugin, trackers and exports write them."""

# ruff: noqa: E501 - rows are written as they are

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genrecall.config.data import DataSection, LoggedEventSource, LoggedQuerySource
from genrecall.data.events import LOGGED_EVENTS, LOGGED_QUERIES, action_notes, logged_events, logged_queries, text_note
from genrecall.data.parse import parse_time
from genrecall.data.rejects import Rejects
from genrecall.data.sources import resolve_sources
from genrecall.errors import UserError

MS = 1740823200000
TIME = datetime(2025, 3, 1, 10, tzinfo=UTC)
QUERY = {"query_id": "q", "user_query": "pan", "client_id": "c", "timestamp": MS}
EVENT = {"action_name": "click", "query_id": "q", "client_id": "c", "timestamp": MS}
Rows = list[dict[str, Any]]


def read(folder: Path, queries: str = "", events: str = "", **settings: Any) -> tuple[Rows, Rows, Rejects]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("ubi_queries", queries), ("ubi_events", events)):
        if text:
            settings.setdefault(name, (LoggedQuerySource if name == "ubi_queries" else LoggedEventSource)(path=name))
            (folder / name).write_text(text)
    return read_section(DataSection(folder=folder, max_reject_share=1, **settings))


def read_section(section: DataSection) -> tuple[Rows, Rows, Rejects]:
    section, rejects = resolve_sources(section)[0], Rejects()
    tables = (
        pa.Table.from_batches(logged_queries(section, rejects), LOGGED_QUERIES),
        pa.Table.from_batches(logged_events(section, rejects), LOGGED_EVENTS),
    )
    for table in tables:
        table.validate(full=True)
    return tables[0].to_pylist(), tables[1].to_pylist(), rejects


@pytest.mark.parametrize(("value", "hits", "empty"), [
    (["B01", None], ["B01"], 1),
    ([["a", "b"], ["c", ""]], ["a", "b", "c"], 1),
    ([1, 2.0], ["1", "2"], 0),
    (["a,b", "c d", None], ["a,b", "c d"], 1),
    ([{"_id": "a"}, {"object_id": 7}], ["a", "7"], 0),
    ("a", ["a"], 0), ("a, b", ["a", "b"], 0), ("a|b", ["a", "b"], 0), ("a; b", ["a", "b"], 0), ('["a", "b"]', ["a", "b"], 0), ("['a', 'b']", ["a", "b"], 0), ("[a, b]", ["a", "b"], 0),
    (None, [], 0), ([], [], 0), ("", [], 0),
])  # fmt: skip
def test_items_shown_in_every_shape(tmp_path: Path, value: Any, hits: list[str], empty: int) -> None:
    (row,), _, rejects = read(
        tmp_path, json.dumps({**QUERY, "query_response_hit_ids": value}), json.dumps({**EVENT, "object_id": "a"})
    )
    assert row["hits"] == hits
    assert rejects.left_out.get("ubi_queries", {}).get("an empty id among the items shown", 0) == empty
    assert not rejects.count()


def test_parameters_of_ga4(tmp_path: Path) -> None:
    """As BigQuery exports them."""
    parameters = [
        {"key": "ga_session_id", "value": {"string_value": None, "int_value": "7"}},
        {"key": "search_term", "value": {"string_value": "pan"}},
    ]
    event = {
        "event_name": "select_item",
        "event_timestamp": str(MS * 1000),
        "user_pseudo_id": "c",
        "event_params": parameters,
        "items": [{"item_id": "a"}],
    }
    (query,), (click,), rejects = read(tmp_path, events=json.dumps(event))
    assert (query["text"], query["client_id"], query["timestamp"], click["item_id"]) == ("pan", "c", TIME, "a")
    assert not rejects.count()


def test_searches_and_clicks_of_segment(tmp_path: Path) -> None:
    """A search and a click are events of one file; the click goes to the last search of its client."""
    track = {"type": "track", "userId": "c", "timestamp": MS}
    events = [
        {**track, "event": "Products Searched", "properties": {"query": "pan"}},
        {**track, "event": "Product Clicked", "timestamp": MS + 5000, "properties": {"product_id": "a", "position": 2}},
        {**track, "event": "Order Completed", "timestamp": MS + 9000, "properties": {"products": [{"product_id": "a"}]}},
    ]  # fmt: skip
    (query,), (click, order), rejects = read(tmp_path, events="\n".join(map(json.dumps, events)))
    assert (query["text"], query["client_id"]) == ("pan", "c")
    assert (click["action"], click["item_id"], click["position"], order["action"], order["item_id"]) == (
        "click",
        "a",
        2,
        "purchase",
        "a",
    )
    assert not rejects.count()
    assert rejects.left_out == {
        "ubi_queries": {"an event without the text of a query": 2},
        "ubi_events": {"action Products Searched": 1},
    }


def test_events_without_any_text_of_a_query_are_warned_of(tmp_path: Path) -> None:
    event = {
        "event_name": "select_item",
        "event_timestamp": str(MS * 1000),
        "user_pseudo_id": "c",
        "items": [{"item_id": "a"}],
    }
    (tmp_path / "ubi_events.jsonl").write_text(json.dumps(event))
    section, rejects = resolve_sources(DataSection(folder=tmp_path))[0], Rejects()
    assert not list(logged_queries(section, rejects))
    assert "1 of 1 events lack the text of one" in text_note(section, rejects)


@pytest.mark.parametrize(
    "value",
    [
        "01.03.2025 10:00:00",
        "01.03.2025 10:00",
        "3/1/2025 10:00 AM",
        "03/01/2025 10:00:00 AM",
        "Mar 1, 2025 @ 10:00:00.000",
        {"$date": "2025-03-01T10:00:00Z"},
    ],
)
def test_times_of_spreadsheets_and_dumps(value: Any) -> None:
    assert parse_time(value) == TIME


@pytest.mark.parametrize("row", [
    {**QUERY, "query_response_hit_ids": ["a"]},
    {**QUERY, "query_response_object_ids": ["a"]},
    {**QUERY, "query_response_objects_ids": ["a"]},
    {"query_id": "q", "user_id": "c", "user_query": {"query": "pan"}, "timestamp": MS // 1000, "query_response_hit_ids": ["a"]},
    {"queryId": "q", "userQuery": "pan", "clientId": "c", "timestamp": MS, "queryResponse": {"queryId": "q", "queryResponseHitIds": ["a"]}},
    {"query_id": "q", "session_id": "c", "query": '{"query":{"multi_match":{"query":"pan"}}}', "timestamp": MS, "query_response_hit_ids": ["a"]},
    {"_index": "ubi_queries", "_id": "x", "_source": {**QUERY, "query_response_hit_ids": ["a"]}},
])  # fmt: skip
def test_queries_under_older_names(tmp_path: Path, row: dict[str, Any]) -> None:
    (found,), _, rejects = read(tmp_path, json.dumps(row), json.dumps({**EVENT, "object_id": "a"}))
    assert (found["query_id"], found["text"], found["client_id"], found["timestamp"], found["hits"]) == (
        "q",
        "pan",
        "c",
        TIME,
        ["a"],
    )
    assert not rejects.count()


@pytest.mark.parametrize(("more", "found"), [
    ({"event_attributes": {"object": {"object_id": "a"}, "position": {"ordinal": 3}}}, [("a", 3)]),
    ({"event_attributes": {"object": {"object_id": 17}, "position": {"index": "3"}}}, [("17", 3)]),
    ({"event_attributes": {"object": {"internal_id": "a"}, "position": 3}}, [("a", 3)]),
    ({"event_attributes": {"object": {"object_id": "a", "position": 3}}}, [("a", 3)]),
    ({"event_attributes": {"object": {"object_id": "a"}, "position": {"x": 3, "y": 4}}}, [("a", -1)]),
    ({"event_attributes": {"object": [{"object_id": "a", "position": 1}, {"object_id": "b", "position": 2}]}}, [("a", 1), ("b", 2)]),
    ({"event_attributes": {"objects": [{"object_id": "a"}, "b"]}}, [("a", -1), ("b", -1)]),
    ({"event_attributes": {"object": {"object_id": ["a", "b"]}}}, [("a", -1), ("b", -1)]),
    ({"event_attributes": "{'object': {'object_id': 'a'}, 'position': {'index': 3}}"}, [("a", 3)]),
    ({"event_attributes.object.object_id": "a", "event_attributes.position.ordinal": 3.0}, [("a", 3)]),
    ({"event_attributes": {"data": {"data_id": "a"}}}, [("a", -1)]),
    ({"items": [{"item_id": "a", "index": 1}, {"item_id": "b", "index": 2}]}, [("a", 1), ("b", 2)]),
    ({"product_id": "a", "rank": 3}, [("a", 3)]),
])  # fmt: skip
def test_objects_and_positions_under_their_names(
    tmp_path: Path, more: dict[str, Any], found: list[tuple[str, int]]
) -> None:
    _, rows, rejects = read(tmp_path, json.dumps(QUERY), json.dumps({**EVENT, **more}))
    assert [(row["item_id"], row["position"]) for row in rows] == found
    assert not rejects.count()


@pytest.mark.parametrize("value", [
    MS, str(MS), MS / 1000, MS // 1000, str(MS // 1000), MS * 1000, f"{MS}000", MS * 1_000_000, "2025-03-01T10:00:00Z", "2025-03-01T11:00:00+01:00",
    "2025-03-01T10:00:00.000000000Z", "2025-03-01 10:00:00", "2025/03/01 10:00:00", "Sat, 01 Mar 2025 10:00:00 GMT", "Sat, 01 Mar 2025 11:00:00 +0100",
    "2025-03-01 10:00:00 UTC", "20250301T100000Z", [MS], "2025-03-01T10:00:00+0000",
])  # fmt: skip
def test_times_in_every_unit_and_format(tmp_path: Path, value: Any) -> None:
    _, (row,), _ = read(tmp_path, json.dumps(QUERY), json.dumps({**EVENT, "timestamp": value, "object_id": "a"}))
    assert row["timestamp"] == TIME


@pytest.mark.parametrize(
    "value", [0, 12345, "1970-01-01T00:00:00Z", -5, "3000-01-01", 9e30, "noon", True, {}, "01/03/2025"]
)
def test_times_outside_a_sane_range_are_refused(tmp_path: Path, value: Any) -> None:
    _, rows, rejects = read(tmp_path, json.dumps(QUERY), json.dumps({**EVENT, "timestamp": value, "object_id": "a"}))
    assert not rows
    assert next(iter(rejects.reasons["ubi_events"])).startswith("timestamp is")


def test_bulk_request_of_both_kinds(tmp_path: Path) -> None:
    lines = [
        {"index": {"_index": "ubi_queries", "_id": "1"}}, {**QUERY, "query_response_hit_ids": ["a"]},
        {"index": {"_index": "ubi_events"}}, {**EVENT, "user_query": "pan", "event_attributes": {"object": {"object_id": "a"}, "position": {"index": 1}}},
        {"index": {"_index": "ubi_events"}}, {**EVENT, "action_name": "impression", "event_attributes": {"object": {"object_id": "b"}}},
    ]  # fmt: skip
    (tmp_path / "ubi_queries_events.ndjson").write_text("\n".join(map(json.dumps, lines)))
    queries, events, rejects = read_section(DataSection(folder=tmp_path))
    assert [row["hits"] for row in queries] == [["a"]]
    assert [(row["action"], row["item_id"], row["position"]) for row in events] == [
        ("click", "a", 1),
        ("exposure", "b", -1),
    ]
    assert not rejects.count()


def test_actions_that_are_not_mapped_are_counted_by_name_and_no_clicks_is_loud(tmp_path: Path) -> None:
    rows = [{**EVENT, "action_name": name, "object_id": "a"} for name in ("tap", "tap", "scroll", "Item Click")]
    text = "\n".join(map(json.dumps, rows))
    _, events, rejects = read(tmp_path, json.dumps(QUERY), text)
    assert [row["action"] for row in events] == ["click"], "item_click, however it is written"
    assert rejects.left_out["ubi_events"] == {"action tap": 2, "action scroll": 1}
    assert not rejects.count()
    section = DataSection(folder=tmp_path)
    (note,) = action_notes(rejects.facts["ubi_events"]["actions"], section)
    assert "tap 2, scroll 1" in note
    assert "data.actions.tap=click" in note
    loud, _ = action_notes({"tap": 2, "scroll": 1}, section)
    assert "NO CLICKS: none of 3 events" in loud
    assert "tap 2, scroll 1" in loud
    assert not list(action_notes({"tap": 2}, DataSection(actions={"TAP": "click"})))
    _, events, _ = read(tmp_path / "b", json.dumps(QUERY), text, actions={"TAP": "click", "item_click": "none"})
    assert [row["action"] for row in events] == ["click", "click"]


def test_events_without_a_query_id_are_kept_for_attribution(tmp_path: Path) -> None:
    rows = [{**EVENT, "query_id": query_id, "object_id": "a"} for query_id in ("", None)]
    _, events, rejects = read(tmp_path, json.dumps(QUERY), "\n".join(map(json.dumps, rows)))
    assert [row["query_id"] for row in events] == ["", ""]
    assert not rejects.count()


def test_click_table_of_analytics_without_logged_queries(tmp_path: Path) -> None:
    table = (
        "event_name,event_timestamp,user_pseudo_id,search_term,item_id,item_list_index\n"
        f"view_item_list,{MS}000,u1,red pan,a,1\nselect_item,{MS + 5000}000,u1,red pan,b,2\nselect_item,{MS + 5000}000,u2,pot,a,1\n"
    )
    queries, events, rejects = read(tmp_path, "", table)
    assert [(row["text"], row["client_id"]) for row in queries] == [("red pan", "u1"), ("red pan", "u1"), ("pot", "u2")]
    assert queries[0]["query_id"] == queries[1]["query_id"] != queries[2]["query_id"]
    assert [row["query_id"] for row in events] == [row["query_id"] for row in queries]
    assert [(row["action"], row["item_id"]) for row in events] == [("exposure", "a"), ("click", "b"), ("click", "a")]
    assert not rejects.count()


def test_plain_click_table(tmp_path: Path) -> None:
    queries, events, rejects = read(tmp_path, "", "query;product_id;date;user_id\nred pan;7;2025-03-01 10:00:00;u\n")
    assert (queries[0]["text"], events[0]["item_id"], events[0]["action"]) == ("red pan", "7", "click")
    assert not rejects.count()


CSV_QUERIES = (
    'query_id,user_query,client_id,timestamp,query_response_hit_ids\nq,pan,c,"2025-03-01T10:00:00Z","[""a"",""b""]"\n'
)
CSV_EVENTS = 'action_name,query_id,client_id,timestamp,event_attributes\nclick,q,c,1740823200000,"{""object"": {""object_id"": ""a""}, ""position"": {""ordinal"": 1}}"\n'


def test_tables_of_both_indices(tmp_path: Path) -> None:
    (query,), (event,), rejects = read(tmp_path, CSV_QUERIES, CSV_EVENTS)
    assert (query["hits"], event["item_id"], event["position"]) == (["a", "b"], "a", 1)
    assert not rejects.count()


KEYS = st.sampled_from(["action_name", "query_id", "client_id", "timestamp", "user_query", "event_attributes", "object", "object_id", "position", "ordinal", "query_response_hit_ids", "items", "_id", "x"])  # fmt: skip
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.sampled_from(["click", "q", "a", "", "2025-03-01", "[a", "{}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(KEYS, JSONS, max_size=6), min_size=1, max_size=3), st.booleans())
def test_no_log_gives_a_traceback(tmp_path: Path, rows: list[dict[str, Any]], queries: bool) -> None:
    text = "\n".join(json.dumps({**EVENT, "object_id": "a", **row}) for row in rows)
    try:
        read(tmp_path / str(queries), json.dumps(QUERY) + "\n" + text if queries else "", text)
    except UserError as error:
        assert "ubi_" in str(error)  # noqa: PT017
