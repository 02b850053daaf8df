"""One stage of training: resume, early stop, numbers that are none."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from genrecall.config.generator import DecoderSection, StageSection
from genrecall.decoding.tables import ConstraintTables
from genrecall.errors import UserError
from tests.generator.shop import catalogue
from trainer.generator.encoder_model import EncoderModel, decoder_config
from trainer.generator.loop import Batch, TrainingStage, run_stage

SECTION = StageSection(steps=12, batch=8, warmup_steps=2, evaluate_every=4, patience=2, lr=3e-3)
Measure = Callable[[], dict[str, float]]


def model() -> nn.Module:
    torch.manual_seed(1)
    space = catalogue()[2]
    section = DecoderSection(hidden=16, intermediate=16, heads=2, kv_heads=2, dropout=0.2)
    config = decoder_config(section, sum(space.level_sizes), tied=False)
    return EncoderModel(config, 8, space.level_sizes, ConstraintTables.build(space), None, section.dropout)


def batch(step: int) -> Batch:
    rng = np.random.default_rng(step)
    text = torch.from_numpy(rng.normal(size=(8, 8)).astype(np.float32))
    return {"text": text, "sid": torch.from_numpy(rng.integers(0, 48, (8, 1)))}


def run(work: Path, batch: Callable[[int], Batch] = batch, evaluate: Measure | None = None) -> tuple[nn.Module, dict]:
    trained = model()
    return trained, run_stage(trained, TrainingStage("test", SECTION, batch, evaluate), work, seed=5, progress=False)


def killed_at(step: int) -> Callable[[int], Batch]:
    def of(at: int) -> Batch:
        if at == step:
            raise KeyboardInterrupt
        return batch(at)

    return of


def test_an_interrupted_stage_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole, metrics = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", killed_at(9))
    resumed, again = run(tmp_path / "cut")
    assert again["loss"] == pytest.approx(metrics["loss"], rel=1e-4)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, msg=name)


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", killed_at(9))
    torn = tmp_path / "cut" / "checkpoint-8"
    (torn / "whole").unlink()
    os.truncate(torn / "model.safetensors", 100)
    resumed, _ = run(tmp_path / "cut")
    assert not torn.exists()
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, msg=name)


def test_a_full_disk_stops_with_a_remedy_and_the_run_goes_on_once_there_is_space(tmp_path: Path) -> None:
    """The limit on the size of files is the kernel's own: the write of the checkpoint fails in the middle."""
    whole, _ = run(tmp_path / "whole")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills_up(step: int) -> Batch:
        if step == 9:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, unlimited[1]))
        return batch(step)

    try:
        with pytest.raises(UserError) as caught:
            run(tmp_path / "cut", fills_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert "the checkpoint of step 12 could not be written" in str(caught.value)
    assert "Free some space and run the same command again. The run resumes from" in str(caught.value)
    assert str(caught.value).endswith("checkpoint-8")
    assert "checkpoint-12" not in {path.name for path in (tmp_path / "cut").glob("checkpoint-*")}
    resumed, _ = run(tmp_path / "cut")
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, msg=name)


def test_weights_that_are_no_numbers_never_reach_a_checkpoint(tmp_path: Path) -> None:
    """A finite loss can have a gradient that is none; the step after it would only then tell."""
    trained = model()
    at = [0]
    trained.get_parameter("projection.weight").register_hook(lambda g: g * float("nan") if at[0] == 8 else g)

    def watched(step: int) -> Batch:
        at[0] = step  # Trainer asks for a batch while the one before is still to be learned from
        return batch(step)

    with pytest.raises(UserError, match=r"weights are not finite after step 8 .*resumes from .*checkpoint-4$"):
        run_stage(trained, TrainingStage("test", SECTION, watched, None), tmp_path, seed=5, progress=False)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    first, metrics = run(tmp_path)
    second, again = run(tmp_path, killed_at(0))
    assert again == metrics
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], weight)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_the_weights_of_the_best_look_are_kept(tmp_path: Path) -> None:
    recalls = iter([0.0, 0.1, 0.9, 0.3])  # the first before training
    best, metrics = run(tmp_path / "best", evaluate=lambda: {"recall": next(recalls)})
    assert [look["eval_recall"] for look in metrics["evaluations"]] == [0.1, 0.9, 0.3]
    assert metrics["best_step"] == 8
    last, _ = run(tmp_path / "last")
    weights = last.state_dict()
    assert any(not torch.equal(weight, weights[name]) for name, weight in best.state_dict().items())


def test_a_stage_that_only_harms_leaves_the_weights_that_it_found(tmp_path: Path) -> None:
    recalls = iter([0.5, 0.4, 0.3, 0.2])
    untrained = model().state_dict()
    trained, metrics = run(tmp_path, evaluate=lambda: {"recall": next(recalls)})
    assert metrics["untrained"] == 0.5
    assert metrics["best_step"] == 0
    assert all(torch.equal(weight, untrained[name]) for name, weight in trained.state_dict().items())


def test_a_stage_without_progress_ends_early(tmp_path: Path) -> None:
    recalls = iter([0.0, 0.9, 0.1, 0.1])
    section = SECTION.model_copy(update={"steps": 100})
    stage = TrainingStage("test", section, batch, lambda: {"recall": next(recalls)})
    assert run_stage(model(), stage, tmp_path, seed=5, progress=False)["steps"] == 12


def test_a_loss_that_is_no_number_stops_with_a_remedy(tmp_path: Path) -> None:
    def poisoned(step: int) -> Batch:
        found = batch(step)
        if step == 5:
            found["text"][0, 0] = float("nan")
        return found

    with pytest.raises(UserError, match=r"stage test: the loss is nan at step 6: lower lr \(now 0.003\)"):
        run(tmp_path, poisoned)


def test_curves_go_to_tensorboard_when_asked(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stage = TrainingStage("test", SECTION, batch, lambda: {"recall": 0.5})
    run_stage(model(), stage, tmp_path / "mixed", seed=5, progress=False, tensorboard=tmp_path / "tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "mixed")).Reload()
    assert [event.step for event in events.Scalars("eval/recall")] == [4, 8, 12]
    assert events.Scalars("train/loss")
