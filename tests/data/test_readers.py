"""Reading datasets: what is kept, what is rejected and why, what stops the run."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrecall.config.data import DataSection, ItemFields, ItemSource, JudgmentSource
from genrecall.data.readers import read_dataset, read_items
from genrecall.data.rejects import Rejects
from genrecall.errors import UserError
from genrecall.item_text import item_text
from genrecall.records import ITEMS, JUDGMENTS

GOOD = [
    {"item_id": "a", "title": "Red shoes", "category": ["Shoes"], "brand": "Ana", "text": "soft"},
    {"item_id": "b", "title": "Blue bag", "category": [], "brand": None, "price": 3},
    {"item_id": 3, "title": "Green hat"},
]


def write(folder: Path, items: list[Any] = GOOD, queries: str = "q1\tred shoe\nq2\tbag\n", qrels: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [item if isinstance(item, str) else json.dumps(item) for item in items]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "queries.tsv").write_text(queries, encoding="utf-8")
    (folder / "qrels.txt").write_text(qrels or "q1 0 a 2\nq1 0 b 1\nq2 0 b 2\n", encoding="utf-8")
    return folder


def section(folder: Path, share: float = 1.0, **sources: Any) -> DataSection:
    return DataSection(folder=folder, max_reject_share=share, **sources)


def reasons(path: Path) -> list[tuple[str, int, str]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    return [(row["source"], row["line"], row["reason"]) for row in rows]


def test_standard_layout_needs_no_mapping(tmp_path: Path) -> None:
    data = read_dataset(section(write(tmp_path / "shop"), share=0))
    assert data.name == "shop"
    assert not data.simulated
    assert data.items.schema == ITEMS
    assert data.items.to_pylist()[1] == {"item_id": "b", "title": "Blue bag", "category": [], "brand": "", "text": ""}
    assert data.items["item_id"].to_pylist() == ["a", "b", "3"]
    assert data.judgments.schema == JUDGMENTS
    assert data.judgments["grade"].to_pylist() == [1.0, 0.5, 1.0], "grades are divided by the largest"
    assert set(data.fingerprints) == {"items.jsonl", "queries.tsv", "qrels.txt"}


def test_each_bad_item_is_reported_by_line_and_reason(tmp_path: Path) -> None:
    bad = [
        {"title": "no id"},
        {"item_id": " ", "title": "empty id"},
        {"item_id": "d", "title": " \n"},
        {"item_id": "e"},
        {"item_id": "a", "title": "again"},
        {"item_id": True, "title": "t"},
        {"item_id": "f", "title": False},
        {"item_id": "g", "title": "t", "category": True},
        {"item_id": "h", "title": "t", "brand": {"x": True}},
        {"item_id": "i", "title": "\ud800"},
        {"item_id": "two\nlines", "title": "t"},
        {"item_id": "é" * 257, "title": "t"},
        '{"item_id": "j", ',
        "[1]",
    ]
    folder = write(tmp_path / "shop", [*GOOD, *bad])
    data = read_dataset(section(folder), tmp_path / "rejects.jsonl")
    assert data.items["item_id"].to_pylist() == ["a", "b", "3"]
    assert reasons(tmp_path / "rejects.jsonl") == [
        ("items", 4, "id is missing"),
        ("items", 5, "id is empty"),
        ("items", 6, "title is empty"),
        ("items", 7, "title is empty"),
        ("items", 8, "id is a duplicate"),
        ("items", 9, "id is true or false, not text"),
        ("items", 10, "title is true or false, not text"),
        ("items", 11, "category is true or false, not text"),
        ("items", 12, "brand is true or false, not text"),
        ("items", 13, "title is not valid Unicode"),
        ("items", 14, "id holds a line break or control character"),
        ("items", 15, "id is longer than 512 bytes"),
        ("items", 16, "not JSON"),
        ("items", 17, "not a JSON object"),
    ]
    raw = json.loads((tmp_path / "rejects.jsonl").read_text().splitlines()[12])["raw"]
    assert raw == '{"item_id": "j", '


def test_each_bad_judgment_and_query_is_reported(tmp_path: Path) -> None:
    qrels = "q1 0 a 1\nq1 0 a 1\nq1 0 a 2\nq1 0 zz 1\nq9 0 a 1\nq1 0 b -1\nq1 0 3 x\nq1 0 3 nan\nq1 a 1\n"
    folder = write(tmp_path / "shop", queries="q1\tred\nq1\tblue\nq2\t \nq3\nq4\tbag\n", qrels=qrels)
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        data = read_dataset(section(folder), rejects)
    assert data.queries["query_id"].to_pylist() == ["q1", "q4"]
    assert data.judgments["item_id"].to_pylist() == ["a", "b"]
    assert data.judgments["grade"].to_pylist() == [1.0, 0.0], "a grade below 0 is irrelevant"
    assert rejects.left_out["judgments"] == {"the same judgment again": 1, "the item is not in the catalogue": 1}
    assert [(source, reason) for source, _, reason in reasons(tmp_path / "rejects.jsonl")] == [
        ("queries", "query_id is a duplicate"),
        ("queries", "text is empty"),
        ("queries", "text is empty"),
        ("judgments", "judged twice, with different grades"),
        ("judgments", "no such query"),
        ("judgments", "grade is not a number"),
        ("judgments", "grade is not a number"),
        ("judgments", "not four columns"),
    ]


def test_too_many_rejects_stop_the_run_with_the_commonest_reason(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", [*GOOD, {"item_id": "x"}, {"item_id": "y"}, {"title": "z"}])
    with pytest.raises(UserError) as error:
        read_dataset(section(folder, share=0.1), tmp_path / "rejects.jsonl")
    for part in (
        "data.items: 3 of 6",
        "'title is empty' (2 rows",
        "items.jsonl line 4",
        "rejects.jsonl",
        "max_reject_share",
    ):
        assert part in str(error.value)


def test_a_few_rejects_within_the_share_do_not_stop_the_run(tmp_path: Path) -> None:
    many = [{"item_id": f"i{n}", "title": "t"} for n in range(99)]
    folder = write(tmp_path / "shop", [*many, {"item_id": "x"}, *GOOD])
    assert len(read_dataset(section(folder, share=0.01)).items) == 102


def test_mapped_field_that_no_row_has_is_named(tmp_path: Path) -> None:
    source = ItemSource(fields=ItemFields(category="categroy"))
    with pytest.raises(UserError, match=r"data\.items\.fields\.category: 'categroy' is empty in all 3 rows"):
        read_dataset(section(write(tmp_path / "shop"), items=source))


def test_rows_are_mapped_from_other_names(tmp_path: Path) -> None:
    rows = [{"asin": "B1", "name": "Pan", "path": "Home > Kitchen > Pans", "by": {"brand": "Ana"}, "d": ["x", None, 5]}]
    fields = ItemFields(id="asin", title="name", category="path", brand="by.brand", text=["d", "name"])
    found = read_items(section(write(tmp_path, rows), items=ItemSource(fields=fields)), Rejects())
    assert found.to_pylist() == [
        {"item_id": "B1", "title": "Pan", "category": ["Home", "Kitchen", "Pans"], "brand": "Ana", "text": "x\n5\nPan"}
    ]


@pytest.mark.parametrize("name", ["part-1.jsonl.gz", "part-1.parquet", "part-1.ndjson"])
def test_every_format_gives_the_same_items(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "shop")
    expected = read_dataset(section(folder)).items
    rows = [{**row, "item_id": str(row["item_id"])} for row in GOOD]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    else:
        text = "\n".join(map(json.dumps, rows)).encode()
        (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    (folder / "items.jsonl").unlink()
    assert read_dataset(section(folder, items=ItemSource(path="part-*"))).items.equals(expected.select(ITEMS.names)), (
        "the brand column of Parquet is null-typed in places and the price column is not mapped"
    )


@pytest.mark.parametrize("name", ["items.jsonl.gz", "items.parquet"])
def test_file_that_ends_too_early_stops_the_run(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "shop")
    (folder / "items.jsonl").unlink()
    rows = [{"item_id": str(n), "title": f"title {n * n}"} for n in range(2000)]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    else:
        (folder / name).write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"{name}.*(cannot be read after line|not a whole Parquet)"):
        read_dataset(section(folder))


def test_missing_folder_and_missing_file_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="genrecall data fetch esci"):
        read_dataset(section(tmp_path / "nothing"))
    folder = write(tmp_path / "shop")
    (folder / "qrels.txt").unlink()
    with pytest.raises(UserError, match=r"data\.judgments\.path"):
        read_dataset(section(folder))


def test_folder_of_items_alone_is_a_shop_without_logs(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop")
    (folder / "queries.tsv").unlink()
    (folder / "qrels.txt").unlink()
    data = read_dataset(section(folder))
    assert (len(data.items), len(data.queries), len(data.judgments)) == (3, 0, 0)
    assert data.judgments.schema == JUDGMENTS


def test_judgment_list_of_the_workbench_brings_its_queries(tmp_path: Path) -> None:
    ratings = [{"docId": "a", "rating": "100.000"}, {"docId": "b", "rating": "10.000"}, {"docId": "z", "rating": "0"}]
    listed = {
        "name": "n",
        "judgmentRatings": [{"query": "red shoes", "ratings": ratings}, {"query": "x", "ratings": []}],
    }
    folder = write(tmp_path / "shop")
    (folder / "list.json").write_text(json.dumps(listed))
    rejects = Rejects()
    data = read_dataset(section(folder, judgments=JudgmentSource(path="list.json")), rejects)
    assert data.queries.to_pylist() == [{"query_id": "q001", "text": "red shoes"}, {"query_id": "q002", "text": "x"}]
    assert data.judgments["grade"].to_pylist() == pytest.approx([1.0, 0.1])
    assert rejects.left_out["judgments"] == {"the item is not in the catalogue": 1, "a query without a judgment": 1}
    assert not rejects.count()


def test_dataset_json_describes_the_folder_and_configuration_goes_before_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop")
    (folder / "items.jsonl").rename(folder / "products.jsonl")
    described = {"name": "tiny", "simulated": True, "items": {"path": "products.jsonl", "fields": {"brand": "text"}}}
    (folder / "dataset.json").write_text(json.dumps(described))
    data = read_dataset(section(folder))
    assert (data.name, data.simulated, data.items["brand"][0].as_py()) == ("tiny", True, "soft")
    chosen = section(folder, name="mine", items=ItemSource(path="products.jsonl"))
    data = read_dataset(chosen)
    assert (data.name, data.items["brand"][0].as_py()) == ("mine", "Ana")
    mapped = section(folder, items=ItemSource(fields=ItemFields(title="brand")))
    assert read_dataset(mapped).items.to_pylist()[0]["title"] == "Ana", "the described file, mapped otherwise"
    again = DataSection.model_validate(section(folder).model_dump())
    assert read_dataset(again).items.equals(read_dataset(section(folder)).items), (
        "a written configuration reads the same"
    )


def test_emoji_and_right_to_left_text_survive(tmp_path: Path) -> None:
    title, asked = "נעליים אדומות 👟🏽 \u200fمقاس 42", "حذاء 👟"  # noqa: RUF001
    folder = write(tmp_path, [{"item_id": "א1", "title": title, "category": ["👟"]}], f"q1\t{asked}\n", "q1 0 א1 1")
    data = read_dataset(section(folder, share=0))
    assert data.items.to_pylist()[0]["title"] == title
    assert data.queries["text"].to_pylist() == [asked]
    assert item_text(data.items) == [f"{title} . 👟"]


def test_byte_order_mark_and_windows_line_ends_are_no_part_of_the_values(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop")
    for name in ("items.jsonl", "queries.tsv", "qrels.txt"):
        unix = (folder / name).read_bytes()
        (folder / name).write_bytes(codecs.BOM_UTF8 + unix.replace(b"\n", b"\r\n"))
    data = read_dataset(section(folder, share=0))
    assert data.queries.to_pylist()[0] == {"query_id": "q1", "text": "red shoe"}
    assert data.judgments["query_id"][0].as_py() == "q1"


def test_file_whose_name_looks_like_a_pattern_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop")
    (folder / "items.jsonl").rename(folder / "items [v2].jsonl")
    assert len(read_dataset(section(folder, items=ItemSource(path="items [v2].jsonl"))).items) == 3


def test_embedded_text_leaves_absent_parts_out() -> None:
    items = pa.Table.from_pylist(
        [
            {"item_id": "1", "title": "Pan", "category": ["Home", "Kitchen", "Pans"], "brand": "Ana", "text": "long"},
            {"item_id": "2", "title": "Pan", "category": [], "brand": "", "text": ""},
        ],
        ITEMS,
    )
    assert item_text(items) == ["Pan . Ana . Kitchen Pans", "Pan"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(
    st.fixed_dictionaries({}, optional={name: JSON for name in ("item_id", "title", "category", "brand", "text")}),
    min_size=1,
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.lists(st.sampled_from(["{", "null", "3", "\ufeff{}", '{"item_id": NaN}']), max_size=3))
def test_rows_in_are_rows_kept_plus_rejects(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], junk: list[str]
) -> None:
    folder = write(tmp_path_factory.mktemp("shop"), [{"item_id": "sure", "title": "t"}, *rows, *junk])
    rejects = Rejects(folder / "rejects.jsonl")
    items = read_items(section(folder), rejects)
    assert len(items) == rejects.accepted["items"]
    assert len(items) + rejects.count("items") == 1 + len(rows) + len(junk)
    written = reasons(folder / "rejects.jsonl") if (folder / "rejects.jsonl").exists() else []
    assert len(written) == rejects.count()
    ids = items["item_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert all(title.strip() for title in items["title"].to_pylist())
    items.validate(full=True)
