"""The page that makes a shop: targets -> queries -> judgments -> items -> logs, written as a dataset folder.

Two walks over the shop: one to judge (attributes only), one to write (words too). Memory holds the queries, their
judgments and the titles of judged items, never the catalogue. The folder appears whole or not at all; the same
`ShopSection` gives the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genrecall.data.folder import json_lines, new_folder, write_description
from genrecall.data.splits import groups
from simulation import logs
from simulation.config import ShopSection
from simulation.judge import GRADES, Judge, Judged
from simulation.queries import Queries, make
from simulation.shop import BLOCK, Items, Shop, item_id
from simulation.wording import records

TARGETS_A_QUERY = 3  # items looked at for each query wanted, since equal queries are made once
Progress = Callable[[str, int, int], None]  # stage, done, in all


def synthesize(section: ShopSection, out: Path, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Write the shop that `section` describes to the folder `out`; return what `dataset.json` says about it.

    UserError when `out` exists and is not empty.
    """
    with new_folder(out) as folder:
        shop = Shop(section.items, section.seed)
        sample = _sample(shop, min(section.items, TARGETS_A_QUERY * section.query_count), progress)
        queries = make(shop, sample, section, lambda done: progress("queries", done, section.query_count))
        judge = Judge(shop, queries, section)
        for block in shop.blocks():
            judge.see(block)
            progress("judgments", int(block.number[-1]) + 1, shop.items)
        judged = judge.judgments(sample)
        splits = _splits(queries, section, shop.random("splits"))
        train = np.isin(judged.query, splits["train"])
        titles = _write_items(shop, folder, judged.item[train], progress)
        _write_judged(queries, judged, splits, folder)
        counts = _write_logs(queries, judged, splits["train"], titles, section, shop, folder, progress)
        about = {
            "note": "generated: every figure drawn from this dataset is simulated",
            "settings": section.model_dump(mode="json"),
            "brands": len(shop.brands),
            "categories": len(shop.categories),
            "items": shop.items,
            "queries": len(queries),
            "queries_by_way": dict(sorted(Counter(queries.way).items())),
            "judgments": len(judged.query),
            "queries_with_more_that_fit_than_judged": int((judged.fitting > section.max_exact).sum()),
            **counts,
        }
        described = {"name": out.resolve().name, "simulated": True, "about": about}
        write_description(folder, described)
    return described


def _sample(shop: Shop, count: int, progress: Progress) -> Items:
    """`count` different items of the whole shop, in random order: the targets of queries."""
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
    group = groups(queries.text)
    place = random.permutation(group.max() + 1)[group] / (group.max() + 1)
    dev_end = section.train_share + section.dev_share
    parts = {"train": place < section.train_share, "dev": (place >= section.train_share) & (place < dev_end)}
    parts["test"] = ~parts["train"] & ~parts["dev"]
    return {name: np.flatnonzero(mask) for name, mask in parts.items()}


def _write_items(shop: Shop, folder: Path, wanted: np.ndarray, progress: Progress) -> dict[int, str]:
    """items.jsonl.gz; returns the titles of the `wanted` item numbers."""
    titles: dict[int, str] = {}
    wanted = np.unique(wanted)
    with json_lines(folder / "items.jsonl.gz") as write:
        for block in shop.blocks():
            made = records(shop, block)
            for record in made:
                write(record)
            first, last = int(block.number[0]), int(block.number[-1])
            inside = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, last + 1)].tolist()
            titles.update((number, made[number - first]["title"]) for number in inside)
            progress("items", last + 1, shop.items)
    return titles


def _write_judged(queries: Queries, judged: Judged, splits: dict[str, np.ndarray], folder: Path) -> None:
    with (folder / "queries.tsv").open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{query_id(number)}\t{text}\n" for number, text in enumerate(queries.text))
    grades = GRADES[judged.label]
    with (folder / "qrels.txt").open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(
            f"{query_id(query)} 0 {item_id(item)} {grade}\n"
            for query, item, grade in zip(judged.query.tolist(), judged.item.tolist(), grades.tolist(), strict=True)
        )
    named = {name: [query_id(number) for number in numbers.tolist()] for name, numbers in splits.items()}
    (folder / "splits.json").write_text(json.dumps(named) + "\n", encoding="utf-8")


def _write_logs(
    queries: Queries,
    judged: Judged,
    train: np.ndarray,
    titles: dict[int, str],
    section: ShopSection,
    shop: Shop,
    folder: Path,
    progress: Progress,
) -> dict[str, int]:
    """ubi_queries.jsonl.gz and ubi_events.jsonl.gz, of training queries only; returns how many of what."""
    random = shop.random("logs")
    total = section.sessions or 20 * len(train)
    traffic = random.multinomial(total, logs.shares(queries.expected[train]))
    bounds = np.searchsorted(judged.query, [train, train + 1]).T.tolist()

    def asked(query: int, first: int, last: int) -> logs.JudgedQuery:
        items = judged.item[first:last].tolist()
        ids, shown = [item_id(item) for item in items], [titles[item] for item in items]
        return logs.JudgedQuery(queries.text[query], ids, shown, judged.label[first:last])

    bm25, log = logs.Bm25(iter(titles.values())), logs.Log(total, section.days, random)
    made = (asked(query, first, last) for query, (first, last) in zip(train.tolist(), bounds, strict=True))
    sessions = logs.simulate(made, traffic.tolist(), bm25, section.clicks, log)
    return logs.write(sessions, folder, lambda done: progress("logs", done, total))


def query_id(number: int) -> str:
    return f"q{number:06}"
