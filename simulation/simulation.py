"""Logs simulated from the graded judgments of a dataset that has none, in the way of the generated shop.

Which items a query may show and how shoppers act on them is `simulation.logs`; here: from a dataset to its
judged queries, and to a folder that works alone, with a copy of the original's files beside the logs.

In Python, for experiments: `[*searches(judged_queries(dataset), 100, ClickModel(), np.random.default_rng(1))]`.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genrecall.config.data import DataSection, Description, Source
from genrecall.data.folder import new_folder, write_description
from genrecall.data.readers import ITEM_FILES, JUDGMENT_FILES, QUERY_FILES, describe, open_dataset
from genrecall.data.rows import paths
from genrecall.errors import UserError
from genrecall.records import Dataset
from simulation import logs
from simulation.config import ClickModel, SimulationSection
from simulation.logs import Bm25, JudgedQuery, Log, Session

Progress = Callable[[str, int, int], None]  # stage, done, in all
LABELS = ("exact", "substitute", "complement", "irrelevant")
ESCI_GRADES = np.array([1.0, 0.1, 0.01, 0.0], dtype=np.float32)  # of LABELS
SOURCES = {"items": ITEM_FILES, "queries": QUERY_FILES, "judgments": JUDGMENT_FILES}


def labels(grades: np.ndarray) -> np.ndarray:
    """int64 [n], indices into LABELS, of all the normalised grades of a dataset, float [n] (1.0 its best, 0 its worst).

    Where every grade is one of ESCI's four, each is its label. On any other scale a grade becomes the nearest of four
    evenly spaced ones, 1, 2/3, 1/3 and 0, the better where two are as near: TREC's 3, 2, 1, 0 are the four labels,
    a scale of two grades is exact and irrelevant.
    """
    apart = np.abs(np.asarray(grades, dtype=np.float32)[:, None] - ESCI_GRADES)
    if not len(apart) or apart.min(axis=1).max() < 1e-6:
        return apart.argmin(axis=1)
    return np.ceil(3 * (1 - np.asarray(grades, dtype=np.float64)) - 0.5).clip(0, 3).astype(np.int64)


def judged_queries(dataset: Dataset) -> list[JudgedQuery]:
    """The queries with judgments, in the dataset's order, each with its judged items in theirs."""
    titles = dict(zip(dataset.items["item_id"].to_pylist(), dataset.items["title"].to_pylist(), strict=True))
    rows: dict[str, list[int]] = {}
    for row, query_id in enumerate(dataset.judgments["query_id"].to_pylist()):
        rows.setdefault(query_id, []).append(row)
    items, label = dataset.judgments["item_id"].to_pylist(), labels(dataset.judgments["grade"].to_numpy())
    asked = zip(dataset.queries["query_id"].to_pylist(), dataset.queries["text"].to_pylist(), strict=True)
    return [
        JudgedQuery(
            text, ids := [items[row] for row in rows[query_id]], [titles[i] for i in ids], label[rows[query_id]]
        )
        for query_id, text in asked
        if query_id in rows
    ]


def searches(
    queries: Sequence[JudgedQuery], times: int, model: ClickModel, random: np.random.Generator, days: int = 30
) -> Iterator[Session]:
    """`times` logged searches of each query: its row of ubi_queries with its rows of ubi_events.

    BM25 takes its word frequencies from the titles of all judged items. All chance comes from `random`.
    """
    titles = {item: title for query in queries for item, title in zip(query.items, query.titles, strict=True)}
    log = Log(times * len(queries), days, random)
    return logs.simulate(queries, [times] * len(queries), Bm25(iter(titles.values())), model, log)


def simulate(
    section: SimulationSection, source: Path, out: Path, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Write the dataset of the folder `source` with simulated logs to the folder `out`; return its `dataset.json`.

    All judged queries are asked: which of them may be trained on is for those to decide who train. Logs that `source`
    has stay behind.

    Raises:
        UserError: a dataset that cannot be read or has no judgments, an `out` that holds something.
    """
    with new_folder(out) as folder:
        dataset = open_dataset(DataSection(folder=source))
        queries = judged_queries(dataset)
        if not queries:
            raise UserError(f"{source} has no judgments to simulate logs from: it needs queries.tsv and qrels.txt")
        total = section.sessions * len(queries)
        made = searches(queries, section.sessions, section.clicks, np.random.default_rng(section.seed), section.days)
        counts = logs.write(made, folder, lambda done: progress("logs", done, total))
        label = Counter(np.concatenate([query.label for query in queries]).tolist())
        judged_by = "simulated" if dataset.simulated else "human"
        about = {
            "note": f"logs simulated from {judged_by} judgments: every figure that rests on them is simulated",
            "settings": section.model_dump(mode="json"),
            "queries": len(queries),
            "judgments": {name: label[number] for number, name in enumerate(LABELS)},
            **counts,
            "of": _about(source, dataset),
        }
        described = {"name": out.resolve().name, "simulated": True, **_copied(source, folder), "about": about}
        write_description(folder, described)
    return described


def _about(source: Path, dataset: Dataset) -> dict[str, Any]:
    """What the original says of itself, and the sha256 of its files."""
    path = source / "dataset.json"
    said = Description.model_validate_json(path.read_bytes()).about if path.is_file() else {}
    return {"name": dataset.name, "files": dataset.fingerprints, **said}


def _copied(source: Path, folder: Path) -> dict[str, Any]:
    """Copy the files of items, queries and judgments, and the splits; return where they are, for `dataset.json`.

    An index, and a file that is named by its absolute path, stay where they are.
    """
    section, _ = describe(DataSection(folder=source))
    for name, standard in SOURCES.items():
        kind: Source = getattr(section, name)
        if kind.index or Path(kind.path).is_absolute():
            continue
        for path in paths(source, kind, standard):
            to = folder / path.relative_to(source)
            if not to.resolve().is_relative_to(folder.resolve()):
                raise UserError(f"{source}/dataset.json: {name}.path {kind.path!r} leaves the folder: move the file in")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
    if (source / "splits.json").is_file():
        shutil.copyfile(source / "splits.json", folder / "splits.json")
    return section.model_dump(mode="json", include=set(SOURCES), exclude_defaults=True)
