"""One real run for every test here: a generated shop with logs, killed in the middle of alignment, then finished."""

from __future__ import annotations

import pytest
import torch

from genrecall.config import Config, load
from genrecall.data.readers import read_dataset
from genrecall.data.splits import training_split
from genrecall.evaluation import score_dev
from genrecall.reports import Run, collect
from simulation import synthesize
from simulation.config import ShopSection
from tests.reports.tiny import TINY, Reported
from trainer.alignment.stage import AlignmentTrainer
from trainer.pipeline import train

KILLED_AT = 7


class Killed(Exception):
    pass


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    torch.set_num_threads(1)
    work = tmp_path_factory.mktemp("reported")
    synthesize(load(ShopSection, None, ["items=1000", "sessions=2000"]), work / "shop")
    overrides = [
        f"data.folder={work / 'shop'}",
        *(f"run.runs_dir={work / 'runs'}", f"run.bundles_dir={work / 'bundles'}", f"run.cache_dir={work / 'cache'}"),
        *("generator.user.stage.steps=20", "generator.user.stage.evaluate_every=10", "generator.user.stage.batch=32"),
        *("generator.alignment.steps=12", "generator.alignment.batch=8", "generator.alignment.evaluate_every=3"),
    ]
    settings = load(Config, TINY, overrides)
    dataset = read_dataset(settings.data, settings.run.dir / "rejects.jsonl")
    split = training_split(dataset, settings)
    score = score_dev(dataset, split, settings)

    def run() -> Run:
        train(settings, dataset, split, settings.run.codebook, score, progress=False)
        return collect(settings.run)

    step = AlignmentTrainer.loss_of
    with pytest.MonkeyPatch.context() as patch:

        def dies(self: AlignmentTrainer, model: object, inputs: dict) -> object:
            if int(inputs["step"]) == KILLED_AT:
                raise Killed
            return step(self, model, inputs)

        patch.setattr(AlignmentTrainer, "loss_of", dies)
        with pytest.raises(Killed):
            run()
        interrupted = collect(settings.run)
    return Reported(settings, overrides, interrupted, run())
