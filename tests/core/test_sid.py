import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from genrecall.sid import Sid, SidSpace, check_codebook

SIZES = (5, 4, 7)
codes = hnp.arrays(np.int32, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(0, 3))
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(names, st.tuples(*[st.integers(0, 2**31 - 1)] * 3))
def test_a_term_parses_back_to_its_codebook_and_codes(codebook, triple):
    assert Sid.parse(Sid(*triple).term(codebook)) == (codebook, Sid(*triple))


@pytest.mark.parametrize(
    "term", ["", "v7", "v7/1/2", "v7/1/2/3/4", "v7/01/2/3", "v7/-1/2/3", "/1/2/3", "v7/1/2/x", "v7/1/2/3\n"]
)
def test_anything_else_is_refused_as_a_term(term):
    with pytest.raises(ValueError, match="SID term"):
        Sid.parse(term)


@pytest.mark.parametrize("name", ["", "v/7", "-v", "a" * 65, "v 7", "é"])
def test_a_codebook_name_that_cannot_stand_in_a_term_is_refused(name):
    with pytest.raises(ValueError, match="codebook"):
        check_codebook(name)


@given(codes)
def test_a_space_holds_exactly_the_codes_it_was_made_of_in_order(rows):
    space = SidSpace.of(rows, SIZES)
    assert sorted(set(map(tuple, rows.tolist()))) == [tuple(row) for row in space.sids.tolist()]
    assert (space.sids[space.index_of(rows)] == rows).all()


@given(codes, hnp.arrays(np.int64, st.tuples(st.integers(0, 20), st.just(3)), elements=st.integers(-9, 9)))
def test_index_of_marks_exactly_the_sids_that_are_not_valid(rows, asked):
    space = SidSpace.of(rows, SIZES)
    valid = set(map(tuple, rows.tolist()))
    assert [at >= 0 for at in space.index_of(asked)] == [tuple(row) in valid for row in asked.tolist()]


def test_a_space_refuses_unsorted_repeated_or_out_of_range_sids():
    with pytest.raises(ValueError, match="sorted"):
        SidSpace(SIZES, np.array([[1, 0, 0], [0, 0, 0]], np.int32))
    with pytest.raises(ValueError, match="sorted"):
        SidSpace(SIZES, np.array([[1, 0, 0], [1, 0, 0]], np.int32))
    with pytest.raises(ValueError, match="level sizes"):
        SidSpace(SIZES, np.array([[0, 0, 7]], np.int32))


def test_a_code_outside_its_level_is_not_taken_for_another_sid():
    with pytest.raises(ValueError, match="level sizes"):
        SidSpace.of(np.array([[0, 0, 7], [0, 1, 0]], np.int32), SIZES)
    with pytest.raises(ValueError, match="level sizes"):
        SidSpace.of(np.array([[1, -1, 0]], np.int32), SIZES)


@given(codes)
def test_prefixes_number_every_prefix_and_its_children(rows):
    space = SidSpace.of(rows, SIZES)
    prefixes = space.prefixes
    paths = [()]
    for level in range(3):
        start, code = prefixes.start[level], prefixes.code[level]
        assert (len(start), start[0], start[-1]) == (len(paths) + 1, 0, len(code))
        paths = [(*p, c) for p, a, b in zip(paths, start, start[1:], strict=False) for c in code[a:b].tolist()]
        assert paths == sorted({tuple(row[: level + 1]) for row in rows.tolist()})


@given(codes)
def test_a_saved_space_is_mapped_back_as_it_was(tmp_path_factory, rows):
    space = SidSpace.of(rows, SIZES)
    path = tmp_path_factory.mktemp("space") / "constraint.safetensors"
    space.save(path)
    loaded = SidSpace.load(path, SIZES)
    assert isinstance(loaded.sids, np.memmap)
    assert (loaded.sids == space.sids).all()
    for one, other in ((loaded.prefixes.code, space.prefixes.code), (loaded.prefixes.start, space.prefixes.start)):
        assert [a.tolist() for a in one] == [a.tolist() for a in other]


def test_a_saved_space_of_larger_levels_is_refused(tmp_path):
    SidSpace.of(np.array([[4, 3, 6]], np.int32), SIZES).save(tmp_path / "space")
    with pytest.raises(ValueError, match="level sizes"):
        SidSpace.load(tmp_path / "space", (4, 4, 7))
