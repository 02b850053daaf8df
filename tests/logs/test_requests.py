"""From a log to requests: what goes into which set, what a client's past is, what is left out and counted."""

import gzip
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecall.config.data import LoggedEventSource, LoggedQuerySource
from genrecall.config.logs import LogsSection
from genrecall.data.rejects import Rejects
from genrecall.errors import UserError
from genrecall.records import REQUESTS
from tests.logs.log import ITEMS, at, build, event, query, write

QUERIES = [
    query("q1", 0, ["a", "b", "zz", "a"], query_attributes={"gender": "f", "age_band": "25-34"}),
    query("q2", 60, ["c", "d"], text="wok"),
    query("q3", 120, ["a"], client="bob"),
]
EVENTS = [
    event("click", "q1", 9, "b"),
    event("click", "q1", 5, "a"),
    event("purchase", "q1", 70, "b"),
    event("click", "q2", 61, "e"),
    event("click", "q2", 63, "e"),
    event("scroll", "q2", 63, "c"),
]


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def test_a_request_holds_what_was_shown_clicked_and_bought(tmp_path: Path) -> None:
    found = build(write(tmp_path / "log", QUERIES, EVENTS), tmp_path / "to")
    assert found.schema == REQUESTS
    assert found.to_pylist() == [
        {
            "query_id": "q1",
            "text": "pan",
            "client_id": "ann",
            "timestamp": at(0),
            "gender": "f",
            "age_band": "25-34",
            "recent": [],
            "exposed": ["a", "b"],
            "clicked": ["a", "b"],
            "purchased": ["b"],
        },
        {
            "query_id": "q2",
            "text": "wok",
            "client_id": "ann",
            "timestamp": at(60),
            "gender": "",
            "age_band": "",
            "recent": ["b", "a"],
            "exposed": ["c", "d"],
            "clicked": ["e"],
            "purchased": [],
        },
        {
            "query_id": "q3",
            "text": "pan",
            "client_id": "bob",
            "timestamp": at(120),
            "gender": "",
            "age_band": "",
            "recent": [],
            "exposed": ["a"],
            "clicked": [],
            "purchased": [],
        },
    ]
    said = report(tmp_path / "to")
    assert said["events"] == {
        "exposure": {"logged": 7, "not in the catalogue": 1, "the same item again": 1},
        "click": {"logged": 4, "the same item again": 1},
        "purchase": {"logged": 1},
    }
    assert said["other_actions"] == {"scroll": 1}
    assert said["clicks_not_shown"] == 1


def test_a_later_act_of_an_earlier_request_is_not_yet_past(tmp_path: Path) -> None:
    late = [event("purchase", "q1", 200, "a"), event("click", "q1", 60, "b"), event("click", "q1", 59.999, "c")]
    found = build(write(tmp_path / "log", QUERIES, late), tmp_path / "to")
    assert found["recent"].to_pylist() == [[], ["c"], []], "bought after q2, clicked at its very moment, clicked before"


def test_the_past_is_limited_to_the_newest_and_names_an_item_once(tmp_path: Path) -> None:
    clicks = [event("click", "q1", second, item) for second, item in enumerate("abcab", 1)]
    section = write(tmp_path / "log", [QUERIES[0], QUERIES[1]], clicks)
    assert build(section, tmp_path / "to")["recent"][1].as_py() == ["b", "a", "c"]
    assert build(section, tmp_path / "to", LogsSection(recent=2))["recent"][1].as_py() == ["b", "a"]
    assert build(section, tmp_path / "to", LogsSection(recent=0))["recent"][1].as_py() == []


def test_clients_without_an_id_have_no_past_and_no_session(tmp_path: Path) -> None:
    queries = [query("q1", 0, ["a"], client=""), query("q2", 60, ["a"], client="")]
    events = [event("click", "q1", 1, "a", client=""), event("click", "q2", 61, "a", client="cat")]
    found = build(write(tmp_path / "log", queries, events), tmp_path / "to")
    assert found.select(["recent", "clicked"]).to_pylist() == [{"recent": [], "clicked": ["a"]}] * 2
    assert (report(tmp_path / "to")["requests"]["clients"], report(tmp_path / "to")["requests"]["sessions"]) == (0, 0)


def test_exposures_may_come_as_events_in_the_order_of_their_positions(tmp_path: Path) -> None:
    queries = [query("q1", 0), query("q2", 60, ["e"])]
    places = {"c": 1, "a": None, "b": 0}
    events = [event("seen", name, 90, item, position=places[item]) for name in ("q1", "q2") for item in places]
    section = write(tmp_path / "log", queries, events, actions={"seen": "exposure"})
    assert build(section, tmp_path / "to")["exposed"].to_pylist() == [["b", "c", "a"], ["e", "b", "c", "a"]]


def test_events_that_cannot_be_are_left_out_and_counted(tmp_path: Path) -> None:
    events = [
        event("click", "q1", -1, "a"),
        event("purchase", "q1", 3, "a", client="eve"),
        event("click", "q1", 3, "nothing"),
        event("click", "q1", 3, "b", client=""),
    ]
    found = build(write(tmp_path / "log", QUERIES[:1], events), tmp_path / "to")
    assert found.select(["clicked", "purchased"]).to_pylist() == [{"clicked": ["b"], "purchased": []}]
    said = report(tmp_path / "to")["events"]
    assert said["click"] == {"before its query": 1, "logged": 3, "not in the catalogue": 1}
    assert said["purchase"] == {"by another client": 1, "logged": 1}


def test_requests_with_nothing_to_learn_from_are_left_out_and_counted(tmp_path: Path) -> None:
    queries = [*QUERIES, query("q4", 200, ["a"], text=" "), query("q5", 210, ["zz"]), query("q6", 220, ["zz"])]
    events = [event("click", "q6", 221, "a"), event("click", "q4", 201, "d")]
    found = build(write(tmp_path / "log", queries, events), tmp_path / "to")
    assert found["query_id"].to_pylist() == ["q1", "q2", "q3", "q6"]
    assert found["recent"][3].as_py() == [], "nor are they part of the past"
    said = report(tmp_path / "to")
    assert said["requests"]["dropped"] == {"of a bot": 0, "without a text": 1, "without an item": 1}
    assert said["events_of_dropped_requests"] == {"exposure": 1, "click": 1, "purchase": 0}


def test_duplicates_and_orphans_are_rejects_wherever_they_are(tmp_path: Path) -> None:
    queries = [*QUERIES, query("q1", 500, ["e"], client="bob")]
    events = [event("click", "q1", 5, "a"), event("click", "q9", 5, "a", client="bob")]
    section = write(tmp_path / "log", queries, events)
    rejects = Rejects(tmp_path / "rejects.jsonl")
    found = build(section, tmp_path / "to", rejects=rejects)
    assert found["exposed"][0].as_py() == ["a", "b"], "the first of the two counts"
    rows = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [(row["source"], row["place"], row["line"], row["reason"]) for row in rows] == [
        ("ubi_queries", "ubi_queries.jsonl", 4, "query_id is a duplicate"),
        ("ubi_events", "ubi_events.jsonl", 2, "no such logged query"),
    ]
    assert rejects.accepted == {"ubi_queries": 3, "ubi_events": 1}
    assert report(tmp_path / "to")["rejects"] == {
        "ubi_queries": {"query_id is a duplicate": 1},
        "ubi_events": {"no such logged query": 1},
    }
    for _ in range(2):  # a finished build says the same as the one that made it
        with pytest.raises(UserError, match=r"data\.ubi_events: 1 of 2 rows cannot be used.*no such logged query"):
            build(section.model_copy(update={"max_reject_share": 0.3}), tmp_path / "to")


@pytest.mark.parametrize("kind", ["jsonl.gz", "parquet"])
def test_every_format_gives_the_same_requests(kind: str, tmp_path: Path) -> None:
    section = write(tmp_path / "log", QUERIES, EVENTS)
    expected = build(section, tmp_path / "to")
    for name, rows in (("ubi_queries", QUERIES), ("ubi_events", EVENTS)):
        path = tmp_path / "other" / f"{name}.{kind}"
        path.parent.mkdir(exist_ok=True)
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            path.write_bytes(gzip.compress((section.folder / f"{name}.jsonl").read_bytes()))
    other = section.model_copy(update={"folder": tmp_path / "other"})
    assert build(other, tmp_path / "to2").equals(expected)
    half = len(QUERIES) // 2
    write(tmp_path / "parts", [], [])
    for n, (queries, events) in enumerate(((QUERIES[:half], EVENTS), (QUERIES[half:], []))):
        write(tmp_path / "parts" / str(n), queries, events)
    sources = {
        "ubi_queries": LoggedQuerySource(path="*/ubi_queries.jsonl"),
        "ubi_events": LoggedEventSource(path="*/ubi_events.jsonl"),
    }
    parted = section.model_copy(update={"folder": tmp_path / "parts", **sources})
    assert build(parted, tmp_path / "to3").equals(expected)


NAMES = [*ITEMS["item_id"].to_pylist(), "zz"]
SECONDS = st.integers(0, 12)
REQUEST = st.tuples(st.sampled_from(["", "ann", "bob"]), SECONDS, st.lists(st.sampled_from(NAMES), max_size=4))
ACT = st.tuples(
    st.integers(0, 9), st.sampled_from(["click", "purchase"]), SECONDS, st.sampled_from(NAMES), st.booleans()
)


@settings(max_examples=60)
@given(st.lists(REQUEST, min_size=1, max_size=8), st.lists(ACT, min_size=1, max_size=16), st.integers(0, 3))
def test_any_log_gives_what_its_definition_says_in_any_number_of_parts(
    asked: list[tuple], acts: list[tuple], limit: int
) -> None:
    queries = [query(f"q{n}", time, hits, client) for n, (client, time, hits) in enumerate(asked)]
    events = [
        event(action, f"q{n % len(asked)}", time, item, asked[n % len(asked)][0] if own else "eve")
        for n, action, time, item, own in acts
    ]
    with tempfile.TemporaryDirectory() as folder:
        section = write(Path(folder) / "log", queries, events)
        tables = [
            build(section, Path(folder) / str(parts), LogsSection(partitions=parts, recent=limit)) for parts in (1, 5)
        ]
        said = report(Path(folder) / "1")
    assert tables[0].equals(tables[1])
    assert tables[0].to_pylist() == expected(queries, events, limit)
    assert_nothing_is_lost(tables[0], said, queries, events)


def expected(queries: list[dict], events: list[dict], limit: int) -> list[dict]:
    """The definition of a request, word by word, in as many passes as it likes."""
    asked = {row["query_id"]: row for row in queries}
    acts = [
        (row["action_name"], row["query_id"], row["timestamp"], row["event_attributes"]["object"]["object_id"])
        for row in events
        if row["timestamp"] >= asked[row["query_id"]]["timestamp"]
        and (row["client_id"] == asked[row["query_id"]]["client_id"] or not asked[row["query_id"]]["client_id"])
        and row["event_attributes"]["object"]["object_id"] != "zz"
    ]
    found = []
    for row in sorted(queries, key=lambda row: (row["timestamp"], row["query_id"])):
        sets = {"exposed": [item for item in row["query_response_hit_ids"] if item != "zz"]}
        for action, name in (("click", "clicked"), ("purchase", "purchased")):
            mine = [act for act in acts if act[:2] == (action, row["query_id"])]
            sets[name] = [item for *_, item in sorted(mine, key=lambda act: act[2])]
        past: dict[str, str] = {}
        for _, name, time, item in acts:
            if row["client_id"] and asked[name]["client_id"] == row["client_id"] and time < row["timestamp"]:
                past[item] = max(past.get(item, ""), time)
        recent = sorted(past, key=lambda item: (past[item], item), reverse=True)[:limit]
        if any(sets.values()):
            time = at((at(0).fromisoformat(row["timestamp"]) - at(0)).total_seconds())
            about = {"query_id": row["query_id"], "text": "pan", "client_id": row["client_id"], "timestamp": time}
            once = {name: list(dict.fromkeys(items)) for name, items in sets.items()}
            found.append({**about, "gender": "", "age_band": "", "recent": recent, **once})
    return found


def assert_nothing_is_lost(found: pa.Table, said: dict, queries: list[dict], events: list[dict]) -> None:
    """Rows in = rows out and what was counted as left out."""
    assert len(queries) == len(found) + sum(said["requests"]["dropped"].values()) == said["requests"]["logged"]
    logged = Counter(row["action_name"] for row in events)
    logged["exposure"] = sum(len(row["query_response_hit_ids"]) for row in queries)
    for action, column in (("exposure", "exposed"), ("click", "clicked"), ("purchase", "purchased")):
        counts = said["events"][action]
        assert counts.pop("logged", 0) == logged[action]
        kept = sum(map(len, found[column].to_pylist())) + said["events_of_dropped_requests"][action]
        assert kept + sum(counts.values()) == logged[action]


def test_a_page_under_the_same_query_joins_the_first(tmp_path: Path) -> None:
    queries = [query("q1", 30, ["c", "a"]), query("q1", 0, ["a", "b"], text="Pan"), query("q2", 60, ["d"])]
    events = [event("click", "q1", 1, "b"), event("click", "q1", 40, "c")]
    rejects = Rejects()
    found = build(write(tmp_path / "log", queries, events), tmp_path / "to", rejects=rejects)
    assert found.select(["query_id", "timestamp", "exposed", "clicked"]).to_pylist() == [
        {"query_id": "q1", "timestamp": at(0), "exposed": ["a", "b", "c"], "clicked": ["b", "c"]},
        {"query_id": "q2", "timestamp": at(60), "exposed": ["d"], "clicked": []},
    ]
    assert report(tmp_path / "to")["pages"] == 1
    assert not rejects.count()


@pytest.mark.parametrize("partitions", [1, 5])
def test_events_without_a_query_go_to_the_last_one_of_their_client(tmp_path: Path, partitions: int) -> None:
    queries = [
        query("q1", 0, ["a"]),
        query("q2", 600, ["a"]),
        query("q3", 590, ["a"], client="bob"),
        query("q4", 0, client=""),
    ]
    events = [
        event("click", "", 5, "a"), event("click", "", 700, "b"), event("purchase", "", 3000, "c"),
        event("click", "", -5, "d"), event("click", "", 700, "e", client="eve"),
        event("click", "", 700, "e", client=""),
    ]  # fmt: skip
    section = write(tmp_path / "log", queries, events)
    found = build(section, tmp_path / "to", LogsSection(partitions=partitions, session_minutes=30))
    rows = {row["query_id"]: row["clicked"] for row in found.to_pylist()}
    assert rows == {"q1": ["a"], "q2": ["b"], "q3": []}
    said = report(tmp_path / "to")
    assert said["events_attributed"] == 2
    assert said["events"]["click"] == {"logged": 2, "without a query": 3}
    assert said["events"]["purchase"] == {"without a query": 1}


def test_a_log_that_teaches_nothing_says_so(tmp_path: Path) -> None:
    queries = [query("q1", 0, ["x1", "x2", "a"])]
    build(write(tmp_path / "log", queries, [event("tap", "q1", 1, "a")]), tmp_path / "to")
    loud, unmapped, gone = report(tmp_path / "to")["notes"]
    assert "NO CLICKS: none of 1 events" in loud
    assert "data.actions.tap=click" in unmapped
    assert (
        "2 of 3 items in the log are not in the catalogue (67%): the log has x1, x2, a, the catalogue a, b, c" in gone
    )


def test_a_log_whose_halves_do_not_agree_says_so(tmp_path: Path) -> None:
    events = [event("click", "q1", 5, "a", client="session-7"), event("click", "q1", 6, "b", client="session-7")]
    build(write(tmp_path / "log", QUERIES, events), tmp_path / "to")
    assert any("2 events are left out as by another client" in note for note in report(tmp_path / "to")["notes"])


def test_clicks_alone_make_requests(tmp_path: Path) -> None:
    rows = [
        {**event("click", "", n, item), "user_query": text}
        for n, (text, item) in enumerate((("pan", "a"), ("pan", "b"), ("pot", "c")))
    ]
    section = write(tmp_path / "log", [], rows)
    (section.folder / "ubi_queries.jsonl").unlink()
    found = build(section, tmp_path / "to")
    assert found.select(["text", "clicked"]).to_pylist() == [
        {"text": "pan", "clicked": ["a", "b"]},
        {"text": "pot", "clicked": ["c"]},
    ]
