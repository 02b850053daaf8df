"""How good a generator is on held-out queries, by the search that will serve it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from transformers import Qwen2Model

from genrecall.config.generator import DevSection
from genrecall.decoding.decoder import Decoder, DecoderConfig
from genrecall.decoding.search import Prefix, beam_search
from genrecall.expansion import SidItems
from trainer.generator.examples import JudgedQueries
from trainer.generator.policy import Policy

BATCH = 32


def graded_recall(ranked: np.ndarray, relevant: np.ndarray, grades: np.ndarray) -> float:
    """The share of a query's grades that the ranked items have: recall, where a half relevant item counts half.

    Args:
        ranked: int [m] item rows; relevant: int [w] item rows and grades: float [w] > 0, not empty.
    """
    return float(grades[np.isin(relevant, ranked)].sum() / grades.sum())


class DevQueries:
    """Held-out queries with their relevant items.

    Args:
        judged: the queries and the relevant items of each.
        rows: int64 [items], the SidSpace row of each item; sids: how many SIDs there are.
        section: width of the beam, how many items the recall is taken over, and how they are ordered within a SID.
        item_scores: of a query, float [items]; orders the items within their SIDs.
        known: int64 items that are taken out of the list of each query; None: none.
    """

    def __init__(
        self,
        judged: JudgedQueries,
        rows: np.ndarray,
        sids: int,
        section: DevSection,
        item_scores: Callable[[str], np.ndarray],
        known: list[np.ndarray] | None = None,
    ) -> None:
        self.judged = judged
        self.items = SidItems.of(rows, sids)
        self.sids = sids
        self.section = section
        self.item_scores = item_scores
        self.known = known

    def recalls(self, sid: np.ndarray, scores: np.ndarray, valid: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """float [n]: graded recall of some queries, int64 [n]; sid int64, scores float32 and valid bool [n, W]."""
        return np.array(
            [self._recall(q, sid[n, valid[n]], scores[n, valid[n]]) for n, q in enumerate(queries.tolist())]
        )

    def _recall(self, query: int, sid: np.ndarray, scores: np.ndarray) -> float:
        own = slice(self.judged.start[query], self.judged.start[query + 1])
        known = np.empty(0, dtype=np.int64) if self.known is None else self.known[query]
        of_items = self.item_scores(self.judged.texts[query])
        weight, limit = self.section.order_within, self.section.items
        ranked, _ = self.items.rank(sid, scores, limit + len(known), lambda items: weight * of_items[items])
        ranked = ranked[~np.isin(ranked, known)][:limit] if len(known) else ranked
        return graded_recall(ranked, self.judged.item[own], self.judged.grade[own])

    @torch.no_grad()
    def evaluate(self, policy: Policy, prefix: Callable[[np.ndarray], Prefix]) -> dict[str, float]:
        """{"recall"} of the weights as they are; `prefix` makes that of the queries of given rows (int64)."""
        queries = np.arange(len(self.judged.texts))
        return {"recall": float(self.search(policy, prefix, queries, self.section.beam_width).mean())}

    @torch.no_grad()
    def search(
        self, policy: Policy, prefix: Callable[[np.ndarray], Prefix], queries: np.ndarray, width: int
    ) -> np.ndarray:
        """float [n]: the recall of some queries, int64 [n], by a beam of that width."""
        decoder, parts = lean_copy(policy.backbone), []
        for at in range(0, len(queries), BATCH):
            rows = queries[at : at + BATCH]
            beams = beam_search(decoder, policy.heads, policy.tables, prefix(rows), min(width, self.sids))
            sid, scores, valid = (t.cpu().numpy() for t in (beams.sid, beams.scores, beams.valid))
            parts.append(self.recalls(sid, scores, valid, rows))
        return np.concatenate(parts)


def lean_copy(backbone: Qwen2Model) -> Decoder:
    """The decoder that serves, on the weights (not copies) of the model that trains."""
    with torch.device("meta"):
        decoder = Decoder(DecoderConfig.read(backbone.config.to_dict()))
    decoder.load_state_dict(backbone.state_dict(), assign=True)
    return decoder.eval()
