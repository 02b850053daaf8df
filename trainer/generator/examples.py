"""What a generator is trained on: texts, the SIDs each may answer with, and batches drawn from them.

Pure NumPy behind `examples_of`. A batch is a function of (seed, step), so a run that resumes draws what it would have
drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from genrecall.config.generator import SamplingSection
from genrecall.item_text import item_text
from trainer.generator.synthetic import item_generator, synthetic_queries


@dataclass(frozen=True)
class Examples:
    """Texts and their target SIDs.

    Attributes:
        texts: T texts; queries, real or synthetic, and the items' own texts.
        groups: name -> (first text, one past the last): "real", "synthetic", "title".
        start: int64 [T + 1], the targets of text t are rows start[t] to start[t + 1] of `sid`.
        item: int64 [targets], rows of the catalogue; sid: int64 [targets], rows of the SidSpace.
        weight: float64 [targets], > 0; how often a target is drawn.
    """

    texts: list[str]
    groups: dict[str, tuple[int, int]]
    start: np.ndarray
    item: np.ndarray
    sid: np.ndarray
    weight: np.ndarray

    def chosen(self, group: str) -> tuple[np.ndarray, np.ndarray]:
        """(text int64 [p], item int64 [p]): what the texts of a group are for.

        Of a graded query, the items that have at least half of its best grade.
        """
        first, end = self.groups[group]
        text = np.repeat(np.arange(first, end), np.diff(self.start[first : end + 1]))
        own = slice(self.start[first], self.start[end])
        best = np.zeros(end - first)
        np.maximum.at(best, text - first, self.weight[own])
        keep = self.weight[own] >= 0.5 * best[text - first]
        return text[keep], self.item[own][keep]

    def items_of(self, text: str) -> np.ndarray:
        """int64: the items of the real query of that text; none where there is no such query."""
        return self._items_of_real.get(text, np.empty(0, dtype=np.int64))

    @cached_property
    def _items_of_real(self) -> dict[str, np.ndarray]:
        first, end = self.groups["real"]
        return {self.texts[t]: self.item[self.start[t] : self.start[t + 1]] for t in range(first, end)}

    def size(self, group: str) -> int:
        first, end = self.groups[group]
        return end - first


@dataclass(frozen=True)
class JudgedQueries:
    """Queries and their relevant items.

    Attributes:
        texts: Q texts.
        start: int64 [Q + 1]; the items of query q are rows start[q] to start[q + 1] of `item` (int64, rows of the
            catalogue) and `grade` (float64, > 0).
    """

    texts: list[str]
    start: np.ndarray
    item: np.ndarray
    grade: np.ndarray

    def items_of(self, query: int) -> np.ndarray:
        return self.item[self.start[query] : self.start[query + 1]]


def examples_of(
    items: pa.Table, rows: np.ndarray, judged: pa.Table, queries: pa.Table, section: SamplingSection, seed: int
) -> Examples:
    """Real queries of `judged` with their graded items, synthetic queries and item texts with the item's own SID.

    Args:
        items: ITEMS; rows: int64 [items], the SidSpace row of each.
        judged: JUDGMENTS to learn from; grades of 0 and unknown ids are left out. queries: QUERIES.
    """
    real = judged_items(judged, items, queries)
    made, made_from = _synthetic(items, section, seed)
    titles = item_text(items)
    texts = [*real.texts, *made, *titles]
    ends = np.cumsum([len(real.texts), len(made), len(titles)]).tolist()
    item = np.concatenate([real.item, made_from, np.arange(len(rows))])
    single = len(made_from) + len(rows)
    return Examples(
        texts,
        {"real": (0, ends[0]), "synthetic": (ends[0], ends[1]), "title": (ends[1], ends[2])},
        np.concatenate([real.start, real.start[-1] + 1 + np.arange(single)]),
        item,
        rows[item],
        np.concatenate([real.grade, np.ones(single)]),
    )


def judged_items(judged: pa.Table, items: pa.Table, queries: pa.Table, limit: int | None = None) -> JudgedQueries:
    """The first `limit` queries of `judged` (JUDGMENTS), in order of appearance, with their items of positive grade."""
    row_of = {item: row for row, item in enumerate(items["item_id"].to_pylist())}
    text_of = dict(zip(queries["query_id"].to_pylist(), queries["text"].to_pylist(), strict=True))
    targets: dict[str, list[tuple[int, float]]] = {}
    for query, item, grade in zip(*(judged[c].to_pylist() for c in ("query_id", "item_id", "grade")), strict=True):
        if grade > 0 and item in row_of and query in text_of:
            targets.setdefault(query, []).append((row_of[item], grade))
    kept = list(targets)[:limit]
    flat = [target for query in kept for target in targets[query]]
    return JudgedQueries(
        [text_of[query] for query in kept],
        np.cumsum([0, *(len(targets[query]) for query in kept)]),
        np.array([item for item, _ in flat], dtype=np.int64),
        np.array([grade for _, grade in flat], dtype=np.float64),
    )


def _synthetic(items: pa.Table, section: SamplingSection, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts and the item row each was cut from, int64."""
    count = section.synthetic_per_item
    chosen = np.arange(len(items))
    if count * len(items) > section.max_synthetic:
        size = section.max_synthetic // max(1, count)
        chosen = np.sort(np.random.default_rng(seed).choice(len(items), size, replace=False))
    texts: list[str] = []
    source: list[int] = []
    part = items.take(pa.array(chosen))
    columns = (part[c].to_pylist() for c in ("item_id", "title", "brand", "category"))
    for row, (item, title, brand, category) in zip(chosen.tolist(), zip(*columns, strict=True), strict=True):
        made = synthetic_queries(title, brand, category, count, item_generator(seed, item))
        texts += made
        source += [row] * len(made)
    return texts, np.array(source, dtype=np.int64)


def shares_of(examples: Examples, section: SamplingSection) -> dict[str, float]:
    """Share of each group in a batch: real and synthetic where there are real queries, else titles and synthetic.

    Groups without a text give their share to the others.
    """
    if examples.size("real"):
        shares = {"real": section.real_share, "synthetic": 1 - section.real_share}
    else:
        shares = {"title": section.title_share, "synthetic": 1 - section.title_share}
    kept = {group: share for group, share in shares.items() if share > 0 and examples.size(group)}
    if not kept:
        kept = {"title": 1.0}
    total = sum(kept.values())
    return {group: share / total for group, share in kept.items()}


def draw_pairs(
    examples: Examples, shares: dict[str, float], batch: int, targets: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """About `batch` pairs (text int64 [n], sid int64 [n]), each group by its share.

    A real query comes `targets` times, each with a SID drawn by grade; texts with one target come once each.
    """
    texts = []
    for group, share in shares.items():
        first, end = examples.groups[group]
        rows = max(1, round(batch * share))
        if group == "real":
            texts.append(np.repeat(rng.integers(first, end, max(1, rows // targets)), targets))
        else:
            texts.append(rng.integers(first, end, rows))
    text = np.concatenate(texts)
    total = np.concatenate([[0.0], np.cumsum(examples.weight)])
    low, high = total[examples.start[text]], total[examples.start[text + 1]]
    at = np.searchsorted(total, low + rng.random(len(text)) * (high - low), side="right") - 1
    return text, examples.sid[at.clip(examples.start[text], examples.start[text + 1] - 1)]
