"""The split of oversize SIDs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.quantizer.split import split_oversize

CODES = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=200)


@settings(max_examples=50, deadline=None)
@given(CODES, st.integers(1, 20), st.integers(1, 5), st.integers(0, 5))
def test_split_keeps_every_promise(
    triples: list[tuple[int, int, int]], max_items: int, max_groups: int, seed: int
) -> None:
    codes = np.array(triples, dtype=np.int32)
    split = split_oversize(codes, max_items, max_groups, np.random.default_rng(seed), size3=3)
    before, leaf, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    leaf = leaf.reshape(-1)

    assert (split.codes[:, :2] == codes[:, :2]).all()
    after, sizes = np.unique(split.codes, axis=0, return_counts=True)
    assert len(after) == sum(min(-(-c // max_items), max_groups) if c > max_items else 1 for c in counts)
    owners = [set(leaf[(split.codes == sid).all(axis=1)]) for sid in after]
    assert all(len(owner) == 1 for owner in owners)  # no SID mixes items of two
    capped = np.array([counts[next(iter(owner))] > max_items * max_groups for owner in owners])
    assert (sizes[~capped] <= max_items).all()

    oversize = (counts > max_items) & (max_groups > 1)
    assert (split.was_split == oversize[leaf]).all()
    if oversize.any():  # pairs (third code, group) are numbered without a gap
        assert set(split.codes[:, 2]) == set(range(split.size3))
    else:
        assert (split.codes == codes).all()
        assert split.size3 == 3

    np.testing.assert_array_equal(split.leaves, before)
    valid = {tuple(sid): size for sid, size in zip(after.tolist(), sizes, strict=True)}
    for row, third in enumerate(split.third):  # a new item joins the smallest group
        joined = valid[(*before[row, :2].tolist(), int(third))]
        own = [valid[tuple(sid)] for sid in np.unique(split.codes[leaf == row], axis=0).tolist()]
        assert joined == min(own)
        assert max(own) - min(own) <= 1


def test_the_paper_s_cap_leaves_a_huge_sid_above_fifty() -> None:
    codes = np.zeros((5_300, 3), dtype=np.int32)
    split = split_oversize(codes, 50, 100, np.random.default_rng(0))
    sizes = np.unique(split.codes, axis=0, return_counts=True)[1]
    assert (len(sizes), sizes.min(), sizes.max()) == (100, 53, 53)


def test_the_split_is_random_but_decided_by_the_seed() -> None:
    codes = np.zeros((120, 3), dtype=np.int32)
    one, same, other = (split_oversize(codes, 50, 100, np.random.default_rng(seed)).codes for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert (one[:, 2] != np.sort(one[:, 2])).any()
