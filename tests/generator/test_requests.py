"""Requests as arrays say what the table says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from genrecall.records import REQUESTS
from tests.generator.shop import catalogue, requests
from trainer.generator.requests import CLICKED, NOTHING, PURCHASED, Requests, profiles_of

ITEMS, CODES, SPACE = catalogue()
ROWS = SPACE.index_of(CODES)
IDS = ITEMS["item_id"].to_pylist()
LISTS = st.lists(st.sampled_from([*IDS[:6], "gone"]), unique=True, max_size=4)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    empty = {"client_id": "c", "timestamp": 0, "gender": "", "age_band": ""}
    lists = {"recent": [], "exposed": [], "clicked": [], "purchased": []}
    named = [{"query_id": f"r{n}", "text": "t", **empty, **lists, **row} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(named, REQUESTS)


def of(rows: list[dict[str, Any]]) -> Requests:
    made = table(rows)
    return Requests.of(made, ITEMS, ROWS, profiles_of(made))


@given(
    st.lists(
        st.fixed_dictionaries({"recent": LISTS, "exposed": LISTS, "clicked": LISTS, "purchased": LISTS}),
        min_size=1,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_outcomes_and_pasts_are_those_of_the_table(rows: list[dict[str, Any]], random: Any) -> None:
    chosen = np.array(random.choices(range(len(rows)), k=4))
    found = of(rows).take(chosen)
    known, outcome = found.outcomes(np.arange(len(chosen)))
    for n, row in enumerate(rows[c] for c in chosen):
        expected = [
            (level, int(ROWS[IDS.index(item)]))
            for level, name in enumerate(("purchased", "clicked", "exposed"))
            for item in row[name]
            if item != "gone"
        ]
        got = [(o, s) for o, s in zip(outcome[n].tolist(), known[n].tolist(), strict=True) if o != NOTHING]
        assert sorted(got) == sorted(expected)
        assert got == sorted(got, key=lambda pair: pair[0]), "best first"
        assert found.positives[n] == sum(level <= CLICKED for level, _ in expected)
        past = [int(ROWS[IDS.index(item)]) for item in row["recent"] if item != "gone"]
        assert [sid for sid in found.recent[n].tolist() if sid >= 0] == past


def test_targets_are_drawn_from_what_was_bought_or_clicked() -> None:
    found = of([{"purchased": ["000"], "clicked": ["000", "011"], "exposed": ["022", "000"]}])
    drawn = found.draw_positives(np.zeros(500, dtype=np.int64), 1, np.random.default_rng(0)).ravel()
    rows = [int(ROWS[IDS.index(item)]) for item in ("000", "011")]
    assert set(drawn.tolist()) == set(rows)
    assert np.mean(drawn == rows[0]) > 0.6, "bought and clicked counts twice"


def test_profiles_are_known_by_name_and_empty_ones_are_not() -> None:
    made = table([{"gender": "f", "age_band": "25-34"}, {"gender": "m"}, {}])
    assert profiles_of(made) == ("gender=f", "gender=m", "age_band=25-34")
    found = Requests.of(made, ITEMS, ROWS, ("gender=m", "age_band=25-34"))
    assert found.profile.tolist() == [[-1, 1], [0, -1], [-1, -1]]


def test_a_request_judged_wants_what_it_clicked() -> None:
    made = requests(5)
    judged = Requests.of(made, ITEMS, ROWS, ()).judged()
    assert judged.texts == made["text"].to_pylist()
    for n, row in enumerate(made.to_pylist()):
        wanted = judged.item[judged.start[n] : judged.start[n + 1]].tolist()
        assert sorted({IDS[item] for item in wanted}) == sorted({*row["clicked"], *row["purchased"]})


def test_an_empty_table_makes_no_requests() -> None:
    found = Requests.of(REQUESTS.empty_table(), ITEMS, ROWS, ())
    assert len(found) == 0
    assert not found.positives.any()
    assert PURCHASED < CLICKED
