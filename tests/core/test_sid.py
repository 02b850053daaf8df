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
