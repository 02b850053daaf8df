from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.expansion import SidItems


def test_a_sid_shares_its_probability_among_its_items() -> None:
    items = SidItems.of(np.array([1, 0, 1, 2, 1]), sids=4)
    found, scores = items.rank(np.array([1, 0, 3]), np.log(np.array([0.6, 0.3, 0.1])), limit=10)
    assert found.tolist() == [1, 0, 2, 4]
    assert np.exp(scores).tolist() == pytest.approx([0.3, 0.2, 0.2, 0.2])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 40))
def test_ranking_every_sid_lists_every_item_once(rows: list[int], limit: int) -> None:
    items = SidItems.of(np.array(rows), sids=6)
    present = np.flatnonzero(np.diff(items.start))
    found, scores = items.rank(present, -np.arange(len(present), dtype=np.float32), limit)
    assert len(set(found.tolist())) == len(found) == min(limit, len(rows))
    assert (np.diff(scores) <= 0).all()


def test_no_sid_gives_no_item() -> None:
    items = SidItems.of(np.array([0, 0]), sids=1)
    found, scores = items.rank(np.empty(0, np.int64), np.empty(0, np.float32), limit=5)
    assert len(found) == len(scores) == 0


def test_items_of_good_sids_are_ordered_by_what_they_are_given_within() -> None:
    items = SidItems.of(np.array([1, 0, 1, 2, 1]), sids=4)
    own = np.array([0.0, 0.0, 1.0, 9.0, 3.0])  # item 3 is of a SID that was not generated
    found, scores = items.rank(np.array([1, 0]), np.log(np.array([0.6, 0.3])), 3, lambda at: own[at])
    assert found.tolist() == [4, 2, 1]
    assert scores.tolist() == pytest.approx([np.log(0.2) + 3, np.log(0.2) + 1, np.log(0.3)])
    tied, _ = items.rank(np.array([1, 0]), np.log(np.array([0.6, 0.3])), 5, lambda at: np.zeros(len(at)))
    assert tied.tolist() == items.rank(np.array([1, 0]), np.log(np.array([0.6, 0.3])), 5)[0].tolist()
