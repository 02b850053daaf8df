"""The command that compares codebooks, and what the package loads."""

import subprocess
import sys

import numpy as np
import pyarrow as pa

from genrecall.config import Config
from genrecall.records import ITEMS, JUDGMENTS, QUERIES, Dataset, Split
from trainer.quantizer.__main__ import evaluate_folds, pairs, row

TITLES = ["red shoe", "blue shoe", "green shoe", "desk lamp", "floor lamp", "wool sock"]


def shop() -> Dataset:
    items = pa.table(
        {
            "item_id": [f"i{n}" for n in range(len(TITLES))],
            "title": TITLES,
            "category": [[title.split()[1]] for title in TITLES],
            "brand": [""] * len(TITLES),
            "text": [""] * len(TITLES),
        },
        schema=ITEMS,
    )
    queries = pa.table({"query_id": ["q1", "q2"], "text": ["shoes", "lights"]}, schema=QUERIES)
    judged = [("q2", "i3", 1.0), ("q2", "i0", 0.1), ("q1", "i2", 1.0), ("q1", "i1", 1.0)]
    judgments = pa.table(
        {name: list(column) for name, column in zip(JUDGMENTS.names, zip(*judged, strict=True), strict=True)}
    )
    return Dataset("tiny", items, queries, judgments.cast(JUDGMENTS))


def test_pairs_are_the_relevant_judgments_as_row_numbers() -> None:
    data = shop()
    found = pairs(data.judgments, data, np.zeros((2, 3), dtype=np.float32), relevant=1.0)
    assert found.query_idx.tolist() == [1, 0, 0]
    assert found.item_idx.tolist() == [3, 2, 1]
    assert found.query_idx.dtype == np.int64


def test_a_candidate_gets_one_line_of_the_table(tmp_path) -> None:
    data = shop()
    settings = Config.model_validate({"run": {"cache_dir": str(tmp_path)}, "quantizer": {"category_min_items": 1}})
    everything = Split("all", data.judgments, data.judgments, data.judgments)
    results = evaluate_folds("hierarchical", settings, data, [everything, everything])
    assert results[0]["R@50"] == 1.0  # six items are all listed
    line = row("hierarchical", results)
    assert line.startswith("| hierarchical | ")
    assert line.count("|") == 10


def test_the_package_loads_neither_torch_nor_matplotlib() -> None:
    code = "import sys, trainer.quantizer; assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
