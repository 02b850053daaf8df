"""Training of the evidence: its table of words, its query adapter, its three weights.

The weights are learned on dev queries: the table and the adapter know the training queries by heart, so nothing that
reads them may be judged by these. What is learned is kept only where the dev recall of the channel, its items ordered
within their SIDs, is not below that of the untrained state.

What the decoder may add is decided afterwards, in `gates`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from genrecall import files
from genrecall.analyzer import NAME
from genrecall.decoding.adapter import QueryAdapter
from genrecall.decoding.config import EvidenceConfig, Gates
from genrecall.decoding.dense_prior import node_means
from genrecall.decoding.evidence import FLAT, Evidence
from genrecall.decoding.lexical import Lexicon, hash_query
from genrecall.decoding.memory import Memory
from genrecall.decoding.request_tokenizer import pad
from genrecall.decoding.tables import ConstraintTables
from trainer.generator.adapter import Positives, train_adapter
from trainer.generator.context import TrainingContext
from trainer.generator.dev import DevQueries
from trainer.generator.examples import JudgedQueries
from trainer.generator.lexical import Words, sid_bm25

WIDTH = 200  # SIDs that the dev recall of the evidence is taken over
BATCH = 64  # dev queries scored at once
SPREAD = 0.5  # of the weights' logarithms around their start: a few dozen dev queries move them little


@dataclass(frozen=True)
class TrainedEvidence:
    """Everything that is written beside the generator's weights.

    Attributes:
        arrays: `term`, `start`, `sid`, `impact`, `query`, `log_items`, and `vectors`, `node_vectors` of kind `encoder`.
        module: the same on the host, with its weights; lexicon: looks terms up; tables: of the SIDs, on the host.
    """

    arrays: dict[str, Tensor]
    module: Evidence
    lexicon: Lexicon
    tables: ConstraintTables
    metrics: dict[str, Any]

    def save(self, path: Path) -> None:
        adapter = {} if self.module.adapter is None else self.module.adapter.state_dict()
        tensors = {f"adapter.{name}": weight for name, weight in adapter.items()}
        tensors["weights"] = self.module.weights.detach()
        save_file({**self.arrays, **{name: t.contiguous() for name, t in tensors.items()}}, path)

    def config(self, gates: Gates) -> EvidenceConfig:
        return EvidenceConfig(NAME, self.lexicon.analyzer.language, gates)

    def terms(self, texts: list[str]) -> tuple[Tensor, np.ndarray]:
        """The terms of queries, int64 [n, T], and which are training queries, bool [n]."""
        found = [self.lexicon(text) for text in texts]
        padded, _ = pad([terms.rows for terms in found], len(self.lexicon.term), least=1)
        return torch.from_numpy(padded), np.array([terms.familiar for terms in found], dtype=bool)


def train_evidence(context: TrainingContext, vectors: dict[str, Tensor] | None, work: Path) -> TrainedEvidence:
    """Build and fit the evidence; taken from `work` where an interrupted run has made it.

    vectors: float32 [n, dim] of the texts of each pool, of kind `encoder`; None for kind `lm`.
    """
    section, examples = context.section.evidence, context.examples
    arrays = _word_arrays(context)
    done = work / "evidence.safetensors"
    adapter = None
    if vectors is not None:
        means, _ = node_means(context.space, context.rows, context.item_vectors)
        _, of_nodes, of_sids = (torch.nn.functional.normalize(torch.from_numpy(mean), dim=-1).half() for mean in means)
        arrays["vectors"] = of_sids
        if len(of_sids) > FLAT:
            arrays["node_vectors"] = of_nodes
        adapter = QueryAdapter(of_sids.shape[1], section.adapter.hidden)
    module = Evidence(arrays, adapter)
    lexicon = Lexicon.of(context.analyzer, {name: arrays[name].numpy() for name in ("term", "start", "query")})
    trained = TrainedEvidence(arrays, module, lexicon, ConstraintTables.build(context.space), {})
    if not done.exists():
        if vectors is not None and context.held_out.texts:  # without dev queries nothing shows that it helps
            module.adapter = _fit_adapter(context, vectors)
        metrics = _fit_weights(context, trained, vectors)
        metrics["terms"], metrics["postings"] = len(arrays["term"]), len(arrays["sid"])
        metrics["training_queries"] = examples.size("real")
        files.write_json(work / "evidence.json", metrics)
        with files.replacing(done) as partial:
            save_file({name: t.detach().contiguous() for name, t in module.named_parameters()}, partial)
    module.load_state_dict(load_file(done), strict=False)  # the parameters alone: the rest is made anew
    module.eval().requires_grad_(False)
    return replace(trained, metrics=json.loads((work / "evidence.json").read_text(encoding="utf-8")))


def _word_arrays(context: TrainingContext) -> dict[str, Tensor]:
    examples, rows = context.examples, context.rows
    first, end = examples.groups["real"]
    words = Words.of(context.analyzer, examples.texts[first:end])
    text, item = examples.chosen("real")
    words_of_sids = sid_bm25(
        context.item_words,
        rows,
        words,
        (text - first, rows[item]),
        context.section.evidence.query_weight,
        len(context.space),
    )
    query = np.unique(
        np.concatenate([np.empty(0, np.int64), *(hash_query(np.sort(words[n])) for n in range(end - first))])
    )
    items = np.bincount(rows, minlength=len(context.space)).astype(np.float32)
    arrays = {
        "term": words_of_sids.term,
        "start": words_of_sids.postings.start,
        "sid": words_of_sids.postings.document,
        "impact": words_of_sids.postings.impact,
        "query": query,
        "log_items": np.log(items),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _fit_adapter(context: TrainingContext, vectors: dict[str, Tensor]) -> QueryAdapter:
    """On the training queries and the synthetic ones, stopped by the dev queries; the untrained one is a candidate."""
    examples, held_out = context.examples, context.held_out
    texts = len(examples.texts)
    dev = np.repeat(np.arange(len(held_out.texts)), np.diff(held_out.start)) + texts
    return train_adapter(
        [Positives(*examples.chosen(group)) for group in ("real", "synthetic")],
        Positives(dev, held_out.item),
        context.item_vectors,
        np.concatenate([vectors["examples"].numpy(), vectors["held_out"].numpy()]),
        context.section.evidence.adapter,
        context.settings.seed,
        {texts + query: items for query, items in enumerate(context.known)},
    )


def _fit_weights(
    context: TrainingContext, trained: TrainedEvidence, vectors: dict[str, Tensor] | None
) -> dict[str, Any]:
    """Set the weights to those likeliest for the dev queries' items, near their start; the dev figures of both."""
    module, held_out = trained.module, context.held_out
    start = module.weights.detach().clone()
    if not held_out.texts:
        return {"weights": start.tolist(), "dev_queries": 0}
    parts = evidence_parts(trained, held_out.texts, None if vectors is None else vectors["held_out"])
    query, sid, share = targets(context.held_out, context.rows)
    spread = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.LBFGS([spread], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        prior = (spread / SPREAD).square().sum() / 2
        prior.backward()
        total = prior.item()
        for rows, dense, lexical in parts:  # a backward each: the graph of all would take gigabytes
            log_p = module.combine(dense, lexical, start * spread.exp())
            here = (query >= rows[0]) & (query <= rows[-1])
            part = -(log_p[query[here] - rows[0], sid[here]] * torch.from_numpy(share[here]).float()).sum()
            part.backward()
            total += part.item()
        return total

    optimizer.step(loss)
    fitted = (start * spread.detach().exp()).clone()
    recall = {}
    for name, weights in (("untrained", start), ("fitted", fitted)):
        module.weights.data.copy_(weights)
        recall[name] = float(evidence_recalls(context.dev(held_out, context.known), module, parts).mean())
    if recall["fitted"] < recall["untrained"]:
        module.weights.data.copy_(start)
    return {
        "weights": module.weights.tolist(),
        "fitted": fitted.tolist(),
        "recall": recall,
        "dev_queries": len(held_out.texts),
    }


Parts = list[tuple[np.ndarray, Tensor | None, Tensor]]
"""Batches of dev queries: their rows, the cosines [B, n] and the BM25 [B, n] of all SIDs."""


@torch.no_grad()
def evidence_parts(
    trained: TrainedEvidence, texts: list[str], vectors: Tensor | None, memory: Memory | None = None
) -> Parts:
    """Of texts and their vectors [n, dim] (kind `encoder`), as they are or with what is remembered of them."""
    module, (terms, _) = trained.module, trained.terms(texts)
    parts = []
    for at in range(0, len(texts), BATCH):
        rows = np.arange(at, min(at + BATCH, len(texts)))
        lexical, wanted, dense = module.lexical(terms[rows]), None, None
        if memory is not None:
            known = [memory.row(query) if (query := trained.lexicon(texts[n]).query) is not None else -1 for n in rows]
            gain = torch.from_numpy(memory.boost()) / module.weights[1]
            for n, row in enumerate(known):
                own = slice(*memory.start[[row, row + 1]].tolist()) if row >= 0 else slice(0)
                lexical[n, torch.from_numpy(memory.sid[own]).long()] += gain[own]
            if vectors is not None:
                wanted = torch.from_numpy(memory.wanted(known, trained.arrays["vectors"].numpy()))
        if vectors is not None:
            dense = module.dense(vectors[rows], trained.tables, wanted)
        parts.append((rows, dense, lexical))
    return parts


@torch.no_grad()
def evidence_recalls(dev: DevQueries, module: Evidence, parts: Parts) -> np.ndarray:
    """float [n]: the recall of each dev query, of the channel by the evidence alone."""
    tops = [
        module.combine(dense, lexical, module.weights).topk(min(WIDTH, lexical.shape[1])) for _, dense, lexical in parts
    ]
    sid, scores = (torch.cat([getattr(top, name) for top in tops]).numpy() for name in ("indices", "values"))
    return dev.recalls(sid, scores, np.ones(sid.shape, dtype=bool), np.arange(len(sid)))


def targets(judged: JudgedQueries, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The query and the SID of every judged item, int64 [w] each, and the item's share of its query's grades."""
    query = np.repeat(np.arange(len(judged.texts)), np.diff(judged.start))
    total = np.bincount(query, judged.grade, len(judged.texts))
    return query, rows[judged.item], judged.grade / total[query]
