"""The figures of a codebook, by hand, and the report on disk."""

import json
from pathlib import Path

import numpy as np
import pytest

from genrecall.reports import codes_report
from trainer.quantizer import statistics
from trainer.quantizer.statistics import gini

CODES = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0], [2, 0, 1], [2, 0, 1], [2, 0, 0], [2, 1, 0]])


def test_figures_are_those_computed_by_hand() -> None:
    report = statistics(CODES, (4, 2, 2), was_split=np.array([True] * 2 + [False] * 6))
    one, two, three = report["levels"]
    assert (one["size"], one["used"], one["dead"], one["prefixes"]) == (4, 2, 2, 2)
    assert one["perplexity"] == pytest.approx(2.0)
    assert one["gini"] == pytest.approx(0.5)
    assert two["prefixes"] == 4
    assert two["children"] == 2.0
    assert two["perplexity"] == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert (three["prefixes"], three["children"]) == (5, 1.25)
    sids = report["sids"]
    assert sids["count"] == 5
    assert sids["mean_items"] == pytest.approx(8 / 5)
    assert sids["seen_items"] == pytest.approx((9 + 1 + 4 + 1 + 1) / 8)
    assert (sids["max_items"], sids["singletons"], sids["sizes"]) == (3, 3, {"1": 3, "2": 1, "3": 1})
    assert sids["split_share"] == 0.25


def test_gini_goes_from_even_use_to_a_single_code() -> None:
    assert gini(np.array([5, 5, 5, 5])) == 0
    assert gini(np.array([0, 0, 0, 9])) == pytest.approx(0.75)


def test_the_report_is_written_as_json_table_and_picture(tmp_path: Path) -> None:
    report = {"kind": "hierarchical", **statistics(CODES, (4, 2, 2))}
    codes_report(report).write(tmp_path / "codes")
    assert json.loads((tmp_path / "codes/codes.json").read_text()) == report
    assert "| 1 | 4 | 2 | 2 | 2.0 | 0.50 | 2 | 2.0 |" in (tmp_path / "codes/codes.md").read_text()
    assert (tmp_path / "codes/codes.png").read_bytes().startswith(b"\x89PNG")
