"""`genrecall evaluate` as a user runs it: training, channels, tables; offline, and through a real node."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from opensearchpy import OpenSearch

from genrecall.local_node.node import Node
from tests.evaluation.shop import shop

ROOT = Path(__file__).parents[2]
CHANNELS = {"bm25", "knn", "adapted", "generative", "generative_text", "linear", "placebo"}


def genrecall(*words: object, code: int = 0) -> str:
    command = [sys.executable, "-m", "genrecall", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The shop as a dataset folder, and a run of seconds."""
    work, dataset = tmp_path_factory.mktemp("evaluate"), shop()
    folder = work / "shop"
    folder.mkdir()
    lines = [json.dumps(row) for row in dataset.items.to_pylist()]
    (folder / "items.jsonl").write_text("\n".join(lines), encoding="utf-8")
    lines = ["query_id\ttext", *(f"{row['query_id']}\t{row['text']}" for row in dataset.queries.to_pylist())]
    (folder / "queries.tsv").write_text("\n".join(lines), encoding="utf-8")
    lines = [f"{r['query_id']} 0 {r['item_id']} {round(10 * r['grade'])}" for r in dataset.judgments.to_pylist()]
    (folder / "qrels.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = [
        "quantizer.candidates=[hierarchical]",
        "evaluation.depth=20",
        "evaluation.sids=10",
        "evaluation.budget=12",
    ]
    return [f"data.folder={folder}", f"run.runs_dir={work / 'runs'}", f"run.cache_dir={work / 'cache'}", *settings]


@pytest.mark.slow
def test_offline_evaluation_fills_both_regimes_and_is_reused(overrides: list[str], tmp_path: Path) -> None:
    words = ("evaluate", "-c", ROOT / "configs" / "tiny.yaml", "--offline", "--json", *overrides)
    made = json.loads(genrecall(*words))
    assert made["mode"] == "offline"
    for name, regime in made["regimes"].items():
        assert set(regime["systems"]) >= CHANNELS, name
        assert regime["systems"]["knn"]["R@10"]["mean"] > 0
        assert all(fold["chosen"] == "hierarchical" for fold in regime["notes"].values())
    runs = Path(next(o for o in overrides if o.startswith("run.runs_dir=")).partition("=")[2]) / "tiny"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.trec")}
    assert len(before) == 3 * len(CHANNELS) + 1  # two folds and the recurring split, which has Rocchio too
    assert json.loads(genrecall(*words)) == made
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*.trec")} == before


@pytest.mark.slow
@pytest.mark.node
def test_evaluation_through_the_node_leaves_it_as_it_was(overrides: list[str], plugin_node: Node) -> None:
    client = OpenSearch(plugin_node.url)
    before = client.cluster.get_settings()
    extra = (f"opensearch.url={plugin_node.url}", "opensearch.index=judged", "evaluation.regimes=[recurring]")
    made = json.loads(genrecall("evaluate", "-c", ROOT / "configs" / "tiny.yaml", "--json", *overrides, *extra))
    assert made["mode"] == "node"
    for name, regime in made["regimes"].items():
        assert set(regime["systems"]) >= {*CHANNELS, "rocchio", "hybrid"}, name
        assert all(regime["systems"][channel]["R@10"]["mean"] > 0 for channel in (*CHANNELS, "hybrid")), name
    assert client.cat.indices(index="judged*", format="json") == []
    assert client.cluster.get_settings() == before


@pytest.mark.slow
def test_a_node_that_is_not_there_is_the_users_to_mend(overrides: list[str]) -> None:
    words = ("evaluate", "-c", ROOT / "configs" / "tiny.yaml", *overrides, "opensearch.url=http://127.0.0.1:9")
    assert "genrecall node start" in genrecall(*words, code=2)
