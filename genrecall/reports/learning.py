"""The sections on training: the stages of the generator, and alignment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from genrecall.reports import curves
from genrecall.reports.blocks import Block, Picture, code, figures, plain, table
from genrecall.reports.collect import Candidate, Run
from genrecall.reports.settings import about, shown
from genrecall.reports.stages import Stage, before
from genrecall.reports.words import change, duration, share

ALIGNMENT = "alignment"
LEARNS = {
    "item": "Items to SIDs: titles alone.",
    "query": "Queries to SIDs, from judgments or logs, beside synthetic queries.",
    "mixed": "One stage for two of the paper: synthetic queries, which stand for the items, beside the real ones.",
    "user": "A request and what is known of its user to the SIDs bought or clicked.",
    ALIGNMENT: "EG-GRPO: SIDs sampled from the generator, with experts among them, learn from what they earn.",
}
SETTINGS = (
    *("group", "experts", "experts_from", "expert_ratio", "requests", "reward", "kl_weight", "kl_in", "kl_corrected"),
    *("scale", "clip", "updates", "temperature", "mask", "keep"),
)
LOGGED = {
    "reward": "reward of sampled SIDs",
    "group_reward": "reward of the group",
    **{f"share_{name}": f"sampled SIDs {name}" for name in curves.OUTCOMES},
    "zero_variance": "groups of one reward",
    "expert_wins": "groups where an expert is best",
    "experts": "experts in a group",
    "kl": "KL, nats a code",
    "entropy": "entropy, nats a SID",
    "clipped": "ratios clipped",
    "distinct": "distinct SIDs of a group",
}
READING = (
    (
        "reward",
        "that of sampled SIDs rises and flattens; that of the group lies above it while experts are better",
        "flat from the start: lr too low, or no group differs; rising while dev recall falls: it learns the logs alone",
    ),
    (
        "what sampled SIDs are",
        "purchased and clicked grow, valid (earning next to nothing) shrinks",
        "only exposed grows: it learns what was shown; invalid beyond a few percent",
    ),
    (
        "groups of one reward",
        "well under 1, perhaps rising slowly as groups become all good",
        f"above {curves.ZERO_VARIANCE}: nearly all advantages are zero and the steps are wasted",
    ),
    (
        "groups where an expert is best",
        "high at first, falling as samples catch up",
        "stays near 1: samples never reach what the experts show",
    ),
    (
        "KL",
        "rises from 0 and settles",
        f"grows to the end, or beyond {curves.KL}: the model leaves what the stages before taught it",
    ),
    ("entropy", "falls slowly", "falls to near 0 within a few looks: collapse onto a few SIDs"),
    (
        "ratios clipped",
        "0 with one update a rollout, small with more",
        f"above {curves.CLIPPED}: steps too large for their rollouts",
    ),
    ("distinct SIDs", "near the size of the group, falling slowly", "down to a few: samples repeat each other"),
)


def generator(run: Run, note: str) -> Iterable[Block]:
    """Each stage but alignment, its candidates side by side."""
    trained = [candidate for candidate in run.candidates if candidate.generator]
    if trained:
        yield _trained_on(trained)
    names = list(dict.fromkeys(s.name for c in run.candidates for s in c.stages if s.name != ALIGNMENT))
    for name in names:
        stages = _of(run, name)
        yield f"### Stage {name} ({next(iter(stages.values())).number} of the paper){note}"
        yield LEARNS.get(name, "")
        yield from _told(run, stages, f"Stage {name}{note}")
    if names:
        yield (
            "Losses of different codes are not comparable: a codebook of more SIDs is harder to write. Their dev "
            "recall is. The loss should fall and flatten; dev recall should rise and flatten, and where it falls again "
            "while the loss still sinks, the stage has begun to learn its training queries by heart. Time is that "
            "since the last start."
        )


def alignment(run: Run, note: str) -> Iterable[Block]:
    """Stage 4: its settings, what it did to each candidate, how to read the curves. Nothing where it was left out."""
    stages = _of(run, ALIGNMENT)
    if not stages:
        return
    yield LEARNS[ALIGNMENT]
    one = next(iter(stages.values()))
    yield table(
        ["setting", "value", "what it is"],
        [
            [code(name), _value(one.section[name]), plain(about(f"{one.setting}.{name}"))]
            for name in SETTINGS
            if name in one.section
        ],
    )
    yield from _told(run, stages, f"Stage {ALIGNMENT}{note}")
    yield from _moved(stages)
    for kind, stage in stages.items():
        if stage.series("reward")[0]:
            title = f"Alignment of {kind}{note}"
            yield f"### {code(kind)}{note}"
            yield Picture(f"alignment-{kind}", title, partial(curves.rewards, stage, title))
    yield "### How to read the curves"
    yield table(["curve", "as it should look", "a warning sign"], READING)
    yield (
        "The loss of alignment says little: advantages have mean zero in every group, so it hovers near the KL term "
        "whatever is learned. Dashed lines are where this report warns."
    )


def _moved(stages: Mapping[str, Stage]) -> Iterable[Block]:
    """What was logged at the first look and at the last."""
    rows = [
        [words, *(change(stage.series(name)[1]) for stage in stages.values())]
        for name, words in LOGGED.items()
        if any(stage.series(name)[1] for stage in stages.values())
    ]
    if rows:
        yield figures(["first look -> last", *map(code, stages)], rows)


def _told(run: Run, stages: Mapping[str, Stage], title: str) -> Iterable[Block]:
    """The numbers of one stage and its curves. stages: kind of codes -> the stage."""
    yield figures(
        ["codes", "", "steps", "batch", "lr", "loss", "dev recall", "kept step", "time"],
        [
            [
                code(kind),
                stage.state,
                f"{stage.steps:,} of {stage.section['steps']:,}",
                f"{stage.section['batch']:,}",
                f"{stage.section['lr']:g}",
                change(stage.series("loss")[1]),
                share(stage.recall) if stage.recall is not None else "-",
                f"{stage.best_step:,}" if stage.best_step is not None else "-",
                duration(stage.seconds),
            ]
            for kind, stage in stages.items()
        ],
    )
    judged = next((stage.judged for stage in stages.values() if stage.looks), "")
    if judged:
        yield f"Dev recall: of {judged}. Settings: {code(next(iter(stages.values())).setting)}."
    if any(stage.history for stage in stages.values()):
        name = next(iter(stages.values())).name
        ahead = {c.kind: before(c.stages, stages[c.kind]) for c in run.candidates if c.kind in stages}
        starts = {kind: s.recall for kind, s in ahead.items() if s is not None and s.recall is not None}
        yield Picture(f"stage-{name}", title, partial(curves.losses, stages, starts, title))


def _of(run: Run, name: str) -> dict[str, Stage]:
    return {c.kind: stage for c in run.candidates for stage in c.stages if stage.name == name}


def _trained_on(trained: list[Candidate]) -> str:
    """One sentence on the texts; they are the same for every candidate."""
    of = trained[0].generator or {}
    counts = ", ".join(
        f"{number:,} {name}" + (f" ({of['shares'][name]:.0%} of a batch)" if of["shares"].get(name) else "")
        for name, number in of["texts"].items()
    )
    told = f"Kind {code(of['kind'])}, {of['parameters']:,} parameters. Texts to learn from: {counts}."
    if of.get("requests"):
        told += f" Logged requests: {of['requests']:,}."
    return told


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{plain(name)} {earned:g}" for name, earned in value.items())
    return code(shown(value))
