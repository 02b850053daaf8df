"""Further columns of a catalogue that the index gets as they are."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from genrecall.config.data import DataSection, ItemFields, ItemSource
from genrecall.data.importing import import_files
from genrecall.data.readers import read_dataset, read_items
from genrecall.data.rejects import Rejects
from genrecall.errors import UserError
from genrecall.records import ITEMS, extra_names, item_rows
from tests.data.test_catalogues import SHOPIFY

# ruff: noqa: E501 - one case a line
ROWS: list[dict[str, Any]] = [
    {"item_id": "a", "title": "A", "price": 9.5, "stock": 0, "new": False, "tags": ["x", "y"], "offer": {"c": "EUR"}},
    {"item_id": "b", "title": "B", "price": None, "stock": 3, "colour": "", "_version": 7, "sizes": [None, ""]},
]


def section(folder: Path, extra: Any, text: str = "", **fields: Any) -> DataSection:
    lines = text or "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "items.jsonl").write_text(lines)
    return DataSection(folder=folder, items=ItemSource(fields=ItemFields(extra=extra, **fields)))


def further(folder: Path, extra: Any, text: str = "", **fields: Any) -> list[dict[str, Any]]:
    return [json.loads(row) for row in read_items(section(folder, extra, text, **fields))["extra"].to_pylist()]


@pytest.mark.parametrize(("extra", "expected"), [
    (["price", "stock", "new"], [{"price": 9.5, "stock": 0, "new": False}, {"stock": 3}]),
    ("stock", [{"stock": 0}, {"stock": 3}]),
    ({"amount": "stock", "currency": "offer.c", "first": "tags[0]"}, [{"amount": 0, "currency": "EUR", "first": "x"}, {"amount": 3}]),
    ({"*": "offer"}, [{"c": "EUR"}, {}]),
    ("*", [{"price": 9.5, "stock": 0, "new": False, "tags": ["x", "y"], "offer": {"c": "EUR"}}, {"stock": 3}]),
    ({"*": "*", "amount": "stock"}, [{"price": 9.5, "stock": 0, "new": False, "tags": ["x", "y"], "offer": {"c": "EUR"}, "amount": 0}, {"stock": 3, "amount": 3}]),
])  # fmt: skip
def test_columns_keep_their_types(tmp_path: Path, extra: Any, expected: list[dict[str, Any]]) -> None:
    assert further(tmp_path, extra) == expected
    items = read_items(section(tmp_path, extra))
    assert (
        item_rows(items)[0] == {"item_id": "a", "title": "A", "category": [], "brand": "", "text": "x\ny"} | expected[0]
    )
    assert extra_names(items) == list(expected[0])


def test_without_the_setting_and_for_training_there_is_no_further_column(tmp_path: Path) -> None:
    assert read_items(section(tmp_path, "")).schema == ITEMS
    folder = section(tmp_path, "*")
    (tmp_path / "queries.tsv").write_text("q\tx\n")
    (tmp_path / "qrels.txt").write_text("q 0 a 1\n")
    assert read_dataset(folder).items.schema == ITEMS


@pytest.mark.parametrize(("extra", "message"), [
    (["price", "title"], "'title' cannot name a field of the index"), ({"sid": "price"}, "another_name: 'price'"),
    (["vector"], "genrecall writes"), (["_id"], "leading _"), (["a..b"], "empty part"), ({"a,b": "price"}, "comma"),
    (["p[x"], "not understood"),
])  # fmt: skip
def test_names_that_collide_are_refused(extra: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ItemFields(extra=extra)


def test_a_column_of_all_that_collides_is_named(tmp_path: Path) -> None:
    text = '{"id": "a", "name": "A", "sid": "x", "price": 1}\n'
    with pytest.raises(UserError, match=r"column 'sid'.*\{other_name: 'sid'\}"):
        further(tmp_path, "*", text)
    assert further(tmp_path, {"price": "price", "old_sid": "sid"}, text) == [{"price": 1, "old_sid": "x"}]


def test_a_column_that_no_row_has_is_named_with_those_there_are(tmp_path: Path) -> None:
    rejects = Rejects()
    with pytest.raises(
        UserError, match=r"no row has a value of 'prise', 'colour'; the columns are item_id, title, price"
    ):
        read_items(section(tmp_path, ["prise", "colour", "stock"]), rejects)
    assert "none of the first 2 rows has a value of 'prise', 'colour'" in rejects.notes["items"][0]


def test_values_that_json_lacks(tmp_path: Path) -> None:
    table = pa.table({
        "item_id": ["a", "b"], "title": ["A", "B"], "since": [date(2026, 1, 2), None],
        "price": pa.array([Decimal("9.50"), Decimal("3.00")], pa.decimal128(6, 2)), "rate": [float("nan"), 0.5],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "items.parquet")
    fields = ItemFields(extra="*")
    found = read_items(DataSection(folder=tmp_path, items=ItemSource(fields=fields)))["extra"].to_pylist()
    assert list(map(json.loads, found)) == [{"since": "2026-01-02", "price": 9.5}, {"price": 3, "rate": 0.5}]
    pq.write_table(table.append_column("raw", pa.array([b"\xff", None])), tmp_path / "items.parquet")
    section = DataSection(folder=tmp_path, items=ItemSource(fields=fields), max_reject_share=0.5)
    rejects = Rejects()
    assert read_items(section, rejects)["item_id"].to_pylist() == ["b"]
    assert rejects.reasons["items"] == {"raw is bytes, which JSON does not have": 1}


@pytest.mark.parametrize(("text", "number"), [
    ("9.99 EUR", 9.99), ("1,299.00 EUR", 1299.0), ("1.299,00 €", 1299.0), ("$1,299", 1299), ("1 299,50 kr", 1299.5), ("CHF 1'299.90", 1299.9),
    ("9,90", 9.9), ("12", 12), ("-3", -3), ("-.5", -0.5), ("1.299", 1.299), ("1.299.000", 1299000), ("Rs.500", 500), ("EUR 5.-", 5),
    (7, 7), (2.5, 2.5), (["1,50", "2", "x"], [1.5, 2]),
    ("free", None), ("10-20 EUR", None), ("3 x 5", None), ("1e5", None), ("½", None), ("9" * 5000, None), (True, None),
])  # fmt: skip
def test_texts_become_numbers_where_asked_for(tmp_path: Path, text: Any, number: Any) -> None:
    rows = json.dumps({"item_id": "a", "title": "A", "price": text, "stock": "3"})
    rejects = Rejects()
    items = read_items(section(tmp_path, ["price", "stock"], rows, numbers=["price"]), rejects)
    assert item_rows(items)[0].get("price") == number
    assert item_rows(items)[0]["stock"] == "3"
    assert rejects.left_out.get("items", {}) == ({"price is not a number": 1} if number is None else {})


def test_numbers_are_further_fields() -> None:
    with pytest.raises(ValidationError, match="numbers names 'prise', which is not among the fields of extra"):
        ItemFields(extra=["price"], numbers=["prise"])
    assert ItemFields(extra="*", numbers=["price"]).numbers == ["price"]


def test_an_import_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text(SHOPIFY)
    fields = {"price": "Variant Price", "picture": "Image Src"}
    settings = DataSection(items=ItemSource(fields=ItemFields(extra=fields)))
    found = import_files([str(tmp_path / "products.csv")], tmp_path / "shop", settings, {})
    assert json.loads(found.preview["items"][0]["extra"])["price"]
    items = read_items(DataSection(folder=tmp_path / "shop"))
    assert [row.get("price") for row in item_rows(items)] == ["9.99", "5"]
    some = DataSection(
        folder=tmp_path / "shop", items=ItemSource(fields=ItemFields(extra=["price"], numbers=["price"]))
    )
    assert list(map(json.loads, read_items(some)["extra"].to_pylist())) == [{"price": 9.99}, {"price": 5}]
    rejects = Rejects()
    with pytest.raises(UserError, match="no row has a value of 'colour'"):
        read_items(
            DataSection(folder=tmp_path / "shop", items=ItemSource(fields=ItemFields(extra=["colour"]))), rejects
        )
    assert len(rejects.notes["items"]) == 1
    mapped = import_files(
        [str(tmp_path / "products.csv")], tmp_path / "mapped", DataSection(), {"extra": "Variant Price+Vendor"}
    )
    assert json.loads(mapped.preview["items"][0]["extra"]) == {"Variant Price": "9.99", "Vendor": "Acme"}
