"""Items -> SIDs as arrays on disk: the same as a dict of them, and a wrong id is no item."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.errors import UserError
from genrecall.item_table import ItemTable
from genrecall.sid import SidSpace

IDS = st.lists(st.text(max_size=40), unique=True, max_size=60)


@given(known=IDS, asked=IDS)
def test_every_id_has_its_own_sid_and_any_other_has_none(known, asked):
    codes = np.random.default_rng(len(known)).integers(0, 4, (len(known), 3))
    space = SidSpace.of(codes, (4, 4, 4))
    table = ItemTable.of(known, codes, space)
    expected = dict(zip(known, space.index_of(codes).tolist(), strict=True))
    asked = [*asked, *reversed(known)]
    assert table.rows(asked).tolist() == [expected.get(one, -1) for one in asked]
    assert table.items_per_sid.tolist() == [list(expected.values()).count(row) for row in range(len(space))]


def test_a_table_is_mapped_from_its_file(tmp_path):
    codes = np.array([[0, 1, 2], [3, 0, 0], [0, 1, 2]])
    space = SidSpace.of(codes)
    ItemTable.of(["a", "b", "c"], codes, space).save(tmp_path / "items")
    loaded = ItemTable.load(tmp_path / "items")
    assert all(isinstance(array, np.memmap) for array in vars(loaded).values())
    assert loaded.rows(["c", "x", "b", "a"]).tolist() == [0, -1, 1, 0]
    assert loaded.digest.nbytes + loaded.sid.nbytes == 3 * 12


def test_half_a_surrogate_pair_is_an_id_like_any_other():
    codes = np.array([[0, 0, 0]])
    assert ItemTable.of(["\ud800"], codes, SidSpace.of(codes)).rows(["\ud800", "?"]).tolist() == [0, -1]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "items").write_bytes(b"\x00" * 20)
    with pytest.raises(UserError, match="items is damaged"):
        ItemTable.load(tmp_path / "items")
