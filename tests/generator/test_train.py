"""Training end to end on the shop: what is written can be served, and is what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genrecall.config.generator import TINY
from genrecall.decoding import Generator
from tests.generator.shop import Train, catalogue


def test_encoder_kind_learns_the_shop_and_generates(train: Train, tmp_path: Path) -> None:
    metrics = train()
    assert metrics["queries"] == "real"
    looks = [look["eval_recall"] for look in metrics["stages"]["mixed"]["looks"]]
    assert len(looks) == 3
    space = catalogue()[2]
    answer = Generator.load(tmp_path / "generator", space).generate(["red shoe", "blue mug"], k=5)
    assert answer.codes.shape == (2, 5, 3)
    assert answer.valid.all()
    assert (space.index_of(answer.codes) >= 0).all()
    assert (np.diff(answer.scores, axis=1) <= 0).all()


def test_lm_kind_learns_the_shop_in_two_stages(train: Train, tmp_path: Path) -> None:
    metrics = train(TINY.model_copy(update={"kind": "lm"}))
    assert list(metrics["stages"]) == ["item", "query"]
    space = catalogue()[2]
    answer = Generator.load(tmp_path / "generator", space).generate(["red shoe", "blue"], k=5)
    assert answer.valid.all()
    assert (space.index_of(answer.codes) >= 0).all()
