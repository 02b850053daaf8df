"""The regimes, and how a fold is run: which judgments are used where, and which results of an earlier run still
hold.

- unseen: k-fold over queries; a generator and an adapter are trained for each fold, and no judgment of a test query
  reaches training or tuning.
- recurring: half of a query's relevant items are known from the past, the other half is to be found; where logs judge,
  known is what people wanted before a moment, and to be found what they wanted first after it. Known items are removed
  from every ranking before it is evaluated, so nothing is gained by repeating them.
- returning, where logs judge: what people wanted after that moment, the same items or others; nothing is removed.

A split decides its regime alone: known items are the training judgments of the query itself, and unseen queries have
none. Training belongs to the caller (`open_fold`), measuring to `results`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import genrecall
from genrecall import files
from genrecall.data import splits as splitting
from genrecall.errors import UserError
from genrecall.evaluation.metrics import Evaluator
from genrecall.evaluation.runs import Channel, Run, read_trec, without, write_trec
from genrecall.records import Dataset, Split

VERSION = 2  # of the rankings that the same settings and data give; part of the fold's key


@dataclass(frozen=True)
class FoldChannels:
    """The channels of a fold, and notes on how they were made (JSON-ready, kept with their runs)."""

    channels: Mapping[str, Channel]
    notes: dict[str, Any] = field(default_factory=dict)


OpenFold = Callable[[Split], AbstractContextManager[FoldChannels]]
"""Trains what the fold needs and opens its channels; entered only where their runs are not on disk."""


class JudgmentLeakError(AssertionError):
    """A judgment of a test query would have reached training: the figures would be worthless."""


@dataclass(frozen=True)
class FoldRuns:
    """The run of every channel for the dev and test queries of one split, known items removed."""

    split: Split
    runs: dict[str, Run]
    notes: dict[str, Any] = field(default_factory=dict)


def splits(
    dataset: Dataset, regime: str, folds: int, relevant: float, seed: int, folder: Path | None = None
) -> list[Split]:
    """The splits of "unseen" (one a fold), "recurring" or "returning" (one each), checked for leaks.

    folder: of the dataset; a `splits.json` there is the one unseen split, a `recurring.parquet` the two others.
    Raises UserError when no test query has a relevant item to find.
    """
    if regime == "recurring":
        made = [splitting.recurring_split(dataset, seed, relevant=relevant, folder=folder)]
    elif regime == "returning":
        returning = splitting.returning_split(dataset, seed, folder, relevant=relevant) if folder else None
        if returning is None:
            raise UserError(
                f"{dataset.name} was not judged by logs, so nothing tells when people came back: make such a dataset "
                "with `genrecall data judge`, or leave returning out of evaluation.regimes"
            )
        made = [returning]
    elif folder and (own := folder / "splits.json").is_file():
        made = [splitting.read_split(dataset, own)]
    else:
        made = splitting.kfold_splits(dataset, folds, seed)
    for split in made:
        check_no_leak(dataset, split, unseen=regime == "unseen")
    if not any(Evaluator(split.test, relevant).query_ids for split in made):
        raise UserError(
            f"{regime} queries of {dataset.name}: no test query has an item of grade {relevant:g} or more to find: "
            "lower data.relevant, or bring more judgments (recurring queries need two relevant items each, or one from "
            "before the cut and one from after it)"
        )
    return made


def check_no_leak(dataset: Dataset, split: Split, unseen: bool) -> None:
    """Raise JudgmentLeakError when the split would train or tune on what it tests.

    Always: no query in both dev and test, and no (query, item) pair in two parts, but for returning queries, which may
    want again what they wanted before. Unseen: no query of dev or test, nor one with the same stems, in train.
    """
    text = dict(zip(dataset.queries["query_id"].to_pylist(), dataset.queries["text"].to_pylist(), strict=True))
    group = dict(zip(text, splitting.query_groups(list(text.values())).tolist(), strict=True))
    parts = {"train": split.train, "dev": split.dev, "test": split.test}
    queries = {name: set(part["query_id"].to_pylist()) for name, part in parts.items()}
    stems = {name: {group[query] for query in ids} for name, ids in queries.items()}
    pairs = {
        name: set(zip(part["query_id"].to_pylist(), part["item_id"].to_pylist(), strict=True))
        for name, part in parts.items()
    }
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        if (shared := pairs[one] & pairs[other]) and not (split.returning and one == "train"):
            raise JudgmentLeakError(f"{split.name}: judgment {sorted(shared)[0]} is in {one} and in {other}")
        if (unseen or one == "dev") and (shared := stems[one] & stems[other]):
            example = sorted(text[query] for query in queries[one] if group[query] in shared)[0]
            raise JudgmentLeakError(
                f"{split.name}: query {example!r} of {one} is in {other}, as it is or in other words of the same stems"
            )


def known_items(split: Split) -> dict[str, set[str]]:
    """query_id of dev and test -> the items that are to be removed from its rankings: those that training knows for it,
    where they do not count.
    """
    return {} if split.returning else past_items(split)


def past_items(split: Split) -> dict[str, set[str]]:
    """query_id of dev and test -> the items that training knows for it."""
    ids = [*split.dev["query_id"].to_pylist(), *split.test["query_id"].to_pylist()]
    known = split.train.filter(pc.is_in(split.train["query_id"], value_set=pa.array(ids, pa.string())))
    out: dict[str, set[str]] = {}
    for row in known.to_pylist():
        out.setdefault(row["query_id"], set()).add(row["item_id"])
    return out


def held_out_queries(dataset: Dataset, split: Split) -> pa.Table:
    """QUERIES of dev and test, in the order of the dataset."""
    wanted = set(split.dev["query_id"].to_pylist()) | set(split.test["query_id"].to_pylist())
    keep = [query in wanted for query in dataset.queries["query_id"].to_pylist()]
    return dataset.queries.filter(pa.array(keep, pa.bool_()))


def retrieve(dataset: Dataset, split: Split, channels: Mapping[str, Channel], depth: int) -> dict[str, Run]:
    """Every channel's run for the dev and test queries, `depth` long after known items are removed.

    Channels retrieve more by the most items known for a query, so that enough are left.
    """
    queries, known = held_out_queries(dataset, split), known_items(split)
    deepest = depth + max((len(items) for items in known.values()), default=0)
    return {name: without(channel(queries, deepest), known, depth) for name, channel in channels.items()}


def run_fold(dataset: Dataset, split: Split, open_fold: OpenFold, depth: int, folder: Path, key: str) -> FoldRuns:
    """Run every channel of one fold, or read what an earlier evaluation of the same `key` left in `folder`.

    The runs are written channel by channel and the key last, so that an interrupted fold is never taken for a whole
    one.
    """
    marker = folder / "fold.json"
    if marker.exists() and (kept := json.loads(marker.read_text(encoding="utf-8")))["key"] == key:
        query_ids = held_out_queries(dataset, split)["query_id"].to_pylist()
        runs = {name: read_trec(folder / f"{name}.trec", query_ids) for name in kept["channels"]}
        return FoldRuns(split, runs, kept["notes"])
    with open_fold(split) as opened:
        runs = retrieve(dataset, split, opened.channels, depth)
    marker.unlink(missing_ok=True)
    for name, run in runs.items():
        write_trec(run, folder / f"{name}.trec", tag=f"{split.name}-{name}")
    files.write_json(marker, {"key": key, "channels": list(runs), "notes": opened.notes})
    return FoldRuns(split, runs, opened.notes)


def fold_key(settings: Mapping[str, object], dataset: Dataset, split: Split) -> str:
    """sha256 of what decides the runs of a fold: settings, data, the judgments of the split, the version of genrecall.

    `VERSION` stands for the code: it is raised by hand where channels would retrieve otherwise.
    """
    about = [genrecall.__version__, VERSION, settings, dataset.fingerprints]
    judgments = (repr(part.to_pylist()) for part in (split.train, split.dev, split.test))
    return files.sha256_of([json.dumps(about, sort_keys=True, default=str), *judgments])
