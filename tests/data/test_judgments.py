"""Judgments in the formats that tools and people write, and what is said about their grades."""

# ruff: noqa: E501 - files are written as they are

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genrecall.config.data import DataSection, JudgmentSource
from genrecall.data.readers import read_dataset
from genrecall.data.rejects import Rejects
from genrecall.errors import UserError

ITEMS = [{"item_id": name, "title": name} for name in ("a", "b", "c d")]
BY_ID, BY_TEXT = {("q1", "a"): 1.0, ("q1", "b"): 0.0}, {("red shoes", "a"): 1.0, ("red shoes", "b"): 0.0}


def read(
    folder: Path, name: str, content: str, queries: str = "", **source: Any
) -> tuple[dict[tuple[str, str], float], Rejects]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)))
    if queries:
        (folder / "queries.tsv").write_text(queries)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    section = DataSection(folder=folder, judgments=JudgmentSource(path=name, **source), max_reject_share=1)
    rejects = Rejects()
    data = read_dataset(section, rejects)
    texts = dict(zip(data.queries["query_id"].to_pylist(), data.queries["text"].to_pylist(), strict=True))
    data.judgments.validate(full=True)
    rows = data.judgments.to_pylist()
    key = {query: query if queries else text for query, text in texts.items()}
    return {(key[row["query_id"]], row["item_id"]): pytest.approx(row["grade"]) for row in rows}, rejects


@pytest.mark.parametrize(("name", "content"), [
    ("qrels.txt", "q1 0 a 1\nq1 0 b -2\n"),
    ("qrels.txt", "q1\t0\ta\t1\nq1\t0\tb\t0\n"),
    ("robust.qrels", "q1   Q0  a    1\r\nq1 \t Q0 b 0 \r\n"),
    ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\n"),
    ("qrels.dev.tsv", "q1\ta\t1\nq1\tb\t0\n"),
    ("qrels.tsv", "qid\titer\tdocid\trel\nq1\t0\ta\t1\nq1\t0\tb\t0\n"),
    ("ratings.csv", "query_id,doc_id,relevance\nq1,a,3.0\nq1,b,0\n"),
    ("ratings.csv", "q1,a,3\nq1,b,0\n"),
    ("qrels.json", '{"q1": {"a": 2, "b": 0}}'),
    ("ltr.txt", "3 qid:q1 1:9.8 2:0.5 # a red shoes\n0 qid:q1 1:1 2:0 # b red shoes\n"),
    ("letor.txt", "2 qid:q1 1:0.05 2:0 #docid = a inc = 0.01 prob = 0.1\n0 qid:q1 1:0 2:1 #docid = b inc = 1 prob = 0.2\n"),
])  # fmt: skip
def test_judgments_by_the_id_of_a_query(tmp_path: Path, name: str, content: str) -> None:
    found, rejects = read(tmp_path, name, content, queries="qid\tquery\nq1\tred shoes\n")
    assert found == BY_ID
    assert not rejects.count()


RATED = [{"query": "red shoes", "ratings": [{"docId": "a", "rating": "3.000"}, {"docId": "b", "rating": "0.000"}]}]
DOCUMENT = {"id": "x", "status": "COMPLETED", "type": "IMPORT_JUDGMENT", "judgmentRatings": RATED}


@pytest.mark.parametrize(("name", "content"), [
    ("quepid.csv", "query,docid,rating\nred shoes,a,3\nred shoes,b,0\nunrated\n"),
    ("quepid_detail.csv", "Team Name,Case Name,Case ID,Query Text,Doc ID,Doc Position,Rating\nT,C,1,red shoes,a,1,3\nT,C,1,red shoes,b,2,0\n"),
    ("quepid.json", json.dumps({"queries": [{"query": "red shoes", "ratings": {"a": 3, "b": 0}}, {"query": "x", "ratings": {}}]})),
    ("case.json", json.dumps({"case_name": "c", "queries": [{"query_text": "red shoes", "ratings": [{"doc_id": "a", "rating": 3.0, "user_email": None}, {"doc_id": "b", "rating": 0.0}]}]})),
    ("book.json", json.dumps({"name": "b", "query_doc_pairs": [
        {"query_text": "red shoes", "doc_id": "a", "judgements": [{"rating": 2.0}, {"rating": 4.0}]},
        {"query_text": "red shoes", "doc_id": "b", "judgements": [{"rating": 0.0}]},
        {"query_text": "red shoes", "doc_id": "c d", "judgements": []}]})),
    ("rre.json", json.dumps({"index": "i", "queries": [{"placeholders": {"$query": "red shoes"}, "relevant_documents": {"3": ["a"], "0": ["b"]}}]})),
    ("rre.json", json.dumps({"topics": [{"query_groups": [{"queries": [{"placeholders": {"$query": "red shoes"}}], "name": "n"}, {"queries": [{"placeholders": {"$query": "red shoes"}, "relevant_documents": {"a": {"gain": 3}, "b": {"gain": 0}}}]}]}]})),
    ("judgments.json", json.dumps({"name": "n", "judgmentRatings": RATED})),
    ("judgments.json", json.dumps({"name": "n", "judgmentRatings": RATED}, indent=2)),
    ("answer.json", json.dumps({"took": 1, "hits": {"total": {"value": 1}, "hits": [{"_index": "search-relevance-judgment", "_id": "x", "_source": DOCUMENT}]}})),
    ("index.jsonl", json.dumps(DOCUMENT) + "\n"),
    ("dump.json", json.dumps({"_index": "search-relevance-judgment", "_id": "x", "_source": DOCUMENT})),
    ("ltr.txt", "# qid:1: red shoes\n#\n3 qid:1 1:9.8 # a\n0 qid:1 1:1 # b\n"),
    ("quepid_ltr.txt", "\n3.0 qid:1 # a red shoes\n\n0.0 qid:1 # b red shoes\n"),
    ("quepid_old.txt", '3    qid:1 #    a; "red shoes"\n0    qid:1 #    b; "red shoes"\n'),
    ("words.csv", "search_term;product;label\nred shoes;a;Perfect\nred shoes;b;Bad\n"),
    ("esci.csv", "example_id,query,query_id,product_id,product_locale,esci_label\n0,red shoes,7,a,us,E\n1,red shoes,7,b,us,I\n"),
    ("list.jsonl", '{"query": "red shoes", "item_id": "a", "grade": 1}\n{"query": "red shoes", "item_id": "b", "grade": 0}\n'),
    ("clicks.csv", "query,item_id,impressions,clicks,purchases\nred shoes,a,100,30,4\nred shoes,b,90,0,0\n"),
    ("clicks.tsv", "Search term\tItem\tImpressions\tClicks\nred shoes\ta\t100\t30\nred shoes\tb\t90\t0\n"),
    ("clicks.csv", "query,item,purchases\nred shoes,a,3\nred shoes,b,0\n"),
])  # fmt: skip
def test_judgments_by_the_text_of_a_query(tmp_path: Path, name: str, content: str) -> None:
    found, rejects = read(tmp_path, name, content)
    assert found == BY_TEXT
    assert not rejects.count()


def test_labels_of_wands(tmp_path: Path) -> None:
    label = "id\tquery_id\tproduct_id\tlabel\n0\t7\ta\tExact\n1\t7\tb\tIrrelevant\n2\t7\tc d\tPartial\n"
    found, _ = read(
        tmp_path, "label.csv", label, queries="query_id\tquery\tquery_class\n7\tsalon chair\tMassage Chairs\n"
    )
    assert found == {("7", "a"): 1.0, ("7", "b"): 0.0, ("7", "c d"): 0.5}


def test_esci_parquet(tmp_path: Path) -> None:
    rows = [
        {"query": "red shoes", "query_id": 7, "product_id": item, "esci_label": label, "split": "train"}
        for item, label in (("a", "E"), ("b", "I"))
    ]
    read(tmp_path, "other.csv", "query,docid,rating\nred shoes,a,3\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "examples.parquet")
    data = read_dataset(DataSection(folder=tmp_path, judgments=JudgmentSource(path="examples.parquet")))
    assert data.queries.to_pylist() == [{"query_id": "7", "text": "red shoes"}]
    assert data.judgments["grade"].to_pylist() == [1.0, 0.0]


def test_what_is_not_judged_or_has_left_is_counted_and_no_mistake(tmp_path: Path) -> None:
    content = (
        "query,docid,rating\nred shoes,a,3\nred shoes,b,\nred shoes,gone,2\nnothing\nred shoes,a,3\nred shoes,a,1\n"
    )
    found, rejects = read(tmp_path, "quepid.csv", content)
    assert found == {("red shoes", "a"): 1.0}
    assert rejects.left_out["judgments"] == {
        "not rated": 1, "the item is not in the catalogue": 1, "a query without a judgment": 1, "the same judgment again": 1,
    }  # fmt: skip
    assert rejects.reasons["judgments"] == {"judged twice, with different grades": 1}


def test_ids_with_spaces_stand_in_tables_and_behind_tabs(tmp_path: Path) -> None:
    for name, content in (("qrels.tsv", "q1\t0\tc d\t1\n"), ("qrels.csv", "query_id,item_id,grade\nq1,c d,1\n")):
        found, _ = read(tmp_path, name, content, queries="q1\tred shoes\n")
        assert found == {("q1", "c d"): 1.0}


@pytest.mark.parametrize(("source", "grades"), [
    ({}, [1.0, 0.04, 0.02]),
    ({"clip": 4}, [1.0, 0.5, 0.25]),
    ({"offset": 1, "clip": 2}, [1.0, 0.5, 0.0]),
    ({"labels": {"top": 50}, "clip": 2}, [1.0, 1.0, 0.5]),
])  # fmt: skip
def test_scale_is_set(tmp_path: Path, source: dict[str, Any], grades: list[float]) -> None:
    top = "Top" if source.get("labels") else "50"
    found, _ = read(tmp_path, "r.csv", f"query,docid,rating\nx,a,{top}\nx,b,2\nx,c d,1\n", **source)
    assert [found["x", item] for item in ("a", "b", "c d")] == grades


def test_scale_by_query(tmp_path: Path) -> None:
    found, _ = read(tmp_path, "r.csv", "query,docid,rating\nx,a,4\nx,b,2\ny,a,1\n", scale="query")
    assert found == {("x", "a"): 1.0, ("x", "b"): 0.5, ("y", "a"): 1.0}


def test_scale_that_begins_at_1_and_a_lone_outlier_are_told(tmp_path: Path) -> None:
    rows = "".join(f"x{n},a,{1 + n % 3}\n" for n in range(30))
    _, rejects = read(tmp_path, "r.csv", "query,docid,rating\n" + rows)
    assert rejects.facts["judgments"]["grades"] == {"1": 10, "2": 10, "3": 10}
    assert any("data.judgments.offset=1" in note for note in rejects.notes["judgments"])
    _, rejects = read(tmp_path, "r.csv", "query,docid,rating\n" + rows.replace(",1\n", ",0\n") + "y,a,99\n")
    assert any("data.judgments.clip=3" in note for note in rejects.notes["judgments"])
    _, rejects = read(tmp_path, "r.csv", "query,docid,rating\n" + rows.replace(",1\n", ",0\n"))
    assert not rejects.notes


@pytest.mark.parametrize(("content", "message"), [
    ("q1 Q0 a 1 12.3 bm25\nq1 Q0 b 2 11.0 bm25\n", r"is a run .*four columns"),
    ("q1 0 a 1\n", r"no file has the texts.*queries\.tsv"),
    ("query,docid,rating\nx,zz,1\nx,yy,2\n", r"none of the 2 judged items.*such as a, b.*zz, yy"),
    ("query,docid,rating\nx,a,0\n", r"every grade is 0"),
    ("question,document,points\nx,a,0\n", r"no column for the query id among question, document, points.*--map query_id=COLUMN"),
    ("query,docid,rating\nx,a,many\n", r"grade is not a number.*line 2"),
])  # fmt: skip
def test_judgments_that_cannot_be_used_name_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, "judgments.csv", content)


def test_the_grades_of_several_people_become_their_mean(tmp_path: Path) -> None:
    book = "query,docid,Alice,bob@shop.example,Unknown\nred shoes,a,3,2,\nred shoes,b,,0,\nbag,b,,,\n"
    found, rejects = read(tmp_path, "book.csv", book)
    assert found == {("red shoes", "a"): 1.0, ("red shoes", "b"): 0.0}
    assert rejects.left_out["judgments"] == {"not rated": 1}
    with pytest.raises(UserError, match="no column for the grade among query, docid, name"):
        read(tmp_path, "book.csv", "query,docid,name\nred shoes,a,Shoe\nred shoes,b,Boot\n")


def test_grades_in_percent(tmp_path: Path) -> None:
    assert read(tmp_path, "g.csv", "query,item_id,Relevant?\nred shoes,a,80%\nred shoes,b,0 %\n")[0] == BY_TEXT


PIECES = st.sampled_from(["q1", "a", "b", "0", "1", "-2", " ", "\t", ",", "\n", "query", "docid", "rating", "qid:1", "#", '"', "{", "}", "[", "]", ":", '"queries"', '"ratings"', "é", "1e999"])  # fmt: skip
JSONS = st.recursive(
    st.none() | st.integers(-3, 3) | st.sampled_from(["a", "red shoes", "", "E"]) | st.floats(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["query", "queries", "ratings", "judgmentRatings", "docId", "rating", "doc_id", "judgements", "relevant_documents", "placeholders", "a"]), inner, max_size=3),
    max_leaves=9,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(PIECES, max_size=30).map("".join)
    | JSONS.map(json.dumps)
    | st.lists(JSONS, max_size=3).map(lambda rows: "\n".join(map(json.dumps, rows)))
)
def test_no_judgments_give_a_traceback(tmp_path: Path, content: str) -> None:
    try:
        found, _ = read(tmp_path, "judgments.data", content)
    except UserError:
        return
    assert all(0 <= grade.expected <= 1 for grade in found.values())
