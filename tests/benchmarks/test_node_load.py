"""The workload that opensearch-benchmark is given: every search once, in the form that it reads."""

import importlib.util
import json
from pathlib import Path

import numpy as np

from benchmarks import node_load

TITLES = [f"w{n} w{n + 1} w{n + 2}" for n in range(20)]
SIDS = [f"v1/0/0/{n}" for n in range(600)]


def test_every_task_has_searches_of_its_own_and_each_client_a_share_of_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tasks = node_load.bodies(TITLES, SIDS, True, 24, rng)
    lines = node_load.documents(TITLES, SIDS[:20], True, rng)
    node_load.write_workload(tmp_path, node_load.mapping("v1", True), lines, tasks, 20)

    workload = json.loads((tmp_path / "workload.json").read_text())
    (source,) = workload["corpora"][0]["documents"]
    assert source["document-count"] == len((tmp_path / source["source-file"]).read_text().splitlines()) == 20
    searches = [step for step in workload["test_procedures"][0]["schedule"] if "target-throughput" in step]
    assert {step["name"] for step in searches} == {"match", "knn"} | {
        f"{kind}, {k}" for kind in ("terms", "clause of sids", "clause", "hybrid") for k in node_load.KS
    }

    spec = importlib.util.spec_from_file_location("workload", tmp_path / "workload.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for step in searches:
        every = module.Bodies(None, step["operation"])
        parts = [every.partition(n, node_load.CLIENTS) for n in range(node_load.CLIENTS)]
        sent = [json.dumps(part.params()["body"]) for part in parts for _ in range(24 // node_load.CLIENTS)]
        assert sorted(sent) == sorted(map(json.dumps, tasks[step["name"]]))
