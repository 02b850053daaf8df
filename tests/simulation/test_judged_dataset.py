"""Simulated logs over a judged dataset: who is shown what, who clicks, and a folder that works alone."""

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrecall.cli.main import main
from genrecall.config.data import DataSection
from genrecall.data.events import logged_events, logged_queries
from genrecall.data.readers import read_dataset
from genrecall.data.rejects import Rejects
from genrecall.data.sources import resolve_sources
from genrecall.errors import UserError
from simulation import simulate
from simulation.click_model import JudgedQuery
from simulation.config import ClickModel, SimulationSection
from simulation.judged_dataset import judged_queries, searches
from simulation.relevance import labels_of
from simulation.ubi_log import SessionRecorder

ITEMS = {"a": "red pan", "b": "blue pan", "c": "pan lid", "d": "garden hose", "e": "never judged"}
QRELS = ["q1 0 a 100", "q1 0 b 10", "q1 0 c 1", "q1 0 d 0", "q2 0 d 100", "q2 0 a 0"]
SMALL = SimulationSection(sessions=20)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A dataset whose items are not where, nor as, the standard layout has them."""
    folder = tmp_path / "judged"
    (folder / "parts").mkdir(parents=True)
    rows = [json.dumps({"sku": item, "name": title}) for item, title in ITEMS.items()]
    (folder / "parts" / "1.jsonl").write_text("\n".join(rows[:3]))
    (folder / "parts" / "2.jsonl").write_text("\n".join(rows[3:]))
    (folder / "queries.tsv").write_text("q1\tred pan\nq2\those\nq3\tnot judged\n")
    (folder / "qrels.txt").write_text("\n".join(QRELS))
    (folder / "splits.json").write_text('{"train": ["q1"], "dev": ["q2"], "test": []}')
    described = {
        "name": "kitchen",
        "items": {"path": "parts/*.jsonl", "fields": {"id": "sku", "title": "name"}},
        "about": {"licence": "CC0"},
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def recorder(sessions: int, seed: int, days: int = 30) -> SessionRecorder:
    return SessionRecorder(sessions, days, np.random.default_rng(seed))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_folder_works_without_the_original_and_says_it_is_simulated(source: Path, tmp_path: Path) -> None:
    before = read_dataset(DataSection(folder=source))
    simulate(SMALL, source, tmp_path / "out" / "logs")
    source.rename(tmp_path / "gone")
    section = DataSection(folder=tmp_path / "out" / "logs", max_reject_share=0)
    after = read_dataset(section)
    assert (after.name, after.simulated, before.simulated) == ("logs", True, False)
    assert after.items.equals(before.items)
    assert after.judgments.equals(before.judgments)
    assert (section.folder / "splits.json").is_file()
    logged = resolve_sources(section)[0]
    actions = Counter(action for batch in logged_events(logged, Rejects()) for action in batch["action"].to_pylist())
    shown = sum(len(hits) for batch in logged_queries(logged, Rejects()) for hits in batch["hits"].to_pylist())
    about = json.loads((section.folder / "dataset.json").read_text())["about"]
    assert "simulated from human judgments" in about["note"]
    assert about["settings"] == SMALL.model_dump(mode="json")
    assert about["judgments"] == {"exact": 2, "substitute": 1, "complement": 1, "irrelevant": 2}
    assert (about["of"]["name"], about["of"]["licence"]) == ("kitchen", "CC0")
    assert shown == 20 * 4 + 20 * 2
    assert actions == {"click": about["clicks"], "purchase": about["purchases"]}


def test_every_judged_query_is_asked_as_often_and_shows_its_judged_items_alone(source: Path, tmp_path: Path) -> None:
    simulate(SMALL, source, tmp_path / "logs")
    asked = lines(tmp_path / "logs" / "ubi_queries.jsonl.gz")
    assert Counter(row["user_query"] for row in asked) == {"red pan": 20, "hose": 20}
    for row in asked:
        assert set(row["query_response_hit_ids"]) == set("abcd" if row["user_query"] == "red pan" else "da")


def test_same_seed_gives_the_same_bytes_and_another_seed_others(source: Path, tmp_path: Path) -> None:
    other = SMALL.model_copy(update={"seed": 14})
    for part, section in (("a", SMALL), ("b", SMALL), ("c", other)):
        simulate(section, source, tmp_path / part / "logs")
    first, again, third = (contents(tmp_path / part / "logs") for part in "abc")
    assert first == again
    assert first["ubi_events.jsonl.gz"] != third["ubi_events.jsonl.gz"]


def test_clicks_and_purchases_follow_the_model(source: Path) -> None:
    model, times = ClickModel(noise=0.0), 40_000
    queries = judged_queries(read_dataset(DataSection(folder=source)))[:1]
    clicks, bought = np.zeros(4), np.zeros(4)
    shown = set()
    for search, events in searches(queries, times, model, recorder(times, seed=3)):
        shown.add(tuple(search["query_response_hit_ids"]))
        for event in events:
            count = clicks if event["action_name"] == "click" else bought
            count["abcd".index(event["event_attributes"]["object"]["object_id"])] += 1
    assert shown == {("a", "b", "c", "d")}, "without noise the slate is BM25's"
    expected = np.array(model.click) / np.arange(1, 5)
    assert clicks / times == pytest.approx(expected, abs=0.008)
    assert bought / times == pytest.approx(expected * np.array(model.purchase), abs=0.008)


def test_searches_need_no_dataset_and_follow_the_generator() -> None:
    query = JudgedQuery("pan", ["x", "y"], ["pan", "pot"], np.array([0, 3]))
    runs = [list(searches([query], 50, ClickModel(), recorder(50, seed, days=2))) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len(runs[0]) == 50
    assert {search["timestamp"][:10] for search, _ in runs[0]} == {"2025-01-01", "2025-01-02"}


@pytest.mark.parametrize(
    ("grades", "expected"),
    [
        ([1.0, 0.1, 0.01, 0.0], [0, 1, 2, 3]),  # ESCI
        ([1.0, 0.0], [0, 3]),
        ([1, 2 / 3, 1 / 3, 0], [0, 1, 2, 3]),  # TREC: 3, 2, 1, 0
        ([1, 0.75, 0.5, 0.25, 0], [0, 1, 1, 2, 3]),  # 4, 3, 2, 1, 0: half way goes to the better
        ([1.0, 0.5, 0.1], [0, 1, 3]),
        ([], []),
    ],
)
def test_a_grade_is_one_of_four_labels_on_any_scale(grades: list[float], expected: list[int]) -> None:
    assert labels_of(np.array(grades, dtype=np.float32)).tolist() == expected


def test_logs_of_the_original_stay_behind(source: Path, tmp_path: Path) -> None:
    (source / "ubi_queries.jsonl").write_text('{"query_id": "old"}')
    (source / "ubi_events.jsonl").write_text("")
    simulate(SMALL, source, tmp_path / "logs")
    assert not (tmp_path / "logs" / "ubi_queries.jsonl").exists()
    logged = logged_queries(resolve_sources(DataSection(folder=tmp_path / "logs"))[0], Rejects())
    assert sum(len(batch) for batch in logged) == 40


def test_bad_input_leaves_nothing(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "logs"
    with pytest.raises(UserError, match="does not exist"):
        simulate(SMALL, tmp_path / "nowhere", out)
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "items.jsonl").write_text('{"item_id": "a", "title": "Pan"}\n')
    with pytest.raises(UserError, match=r"has no judgments.*qrels\.txt"):
        simulate(SMALL, tmp_path / "items", out)
    (source / "parts" / "2.jsonl").write_text('{"sku": "d", "na')
    with pytest.raises(UserError, match="rows cannot be used"):
        simulate(SMALL, source, out)
    described = {"name": "kitchen", "items": {"path": "../elsewhere.jsonl"}}
    (source / "dataset.json").write_text(json.dumps(described))
    rows = [json.dumps({"item_id": item, "title": title}) for item, title in ITEMS.items()]
    (tmp_path / "elsewhere.jsonl").write_text("\n".join(rows))
    with pytest.raises(UserError, match="leaves the folder"):
        simulate(SMALL, source, out)
    assert not any((tmp_path / "made").iterdir())
    with pytest.raises(UserError, match="is not empty"):
        simulate(SMALL, source, source)


def test_command(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["genrecall", "data", "simulate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0)

    out = tmp_path / "logs"
    assert run(source, "--out", out, "--sessions", 5, "--seed", 2, "clicks.noise=0", "--json") == 0
    about = json.loads(capsys.readouterr().out)["about"]
    assert (about["sessions"], about["settings"]["seed"], about["settings"]["clicks"]["noise"]) == (10, 2, 0)
    assert run(source, "--out", tmp_path / "more", "--sessions", 5) == 0
    assert "2 queries, 10 sessions" in capsys.readouterr().out
    assert run(source, "--out", tmp_path / "none", "--sessions", 0) == 2
    assert "sessions" in capsys.readouterr().err
    assert run(source, "--out", out) == 2
    assert "is not empty" in capsys.readouterr().err
