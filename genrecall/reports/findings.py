"""What seems wrong in a run, in sentences: the observation, and what to try. Pure; the bounds are at the top."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from genrecall.reports.collect import Candidate, Run
from genrecall.reports.stages import Stage, before

DEAD = 0.1  # of the codes of level 1 or 2
ZERO_VARIANCE = 0.8  # of the groups of a step: hardly any of them teaches something
KL = 0.5  # nats a code: over a SID the policy left its start by a factor e^1.5
CLIPPED = 0.3  # of the ratios of a step
ENTROPY = 0.2  # of what it was at first
COLLAPSED = 0.5  # distinct SIDs of a group over its size
DROP = 0.01  # of dev recall, below which it is noise


def diagnose(run: Run) -> list[str]:
    """One Markdown sentence for each problem; none means that nothing stood out."""
    out = list(_of_data(run))
    for candidate in run.candidates:
        out += [f"`{candidate.kind}`: {finding}" for finding in _of_candidate(candidate)]
    return out


def _of_data(run: Run) -> Iterator[str]:
    if leaks := run.logs.get("leaks"):
        yield f"{leaks:,} held-out requests are among those trained on: no figure of this run holds."
    if run.old_evaluation:
        yield "`evaluation.json` is of an earlier version and not shown: run `genrecall evaluate` again."
    if run.evaluation and run.evaluation["dataset"] != run.data["name"]:
        yield "`evaluation.json` of this run is of another dataset: run `genrecall evaluate` again."
    elif run.evaluation and run.published and not evaluated(run):
        yield "`evaluation.json` is of other models than this one: settings or data changed since `genrecall evaluate`."


def evaluated(run: Run) -> bool:
    """Whether the published model is among those evaluated."""
    regimes = (run.evaluation or {}).get("regimes", {}).values()
    models = {note.get("model") for regime in regimes for note in regime.get("notes", {}).values()}
    return run.published is not None and run.published.model in models


def _of_candidate(candidate: Candidate) -> Iterator[str]:
    if candidate.codes:
        for number, level in enumerate(candidate.codes["levels"][:2], 1):
            if level["dead"] > DEAD * level["size"]:
                yield (
                    f"{level['dead']:,} of {level['size']:,} codes of level {number} are dead: lower its size, or "
                    "train the codes longer."
                )
    for stage in candidate.stages:
        yield from _of_stage(stage)
        if stage.name == "alignment":
            yield from _of_alignment(stage)
            yield from _of_recall(candidate.stages, stage)


def _of_stage(stage: Stage) -> Iterator[str]:
    recalls = [recall for _, recall in stage.evaluations]
    whole = stage.state == "done" and stage.steps >= stage.planned
    if whole and len(recalls) > 1 and recalls[-1] > max(recalls[:-1]):
        yield (
            f"the best evaluation of stage {stage.name} is its last (step {stage.steps:,}): it was still improving; "
            f"raise `{stage.setting}.steps`."
        )
    if len(recalls) > 2 and recalls[0] > max(recalls[1:]):
        yield (
            f"the best evaluation of stage {stage.name} is its first (step {stage.evaluations[0][0]:,}) and it falls "
            f"from there: lower `{stage.setting}.lr`, or evaluate more often (`evaluate_every`)."
        )
    losses = stage.series("loss")[1]
    if stage.name == "alignment" or len(losses) < 2:
        return
    first, last = fmean(_first(losses)), _end(stage, "loss")
    if last is not None and last >= first:
        yield f"the loss of stage {stage.name} does not fall ({first:.3f} -> {last:.3f}): try another lr."


def _of_alignment(stage: Stage) -> Iterator[str]:
    end = {name: _end(stage, name) for name in ("zero_variance", "kl", "clipped", "distinct")}
    section = stage.setting
    if (share := end["zero_variance"]) is not None and share > ZERO_VARIANCE:
        yield (
            f"{share:.0%} of the groups have one reward throughout and teach nothing: raise `{section}.experts`, "
            f"`{section}.group` or `{section}.temperature`."
        )
    if (kl := end["kl"]) is not None and kl > KL:
        yield f"the KL reached {kl:.2f} nats a code: lower `{section}.lr` or raise `{section}.kl_weight`."
    if (share := end["clipped"]) is not None and share > CLIPPED:
        yield f"{share:.0%} of the ratios are clipped: lower `{section}.lr`."
    if (distinct := end["distinct"]) is not None and distinct < COLLAPSED * stage.section["group"]:
        yield (
            f"{distinct:.1f} of the {stage.section['group']} SIDs of a group are distinct: the policy repeats itself; "
            f"raise `{section}.temperature` or `{section}.kl_weight`."
        )
    entropies = stage.series("entropy")[1]
    if len(entropies) > 1 and entropies[-1] < ENTROPY * entropies[0]:
        yield f"the entropy fell from {entropies[0]:.2f} to {entropies[-1]:.2f} nats: the policy is collapsing."
    rewards = stage.series("reward")[1]
    if len(rewards) > 3 and (after := _end(stage, "reward")) is not None and after <= fmean(_first(rewards)):
        yield f"the reward of sampled SIDs does not rise ({fmean(_first(rewards)):.3f} -> {after:.3f})."


def _of_recall(stages: tuple[Stage, ...], aligned: Stage) -> Iterator[str]:
    """Alignment against the last stage before it with the same dev set."""
    start = before(stages, aligned)
    if start and start.recall is not None and aligned.recall is not None and aligned.recall < start.recall - DROP:
        yield (
            f"dev recall is lower after stage alignment than after stage {start.name} ({start.recall:.3f} -> "
            f"{aligned.recall:.3f}): compare with `{aligned.setting}.steps=0`."
        )


def _end(stage: Stage, name: str) -> float | None:
    """The mean over the last third of what was logged."""
    values = stage.series(name)[1]
    return fmean(values[-max(1, len(values) // 3) :]) if values else None


def _first(values: list[float]) -> list[float]:
    return values[: max(1, len(values) // 3)]
