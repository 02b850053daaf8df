"""How an engine's work goes through the scheduler: a search in batches with others, the SIDs to score in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from genrecall.decoding.request_tokenizer import TokenizedPrompt
from inference_server.batching.scheduler import Job
from inference_server.engines import Engine

ORDINARY = 50
"""Rows that the decoder computes for a job of cost 1: the beams of a search, or the SIDs to score."""


class Found(NamedTuple):
    """The SIDs of one prompt: codes int32 [n, 3], scores float32 [n], descending."""

    codes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class SearchLane:
    """Searches of one width, whoever asks: they share batches. Payloads are prompts."""

    name: ClassVar[str] = "search"
    engine: Engine
    width: int

    def jobs(self, prompts: Sequence[TokenizedPrompt]) -> list[Job]:
        cost = _cost(self.width)
        return [Job(prompt, self.engine.length(prompt), cost) for prompt in prompts]

    def run(self, payloads: list[TokenizedPrompt]) -> list[Found]:
        found = self.engine.search(payloads, self.width)
        counts = found.valid.sum(axis=1)
        return [Found(found.codes[row, :n], found.scores[row, :n]) for row, n in enumerate(counts)]


@dataclass(frozen=True)
class ScoreLane:
    """Scoring, prompt by prompt. Payloads are (prompt, codes int [n, 3])."""

    name: ClassVar[str] = "score"
    engine: Engine

    def jobs(self, prompt: TokenizedPrompt, codes: np.ndarray, most: int) -> list[Job]:
        """`codes` in pieces of `most`, so that searches come in between.

        The SIDs count into the length, as rows that are computed like tokens: `max_batch_tokens` then bounds a batch.
        """
        length = self.engine.length(prompt)
        pieces = [codes[at : at + most] for at in range(0, len(codes), most)]
        return [Job((prompt, piece), length + len(piece), _cost(len(piece))) for piece in pieces]

    def run(self, payloads: list[tuple[TokenizedPrompt, np.ndarray]]) -> list[np.ndarray]:
        """One float32 [n] a payload."""
        return [self.engine.score(prompt, codes) for prompt, codes in payloads]


def _cost(rows: int) -> float:
    return max(1.0, rows / ORDINARY)
