"""What the two kinds of generator are given to train on, the same for both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import GeneratorSection
from genrecall.decoding.config import space_fingerprint
from genrecall.decoding.user import UserConfig
from genrecall.sid import SidSpace
from trainer.generator.dev import DevQueries
from trainer.generator.examples import Examples, Judged, shares_of
from trainer.generator.requests import Requests

Pool = tuple[str, list[str]]  # name and texts of a set of texts that a stage draws from


@dataclass(frozen=True)
class Job:
    """A training to be done.

    Attributes:
        rows: int64 [items], the row in `space.sids` of each item's SID; item_vectors: float32 [items, dim].
        held_out: dev queries; empty where there are none.
        requests, held_out_requests: logged ones to learn from and to judge by, each with a click or purchase; None
            where there are no logs.
        profiles: the values of users' fields that occur.
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
    requests: Requests | None = None
    held_out_requests: Requests | None = None
    profiles: tuple[str, ...] = ()

    @property
    def user(self) -> UserConfig | None:
        """What the generator will know of users; None where there is no stage 3."""
        section = self.section.user
        if not section.stage.steps or self.requests is None:
            return None
        return UserConfig(self.profiles, section.recent, section.related)

    def keys(self, *settings: object) -> Iterator[str]:
        """16 hex digits a stage, given what each adds to what the result depends on: a stage's key covers all before.

        A change of the last stage therefore leaves the work of the ones before it in place.
        """
        s = self.section
        digest = hashlib.sha256(
            f"{s.kind} {s.decoder!r} {s.sampling!r} {s.dev!r} {self.encoder!r} {self.seed} "
            f"{space_fingerprint(self.space)} {self.user is not None} {self.profiles}".encode()
        )
        for texts in (self.examples.texts, self.held_out.texts):
            digest.update("\n".join(texts).encode("utf-8", "surrogatepass"))
        e, h = self.examples, self.held_out
        arrays = [self.rows, self.item_vectors, e.start, e.sid, e.weight, h.start, h.item, h.grade]
        for requests in (self.requests, self.held_out_requests):
            if requests is not None:
                digest.update("\n".join(requests.texts).encode("utf-8", "surrogatepass"))
                arrays += [requests.text, requests.profile, requests.recent]
                arrays += [requests.start, requests.item, requests.outcome]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        for setting in settings:
            digest.update(repr(setting).encode())
            yield digest.hexdigest()[:16]

    def query_shares(self) -> dict[str, float]:
        return shares_of(self.examples, self.section.sampling)

    def pools(self) -> list[Pool]:
        """Every set of texts that some stage asks for, by name."""
        named = {"requests": self.requests, "held_out_requests": self.held_out_requests}
        found: list[Pool] = [("examples", self.examples.texts), ("held_out", self.held_out.texts)]
        return found + [(name, of.texts) for name, of in named.items() if of is not None]

    def dev(self, judged: Judged) -> DevQueries:
        return DevQueries(judged, self.rows, len(self.space), self.section.dev)

    def describe(self) -> dict[str, Any]:
        """What it is trained on, for the metrics."""
        return {
            "kind": self.section.kind,
            "queries": "real" if self.examples.size("real") else "synthetic",
            "texts": {group: self.examples.size(group) for group in self.examples.groups},
            "shares": self.query_shares(),
            "dev_queries": len(self.held_out.texts),
            "requests": len(self.requests) if self.requests is not None else 0,
            "dev_requests": len(self.held_out_requests) if self.held_out_requests is not None else 0,
            "profiles": list(self.profiles),
        }


def training_device() -> torch.device:
    """Where Trainer will put the model."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
