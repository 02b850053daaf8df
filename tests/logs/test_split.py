"""Requests are parted so that nothing held out is trained on, and a leak stops everything."""

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.config.logs import LogsSection
from genrecall.errors import UserError
from genrecall.records import JUDGMENTS, QUERIES, Split
from tests.logs.log import at, requests
from trainer.logs import LeakError, RequestSplit, check_no_leak, split_requests

TEXTS = pa.Table.from_pylist(
    [{"query_id": name, "text": text} for name, text in (("t", "red pans"), ("d", "wok"), ("l", "lid"))], QUERIES
)


def judgments(*names: str) -> pa.Table:
    return pa.Table.from_pylist([{"query_id": name, "item_id": "a", "grade": 1.0} for name in names], JUDGMENTS)


SPLIT = Split("fold0", judgments("l"), judgments("d"), judgments("t"))
NOBODY = Split("none", judgments(), judgments(), judgments())


def names(parts: RequestSplit) -> tuple[list[str], list[str], list[str]]:
    train, dev, test = (part["query_id"].to_pylist() for part in (parts.train, parts.dev, parts.test))
    return train, dev, test


@pytest.mark.parametrize("on_disk", [False, True])
def test_by_query_other_spellings_of_a_judged_query_are_held_out_with_it(on_disk: bool, tmp_path: Path) -> None:
    texts = ["Pan, red", "wok", "lid", "red pan", "woks", "", "red", "red pans"]
    table = requests([{"text": text} for text in texts])
    parts = split_requests(table, SPLIT, TEXTS, LogsSection(), tmp_path / "parts" if on_disk else None)
    assert names(parts) == (["r2", "r5", "r6"], ["r1", "r4"], ["r0", "r3", "r7"])
    assert parts.train.schema == table.schema
    assert parts.dropped == 0


def test_by_time_the_newest_are_held_out_and_old_ones_of_judged_queries_dropped() -> None:
    table = requests([{"text": text} for text in ["a", "wok", "b", "red pan", "c", "d", "e", "wok", "f", "g"]])
    parts = split_requests(table, SPLIT, TEXTS, LogsSection(split="time", dev_share=0.2, test_share=0.2))
    assert names(parts) == (["r0", "r2", "r4", "r5"], ["r6", "r7"], ["r8", "r9"])
    assert parts.dropped == 2


def test_by_time_requests_of_one_millisecond_stay_together() -> None:
    table = requests([{"timestamp": at(second)} for second in (0, 0, 1, 1, 1, 2)])
    parts = split_requests(table, NOBODY, TEXTS, LogsSection(split="time", dev_share=0.2, test_share=0.2))
    assert names(parts) == (["r0", "r1"], ["r2", "r3", "r4"], ["r5"])


def test_by_time_without_a_test_share_the_newest_are_dev() -> None:
    table = requests([{}] * 10)
    parts = split_requests(table, NOBODY, TEXTS, LogsSection(split="time", dev_share=0.3, test_share=0))
    assert [len(part) for part in (parts.train, parts.dev, parts.test)] == [7, 3, 0]


@pytest.mark.parametrize("by", ["query", "time"])
def test_nothing_left_to_train_on_names_the_settings(by: str) -> None:
    table = requests([{"text": "wok", "timestamp": at(0)}] * 3)
    with pytest.raises(UserError, match=rf"logs\.split={by} leaves none of 3 requests.*logs\.use=never"):
        split_requests(table, SPLIT, TEXTS, LogsSection(split=by))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["lid", "wok", "woks", "pan red", "pot"])), min_size=1),
    st.floats(0.05, 0.45),
    st.floats(0, 0.45),
)
def test_by_time_every_request_is_in_one_part_and_in_order(
    rows: list[tuple[int, str]], dev: float, test: float
) -> None:
    table = requests([{"timestamp": at(time), "text": text} for time, text in rows])
    try:
        parts = split_requests(table, SPLIT, TEXTS, LogsSection(split="time", dev_share=dev, test_share=test))
    except UserError:
        return
    train, held_out, newest = names(parts)
    assert len({*train, *held_out, *newest}) + parts.dropped == len(rows)
    assert set(parts.train["text"].to_pylist()) <= {"lid", "pot"}
    times = [part["timestamp"].to_pylist() for part in (parts.train, parts.dev, parts.test) if len(part)]
    assert all(max(early) < min(late) for early, late in pairwise(times))


PAST = [{"clicked": ["a"]}, {"purchased": ["b"], "recent": ["a"]}, {"recent": ["b", "a"]}]


def leak(rows: list[dict], train: list[int] = [0], test: list[int] = [], by: str = "query") -> str:  # noqa: B006
    table = requests(rows)
    parts = RequestSplit(table.take(train), table.slice(0, 0), table.take(pa.array(test, pa.int64())))
    with pytest.raises(LeakError) as caught:
        check_no_leak(table, parts, SPLIT, TEXTS, LogsSection(split=by))
    return str(caught.value)


def test_tables_without_a_leak_pass() -> None:
    table = requests(PAST)
    check_no_leak(table, RequestSplit(table, table.slice(0, 0), table.slice(0, 0)), SPLIT, TEXTS, LogsSection())


def test_a_held_out_query_in_training_is_a_leak() -> None:
    assert "1 requests to train on are of queries held out, such as red pan" in leak([{"text": "red pan"}])


def test_a_request_to_train_on_that_is_newer_than_a_test_request_is_a_leak() -> None:
    assert "train has a request of" in leak([{}, {}], train=[1], test=[0], by="time")
    assert "train has a request of" in leak([{"timestamp": at(0)}] * 2, train=[0], test=[1], by="time")


@pytest.mark.parametrize(
    "row",
    [
        {"recent": ["c"]},
        {"recent": ["a", "a"]},
        {"recent": ["a"], "client_id": "bob"},
        {"recent": ["a"], "timestamp": at(0)},
        {"recent": ["d"], "clicked": ["d"]},
    ],
    ids=["never", "twice", "of another client", "at the same moment", "of the request itself"],
)
def test_a_recent_item_without_an_earlier_act_is_a_leak(row: dict) -> None:
    assert "r3 of client" in leak([*PAST, row])


def test_a_past_without_a_client_is_a_leak() -> None:
    assert "r1 of client ''" in leak([{"clicked": ["a"], "client_id": ""}, {"recent": ["a"], "client_id": ""}])
