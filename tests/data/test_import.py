"""`genrecall data import`: from a shop's files to a dataset folder."""

# ruff: noqa: E501 - files are written as they are

import json
from pathlib import Path
from typing import Any

import pytest

from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.data.events import logged_events
from genrecall.data.importing import import_files
from genrecall.data.readers import read_dataset, read_items
from genrecall.data.rejects import Rejects
from genrecall.data.sources import resolve_sources
from genrecall.errors import UserError
from genrecall.evaluation.protocol import splits
from tests.data.test_catalogues import MAGENTO, MERCHANT, RSS, SHOPIFY, WOOCOMMERCE
from tests.data.test_cli import run
from tests.data.test_judgments import DOCUMENT
from trainer.logs import build_requests, open_requests


def write(folder: Path, **files: str) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in files]


QUEPID = "query,docid,rating\nshirt,tee,3\nshirt,cap,0\nhat,cap,2\n"


def test_a_catalogue_and_judgments_become_a_dataset(tmp_path: Path) -> None:
    files = write(tmp_path / "in", products=SHOPIFY, ratings=QUEPID)
    found = import_files(files, tmp_path / "shop", DataSection(), {})
    assert [row["kind"] for row in found.files] == ["catalogue", "judgments"]
    assert found.counts == {"items": 2, "queries": 2, "judgments": 3}
    data = read_dataset(DataSection(folder=tmp_path / "shop", max_reject_share=0))
    assert data.name == "shop"
    assert data.items["title"].to_pylist() == ["Plain Tee", "Cap"]
    assert data.items["category"].to_pylist() == [["Shirts"], ["Hats"]]
    assert data.queries["text"].to_pylist() == ["shirt", "hat"]
    assert data.judgments["grade"].to_pylist() == pytest.approx([1.0, 0.0, 2 / 3])
    assert {path.name for path in (tmp_path / "shop").iterdir()} == {
        "items.parquet", "queries.parquet", "judgments.parquet", "dataset.json",
    }  # fmt: skip


@pytest.mark.parametrize(("text", "kind"), [
    (SHOPIFY, "catalogue"), (WOOCOMMERCE, "catalogue"), (MAGENTO, "catalogue"), (MERCHANT, "catalogue"), (RSS, "catalogue"),
    ('[{"item_id": "a", "title": "x"}]', "catalogue"),
    ('{"_id": "1", "title": "", "text": "long"}\n{"_id": "2", "title": "t", "text": "x"}\n', "catalogue"),
    ('{"id": 1, "title": "x", "query_id": ["q"], "rating": 4.5, "price": "9"}\n', "catalogue"),
    (QUEPID, "judgments"), (json.dumps(DOCUMENT), "judgments"), ("q1 0 a 1\n", "judgments"), ("3 qid:1 1:2 # a\n", "judgments"),
    ("query-id\tcorpus-id\tscore\nq\ta\t1\n", "judgments"), ("q1\ta\t1\nq2\tb\t0\n", "judgments"),
    ("query,item_id,impressions,clicks\nx,a,3,1\n", "judgments"),
    ("example_id,query,query_id,product_id,product_locale,esci_label\n0,x,7,a,us,E\n", "judgments"),
    ("id\tquery_id\tproduct_id\tlabel\n0\t0\t7\tExact\n1\t0\t8\tPartial\n", "judgments"), ("query,docid,Ann,Bob\nx,a,1,\n", "judgments"),
    ("qid\tquery\nq1\tred shoes\n", "queries"), ("q1\tred shoes\nq2\tbag\n", "queries"),
    ('{"_id": "q1", "text": "red shoes", "metadata": {}}\n', "queries"),
    ('{"index": {"_index": "ubi_queries"}}\n{"query_id": "q", "user_query": "x", "query_response_hit_ids": ["a"], "timestamp": 1740823200000}\n', "logs"),
    ('{"action_name": "click", "query_id": "q", "timestamp": 1740823200000}\n', "logs"),
    ("event_name,event_timestamp,search_term,item_id\nselect_item,1740823200000000,x,a\n", "logs"),
    ("query,item_id,timestamp,user_id\nx,a,1740823200,u\n", "logs"),
])  # fmt: skip
def test_kind_is_found(tmp_path: Path, text: str, kind: str) -> None:
    from genrecall.data.importing import Found

    (file,) = write(tmp_path, export=text)
    assert Found.of(file, DataSection(), "").kind == kind


def test_rejected_rows_are_listed_in_the_folder_and_too_many_stop_the_import(tmp_path: Path) -> None:
    files = write(tmp_path, products="id,title\n1,A\n2,\n3,C\n")
    with pytest.raises(UserError, match=r"1 of 3 rows cannot be used.*'title is empty'.*line 3.*shop\.rejects\.jsonl"):
        import_files(files, tmp_path / "shop", DataSection(), {})
    assert not (tmp_path / "shop").exists()
    assert json.loads((tmp_path / "shop.rejects.jsonl").read_text())["line"] == 3
    import_files(files, tmp_path / "shop", DataSection(max_reject_share=0.5), {})
    assert json.loads((tmp_path / "shop" / "rejects.jsonl").read_text())["reason"] == "title is empty"
    assert not (tmp_path / "shop.rejects.jsonl").exists()


def test_columns_are_named_by_map(tmp_path: Path) -> None:
    files = write(tmp_path, products="Nr;Bezeichnung;Gruppe;A;B\n1;Topf;Haus > Küche;x;y\n")
    mapping = {"id": "Nr", "title": "Bezeichnung", "items.category": "Gruppe", "text": "A+B"}
    import_files(files, tmp_path / "shop", DataSection(), mapping)
    (row,) = read_dataset(DataSection(folder=tmp_path / "shop")).items.to_pylist()
    assert row == {"item_id": "1", "title": "Topf", "category": ["Haus", "Küche"], "brand": "", "text": "x y"}


@pytest.mark.parametrize(("files", "mapping", "message"), [
    ({"p": SHOPIFY}, {"title": "Nope"}, "title is 'Nope', which none of the first 4 rows has; the columns are Handle"),
    ({"p": SHOPIFY}, {"titel": "Title"}, "--map titel: no such field; there are items.id, items.title"),
    ({"r": QUEPID}, {}, "import the catalogue with them"),
    ({"p": SHOPIFY, "q": "q1\tred shoes\nq2\tbag\n"}, {}, "q: taken for queries, which alone teach nothing"),
    ({"x": "a,b,c\nfoo,bar,x\n"}, {}, r"x: nobody can tell whether it is a catalogue.*its columns are .*--kind"),
])  # fmt: skip
def test_what_cannot_be_imported_names_the_remedy(
    tmp_path: Path, files: dict[str, str], mapping: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        import_files(write(tmp_path / "in", **files), tmp_path / "shop", DataSection(), mapping)
    assert not (tmp_path / "shop").exists()


def test_command_shows_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    products, ratings = write(tmp_path, products=SHOPIFY, ratings=QUEPID)
    out = tmp_path / "shop"
    assert run(monkeypatch, "import", products, "--out", out, "--preview") == 0
    shown = capsys.readouterr().out
    assert "Shopify" in shown
    assert "Plain Tee" in shown
    assert not out.exists()
    assert run(monkeypatch, "import", products, ratings, "--out", out, "--set", "judgments.offset=2", "--json") == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert facts["counts"] == {"items": 2, "queries": 2, "judgments": 3}
    assert facts["columns"]["judgments"]["grades"] == {"0": 1, "2": 1, "3": 1}
    assert run(monkeypatch, "import", products, "--out", out) == 2
    assert "is not empty" in capsys.readouterr().err
    assert run(monkeypatch, "import", products, "--out", out, "--kind", "stuff") == 2
    assert "one of catalogue, queries, judgments, logs" in capsys.readouterr().err
    assert run(monkeypatch, "check", f"data.folder={out}", f"run.runs_dir={tmp_path}", "--json") == 0
    assert json.loads(capsys.readouterr().out)["most_common"]["brands"] == {"Acme": 2}


def test_check_warns_of_odd_categories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, category, warning in (
        ("many", "c{}", "30 different categories of 30 items"),
        ("one", "c", "of one category, 'c'"),
    ):
        (file,) = write(
            tmp_path, **{name: "id,title,category\n" + "".join(f"{n},t,{category.format(n)}\n" for n in range(30))}
        )
        assert run(monkeypatch, "import", file, "--out", tmp_path / "out" / name) == 0
        assert run(monkeypatch, "check", f"data.folder={tmp_path / 'out' / name}", f"run.runs_dir={tmp_path}") == 0
        assert warning in " ".join(capsys.readouterr().err.split())


def log_rows(name: str = "click") -> tuple[list[Any], list[Any]]:
    queries = [
        {
            "query_id": f"q{n}",
            "user_query": "tee",
            "client_id": "c",
            "timestamp": 1740823200 + n,
            "query_response_hit_ids": ["tee", "cap"],
        }
        for n in range(3)
    ]
    events = [{"action_name": name, "query_id": "q0", "client_id": "c", "timestamp": 1740823260, "event_attributes": {"object": {"object_id": "tee"}, "position": {"index": 1}}},
              {"action_name": "scroll", "query_id": "q0", "client_id": "c", "timestamp": 1740823260}]  # fmt: skip
    return queries, events


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def bulk(queries: list[Any], events: list[Any]) -> str:
    rows = [
        ({"index": {"_index": name}}, row)
        for name, of in (("ubi_queries", queries), ("ubi_events", events))
        for row in of
    ]
    return lines([line for pair in rows for line in pair])


@pytest.mark.parametrize("files", [
    {"a.jsonl": lines(log_rows()[0]), "b.jsonl": lines(log_rows()[1])},
    {"ubi.ndjson": bulk(*log_rows())},
    {"ubi.json": json.dumps([*log_rows()[0], *log_rows()[1]], indent=1)},
])  # fmt: skip
def test_a_shop_with_logs_alone(tmp_path: Path, files: dict[str, str]) -> None:
    found = import_files(write(tmp_path / "in", products=SHOPIFY, **files), tmp_path / "shop", DataSection(), {})
    assert found.counts == {"items": 2, "ubi_queries": 3, "ubi_events": 2}
    assert found.rejects.facts["ubi_events"]["actions"] == {"click": 1, "scroll": 1}
    (note,) = found.rejects.notes["logs"]
    assert "data.actions.scroll=click" in note
    section = resolve_sources(DataSection(folder=tmp_path / "shop", max_reject_share=0))[0]
    path = build_requests(section, LogsSection(), read_items(section), tmp_path / "logs", Rejects(), progress=False)
    requests = open_requests(path).to_pylist()
    assert [(row["exposed"], row["clicked"]) for row in requests] == [
        (["tee", "cap"], ["tee"]),
        (["tee", "cap"], []),
        (["tee", "cap"], []),
    ]


def test_logged_queries_without_events_are_imported_with_a_loud_warning(tmp_path: Path) -> None:
    files = write(tmp_path / "in", products=SHOPIFY, ubi=lines(log_rows()[0]))
    found = import_files(files, tmp_path / "shop", DataSection(), {})
    assert found.counts == {"items": 2, "ubi_queries": 3}
    assert found.rejects.notes["logs"] == ["NO CLICKS: the log has no events; bring ubi_events too"]
    section = resolve_sources(DataSection(folder=tmp_path / "shop", max_reject_share=0))[0]
    path = build_requests(section, LogsSection(), read_items(section), tmp_path / "logs", Rejects(), progress=False)
    assert open_requests(path)["exposed"].to_pylist() == [["tee", "cap"]] * 3
    assert json.loads((tmp_path / "logs" / "report.json").read_text())["notes"] == found.rejects.notes["logs"]


def test_clicks_alone_bring_their_queries(tmp_path: Path) -> None:
    clicks = "query,product_id,time,user\ntee,tee,2025-03-01T10:00:00Z,u\ntee,cap,2025-03-01T10:01:00Z,u\n"
    found = import_files(
        write(tmp_path / "in", products=SHOPIFY, clicks=clicks), tmp_path / "shop", DataSection(), {"client_id": "user"}
    )
    assert found.counts == {"items": 2, "ubi_queries": 2, "ubi_events": 2}
    section = resolve_sources(DataSection(folder=tmp_path / "shop", max_reject_share=0))[0]
    path = build_requests(section, LogsSection(), read_items(section), tmp_path / "logs", Rejects(), progress=False)
    assert open_requests(path).select(["text", "client_id", "clicked"]).to_pylist() == [
        {"text": "tee", "client_id": "u", "clicked": ["tee", "cap"]}
    ]


def test_a_log_that_teaches_nothing_is_imported_with_a_loud_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queries, events = log_rows("tap")
    queries = [{**row, "query_response_hit_ids": ["x1", "x2"]} for row in queries]
    files = write(tmp_path, products=SHOPIFY, ubi=bulk(queries, events))
    assert run(monkeypatch, "import", *files, "--out", tmp_path / "shop") == 0
    mapped = DataSection(folder=tmp_path / "shop", actions={"tap": "click"})
    (batch,) = logged_events(resolve_sources(mapped)[0], Rejects())
    assert batch.column("item_id").to_pylist() == ["tee"], "mapping the action afterwards suffices"
    told = " ".join(capsys.readouterr().err.split())
    assert "NO CLICKS: none of 2 events" in told
    assert "6 of 7 items in the log are not in the catalogue: the log has x1, x2, x1, the catalogue tee, cap" in told


def test_check_of_logs_prints_their_report_and_warns_of_an_encoder_that_does_not_know_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    titles = "id,title\n" + "".join(f"{n},เสื้อยืดผู้ชายสีดำ {n} ᠮᠣᠩᠭᠣᠯ\n" for n in range(5))
    queries, events = log_rows()
    queries = [{**row, "query_response_hit_ids": ["1"]} for row in queries]
    files = write(
        tmp_path,
        products=titles,
        ubi=bulk(queries, []),
        more=lines([{**events[0], "event_attributes": {"object": {"object_id": "1"}}}]),
    )
    out = tmp_path / "shop"
    assert run(monkeypatch, "import", *files, "--out", out) == 0
    assert run(monkeypatch, "check", f"data.folder={out}", f"run.runs_dir={tmp_path / 'runs'}") == 0
    shown = capsys.readouterr()
    assert "click-through rate" in shown.out
    assert "encoder does not know" in " ".join(shown.err.split())


CORPUS = "".join(json.dumps({"_id": f"d{n}", "title": f"Title {n}", "text": "words"}) + "\n" for n in range(9))
TEXTS = ["red shoe", "blue bag", "green hat", "shoe, red", "black tie", "white sock", "grey coat", "pink belt"]


def beir(folder: Path, **parts: list[int]) -> list[str]:
    """A folder as BEIR lays it out; parts: name of a file of judgments -> the numbers of its queries."""
    queries = "".join(json.dumps({"_id": f"q{n}", "text": text, "metadata": {}}) + "\n" for n, text in enumerate(TEXTS))
    paths = write(folder, **{"corpus.jsonl": CORPUS, "queries.jsonl": queries})
    for name, numbers in parts.items():
        rows = "".join(f"q{n}\td{n}\t1\n" for n in numbers)
        paths += write(folder / "qrels", **{f"{name}.tsv": f"query-id\tcorpus-id\tscore\n{rows}"})
    return paths


@pytest.mark.parametrize(("parts", "expected"), [
    ({"train": [0, 1], "dev": [2], "test": [4]}, {"train": ["q0", "q1"], "dev": ["q2"], "test": ["q4"]}),
    ({"train": [0, 1, 4], "dev": [2], "test": [3, 4]}, {"train": ["q1"], "dev": ["q2"], "test": ["q3", "q4"]}),
])  # fmt: skip
def test_parts_of_judgments_become_a_split(tmp_path: Path, parts: Any, expected: Any) -> None:
    import_files(beir(tmp_path / "in", **parts), tmp_path / "shop", DataSection(), {})
    assert json.loads((tmp_path / "shop" / "splits.json").read_text()) == expected
    data = read_dataset(DataSection(folder=tmp_path / "shop"))
    (split,) = splits(data, "unseen", 5, 1.0, 13, tmp_path / "shop")
    assert {*split.test["query_id"].to_pylist()} == {*expected["test"]}


def test_dev_is_taken_out_of_train_where_no_file_is_named_so(tmp_path: Path) -> None:
    found = import_files(
        beir(tmp_path / "in", train=[0, 1, 2, 5, 6], test=[3, 4, 7]), tmp_path / "shop", DataSection(), {}
    )
    split = json.loads((tmp_path / "shop" / "splits.json").read_text())
    assert (len(split["train"]), len(split["dev"]), split["test"]) == (3, 1, ["q3", "q4", "q7"])
    assert "q0" not in split["train"] + split["dev"], "the words of q3, which is tested"
    assert found.rejects.notes["judgments"][-2:] == [
        "1 queries have the words of another that is held out: they are in no part of splits.json",
        "no file of judgments is named dev: splits.json takes dev out of train",
    ]
    other = import_files(beir(tmp_path / "other", train=[0, 1, 2], dev=[4]), tmp_path / "two", DataSection(), {})
    split = json.loads((tmp_path / "two" / "splits.json").read_text())
    assert (len(split["dev"]), split["test"]) == (1, ["q4"])
    assert "takes test from dev" in other.rejects.notes["judgments"][-1]


@pytest.mark.parametrize("parts", [{"test": [0, 1]}, {"train": [0], "other": [1]}, {"judged": [0]}])
def test_other_names_make_no_split(tmp_path: Path, parts: Any) -> None:
    import_files(beir(tmp_path / "in", **parts), tmp_path / "shop", DataSection(), {})
    assert not (tmp_path / "shop" / "splits.json").exists()
