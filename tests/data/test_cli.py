"""`genrecall data` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest

from genrecall.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["genrecall", "data", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_synthesize_then_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shop"
    assert run(monkeypatch, "synthesize", "--items", 1000, "--out", out, "queries=50", "sessions=100") == 0
    assert "simulated" in capsys.readouterr().out
    assert run(monkeypatch, "check", f"data.folder={out}", f"run.runs_dir={tmp_path}", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["simulated"]
    assert (facts["items"], facts["queries"], facts["rejects"]) == (1000, 50, {})
    assert set(facts["splits"]) == {"fold0 of 5", "splits.json", "recurring"}
    logs = facts["logs"]
    assert logs["simulated"]
    assert logs["requests"]["kept"] == 100
    assert logs["exposures"] > logs["clicks"] > 0
    assert logs["split"] == {"by": "query", "train": 100, "dev": 0, "test": 0, "dropped": 0}, "logged are train queries"
    assert {path.name for path in (tmp_path / "demo" / "logs").glob("logs.*")} == {"logs.json", "logs.md", "logs.png"}


def test_check_lists_rejects_and_stops_with_code_2_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "title": "Pan"}\n{"item_id": "b", "title": ""}\n')
    (tmp_path / "queries.tsv").write_text("q1\tpan\n")
    (tmp_path / "qrels.txt").write_text("q1 0 a 1\n")
    arguments = (f"data.folder={tmp_path}", f"run.runs_dir={tmp_path}")
    assert run(monkeypatch, "check", *arguments) == 2
    assert "1 of 2 rows cannot be used" in capsys.readouterr().err
    assert run(monkeypatch, "check", *arguments, "data.max_reject_share=0.5") == 0
    assert "title is empty: 1" in capsys.readouterr().out
    row = json.loads((tmp_path / "demo" / "rejects.jsonl").read_text())
    assert (row["place"], row["line"], row["reason"]) == ("items.jsonl", 2, "title is empty")


def test_simulating_without_a_checkout_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "simulation", None)  # as in an installed wheel
    for arguments in (("synthesize", "--out", tmp_path / "shop"), ("simulate", tmp_path, "--out", tmp_path / "logs")):
        assert run(monkeypatch, *arguments) == 2
        assert "runs in a checkout only" in capsys.readouterr().err


def test_mistakes_end_with_code_2_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "fetch", "netflix") == 2
    assert "'netflix' is not known" in capsys.readouterr().err
    assert run(monkeypatch, "fetch", "esci", "--from", tmp_path, "--to", tmp_path / "to") == 2
    assert "must hold ubi_ecommerce_products.json.gz" in capsys.readouterr().err
    assert run(monkeypatch, "synthesize", "--items", 10, "--out", tmp_path / "shop") == 2
    assert "greater than or equal to 1000 (found 10)" in capsys.readouterr().err
    assert run(monkeypatch, "check", "data.fodler=x") == 2
    assert "did you mean 'folder'" in capsys.readouterr().err
