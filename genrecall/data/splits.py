"""Splits of the judgments for training, tuning and test: unseen queries, recurring ones, or the dataset's own.

A query and its reorderings or inflections ("red shoes", "shoe red") are one group and in one part: otherwise a test
query would have been trained on under another spelling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genrecall.analyzer import Analyzer, script_language
from genrecall.config import Config
from genrecall.errors import UserError
from genrecall.records import JUDGMENTS, RECURRING, Dataset, Split

DEV_SHARE = 0.15  # of the training queries, where nobody says which are dev
_PART = re.compile(r"(?:^|[._-])(train|training|dev|val|valid|validation|test)(?:[._-]|$)")
RECURRING_FILE = "recurring.parquet"  # of a dataset folder: what was wanted before a moment, and what after it
_analyzer = cache(Analyzer)  # by language


def query_groups(texts: Sequence[str]) -> np.ndarray:
    """int64 [n]: the number of the group of each query; two queries share one when their sets of stems are equal."""
    numbers: dict[frozenset[str], int] = {}
    result = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        key = frozenset(_analyzer(script_language(text) or "english")(text)) or frozenset([text])
        result[row] = numbers.setdefault(key, len(numbers))
    return result


def training_split(dataset: Dataset, config: Config) -> Split:
    """The split that training uses: the folder's splits.json, else the first fold of the evaluation.

    A catalogue without judgments gives three empty parts: the generator learns from synthetic queries alone.
    """
    path = config.data.folder / "splits.json"
    if path.exists():
        return read_split(dataset, path)
    if not dataset.judgments.num_rows:
        return Split("none", dataset.judgments, dataset.judgments, dataset.judgments)
    return kfold_splits(dataset, config.evaluation.folds, config.run.seed)[0]


def kfold_splits(dataset: Dataset, folds: int, seed: int, dev_share: float = DEV_SHARE) -> list[Split]:
    """Unseen queries: each judged query is in the test part of exactly one fold; dev is taken from the rest.

    Named fold0 ... foldN-1. UserError when there are fewer groups of queries than folds.
    """
    group = _judged_groups(dataset)
    distinct = np.unique(group)
    if not 2 <= folds <= len(distinct):
        raise UserError(
            f"cannot make {folds} folds of {len(distinct)} distinct judged queries in {dataset.name}: "
            f"use 2 to {len(distinct)}"
        )
    random = np.random.default_rng(seed)
    fold_of = np.empty(group.max() + 1, dtype=np.int64)
    fold_of[random.permutation(distinct)] = np.arange(len(distinct)) % folds
    splits = []
    for fold in range(folds):
        rest = random.permutation(distinct[fold_of[distinct] != fold])
        dev = np.isin(group, rest[: _share(len(rest), dev_share)])
        test = fold_of[group] == fold
        splits.append(_split(f"fold{fold}", dataset.judgments, ~dev & ~test, dev, test))
    return splits


def recurring_split(
    dataset: Dataset, seed: int, dev_share: float = 0.3, relevant: float = 1.0, folder: Path | None = None
) -> Split:
    """Recurring queries: half of the relevant items of each query are known (train), the other half is to be found.

    Where the dataset's `folder` has a RECURRING_FILE, known is what people wanted before its cut, and to be found what
    they wanted first after it.

    The half to be found, with the query's other judgments, is in dev or in test, by query. A query with nothing left to
    find (it has one relevant item) is only in train. Queries of one group are halved together, so none has in train
    what another has to find.
    """
    random = np.random.default_rng(seed)
    by_time = read_recurring(dataset, folder) if folder else None
    judgments = by_time[0] if by_time else dataset.judgments
    group = _judged_groups(dataset, judgments)
    item, query = (_numbers(judgments[name]) for name in ("item_id", "query_id"))
    is_relevant = judgments["grade"].to_numpy() >= relevant
    pair = group * (item.max() + 1) + item
    if by_time:
        later = judgments["later"].to_numpy()
        known = np.isin(pair, pair[~later])
        is_relevant &= ~(known & later)  # known under another spelling
        judgments = judgments.select(JUDGMENTS.names)
    else:
        known = np.isin(pair, _half(pair[is_relevant], item.max() + 1, random))
    to_find = np.unique(query[is_relevant & ~known])
    hidden, known = np.isin(query, to_find) & ~known, known & is_relevant
    hidden &= np.isin(group, group[known])  # others do not recur
    distinct = random.permutation(np.unique(group[hidden]))
    dev = np.isin(group, distinct[: _share(len(distinct), dev_share)])
    cut = by_time[1] if by_time else None
    return _split("recurring", judgments, known, hidden & dev, hidden & ~dev, cut)


def returning_split(
    dataset: Dataset, seed: int, folder: Path, dev_share: float = 0.3, relevant: float = 1.0
) -> Split | None:
    """Returning queries: train is what people wanted before the cut of the RECURRING_FILE in `folder`, dev and test, by
    query, what they wanted after it, the same items or others. None where there is no such file.
    """
    by_time = read_recurring(dataset, folder)
    if by_time is None:
        return None
    judgments, cut = by_time
    group, later = _judged_groups(dataset, judgments), judgments["later"].to_numpy()
    is_relevant = judgments["grade"].to_numpy() >= relevant
    before = ~later & is_relevant
    after = later & np.isin(group, group[before]) & np.isin(group, group[later & is_relevant])
    distinct = np.random.default_rng(seed).permutation(np.unique(group[after]))
    dev = np.isin(group, distinct[: _share(len(distinct), dev_share)])
    split = _split("returning", judgments.select(JUDGMENTS.names), before, after & dev, after & ~dev, cut)
    return replace(split, returning=True)


def _half(pairs: np.ndarray, items: int, random: np.random.Generator) -> np.ndarray:
    """A random half, rounded up, of the items of each group. pairs: int64, group * items + item."""
    pairs = np.unique(pairs)
    owner = pairs // items
    pairs = pairs[np.lexsort((random.random(len(pairs)), owner))]  # shuffled inside each group
    _, first, size = np.unique(owner, return_index=True, return_counts=True)
    position = np.arange(len(pairs)) - np.repeat(first, size)
    return pairs[position < np.repeat((size + 1) // 2, size)]


def write_recurring(folder: Path, judgments: pa.Table, cut: datetime) -> None:
    """Write the RECURRING_FILE of a dataset. judgments: RECURRING; cut: with a time zone."""
    table = judgments.replace_schema_metadata({"cut": cut.isoformat()})
    pq.write_table(table, folder / RECURRING_FILE, compression="zstd")


def read_recurring(dataset: Dataset, folder: Path) -> tuple[pa.Table, datetime] | None:
    """RECURRING, of the items and queries of `dataset`, and the cut; None where there is no such file."""
    path, items, queries = folder / RECURRING_FILE, dataset.items, dataset.queries
    if not path.is_file():
        return None
    try:
        found = pq.read_table(path)
        cut = datetime.fromisoformat(found.schema.metadata[b"cut"].decode())
        table = found.select(RECURRING.names).cast(RECURRING)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what `genrecall data judge` writes ({error!r}): write it again") from None
    here = (pc.is_in(table[name], value_set=of[name]) for name, of in (("item_id", items), ("query_id", queries)))
    table = table.filter(pc.and_(*here))
    if not len(table):
        raise UserError(f"{path} has no item and query of {dataset.name}: write it again with `genrecall data judge`")
    return table, cut


def read_split(dataset: Dataset, path: Path) -> Split:
    """The split of a dataset folder's `splits.json`: {"train": [query_id, ...], "dev": [...], "test": [...]}.

    UserError when the file cannot be read, or a query, or its reordering, is in two parts.
    """
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        part_of = {str(query): name for name in ("train", "dev", "test") for query in parts[name]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is not a split ({error!r}): write {{"train": [query_id], "dev": [...], "test": [...]}}'
        ) from None
    owner: dict[int, tuple[str, str]] = {}
    for query, group in _group_of_query(dataset).items():
        if query not in part_of:
            continue
        first, part = owner.setdefault(group, (query, part_of[query]))
        if part != part_of[query]:
            raise UserError(
                f"{path}: query {first} is in {part} and query {query}, the same words, is in {part_of[query]}: the "
                "second would in effect be seen in training; put both into one part"
            )
    listed = sum(len(parts[name]) for name in ("train", "dev", "test"))
    if listed != len(part_of):
        raise UserError(f"{path} lists {listed - len(part_of)} queries twice: a query belongs to one part")
    places = np.array([part_of.get(query, "") for query in dataset.judgments["query_id"].to_pylist()])
    return _split("given", dataset.judgments, *(places == name for name in ("train", "dev", "test")))


def part_of_file(name: str) -> str:
    """train, dev or test, by the name of a file of judgments: `train.tsv`, `qrels.dev.tsv`; "" for other names."""
    found = _PART.search(name.casefold())
    return {"tra": "train", "tes": "test"}.get(found[1][:3], "dev") if found else ""


def split_by_files(places: Mapping[str, set[str]], queries: pa.Table, seed: int) -> tuple[dict[str, list[str]], int]:
    """The content of `splits.json` by the files that judge each query, and how many queries are in no part.

    A query of two files is in the part that is held out more: test, then dev. One with the words of a query that is
    held out more is in none, so that nothing held out is trained on. Without test, dev is test; without dev, DEV_SHARE
    of the training queries are.

    Args:
        places: query_id -> names of files; every file has a part (`part_of_file`), and there is one of train.
        queries: QUERIES.
        seed: chooses dev.
    """
    ranks = {"train": 0, "dev": 1, "test": 2}
    named = {part_of_file(name) for names in places.values() for name in names}
    rank_of = ranks if "test" in named else {"train": 0, "dev": 2}
    own = {query: max(rank_of[part_of_file(name)] for name in names) for query, names in places.items()}
    judged = queries.filter(pc.is_in(queries["query_id"], value_set=pa.array(list(own), pa.string())))
    ids, group = judged["query_id"].to_pylist(), query_groups(judged["text"].to_pylist())
    rank = np.array([own[query] for query in ids])
    highest = np.zeros(group.max() + 1, dtype=np.int64)
    np.maximum.at(highest, group, rank)
    kept = rank == highest[group]
    if 1 not in highest:
        training = np.random.default_rng(seed).permutation(np.unique(group[rank == 0]))
        training = training[highest[training] == 0]
        rank = np.where(np.isin(group, training[: _share(len(training), DEV_SHARE)]), 1, rank)
    parts = {name: [ids[row] for row in np.flatnonzero(kept & (rank == number))] for name, number in ranks.items()}
    return parts, int((~kept).sum())


def _judged_groups(dataset: Dataset, judgments: pa.Table | None = None) -> np.ndarray:
    """int64 [judgments]: the group of the query of each judgment, by default of the dataset's."""
    group_of = _group_of_query(dataset)
    judgments = dataset.judgments if judgments is None else judgments
    return np.array([group_of[query] for query in judgments["query_id"].to_pylist()], dtype=np.int64)


def _group_of_query(dataset: Dataset) -> dict[str, int]:
    ids, texts = (dataset.queries[name].to_pylist() for name in ("query_id", "text"))
    return dict(zip(ids, query_groups(texts).tolist(), strict=True))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """int64 [n]: a number for each distinct string of a column."""
    return column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)


def _share(count: int, share: float) -> int:
    return min(max(1, round(count * share)), count - 1) if share > 0 else 0


def _split(
    name: str,
    judgments: pa.Table,
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    cut: datetime | None = None,
) -> Split:
    to_train, to_tune, to_test = (judgments.filter(pa.array(mask)) for mask in (train, dev, test))
    return Split(name, to_train, to_tune, to_test, cut)
