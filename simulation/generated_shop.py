"""A generated shop: targets -> queries -> judgments -> items -> logs, written as a dataset folder.

Two passes over the shop: one for the judgments (attributes only), one for the records (titles too). Memory holds the
queries, their judgments and the titles of judged items, never the catalogue. The folder appears whole or not at all;
the same `ShopSection` gives the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genrecall.data.splits import query_groups
from genrecall.data.writers import json_lines, new_dataset, write_description
from genrecall.progress import OnProgress, no_progress
from simulation.click_model import Bm25, JudgedQuery, simulate_sessions
from simulation.config import ShopSection
from simulation.queries import Queries, make_queries
from simulation.relevance import GRADES, Judgments, RelevanceLabeler
from simulation.shop import BLOCK, Items, Shop, item_id
from simulation.titles import item_records
from simulation.ubi_log import SessionRecorder

TARGETS_PER_QUERY = 3  # items drawn for each query, since some give a query that is there already


def synthesize(section: ShopSection, out: Path, progress: OnProgress = no_progress) -> dict[str, Any]:
    """Write the shop that `section` describes to the folder `out`; return its `dataset.json`.

    UserError when `out` exists and is not empty.
    """
    with new_dataset(out) as folder:
        shop = Shop(section.items, section.seed)
        sample = sample_items(shop, min(section.items, TARGETS_PER_QUERY * section.query_count), progress)
        queries = make_queries(shop, sample, section, progress)
        labeler = RelevanceLabeler(shop, queries, section)
        for block in shop.blocks():
            labeler.add(block)
            progress("judgments", int(block.number[-1]) + 1, shop.items)
        judgments = labeler.judgments(sample)
        splits = _splits(queries, section, shop.random("splits"))
        _write_judgments(queries, judgments, splits, folder)
        in_train = np.isin(judgments.query, splits["train"])
        titles = _write_items(shop, folder, np.unique(judgments.item[in_train]), progress)
        counts = _TrainingLogs(section, shop, queries, judgments, splits["train"], titles).write(folder, progress)
        about = {
            "note": "generated: every figure drawn from this dataset is simulated",
            "settings": section.model_dump(mode="json"),
            "brands": len(shop.brands),
            "categories": len(shop.categories),
            "items": shop.items,
            "queries": len(queries),
            "queries_by_way": dict(sorted(Counter(queries.way).items())),
            "judgments": len(judgments.query),
            "queries_with_more_that_fit_than_judged": int((judgments.fitting > section.max_exact).sum()),
            **counts,
        }
        description = {"name": out.resolve().name, "simulated": True, "about": about}
        write_description(folder, description)
    return description


def sample_items(shop: Shop, count: int, progress: OnProgress) -> Items:
    """`count` different items of the whole shop, in random order."""
    random = shop.random("targets")
    numbers = np.sort(random.choice(shop.items, size=count, replace=False))
    parts = []
    for first in range(0, shop.items, BLOCK):
        inside = numbers[np.searchsorted(numbers, first) : np.searchsorted(numbers, first + BLOCK)] - first
        if len(inside):
            parts.append(shop.block(first, min(BLOCK, shop.items - first)).take(inside))
        progress("targets", min(first + BLOCK, shop.items), shop.items)
    joined = Items(*(np.concatenate([getattr(part, name) for part in parts]) for name in Items.__dataclass_fields__))
    return joined.take(random.permutation(count))


def _splits(queries: Queries, section: ShopSection, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Query numbers of train, dev and test; a query and its reorderings stay together."""
    group = query_groups(queries.text)
    place = random.permutation(group.max() + 1)[group] / (group.max() + 1)
    dev_end = section.train_share + section.dev_share
    parts = {"train": place < section.train_share, "dev": (place >= section.train_share) & (place < dev_end)}
    parts["test"] = ~parts["train"] & ~parts["dev"]
    return {name: np.flatnonzero(mask) for name, mask in parts.items()}


def _write_judgments(queries: Queries, judgments: Judgments, splits: dict[str, np.ndarray], folder: Path) -> None:
    """queries.tsv, qrels.txt and splits.json."""
    with (folder / "queries.tsv").open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{query_id(number)}\t{text}\n" for number, text in enumerate(queries.text))
    rows = zip(judgments.query.tolist(), judgments.item.tolist(), GRADES[judgments.label].tolist(), strict=True)
    with (folder / "qrels.txt").open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{query_id(query)} 0 {item_id(item)} {grade}\n" for query, item, grade in rows)
    named = {name: [query_id(number) for number in numbers.tolist()] for name, numbers in splits.items()}
    (folder / "splits.json").write_text(json.dumps(named) + "\n", encoding="utf-8")


def _write_items(shop: Shop, folder: Path, titled: np.ndarray, progress: OnProgress) -> dict[str, str]:
    """items.jsonl.gz. Returns id -> title of the items `titled`, int [n] ascending numbers."""
    titles: dict[str, str] = {}
    with json_lines(folder / "items.jsonl.gz") as write:
        for block in shop.blocks():
            records = item_records(shop, block)
            for record in records:
                write(record)
            first, last = int(block.number[0]), int(block.number[-1])
            for number in titled[np.searchsorted(titled, first) : np.searchsorted(titled, last + 1)].tolist():
                record = records[number - first]
                titles[record["item_id"]] = record["title"]
            progress("items", last + 1, shop.items)
    return titles


@dataclass(frozen=True)
class _TrainingLogs:
    """Logs of the training queries. titles: of their judged items, id -> title."""

    section: ShopSection
    shop: Shop
    queries: Queries
    judgments: Judgments
    train: np.ndarray
    titles: Mapping[str, str]

    def write(self, folder: Path, progress: OnProgress) -> dict[str, int]:
        """ubi_queries.jsonl.gz and ubi_events.jsonl.gz; returns the numbers of sessions, clicks and purchases."""
        random = self.shop.random("logs")
        total = self.section.sessions or 20 * len(self.train)
        counts = random.multinomial(total, _traffic_shares(self.queries.expected[self.train]))
        recorder = SessionRecorder(total, self.section.days, random)
        judged = (self._judged(query) for query in self.train.tolist())
        sessions = simulate_sessions(judged, counts.tolist(), Bm25(self.titles), self.section.clicks, recorder)
        return recorder.write(sessions, folder, progress)

    def _judged(self, query: int) -> JudgedQuery:
        first, last = np.searchsorted(self.judgments.query, [query, query + 1]).tolist()
        items = [item_id(item) for item in self.judgments.item[first:last].tolist()]
        titles = [self.titles[item] for item in items]
        return JudgedQuery(self.queries.text[query], items, titles, self.judgments.label[first:last])


def _traffic_shares(expected: np.ndarray) -> np.ndarray:
    """float64 [queries]: the share of traffic of each query: a power law, the broadest query first."""
    rank = np.empty(len(expected))
    rank[np.argsort(-expected, kind="stable")] = np.arange(len(expected))
    weight = 1 / (rank + 10) ** 0.9
    return weight / weight.sum()


def query_id(number: int) -> str:
    return f"q{number:06}"
