"""Titles of a few items, out of the dataset that a bundle was trained on."""

from pathlib import Path

import pytest

from genrecall.config.data import DataSection
from genrecall.data.importing import import_files
from genrecall.data.titles import titles_of
from genrecall.errors import UserError
from tests.data.test_catalogues import SHOPIFY


def test_titles_are_read_whatever_the_dataset_is(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(SHOPIFY)
    import_files([str(tmp_path / "items.csv")], tmp_path / "imported", DataSection(), {})
    for folder in (tmp_path, tmp_path / "imported"):
        assert titles_of(DataSection(folder=folder), {"cap", "gone"}) == {"cap": "Cap"}
    (tmp_path / "imported" / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read"):
        titles_of(DataSection(folder=tmp_path / "imported"), {"cap"})


def test_what_follows_the_last_of_them_is_not_read(tmp_path: Path) -> None:
    rows = [f"{number},Title {number}" for number in range(20_000)]
    (tmp_path / "items.csv").write_text("\n".join(["id,title", *rows, "20000,", '20001,"never closed']))
    assert titles_of(DataSection(folder=tmp_path), {"7"}) == {"7": "Title 7"}
