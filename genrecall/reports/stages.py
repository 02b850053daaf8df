"""The stages of a generator's training: which the configuration asks for, and how far each one is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainer.work import RECALL, WHOLE

State = Literal["done", "running", "to come"]
ASKED = {"queries": "queries", "requests": "logged requests, users known"}


@dataclass(frozen=True)
class Stage:
    """One stage: what it was asked to do, and what it logged.

    Attributes:
        name: as its checkpoints are called; number: of the paper; setting: where `section` stands in the configuration.
        judged: what the dev recall is of; "" where nothing is held out.
        looks: (step, dev recall); history: what was logged by step, "step" and "loss" among it.
        best_step: whose weights were kept. seconds: since the last start, None before the end.
    """

    name: str
    number: str
    setting: str
    section: dict[str, Any]
    state: State = "to come"
    judged: str = ""
    steps: int = 0
    best_step: int | None = None
    looks: tuple[tuple[int, float], ...] = ()
    history: tuple[dict[str, float], ...] = field(default=(), repr=False)
    seconds: float | None = None

    @property
    def recall(self) -> float | None:
        """Of the weights that were kept, or the best so far."""
        if not self.looks:
            return None
        return dict(self.looks).get(self.best_step or -1, max(recall for _, recall in self.looks))

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one logged figure."""
        logged = [(int(entry["step"]), float(entry[name])) for entry in self.history if name in entry]
        return [step for step, _ in logged], [value for _, value in logged]


def before(stages: Sequence[Stage], stage: Stage) -> Stage | None:
    """The last stage ahead of `stage` that was judged by the same: what its dev recall is to be compared with."""
    ahead = stages[: stages.index(stage)]
    return next((s for s in reversed(ahead) if s.looks and s.judged == stage.judged), None)


def stages_of(
    config: dict[str, Any], data: dict[str, Any], generator: dict[str, Any] | None, checkpoints: Path
) -> tuple[Stage, ...]:
    """Every stage asked for, from generator.json where the generator is done, else from its checkpoints."""
    done = (generator or {}).get("stages", {})
    out = []
    for stage in _asked(config, bool(data.get("logs"))):
        judged = _judged(stage.name, data, generator)
        if metrics := done.get(stage.name):
            out.append(_filled(stage, "done", judged, metrics))
        elif generator is None:
            out.append(_on_the_way(stage, judged, checkpoints))
    return tuple(out)


def _asked(config: dict[str, Any], logs: bool) -> Iterator[Stage]:
    generator = config["generator"]
    if generator["kind"] == "lm":
        asked = [("item", "1", "lm.item_stage"), ("query", "2", "lm.query_stage")]
    else:
        asked = [("mixed", "1 and 2", "encoder.stage")]
    if logs:
        asked += [("user", "3", "user.stage"), ("alignment", "4", "alignment")]
    for name, number, setting in asked:
        section = generator
        for part in setting.split("."):
            section = section.get(part, {})
        if section.get("steps"):
            yield Stage(name, number, f"generator.{setting}", section)


def _judged(name: str, data: dict[str, Any], generator: dict[str, Any] | None) -> str:
    """ "1,800 held-out queries": the stage with users is judged by requests where it can be, the others by queries."""
    parts, split = data["parts"], (data.get("logs") or {}).get("split", {})
    counts = {
        "queries": (generator or {}).get("dev_queries", parts["dev"]["queries"]),
        "requests": (generator or {}).get("dev_requests", split.get("dev", 0)),
    }
    order = {"item": [], "user": ["requests", "queries"], "alignment": ["queries", "requests"]}.get(name, ["queries"])
    return next((f"{counts[of]:,} held-out {ASKED[of]}" for of in order if counts[of]), "")


def _on_the_way(stage: Stage, judged: str, checkpoints: Path) -> Stage:
    folders = sorted(checkpoints.glob(f"{stage.name}-*"), key=lambda folder: folder.stat().st_mtime)
    if not folders:
        return stage
    if (ended := folders[-1] / "stage.json").exists():
        return _filled(stage, "done", judged, json.loads(ended.read_text(encoding="utf-8")))
    whole = [folder for folder in folders[-1].glob("checkpoint-*") if (folder / WHOLE).exists()]
    if not whole:
        return _filled(stage, "running", judged, {})
    last = max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))
    try:
        state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:  # the stage ended meanwhile, and its checkpoints with it
        return _filled(stage, "running", judged, {})
    logged = state["log_history"]
    found = {
        "steps": state["global_step"],
        "best_step": state["best_global_step"],
        "looks": [entry for entry in logged if RECALL in entry],
        "history": [entry for entry in logged if "loss" in entry],
    }
    return _filled(stage, "running", judged, found)


def _filled(stage: Stage, state: State, judged: str, metrics: dict[str, Any]) -> Stage:
    return Stage(
        *(stage.name, stage.number, stage.setting, stage.section, state, judged),
        steps=metrics.get("steps", 0),
        best_step=metrics.get("best_step"),
        looks=tuple((int(look["step"]), float(look[RECALL])) for look in metrics.get("looks", ())),
        history=tuple(metrics.get("history", ())),
        seconds=metrics.get("seconds"),
    )
