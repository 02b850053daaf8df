"""The path language of the field mapping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrecall.config.base import load
from genrecall.config.data import DataSection
from genrecall.data.field_mapping import getter
from genrecall.errors import UserError

ROW = {
    "asin": "B01",
    "category": ["Home", "Kitchen", "Pans"],
    "offer": {"seller": {"name": "Ana"}},
    "notes": [{"text": "first"}, {"text": "second"}],
    "flat.key": 7,
    "empty": None,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("asin", "B01"),
        ("category[:2]", ["Home", "Kitchen"]),
        ("category[-1]", "Pans"),
        ("category[1:]", ["Kitchen", "Pans"]),
        ("category[9]", None),
        ("offer.seller.name", "Ana"),
        ("notes[1].text", "second"),
        ("flat.key", 7),
        ("asin[:2]", "B01"),
        ("asin[0]", None),
        ("offer.nothing.name", None),
        (["asin", "empty", "category[0]"], ["B01", "Home"]),
    ],
)
def test_path_finds_value(path: str | list[str], value: object) -> None:
    assert getter(path)(ROW) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    ),
    st.sampled_from(["a", "a.b", "a[0].b", "a[:2]", "a[-1][0]", "a.b[1:].a"]),
)
def test_path_never_fails_whatever_the_row_holds(row: object, path: str) -> None:
    found, alone = getter(path)(row), getter([path])(row)
    assert alone == ([] if found is None else [found])


@pytest.mark.parametrize("name", ["Categories (x,y,z...)", "Weight [kg]", "Price incl. VAT", "a [0"])
def test_a_name_with_a_space_that_is_no_path_is_one_key(name: str) -> None:
    assert getter(name)({name: 1, "Price incl": {" VAT": 2}}) == 1
    assert getter(name)("text") is None


@pytest.mark.parametrize("path", ["", "a..b", "a[", "a[x]", "a[1:2:3]", "[0]", []])
def test_path_that_cannot_be_read_is_refused(path: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"not understood|empty list"):
        getter(path)


def test_mapping_with_a_bad_path_names_the_field() -> None:
    with pytest.raises(UserError, match=r"items\.fields\.category.*write name, name\.sub"):
        load(DataSection, None, ["items.fields.category='category[:x]'"])


def test_a_source_is_a_path_or_an_index_not_both() -> None:
    with pytest.raises(UserError, match="not both"):
        load(DataSection, None, ["items.path=a.jsonl", "items.index=products"])
