"""Clicks and purchases become graded judgments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.records import JUDGMENTS, QUERIES
from tests.logs.log import requests
from trainer.logs import query_targets


def test_grades_are_clicks_and_purchases_relative_to_the_best_of_the_text() -> None:
    table = requests(
        [
            {"text": "shown only", "exposed": ["a"]},
            {"text": "Red  Pan", "clicked": ["a", "b"], "purchased": ["a"]},
            {"text": "STRASSE", "purchased": ["c"]},
            {"text": "red pan", "clicked": ["a"]},
            {"text": "straße", "clicked": ["c", "d"]},
        ]
    )
    queries, judgments = query_targets(table)
    assert queries.schema == QUERIES
    assert judgments.schema == JUDGMENTS
    assert queries.to_pylist() == [{"query_id": "log-1", "text": "red pan"}, {"query_id": "log-2", "text": "strasse"}]
    rows = [(row["query_id"], row["item_id"], row["grade"]) for row in judgments.to_pylist()]
    assert rows == [
        ("log-1", "a", 1.0),
        ("log-1", "b", pytest.approx(1 / 3)),
        ("log-2", "c", 1.0),
        ("log-2", "d", 0.5),
    ]


def test_requests_without_a_target_give_empty_tables() -> None:
    for table in (requests([{"exposed": ["a"]}]), requests([]).slice(0, 0)):
        queries, judgments = query_targets(table)
        assert (queries.num_rows, judgments.num_rows) == (0, 0)
        assert (queries.schema, judgments.schema) == (QUERIES, JUDGMENTS)


SETS = st.lists(st.sampled_from("abc"), max_size=3, unique=True)


@given(st.lists(st.tuples(st.sampled_from(["Pan", "pan ", "wok"]), SETS, SETS)))
def test_grades_are_in_0_to_1_and_every_text_has_a_best_item(rows: list[tuple[str, list[str], list[str]]]) -> None:
    queries, judgments = query_targets(
        requests([{"text": text, "clicked": clicked, "purchased": bought} for text, clicked, bought in rows])
    )
    assert set(judgments["query_id"].to_pylist()) == set(queries["query_id"].to_pylist())
    for query in queries.to_pylist():
        grades = {row["item_id"]: row["grade"] for row in judgments.to_pylist() if row["query_id"] == query["query_id"]}
        said = {
            item: sum(
                (item in clicked) + (item in bought)
                for text, clicked, bought in rows
                if text.strip().lower() == query["text"]
            )
            for item in "abc"
        }
        assert grades == {item: pytest.approx(n / max(said.values())) for item, n in said.items() if n}
