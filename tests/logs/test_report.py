"""The report says of a log what one counts by hand."""

import json
from pathlib import Path

import pyarrow as pa

from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.data.rejects import Rejects
from genrecall.records import ITEMS, JUDGMENTS, QUERIES, Dataset, Split
from genrecall.reports import logs_report
from tests.logs.log import build, event, query, write
from trainer.logs import prepare

CATALOGUE = pa.Table.from_pylist(
    [{"item_id": item, "title": item, "category": [], "brand": "", "text": ""} for item in "abcde"], ITEMS
)
PERSON = {"query_attributes": {"gender": "f", "age_band": "25-34"}}


def log(folder: Path) -> DataSection:
    queries = [
        query("q1", 0, ["a", "b"], **PERSON),
        query("q2", 60, ["b", "a"], text="wok"),
        query("q3", 7200, ["a", "b"], **PERSON),
        query("q4", 7300, ["c"], client="", text="lid"),
        query("q5", 7400, ["zz"], client="bob"),
    ]
    events = [
        event("click", "q1", 5, "a"),
        event("click", "q2", 65, "a"),
        event("click", "q2", 66, "e"),
        event("purchase", "q2", 90, "a"),
        event("click", "q3", 7100, "b"),
        event("click", "gone", 0, "a"),
    ]
    return write(folder, queries, events)


def report(tmp_path: Path, by: str, judged: tuple[str, ...] = ("wok",)) -> dict:
    section = log(tmp_path / "log")
    queries = pa.Table.from_pylist([{"query_id": text, "text": text} for text in judged], QUERIES)
    grades = pa.Table.from_pylist([{"query_id": text, "item_id": "a", "grade": 1.0} for text in judged], JUDGMENTS)
    dataset = Dataset("tiny", CATALOGUE, queries, grades)
    split = Split("given", grades.slice(0, 0), grades.slice(0, 0), grades)
    logs = LogsSection(split=by, partitions=2)
    parts, said = prepare(section, logs, dataset, split, tmp_path / "to", Rejects(), progress=False)
    assert said["split"]["train"] == len(parts.train)
    return said


def test_figures_are_those_of_the_log(tmp_path: Path) -> None:
    said = report(tmp_path, "query")
    expected = {
        "simulated": False,
        "catalogue": 5,
        "leaks": 0,
        "since": "2025-03-01 10:00:00+00:00",
        "until": "2025-03-01 12:01:40+00:00",
        "texts": 3,
        "exposures": 7,
        "clicks": 3,
        "purchases": 1,
        "clicks_not_shown": 1,
        "click_through_rate": 2 / 7,
        "requests_with": {"exposed": 4, "clicked": 2, "purchased": 1},
        "requests_with_history": 2,
        "history": [2, 1, 1],
        "profiles": {"gender": {"": 2, "f": 2}, "age_band": {"": 2, "25-34": 2}},
        "items": {"exposed": 3, "clicked": 2, "purchased": 1},
        "positions": [{"position": 1, "shown": 4, "clicked": 1}, {"position": 2, "shown": 3, "clicked": 1}],
        "bots": {},
        "rejects": {"ubi_events": {"no such logged query": 1}},
        "split": {"by": "query", "train": 3, "dev": 0, "test": 1, "dropped": 0},
    }
    assert {name: said[name] for name in expected} == expected
    assert said["requests"] == {
        "logged": 5,
        "kept": 4,
        "clients": 1,
        "sessions": 2,
        "dropped": {"of a bot": 0, "without a text": 0, "without an item": 1},
    }
    assert said["events"]["click"] == {"logged": 4, "before its query": 1}


def test_it_is_written_as_json_text_and_picture(tmp_path: Path) -> None:
    said = report(tmp_path, "query")
    assert json.loads((tmp_path / "to" / "logs.json").read_text()) == said
    text = (tmp_path / "to" / "logs.md").read_text()
    assert text == logs_report(said).markdown
    for line in (
        "# Logs: 4 requests, observed",
        "| requests | 4 of 5 logged; dropped: without an item 1 |",
        "| clicks | 3, in 50.0% of requests; left out: before its query 1 |",
        "| catalogue | 5 items: exposed 3 (60.0%), clicked 2 (40.0%), purchased 1 (20.0%) |",
        "| gender | known in 50.0% of requests; f 2 |",
        "| split by query | train 3, test 1 |",
        "| leaks found | none |",
    ):
        assert line in text
    assert (tmp_path / "to" / "logs.png").read_bytes().startswith(b"\x89PNG")


def test_where_nothing_is_judged_the_newest_are_held_out(tmp_path: Path) -> None:
    assert report(tmp_path, "query", judged=())["split"] == {
        "by": "time",
        "train": 3,
        "dev": 1,
        "test": 0,
        "dropped": 0,
    }


def test_simulated_logs_are_called_so(tmp_path: Path) -> None:
    section = log(tmp_path / "log")
    (section.folder / "dataset.json").write_text('{"name": "shop", "simulated": true}')
    build(section, tmp_path / "to")
    assert json.loads((tmp_path / "to" / "report.json").read_text())["simulated"]
