"""How requests become work items of an engine: searches batch together, the SIDs to score come in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from genrecall.decoding.request_tokenizer import TokenizedPrompt
from inference_server.batching.scheduler import WorkItem
from inference_server.engines import Engine

ROWS_PER_UNIT_COST = 50
"""Rows that the decoder computes for a work item of cost 1: the beams of a search, or the SIDs to score."""


class SearchResult(NamedTuple):
    """The SIDs of one prompt: codes int32 [n, 3], scores float32 [n], descending."""

    codes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class SearchWorkload:
    """Beam searches of one width on one engine share batches. Payloads are prompts.

    Beside its prompt a search computes two rows a beam: the first two codes are read, the third follows.
    """

    name: ClassVar[str] = "search"
    engine: Engine
    width: int

    def work_items(self, prompts: Sequence[TokenizedPrompt]) -> list[WorkItem]:
        one = self.work_item()
        return [replace(one, payload=prompt, length=self.engine.length(prompt)) for prompt in prompts]

    def work_item(self) -> WorkItem:
        """Any, before there is a prompt."""
        return WorkItem(None, 0, _cost(self.width), 2 * self.width)

    def run(self, payloads: list[TokenizedPrompt]) -> list[SearchResult]:
        generated = self.engine.search(payloads, self.width)
        counts = generated.valid.sum(axis=1)
        return [SearchResult(generated.codes[row, :n], generated.scores[row, :n]) for row, n in enumerate(counts)]


@dataclass(frozen=True)
class ScoreWorkload:
    """Scoring, prompt by prompt. Payloads are (prompt, codes int [n, 3])."""

    name: ClassVar[str] = "score"
    engine: Engine

    def work_items(self, prompt: TokenizedPrompt, codes: np.ndarray, chunk: int) -> list[WorkItem]:
        """`codes` in chunks of at most `chunk` SIDs, so that searches run in between.

        The SIDs count into the length, as rows that are computed like tokens: `max_batch_tokens` then bounds a batch.
        """
        length = self.engine.length(prompt)
        chunks = [codes[at : at + chunk] for at in range(0, len(codes), chunk)]
        return [WorkItem((prompt, part), length + len(part), _cost(len(part))) for part in chunks]

    def run(self, payloads: list[tuple[TokenizedPrompt, np.ndarray]]) -> list[np.ndarray]:
        """One float32 [n] per payload."""
        return [self.engine.score(prompt, codes) for prompt, codes in payloads]


def _cost(rows: int) -> float:
    return max(1.0, rows / ROWS_PER_UNIT_COST)
