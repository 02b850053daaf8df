"""`python -m experiments.personalization`: does a user's past help stage 3? Real purchases, derived queries.

Purchases of amazon-games in the order of each user (`python -m experiments.games`), each with an ambiguous query
cut from its title: the last one of every user is the test, the one before it dev, all earlier ones are trained
on. Users are compared with themselves: the same generator with the true past, with that of another user, with none; and
a generator that went through the same stage on the same requests without any past. Items the user already has are
taken out of every list. Ties inside a SID are broken by popularity in training, for all alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import typer

from experiments.context import ExperimentContext
from experiments.figures import Values, difference, mean
from genrecall.config import Config, load
from genrecall.data.readers import read_dataset
from genrecall.data.splits import training_split
from genrecall.decoding import Generator
from genrecall.decoding.user import User
from genrecall.expansion import SidItems
from genrecall.files import write_json
from genrecall.reports.markdown import clear_points, table
from trainer.generator.requests import Requests

MEASURES = ("SID@1", "SID@10", "item@10", "item@50")
"""Is the item bought, or its SID, among the first k?"""

QUERY_ONLY, TRUE, OTHER, NONE = "query only", "history", "another user's history", "no history"
POPULAR = "popularity among matching titles"
VARIANTS = {
    QUERY_ONLY: ("generator.user.recent=0",),
    TRUE: (),
    "history, related alone": ("generator.user.related=8",),
}


def main(
    config: Path = typer.Option(Path("configs/experiments/games.yaml"), "--config", "-c"),
    seeds: str = typer.Option("13,14,15"),
    users: int = typer.Option(1500, help="test users, the same ones for every seed"),
    override: list[str] = typer.Option([], "--set", help="of the configuration, for all"),
) -> None:
    """Train, ask, print the tables."""
    settings = load(Config, config, override)
    dataset = read_dataset(settings.data)
    split = training_split(dataset, settings)
    results: dict[str, list[Values]] = {}
    for seed in map(int, seeds.split(",")):
        changes = (f"run.seed={seed}", f"run.name={settings.run.name}-{seed}", *override)
        context = ExperimentContext(config, changes, dataset, split)
        tested, sold = sampled(context, users), bought(context)
        for name, overrides in VARIANTS.items():
            for system, values in measured(context, name, overrides, tested, sold).items():
                results.setdefault(system, []).append(values)
        results.setdefault(POPULAR, []).append(popularity(context, tested, sold))
    print(rendered(results, None))
    matches = matching(dataset.items["title"].to_pylist(), [tested.texts[t] for t in tested.text])
    size = np.array([len(rows) for rows in matches])
    for low, high in ((1, 5), (6, 20), (21, 80), (81, 10**9)):
        keys = {str(n) for n in np.flatnonzero((size >= low) & (size <= high))}
        print(f"\n{low} to {'more' if high == 10**9 else high} matching titles: {len(keys)} users\n")
        print(rendered(results, keys))


def sampled(context: ExperimentContext, users: int) -> Requests:
    """Test requests of `users` users with a past, drawn once for all seeds."""
    assert context.behaviour.requests is not None
    rows = np.arange(context.dataset.items.num_rows)  # so that `recent` and `sid` are rows of the catalogue
    requests = Requests.of(context.behaviour.requests.test, context.dataset.items, rows, ())
    usable = np.flatnonzero((requests.positives > 0) & (requests.recent >= 0).any(1))
    return requests.take(np.sort(np.random.default_rng(1).permutation(usable)[:users]))


def measured(
    context: ExperimentContext, name: str, overrides: Sequence[str], tested: Requests, sold: np.ndarray
) -> dict[str, Values]:
    """The systems that a variant makes, from an earlier run where there is one."""
    path = context.folder / f"test-{name.replace(' ', '_')}.json"
    settings = [*context.overrides, *overrides, len(tested)]
    if path.exists() and (kept := json.loads(path.read_text(encoding="utf-8")))["overrides"] == settings:
        return kept["values"]
    generator, metrics = context.train(overrides)
    systems = {name: hits(context, generator, tested, tested.recent, sold)}
    if name == TRUE:
        systems[OTHER] = hits(context, generator, tested, np.roll(tested.recent, 1, axis=0), sold)
        systems[NONE] = hits(context, generator, tested, np.full_like(tested.recent, -1), sold)
    write_json(path, {"overrides": settings, "values": systems, "stages": metrics["stages"]})
    return systems


def hits(
    context: ExperimentContext,
    generator: Generator,
    tested: Requests,
    recent: np.ndarray,
    sold: np.ndarray,
    k: int = 50,
) -> Values:
    """measure -> request -> 1.0 for a hit.

    recent: int64 [R, H] items, newest first, -1 behind; the past that the generator is shown. sold: as of `bought`.
    """
    codes = context.fitted.codes
    order = np.argsort(-sold, kind="stable")
    item_ids = np.array(context.dataset.items["item_id"].to_pylist())[order]
    row_of = {item: int(row) for item, row in zip(item_ids, order, strict=True)}
    items_of = SidItems.of(context.fitted.space.index_of(codes[order]), len(context.fitted.space))
    users = [User(recent=codes[past[past >= 0]]) for past in recent]
    answer = generator.generate([tested.texts[t] for t in tested.text], k, users=users)
    values: dict[str, dict[str, float]] = {measure: {} for measure in MEASURES}
    for n, target in enumerate(tested.item[tested.start[:-1]]):
        valid = answer.valid[n]
        same = (answer.codes[n][valid] == codes[target]).all(-1)
        rows, _ = items_of.rank(context.fitted.space.index_of(answer.codes[n][valid]), answer.scores[n][valid], 1000)
        items = np.array([row_of[item] for item in item_ids[rows]])
        items = items[~np.isin(items, tested.recent[n])]
        for measure in MEASURES:
            kind, _, first = measure.partition("@")
            hit = same if kind == "SID" else items == target
            values[measure][str(n)] = float(hit[: int(first)].any())
    return values


def popularity(context: ExperimentContext, tested: Requests, sold: np.ndarray) -> Values:
    """Titles that hold all words of the query, by purchases in training: what a shop without a model would do."""
    matches = matching(context.dataset.items["title"].to_pylist(), [tested.texts[t] for t in tested.text])
    values: dict[str, dict[str, float]] = {measure: {} for measure in MEASURES if measure.startswith("item")}
    for n, rows in enumerate(matches):
        items = rows[np.argsort(-sold[rows], kind="stable")]
        items = items[~np.isin(items, tested.recent[n])]
        target = tested.item[tested.start[n]]
        for measure, of in values.items():
            of[str(n)] = float((items[: int(measure[5:])] == target).any())
    return values


def bought(context: ExperimentContext) -> np.ndarray:
    """int64 [items], purchases in training."""
    assert context.behaviour.requests is not None
    rows = np.arange(context.dataset.items.num_rows)
    requests = Requests.of(context.behaviour.requests.train, context.dataset.items, rows, ())
    return np.bincount(requests.item[requests.outcome == 0], minlength=len(rows))


def matching(titles: Sequence[str], texts: Sequence[str]) -> list[np.ndarray]:
    """Of each text, int64 rows of the titles that hold all its words."""
    from experiments.games.derived_queries import words_of

    holding: dict[str, set[int]] = {}
    for row, title in enumerate(titles):
        for word in words_of(title):
            holding.setdefault(word, set()).add(row)
    return [
        np.array(sorted(set.intersection(*(holding.get(word, set()) for word in text.split()))), dtype=np.int64)
        for text in texts
    ]


def rendered(results: Mapping[str, Sequence[Values]], keys: set[str] | None) -> str:
    """A table of shares, and of differences to the query alone in points; `keys`: the requests that count."""

    def part(seeds: Sequence[Values]) -> list[Values]:
        return [
            {m: {q: v for q, v in of.items() if keys is None or q in keys} for m, of in values.items()}
            for values in seeds
        ]

    chosen = {name: part(seeds) for name, seeds in results.items()}
    rows: list[list[object]] = []
    for name, seeds in chosen.items():
        known = [m for m in MEASURES if m in seeds[0]]
        rows.append([name, *(f"{mean(seeds, m).mean:.3f}".lstrip("0") if m in known else "" for m in MEASURES)])
    pairs = [(TRUE, QUERY_ONLY), (TRUE, OTHER), (TRUE, NONE), (NONE, QUERY_ONLY), (TRUE, POPULAR)]
    pairs += [("history, related alone", TRUE)]
    for one, other in pairs:
        known = [m for m in MEASURES if m in chosen[other][0]]
        of = {m: clear_points(difference(chosen[one], chosen[other], m)._asdict()) for m in known}
        rows.append([f"{one} against {other}", *(of.get(m, "") for m in MEASURES)])
    return table(["", *MEASURES], rows)


if __name__ == "__main__":
    typer.run(main)
