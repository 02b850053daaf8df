"""Steps a second and memory of stages 2 to 4 of kind `lm`: at the layers of Qwen2.5-0.5B and at the default size.

The stages run as they are trained, by `transformers.Trainer`, with the paper's batches; without evaluation and without
checkpoints, which would measure the disk.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.gpu.bench import Bench, Row, synchronize
from benchmarks.gpu.parts.shop import GeneratedShop
from genrecall.config.generator import (
    AlignmentSection,
    DecoderSection,
    GeneratorSection,
    LmKindSection,
    StageSection,
    UserSection,
)
from trainer.alignment import align
from trainer.generator.context import TrainingContext
from trainer.generator.lm_kind import lm_learner
from trainer.generator.loop import SidTrainer, TrainingStage
from trainer.generator.stages import Learner, text_stage, user_stage

SIZES = {
    "0.5b": DecoderSection(layers=24, hidden=896, intermediate=4864, heads=14, kv_heads=2, dropout=0.0),
    "default": DecoderSection(),
}
BATCHES = {"query": 256, "user": 64, "alignment": 512}  # of the paper
SMALL_BATCH = 8


def run(bench: Bench) -> None:
    items, queries = (1000, 200) if bench.small else (10_000, 1_000)
    shop = GeneratedShop.make(bench.folder, items, queries, bench.small)
    for name in ("default",) if bench.small else ("0.5b", "default"):
        steps = 2 if bench.small else 12 if name == "0.5b" else 30
        stages = {stage: {"steps": steps, "batch": SMALL_BATCH if bench.small else BATCHES[stage]} for stage in BATCHES}
        section = GeneratorSection(
            kind="lm",
            decoder=SIZES[name],
            lm=LmKindSection(bpe_size=1000 if bench.small else 8000, query_stage=StageSection(**stages["query"])),
            user=UserSection(stage=StageSection(**stages["user"])),
            alignment=AlignmentSection(**stages["alignment"]),
        )
        context = TrainingContext.of(shop.training_data(users=True), shop.settings(section))
        made = lm_learner(context)
        learner = TimedLearner(**{f.name: getattr(made, f.name) for f in dataclasses.fields(made)})
        work = bench.folder / name
        parts: dict[str, Callable[[], Any]] = {
            "query": partial(text_stage, learner, learner.text_stages[1], work / "query"),
            "user": partial(user_stage, learner, work / "user"),
            "alignment": partial(align, learner, work / "alignment"),
        }
        parameters = sum(p.numel() for p in made.model.parameters())
        for stage, train in parts.items():
            labels = {"model": name, "parameters": parameters, "stage": stage, "batch": stages[stage]["batch"]}
            bench.measure("training", labels, timed, bench, learner, train, needs=10)
        del made, learner, parts
        if bench.cuda:
            torch.cuda.empty_cache()


@dataclasses.dataclass(frozen=True)
class TimedLearner(Learner):
    """Notes when each step ends; evaluates nothing and saves nothing on the way."""

    ends: list[float] = dataclasses.field(default_factory=list)

    def run(self, stage: TrainingStage, work: Path) -> dict[str, Any]:
        def trainer(*args: Any, **kwargs: Any) -> SidTrainer:
            made = (stage.trainer or SidTrainer)(*args, **kwargs)
            made._save_checkpoint = lambda model, trial: None  # type: ignore[method-assign]
            made.add_callback(StepEnds(self.ends))
            return made

        self.ends.clear()
        return super().run(dataclasses.replace(stage, evaluate=None, trainer=trainer), work)


class StepEnds(TrainerCallback):
    def __init__(self, ends: list[float]) -> None:
        self.ends = ends

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def timed(bench: Bench, learner: TimedLearner, train: Callable[[], Any]) -> Row:
    """The median step: the first ones warm up."""
    if bench.cuda:
        torch.cuda.reset_peak_memory_stats()
    metrics = train()
    synchronize(bench.device)
    taken = [after - before for before, after in zip(learner.ends, learner.ends[1:], strict=False)]
    if not taken or (not learner.bfloat16 and bench.cuda):
        raise RuntimeError(f"{len(learner.ends)} steps, bfloat16 {learner.bfloat16}: not what was to be measured")
    memory = {"peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if bench.cuda else {}
    figures = {"steps_per_s": round(1 / statistics.median(taken), 2), "loss": round(metrics["loss"], 3)}
    return {"precision": "bfloat16" if learner.bfloat16 else "float32", **figures, **memory}
