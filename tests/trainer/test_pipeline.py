"""What a run refuses before it reads or trains anything."""

from pathlib import Path

import pytest

from genrecall.config import Config
from genrecall.errors import UserError
from genrecall.records import ITEMS, JUDGMENTS, QUERIES, Dataset, Split
from trainer import pipeline


def test_tensorboard_asked_for_and_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None)
    config = Config()
    config = config.model_copy(
        update={"run": config.run.model_copy(update={"runs_dir": tmp_path, "tensorboard": True})}
    )
    none = JUDGMENTS.empty_table()
    dataset = Dataset("none", ITEMS.empty_table(), QUERIES.empty_table(), none)
    with pytest.raises(UserError, match=r"run\.tensorboard is true, but .*genrecall\[tensorboard\]"):
        pipeline.train(config, dataset, Split("all", none, none, none), "v1", lambda *_: {})
    assert not list(tmp_path.iterdir())
