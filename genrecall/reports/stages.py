"""The stages of a generator's training: which of them the configuration has, and how far each one is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

RECALL = "eval_recall"  # the dev recall of an evaluation, in what a stage logs
WHOLE = "whole"  # marker of a checkpoint that was written to its end

State = Literal["done", "running", "to come"]
UNITS = {"queries": "queries", "requests": "logged requests, users known"}


@dataclass(frozen=True)
class Stage:
    """One stage: its settings, and what it logged.

    Attributes:
        name: as its checkpoints are called; number: of the paper; setting: where `section` stands in the configuration.
        dev_set: what the dev recall is of; "" where nothing is held out.
        evaluations: (step, dev recall); history: what was logged by step, "step" and "loss" among it.
        steps: taken; planned: the most there may be, 0 where that is not decided yet.
        best_step: whose weights were kept. seconds: since the last start, None before the end.
    """

    name: str
    number: str
    setting: str
    section: dict[str, Any]
    state: State = "to come"
    dev_set: str = ""
    steps: int = 0
    planned: int = 0
    best_step: int | None = None
    evaluations: tuple[tuple[int, float], ...] = ()
    history: tuple[dict[str, float], ...] = field(default=(), repr=False)
    seconds: float | None = None

    @property
    def recall(self) -> float | None:
        """Of the weights that were kept, or the best so far."""
        if not self.evaluations:
            return None
        return dict(self.evaluations).get(self.best_step or -1, max(recall for _, recall in self.evaluations))

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one logged figure."""
        logged = [(int(entry["step"]), float(entry[name])) for entry in self.history if name in entry]
        return [step for step, _ in logged], [value for _, value in logged]


def before(stages: Sequence[Stage], stage: Stage) -> Stage | None:
    """The last stage ahead of `stage` with the same dev set: what its dev recall is to be compared with."""
    ahead = stages[: stages.index(stage)]
    return next((s for s in reversed(ahead) if s.evaluations and s.dev_set == stage.dev_set), None)


def stages_of(
    config: Mapping[str, Any], data: Mapping[str, Any], generator: Mapping[str, Any] | None, checkpoints: Path
) -> tuple[Stage, ...]:
    """Every stage of the configuration, from generator.json where the generator is done, else from its checkpoints."""
    done = (generator or {}).get("stages", {})
    out = []
    for configured in _configured(config, bool(data.get("logs"))):
        stage = replace(configured, dev_set=_dev_set(configured.name, data, generator or {}))
        if metrics := done.get(stage.name):
            out.append(_filled(stage, "done", metrics))
        elif generator is None:
            out.append(_under_way(stage, checkpoints))
    return tuple(out)


def _configured(config: Mapping[str, Any], logs: bool) -> Iterator[Stage]:
    generator = config["generator"]
    if generator["kind"] == "lm":
        stages = [("item", "1", "lm.item_stage"), ("query", "2", "lm.query_stage")]
    else:
        stages = [("mixed", "1 and 2", "encoder.stage")]
    if logs:
        stages += [("user", "3", "user.stage"), ("alignment", "4", "alignment")]
    for name, number, setting in stages:
        section = generator
        for part in setting.split("."):
            section = section.get(part, {})
        if section.get("steps"):
            planned = 0 if section["steps"] == "auto" else section["steps"]
            yield Stage(name, number, f"generator.{setting}", section, planned=planned)


def _dev_set(name: str, data: Mapping[str, Any], generator: Mapping[str, Any]) -> str:
    """ "1,800 held-out queries": requests first for the stage with users, queries first for the others."""
    parts, split = data["parts"], (data.get("logs") or {}).get("split", {})
    counts = {
        "queries": generator.get("dev_queries", parts["dev"]["queries"]),
        "requests": generator.get("dev_requests", split.get("dev", 0)),
    }
    order = {"item": [], "user": ["requests", "queries"], "alignment": ["queries", "requests"]}.get(name, ["queries"])
    return next((f"{counts[of]:,} held-out {UNITS[of]}" for of in order if counts[of]), "")


def _under_way(stage: Stage, checkpoints: Path) -> Stage:
    folders = sorted(checkpoints.glob(f"{stage.name}-*"), key=lambda folder: folder.stat().st_mtime)
    if not folders:
        return replace(stage, dev_set="")
    if (ended := folders[-1] / "stage.json").exists():
        return _filled(stage, "done", json.loads(ended.read_text(encoding="utf-8")))
    whole = [folder for folder in folders[-1].glob("checkpoint-*") if (folder / WHOLE).exists()]
    if not whole:
        return replace(stage, state="running")
    last = max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))
    try:
        state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:  # the stage ended meanwhile, and its checkpoints with it
        return replace(stage, state="running")
    logged = state["log_history"]
    found = {
        "steps": state["global_step"],
        "planned": state["max_steps"],
        "best_step": state["best_global_step"],
        "evaluations": [entry for entry in logged if RECALL in entry],
        "history": [entry for entry in logged if "loss" in entry],
    }
    return _filled(stage, "running", found)


def _filled(stage: Stage, state: State, metrics: Mapping[str, Any]) -> Stage:
    return replace(
        stage,
        state=state,
        steps=metrics.get("steps", 0),
        planned=metrics.get("planned", stage.planned),
        best_step=metrics.get("best_step"),
        evaluations=tuple((int(of["step"]), float(of[RECALL])) for of in metrics.get("evaluations", ())),
        history=tuple(metrics.get("history", ())),
        seconds=metrics.get("seconds"),
    )
