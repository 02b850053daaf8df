"""Both quantizers through `fit` and `assign`: what holds for either."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecall.assignment import assign
from genrecall.config.quantizer import QuantizerSection
from genrecall.sid import SidSpace
from tests.quantizer.shop import Shop, make_shop, section, unit
from trainer.quantizer import Fitted, fit, probe

KINDS = ("cq_sid", "cq_sid, shared", "hierarchical")
BY_CATEGORY = {"hierarchical": {"level1": "category"}}


def small(kind: str, **settings: dict) -> tuple[str, QuantizerSection]:
    """The quantizer's name and its section, for one of KINDS."""
    name, _, codebooks = kind.partition(", ")
    cq_sid = {"codebooks": codebooks or "per_parent", **settings.pop("cq_sid", {})}
    return name, section(cq_sid=cq_sid, **settings)


def fitted(kind: str, shop: Shop, seed: int = 13, **settings: object) -> Fitted:
    name, own = small(kind, **settings)
    return fit(name, shop.vectors, shop.categories, shop.pairs, own, seed, progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_lie_inside_the_level_sizes_and_the_report_counts_them(kind: str, shop: Shop) -> None:
    result = fitted(kind, shop)
    assert result.codes.shape == (600, 3)
    assert result.codes.dtype == np.int32
    space = SidSpace.of(result.codes, result.level_sizes)
    assert result.report["sids"]["count"] == len(space)
    assert result.report["items"] == 600


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_codebook_and_another_seed_another(kind: str, shop: Shop) -> None:
    one, same, other = fitted(kind, shop), fitted(kind, shop), fitted(kind, shop, seed=14)
    np.testing.assert_array_equal(one.codes, same.codes)
    assert one.arrays.keys() == same.arrays.keys()
    for name in one.arrays:
        np.testing.assert_array_equal(one.arrays[name], same.arrays[name])
    assert (one.codes != other.codes).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level1", ["clusters", "category"])
def test_an_item_of_the_catalogue_is_assigned_its_own_sid(kind: str, level1: str, shop: Shop) -> None:
    result = fitted(kind, shop, hierarchical={"level1": level1})
    np.testing.assert_array_equal(assign(result.arrays, shop.vectors, shop.categories), result.codes)
    np.testing.assert_array_equal(assign(result.arrays, shop.vectors[7:8], shop.categories[7:8]), result.codes[7:8])


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_item_always_gets_a_sid_that_exists(kind: str, shop: Shop) -> None:
    result = fitted(kind, shop, max_items_per_sid=4, **BY_CATEGORY)
    rng = np.random.default_rng(5)
    vectors = unit(rng.normal(size=(300, shop.vectors.shape[1])))
    categories = [[["shop", "c1"], ["shop", "c1", "new"], ["nowhere"], []][i % 4] for i in range(300)]
    codes = assign(result.arrays, vectors, categories)
    assert (SidSpace.of(result.codes).index_of(codes) >= 0).all()
    level1 = result.codes[[c == ["shop", "c1"] for c in shop.categories], 0][0]
    assert (codes[0::4, 0] == level1).all()
    assert (codes[1::4, 0] == level1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_items_of_a_split_sid_are_assigned_into_its_smallest_group(kind: str, shop: Shop) -> None:
    result = fitted(kind, shop, max_items_per_sid=3)
    assert result.report["sids"]["max_items"] <= 3
    assert result.report["sids"]["split_share"] > 0
    codes = assign(result.arrays, shop.vectors, shop.categories)
    np.testing.assert_array_equal(codes[:, :2], result.codes[:, :2])
    assert (SidSpace.of(result.codes).index_of(codes) >= 0).all()
    assert (codes[:, 2] != result.codes[:, 2]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_level_one_is_the_category_where_it_is_known(kind: str, shop: Shop) -> None:
    result = fitted(kind, shop, **BY_CATEGORY)
    names = sorted({tuple(path) for path in shop.categories if path})
    for path, code in zip(shop.categories, result.codes[:, 0], strict=True):
        assert not path or code == names.index(tuple(path))
    without = result.codes[[not path for path in shop.categories]]
    assert (SidSpace.of(result.codes).index_of(without) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(kind: str, shop: Shop, tmp_path: Path) -> None:
    result = fitted(kind, shop)
    result.save(tmp_path / "quantizer.safetensors")
    loaded = Fitted.load(tmp_path / "quantizer.safetensors")
    assert (loaded.kind, loaded.level_sizes, loaded.report) == (result.kind, result.level_sizes, result.report)
    np.testing.assert_array_equal(loaded.codes, result.codes)
    np.testing.assert_array_equal(assign(loaded.arrays, shop.vectors, shop.categories), result.codes)
    assert [path.name for path in tmp_path.iterdir()] == ["quantizer.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", [1, 2, 5])
def test_the_smallest_shops_get_codes(kind: str, items: int) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(items, 8)))
    name, own = small(kind)
    result = fit(name, vectors, [[]] * items, None, own, 0, progress=False)
    np.testing.assert_array_equal(assign(result.arrays, vectors, [[]] * items), result.codes)


@pytest.mark.parametrize("kind", KINDS)
def test_items_that_are_all_alike_are_split_by_size(kind: str) -> None:
    vectors = np.tile(unit(np.ones((1, 8))), (130, 1))
    name, own = small(kind)
    result = fit(name, vectors, [["x"]] * 130, None, own, 0, progress=False)
    sizes = np.unique(result.codes, axis=0, return_counts=True)[1]
    assert sorted(sizes.tolist()) == [43, 43, 44]


@given(st.integers(0, 3), st.lists(st.lists(st.sampled_from("ab"), max_size=2), min_size=12, max_size=40))
@settings(max_examples=15, deadline=None)
def test_any_mix_of_categories_gives_a_codebook_that_knows_its_items(seed: int, categories: list[list[str]]) -> None:
    vectors = unit(np.random.default_rng(seed).normal(size=(len(categories), 6)))
    for kind in KINDS:
        name, own = small(kind, category_min_items=2, cq_sid={"epochs": 1, "warmup_epochs": 0}, **BY_CATEGORY)
        result = fit(name, vectors, categories, None, own, seed, progress=False)
        np.testing.assert_array_equal(assign(result.arrays, vectors, categories), result.codes)


@pytest.mark.parametrize("kind", KINDS)
def test_near_items_share_prefixes(kind: str, shop: Shop) -> None:
    codes = fitted(kind, shop, cq_sid={"epochs": 20}).codes
    relevant = (shop.pairs.query_idx, shop.pairs.item_idx)
    quality = probe(codes, shop.vectors, shop.pairs.query_vectors, relevant, beam=10, cutoffs=(50,))
    shuffled = np.random.default_rng(0).permutation(codes)
    chance = probe(shuffled, shop.vectors, shop.pairs.query_vectors, relevant, beam=10, cutoffs=(50,))
    assert quality["R@50"] > chance["R@50"] + 0.2


def test_no_node_has_more_children_than_allowed(shop: Shop) -> None:
    for kind in ("cq_sid", "hierarchical"):
        result = fitted(kind, shop, max_children=3)
        assert max(result.level_sizes[1:]) <= 3


def test_bad_arguments_are_refused_with_what_is_wrong() -> None:
    shop = make_shop()
    with pytest.raises(ValueError, match=r"\(600, 16\) and 599 categories"):
        fit("hierarchical", shop.vectors, shop.categories[1:], None, section(), 0, progress=False)
    broken = shop.vectors.copy()
    broken[41, 3] = np.nan
    with pytest.raises(ValueError, match="item 41"):
        fit("hierarchical", broken, shop.categories, None, section(), 0, progress=False)
    pairs = shop.pairs._replace(item_idx=np.linspace(0, 600, 120).astype(np.int64))
    with pytest.raises(ValueError, match="item_idx goes from 0 to 600"):
        fit("cq_sid", shop.vectors, shop.categories, pairs, section(), 0, progress=False)
