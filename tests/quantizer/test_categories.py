"""Which categories own a level-1 code."""

from hypothesis import given
from hypothesis import strategies as st

from genrecall.assignment import category_codes
from trainer.quantizer.categories import category_table

SHOP = [["home", "lamp"]] * 5 + [["home", "rug"]] * 2 + [["home", "bed", "frame"]] + [["toy"]] * 3 + [["odd"]] + [[]]


def test_rare_categories_join_their_parent_and_rare_roots_have_no_code() -> None:
    table = category_table(SHOP, min_items=3)
    assert table == [["home"], ["home", "lamp"], ["toy"]]
    assert category_codes(table, SHOP).tolist() == [1] * 5 + [0] * 3 + [2] * 3 + [-1, -1]


def test_depth_cuts_the_path() -> None:
    assert category_table(SHOP, min_items=1, depth=1) == [["home"], ["odd"], ["toy"]]


def test_a_limit_keeps_the_larger_categories() -> None:
    assert len(category_table(SHOP, min_items=1)) == 5
    assert category_table(SHOP, min_items=1, limit=4) == [["home", "lamp"], ["home", "rug"], ["toy"]]


def test_a_shop_without_categories_has_no_codes() -> None:
    assert category_table([[], []], min_items=1) == []
    assert category_codes([], [[], ["x"]]).tolist() == [-1, -1]


def test_an_unknown_branch_counts_as_its_known_beginning() -> None:
    assert category_codes(
        [["home"], ["home", "lamp"]], [["home", "lamp", "desk"], ["home", "sofa"], ["car"]]
    ).tolist() == [1, 0, -1]


PATHS = st.lists(st.lists(st.sampled_from("abc"), max_size=3), max_size=60)


@given(PATHS, st.integers(1, 6), st.one_of(st.none(), st.integers(1, 5)))
def test_every_code_has_at_least_the_items_asked_for(paths: list[list[str]], min_items: int, limit: int | None) -> None:
    table = category_table(paths, min_items, limit=limit)
    codes = category_codes(table, paths)
    assert all((codes == code).sum() >= min_items for code in range(len(table)))
    assert limit is None or len(table) <= limit
    assert table == category_table(paths[::-1], min_items, limit=limit)
