"""One stage of training by `transformers.Trainer`: batches by step, dev recall, checkpoints, early stop.

What is trained and on what comes from the caller. Checkpoints are Trainer's own (optimizer state through torch.save);
they are work files and never reach a bundle. A checkpoint counts once its marker is written, which is last: what a
kill or a full disk left incomplete is removed, and training resumes from the checkpoint before it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback

from genrecall import files
from genrecall.config.generator import StageSection
from genrecall.decoding.text_encoder import without_reports
from genrecall.errors import UserError
from genrecall.progress import Bars
from trainer.work import RECALL, WHOLE

BETAS = (0.9, 0.98)  # of AdamW
Batch = dict[str, Tensor]
Evaluate = Callable[[], dict[str, float]]


@dataclass(frozen=True)
class TrainingStage:
    """What a stage is made of: its name (as in the configuration), its settings, the batch of a step, the evaluation.

    Attributes:
        evaluate: dev figures of the model as it is, "recall" among them; None where there are no dev queries, and the
            last weights are kept.
        keep_best: whether the weights of the best evaluation are kept, and the stage ends early; else the last.
        trainer: makes the `SidTrainer`; None: that class.
        bfloat16: whether products of the forward are computed in it.
    """

    name: str
    section: StageSection
    batch: Callable[[int], Batch]
    evaluate: Evaluate | None
    keep_best: bool = True
    trainer: Callable[..., SidTrainer] | None = None
    bfloat16: bool = False


class StepBatches(Dataset[Batch]):
    """Item `n` is the whole batch of step `n`, made on access."""

    def __init__(self, steps: int, batch: Callable[[int], Batch]) -> None:
        self.steps = steps
        self.batch = batch

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < self.steps:
            raise IndexError(step)
        return self.batch(step)


class SidTrainer(Trainer):
    """Trainer with our evaluation, a learning rate of the prior's own, and a stop at a loss that is not finite."""

    def __init__(self, stage: TrainingStage, work: Path, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stage = stage
        self.work = work
        self.remove_callback(PrinterCallback)

    def compute_loss(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.stage.bfloat16):
            loss: Tensor = self.loss_of(model, inputs)
        if not loss.isfinite():
            raise UserError(
                f"stage {self.stage.name}: the loss is {loss.item()} at step {self.state.global_step + 1}: lower lr "
                f"(now {self.stage.section.lr}) or max_grad_norm (now {self.stage.section.max_grad_norm}) of the "
                f"stage. {intact(self.work)}"
            )
        return loss

    def loss_of(self, model: nn.Module, inputs: Batch) -> Tensor:
        """What is minimized; a stage of another kind has its own."""
        return model(**inputs)["loss"]

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = self.work / f"checkpoint-{self.state.global_step}"
        broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
        if broken:
            raise UserError(
                f"stage {self.stage.name}: weights are not finite after step {self.state.global_step} ({broken[0]} and "
                f"{len(broken) - 1} more): lower lr (now {self.stage.section.lr}). {intact(self.work)}"
            )
        with writing(f"stage {self.stage.name}: the checkpoint of step {self.state.global_step}", self.work):
            super()._save_checkpoint(model, trial)
            (folder / WHOLE).touch()

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW: matrices decay, vectors don't, the prior's sharpness and size weight have their own rate."""
        if self.optimizer is None:
            section, trained = self.stage.section, model or self.model
            assert trained is not None
            named = [(n, p) for n, p in trained.named_parameters() if p.requires_grad]
            scalars = [p for n, p in named if n.endswith(("prior.tau", "prior.size_weight"))]
            rest = [p for _, p in named if not any(p is s for s in scalars)]
            groups: list[dict[str, Any]] = [
                {"params": [p for p in rest if p.ndim > 1], "weight_decay": section.weight_decay},
                {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
                {"params": scalars, "weight_decay": 0.0, "lr": section.prior_lr},
            ]
            groups = [group for group in groups if group["params"]]
            self.optimizer = torch.optim.AdamW(groups, lr=section.lr, betas=BETAS)
        return self.optimizer

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        assert self.stage.evaluate is not None  # eval_strategy is "no" otherwise
        assert self.model is not None
        self.model.eval()
        metrics = {f"eval_{key}": value for key, value in self.stage.evaluate().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class Bar(TrainerCallback):
    """Progress on standard error."""

    def __init__(self, name: str, shown: bool) -> None:
        self.bar = Bars(shown)
        self.task = self.bar.add_task(f"training {name}", total=None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.start()
        self.bar.update(self.task, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()


def log_every(section: StageSection) -> int:
    """Steps between two points of a curve: about twenty of them, each whole between two checkpoints.

    What is averaged over the steps since the last point would otherwise differ in a run that was interrupted.
    """
    most = max(1, min(section.evaluate_every, int(section.steps) // 20))
    return next(steps for steps in range(most, 0, -1) if section.evaluate_every % steps == 0)


def last_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint in `work` that was written to its end; others are removed."""
    whole: dict[int, Path] = {}
    for folder in work.glob("checkpoint-*"):
        if (folder / WHOLE).exists():
            whole[int(folder.name.rpartition("-")[2])] = folder
        else:
            shutil.rmtree(folder)
    return whole[max(whole)] if whole else None


def intact(work: Path) -> str:
    """Where a run that stops here will resume, in words."""
    last = last_checkpoint(work)
    return f"The run resumes from {last}" if last else "No checkpoint was written yet: the stage starts over"


@contextmanager
def writing(what: str, work: Path) -> Iterator[None]:
    """A UserError with the remedy where `what` cannot be written to `work`; what is incomplete is removed."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # of torch, too
        free = shutil.disk_usage(work).free
        raise UserError(
            f"{what} could not be written to {work} ({free / 1e6:,.0f} MB free): {error}. Free some space and run the "
            f"same command again. {intact(work)}"
        ) from error


def run_stage(
    model: nn.Module,
    stage: TrainingStage,
    work: Path,
    seed: int,
    progress: bool = True,
    tensorboard: Path | None = None,
) -> dict[str, Any]:
    """Train `model` in place and leave it in eval mode with its best weights, which may be those that it came with.

    A stage that finished in `work` is loaded, one that was interrupted resumes from its last checkpoint.

    Args:
        tensorboard: the folder to log curves to, in a folder named as `work`; None: nowhere.

    Returns:
        {"loss": of the last steps logged, "steps": taken, "planned": at most, "best_step": 0 for the weights that the
        model came with, "untrained": their dev recall, "evaluations": by step, "history": what was logged by step,
        "seconds": of the steps since the last start}.

    Raises UserError when the loss is not finite, or a checkpoint cannot be written.
    """
    if not stage.section.steps:
        return {"steps": 0}
    done, report = work / "stage.safetensors", work / "stage.json"
    if report.exists():
        load_model(model, done)
        model.eval()
        return json.loads(report.read_text(encoding="utf-8"))
    for name in ("transformers.trainer", "transformers.trainer_utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
    section, evaluated = stage.section, stage.evaluate is not None
    steps = int(section.steps)  # `stages` has put a number in place of "auto"
    best = evaluated and stage.keep_best
    args = TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=1,  # one item of the dataset is a batch already
        learning_rate=section.lr,
        lr_scheduler_type="linear",
        warmup_steps=min(section.warmup_steps, steps // 3),
        max_grad_norm=section.max_grad_norm,
        seed=seed,
        eval_strategy="steps" if evaluated else "no",
        eval_steps=section.evaluate_every,
        save_strategy="steps",
        save_steps=section.evaluate_every,
        save_total_limit=2,
        load_best_model_at_end=best,
        metric_for_best_model=RECALL if best else None,
        greater_is_better=True,
        train_sampling_strategy="sequential",
        logging_steps=log_every(section),
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=next(model.parameters()).device.type == "cpu",  # as `run.device` says, whatever torch sees
        disable_tqdm=True,
        report_to="none",
        restore_callback_states_from_checkpoint=best,
    )
    args._n_gpu = min(args.n_gpu, 1)  # one device: DataParallel would split batches that are whole already
    callbacks: list[TrainerCallback] = [Bar(stage.name, progress)]
    if best:
        callbacks.append(EarlyStoppingCallback(section.patience))
    if tensorboard is not None:
        from torch.utils.tensorboard import SummaryWriter

        callbacks.append(TensorBoardCallback(SummaryWriter(str(tensorboard / work.name))))
    running = (stage.trainer or SidTrainer)(
        stage,
        work,
        model=model,
        args=args,
        train_dataset=StepBatches(steps, stage.batch),
        eval_dataset=StepBatches(0, stage.batch) if evaluated else None,
        data_collator=lambda batches: batches[0],
        callbacks=callbacks,
    )
    start: dict[str, Tensor] = {}
    untrained = None
    if best and stage.evaluate is not None:
        model.eval()
        untrained = stage.evaluate()["recall"]
        start = {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()}
    last = last_checkpoint(work)
    with without_reports():  # the one of writing checkpoints
        outcome = running.train(resume_from_checkpoint=str(last) if last else None)
    best_step = running.state.best_global_step if best else running.state.global_step
    if untrained is not None and untrained > (running.state.best_metric or 0.0):
        model.load_state_dict(start)
        best_step = 0
    model.eval()
    history = running.state.log_history
    metrics = {
        "loss": next((entry["loss"] for entry in reversed(history) if "loss" in entry), None),
        "steps": running.state.global_step,
        "planned": steps,
        "best_step": best_step,
        "untrained": untrained,
        "evaluations": [entry for entry in history if RECALL in entry],
        "history": [entry for entry in history if "loss" in entry],
        "seconds": outcome.metrics["train_runtime"],
    }
    with writing(f"stage {stage.name}: its result", work):
        save_model(model, str(done))
        files.write_json(report, metrics)  # last: its presence means that the stage is done
    for checkpoint in work.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    return metrics
