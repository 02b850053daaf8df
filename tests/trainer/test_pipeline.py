"""What a run refuses before it reads or trains anything, and what it leaves when it is done."""

from pathlib import Path

import pytest

from genrecall import bundle, files
from genrecall.config import Config
from genrecall.errors import UserError
from genrecall.records import ITEMS, JUDGMENTS, QUERIES, Dataset, Split
from tests.inference_server.bundles import shop_dataset, train_shop
from trainer import pipeline, work
from trainer.pipeline import train


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


def test_a_published_training_keeps_what_is_read_again_and_nothing_else(tmp_path: Path) -> None:
    config, first = train_shop(tmp_path, "hierarchical", "encoder")
    (folder,) = (config.run.dir / "train").iterdir()
    kept = {path.name for path in (folder / "hierarchical").iterdir()}
    assert kept >= {"quantizer.safetensors", "generator", "generator.json", "dev.json"}
    assert "checkpoints" not in kept
    weights = "generator/model.safetensors"
    assert (folder / "hierarchical" / weights).samefile(first.path / weights), "it takes no room of its own"

    def learn(*_: object) -> None:
        raise AssertionError("trained again")

    dataset, split = shop_dataset()
    other = train(config, dataset, split, "other", learn, progress=False)  # type: ignore[arg-type]
    assert other.codebook == "other"
    assert other.model == first.model
    bundle.open(first.path)
    bundle.open(other.path)


def test_of_the_candidates_that_were_not_chosen_the_figures_stay(tmp_path: Path) -> None:
    for kind in ("chosen", "other"):
        for name in ("generator/model.safetensors", "checkpoints/mixed-1/stage.json", "dev.json", "generator.json"):
            files.write_text(tmp_path / kind / name, "x")
    work.prune(tmp_path, ["chosen", "other"], "chosen")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    figures = {f"{kind}/{name}" for kind in ("chosen", "other") for name in ("dev.json", "generator.json")}
    assert left == figures | {"chosen/generator/model.safetensors"}
