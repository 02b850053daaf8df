"""What the two kinds of generator are given to train on, the same for both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import GeneratorSection, StageSection
from genrecall.decoding.layout import space_fingerprint
from genrecall.sid import SidSpace
from trainer.generator.dev import DevQueries
from trainer.generator.examples import Examples, Judged, draw, shares_of


@dataclass(frozen=True)
class Job:
    """A training to be done.

    Attributes:
        rows: int64 [items], the row in `space.sids` of each item's SID; item_vectors: float32 [items, dim].
        held_out: dev queries; empty where there are none.
    """

    section: GeneratorSection
    encoder: EncoderSection
    space: SidSpace
    rows: np.ndarray
    item_vectors: np.ndarray
    examples: Examples
    held_out: Judged
    seed: int
    cache_dir: Path
    progress: bool

    def key(self) -> str:
        """16 hex digits that change with whatever the result depends on."""
        digest = hashlib.sha256(
            f"{self.section!r} {self.encoder!r} {self.seed} {space_fingerprint(self.space)}".encode()
        )
        for texts in (self.examples.texts, self.held_out.texts):
            digest.update("\\n".join(texts).encode("utf-8", "surrogatepass"))
        e, h = self.examples, self.held_out
        for array in (self.rows, self.item_vectors, e.start, e.sid, e.weight, h.start, h.item, h.grade):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def drawer(self, stage: StageSection, shares: dict[str, float]) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
        """step -> (text int64 [n], sid int64 [n])."""

        def of(step: int) -> tuple[np.ndarray, np.ndarray]:
            rng = np.random.default_rng((self.seed, step))
            return draw(self.examples, shares, stage.batch, self.section.sampling.targets, rng)

        return of

    def query_shares(self) -> dict[str, float]:
        return shares_of(self.examples, self.section.sampling)

    def dev(self) -> DevQueries | None:
        if not self.held_out.texts:
            return None
        return DevQueries(self.held_out, self.rows, len(self.space), self.section.dev)

    def describe(self) -> dict[str, Any]:
        """What it is trained on, for the metrics."""
        return {
            "kind": self.section.kind,
            "queries": "real" if self.examples.size("real") else "synthetic",
            "texts": {group: self.examples.size(group) for group in self.examples.groups},
            "shares": self.query_shares(),
            "dev_queries": len(self.held_out.texts),
        }


def training_device() -> torch.device:
    """Where Trainer will put the model."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
