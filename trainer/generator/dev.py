"""How good a generator is on held-out queries, by the search that will serve it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

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
        section: width of the beam, and how many items the recall is taken over.
    """

    def __init__(self, judged: JudgedQueries, rows: np.ndarray, sids: int, section: DevSection) -> None:
        self.judged = judged
        self.items = SidItems.of(rows, sids)
        self.width = min(section.beam_width, sids)
        self.limit = section.items

    def recall(self, sid: np.ndarray, scores: np.ndarray, valid: np.ndarray) -> float:
        """Mean graded recall of items; sid int64, scores float32 and valid bool [queries, W]."""
        each = []
        for row, (first, end) in enumerate(pairwise(self.judged.start)):
            keep = valid[row]
            ranked, _ = self.items.rank(sid[row, keep], scores[row, keep], self.limit)
            each.append(graded_recall(ranked, self.judged.item[first:end], self.judged.grade[first:end]))
        return float(np.mean(each))

    @torch.no_grad()
    def evaluate(self, policy: Policy, prefix: Callable[[np.ndarray], Prefix]) -> dict[str, float]:
        """{"recall"} of the weights as they are; `prefix` makes that of the queries of given rows (int64)."""
        decoder = lean_copy(policy.backbone)
        parts = []
        for at in range(0, len(self.judged.texts), BATCH):
            rows = np.arange(at, min(at + BATCH, len(self.judged.texts)))
            parts.append(beam_search(decoder, policy.heads, policy.tables, prefix(rows), self.width))
        sid, scores, valid = (
            torch.cat([getattr(p, name) for p in parts]).cpu().numpy() for name in ("sid", "scores", "valid")
        )
        return {"recall": self.recall(sid, scores, valid)}


def lean_copy(backbone: Qwen2Model) -> Decoder:
    """The decoder that serves, on the weights (not copies) of the model that trains."""
    with torch.device("meta"):
        decoder = Decoder(DecoderConfig.read(backbone.config.to_dict()))
    decoder.load_state_dict(backbone.state_dict(), assign=True)
    return decoder.eval()
