"""Logs simulated from the graded judgments of a dataset that has none.

Writes a folder that works alone: a copy of the original's files beside the logs.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genrecall.config.data import DataSection, Description, Source
from genrecall.data.readers import read_dataset
from genrecall.data.sources import resolve_sources, source_files
from genrecall.data.writers import new_dataset, write_description
from genrecall.errors import UserError
from genrecall.progress import OnProgress, no_progress
from genrecall.records import Dataset
from simulation.click_model import Bm25, JudgedQuery, simulate_sessions
from simulation.config import ClickModel, SimulationSection
from simulation.relevance import LABELS, labels_of
from simulation.ubi_log import Session, SessionRecorder


def judged_queries(dataset: Dataset) -> list[JudgedQuery]:
    """The queries with judgments, in the dataset's order, each with its judged items in theirs."""
    titles = dict(zip(dataset.items["item_id"].to_pylist(), dataset.items["title"].to_pylist(), strict=True))
    rows: dict[str, list[int]] = {}
    for row, query_id in enumerate(dataset.judgments["query_id"].to_pylist()):
        rows.setdefault(query_id, []).append(row)
    items, label = dataset.judgments["item_id"].to_pylist(), labels_of(dataset.judgments["grade"].to_numpy())
    queries = zip(dataset.queries["query_id"].to_pylist(), dataset.queries["text"].to_pylist(), strict=True)
    return [
        JudgedQuery(
            text, ids := [items[row] for row in rows[query_id]], [titles[i] for i in ids], label[rows[query_id]]
        )
        for query_id, text in queries
        if query_id in rows
    ]


def searches(
    queries: Sequence[JudgedQuery], times: int, model: ClickModel, recorder: SessionRecorder
) -> Iterator[Session]:
    """`times` sessions of each query. BM25 takes its word frequencies from the titles of all judged items."""
    titles = {item: title for query in queries for item, title in zip(query.items, query.titles, strict=True)}
    return simulate_sessions(queries, [times] * len(queries), Bm25(titles), model, recorder)


def simulate(section: SimulationSection, source: Path, out: Path, progress: OnProgress = no_progress) -> dict[str, Any]:
    """Write the dataset of the folder `source` with simulated logs to the folder `out`; return its `dataset.json`.

    All judged queries are logged: which of them to train on is decided in training. Logs of `source` are not copied.

    Raises:
        UserError: a dataset that cannot be read or has no judgments, an `out` that is not empty.
    """
    with new_dataset(out) as folder:
        dataset = read_dataset(DataSection(folder=source))
        queries = judged_queries(dataset)
        if not queries:
            raise UserError(f"{source} has no judgments to simulate logs from: it needs queries.tsv and qrels.txt")
        recorder = SessionRecorder(section.sessions * len(queries), section.days, np.random.default_rng(section.seed))
        counts = recorder.write(searches(queries, section.sessions, section.clicks, recorder), folder, progress)
        label_counts = Counter(np.concatenate([query.label for query in queries]).tolist())
        judged_by = "simulated" if dataset.simulated else "human"
        about = {
            "note": f"logs simulated from {judged_by} judgments: every figure that rests on them is simulated",
            "settings": section.model_dump(mode="json"),
            "queries": len(queries),
            "judgments": {name: label_counts[number] for number, name in enumerate(LABELS)},
            **counts,
            "of": _about(source, dataset),
        }
        description = {"name": out.resolve().name, "simulated": True, **_copy_files(source, folder), "about": about}
        write_description(folder, description)
    return description


def _about(source: Path, dataset: Dataset) -> dict[str, Any]:
    """The original's `about`, and the sha256 of its files."""
    path = source / "dataset.json"
    about = Description.model_validate_json(path.read_bytes()).about if path.is_file() else {}
    return {"name": dataset.name, "files": dataset.fingerprints, **about}


def _copy_files(source: Path, folder: Path) -> dict[str, Any]:
    """Copy the files of items, queries and judgments, and the splits; return where they are, for `dataset.json`.

    An index, and a file that is named by its absolute path, stay where they are.
    """
    section, _ = resolve_sources(DataSection(folder=source))
    names = ("items", "queries", "judgments")
    for name in names:
        described: Source = getattr(section, name)
        paths = [described.path] if isinstance(described.path, str) else described.path
        if described.index or any(Path(path).is_absolute() for path in paths):
            continue
        for path in source_files(section, name):
            to = folder / path.relative_to(source)
            if not to.resolve().is_relative_to(folder.resolve()):
                raise UserError(
                    f"{source}/dataset.json: {name}.path {described.path!r} leaves the folder: move the file in"
                )
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
    if (source / "splits.json").is_file():
        shutil.copyfile(source / "splits.json", folder / "splits.json")
    return section.model_dump(mode="json", include=set(names), exclude_defaults=True)
