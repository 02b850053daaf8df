"""What the memory of a generator is made of (`genrecall.decoding.memory`), and whether dev queries object to it.

It is made of what the generator learns from: judgments by people, or requests of the logs, there only for queries that
enough clients asked. It stays out where the recall of the dev queries falls for it by more than a standard error of the
difference. Half of a dev query's items are known for that, and half of its recall is that of the others, the known ones
taken out of its list, half that of all: people come back for something else, and for the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor

from genrecall.analyzer import Analyzer
from genrecall.decoding.lexical import hash_query, hash_terms
from genrecall.decoding.memory import Memory
from trainer.generator.context import TrainingContext
from trainer.generator.evidence import TrainedEvidence, evidence_parts, evidence_recalls
from trainer.generator.examples import JudgedQueries
from trainer.generator.gates import worse


@dataclass(frozen=True)
class Wants:
    """Which items were wanted for which query: query int64 hashes, item int64 rows, weight float64 > 0, [m] each."""

    query: np.ndarray
    item: np.ndarray
    weight: np.ndarray

    def memory(self, rows: np.ndarray) -> Memory:
        """rows: int64 [items], the SID of each."""
        return Memory.of(self.query, rows[self.item], self.weight)


def query_hashes(analyzer: Analyzer, texts: list[str]) -> np.ndarray:
    """int64 [n], what a query is known by; texts without a word are all alike."""
    return np.array([hash_query(hash_terms(analyzer(text)))[0] for text in texts], dtype=np.int64)


def logged_wants(requests: pa.Table, analyzer: Analyzer, item_ids: list[str], least: int) -> tuple[Wants, int]:
    """What was clicked and bought in REQUESTS, and how many queries were left out as too few clients asked them.

    An item weighs as many requests as it was clicked in plus as many as it was bought in. Queries of the same stems are
    one. Only what `least` clients wanted something for is kept, so that no single person's interest is remembered;
    where no client is known each request counts as one. Items that are not in `item_ids` are left out.
    """
    logged = pl.DataFrame(requests.select(["query_id", "client_id", "text", "clicked", "purchased"]))
    client = pl.when(pl.col("client_id") == "").then("query_id").otherwise("client_id")
    wanted = logged.select("text", client=client, item_id=pl.concat_list("clicked", "purchased"))
    wanted = wanted.filter(pl.col("item_id").list.len() > 0)
    texts = wanted["text"].unique(maintain_order=True)
    query = pl.DataFrame({"text": texts, "query": query_hashes(analyzer, texts.to_list())})
    row_of = pl.DataFrame({"item_id": item_ids, "item": np.arange(len(item_ids))})
    wanted = wanted.join(query, on="text", maintain_order="left").explode("item_id").join(row_of, on="item_id")
    asked = wanted.group_by("query").agg(clients=pl.col("client").n_unique())
    often = asked.filter(pl.col("clients") >= least)
    counted = wanted.join(often, on="query").group_by("query", "item").len().sort("query", "item")
    weight = counted["len"].to_numpy().astype(np.float64)
    return Wants(counted["query"].to_numpy(), counted["item"].to_numpy(), weight), len(asked) - len(often)


def judged_wants(context: TrainingContext) -> Wants:
    """What people judged relevant for the training queries, one item like another."""
    first, end = context.examples.groups["real"]
    hashes = query_hashes(context.analyzer, context.examples.texts[first:end])
    text, item = context.examples.chosen("real")
    return Wants(hashes[text - first], item, np.ones(len(item)))


def fit_memory(
    context: TrainingContext, wants: Wants, evidence: TrainedEvidence, vectors: dict[str, Tensor] | None
) -> tuple[Memory | None, dict[str, Any]]:
    """The memory, None where nothing is to be remembered or dev queries object, and what was found on dev."""
    memory = wants.memory(context.rows)
    metrics: dict[str, Any] = {"queries": len(memory), "used": bool(len(memory))}
    if not len(memory):
        return None, metrics
    query, judged, known = _half_known(context)
    if len(query):
        devs = {"others": context.dev(judged, known), "all": context.dev(_with_known(judged, known))}
        past = _of_known(context, judged, known).memory(context.rows)
        of_texts = None if vectors is None else vectors["held_out"][torch.from_numpy(query)]
        recalls: dict[str, dict[str, np.ndarray]] = {}
        for name, of in (("without", None), ("with", past)):
            parts = evidence_parts(evidence, judged.texts, of_texts, of)
            recalls[name] = {kind: evidence_recalls(dev, evidence.module, parts) for kind, dev in devs.items()}
        metrics["dev_queries"] = len(query)
        metrics["recall"] = {name: {k: float(r.mean()) for k, r in of.items()} for name, of in recalls.items()}
        with_it, without = ((of["others"] + of["all"]) / 2 for of in (recalls["with"], recalls["without"]))
        metrics["used"] = not worse(with_it, without)
    return (memory if metrics["used"] else None), metrics


def _half_known(context: TrainingContext) -> tuple[np.ndarray, JudgedQueries, list[np.ndarray]]:
    """(dev query int64 [n], its items to be found, its known ones): half of its items where training knows none."""
    held_out, rng = context.held_out, np.random.default_rng(context.settings.seed)
    kept: list[tuple[int, np.ndarray, np.ndarray]] = []  # query, rows of its items to be found, items known
    for query in range(len(held_out.texts)):
        own = np.arange(held_out.start[query], held_out.start[query + 1])
        known = context.known[query]
        if not len(known):
            order = rng.permutation(own)
            known, own = held_out.item[order[: len(own) // 2]], np.sort(order[len(own) // 2 :])
        if len(known) and len(own):
            kept.append((query, own, known))
    at = np.concatenate([np.empty(0, np.int64), *(own for _, own, _ in kept)])
    start = np.cumsum([0, *(len(own) for _, own, _ in kept)])
    query_of = np.array([query for query, _, _ in kept], dtype=np.int64)
    judged = JudgedQueries([held_out.texts[q] for q in query_of], start, held_out.item[at], held_out.grade[at])
    return query_of, judged, [known for _, _, known in kept]


def _with_known(judged: JudgedQueries, known: list[np.ndarray]) -> JudgedQueries:
    """Of each query the known items too, with the mean grade of the others."""
    parts = [slice(*judged.start[[q, q + 1]]) for q in range(len(judged.texts))]
    items = [np.concatenate([judged.item[own], more]) for own, more in zip(parts, known, strict=True)]
    grades = [
        np.append(judged.grade[own], np.full(len(more), judged.grade[own].mean()))
        for own, more in zip(parts, known, strict=True)
    ]
    return JudgedQueries(judged.texts, np.cumsum([0, *map(len, items)]), np.concatenate(items), np.concatenate(grades))


def _of_known(context: TrainingContext, judged: JudgedQueries, known: list[np.ndarray]) -> Wants:
    hashes, item = query_hashes(context.analyzer, judged.texts), np.concatenate(known)
    return Wants(np.repeat(hashes, [len(items) for items in known]), item, np.ones(len(item)))
