"""What a generator is trained on and with: tables and settings as they come in, and arrays as the stages read them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from genrecall.analyzer import Analyzer, language_of
from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import GeneratorSection
from genrecall.decoding.config import space_fingerprint
from genrecall.decoding.lexical import hash_terms
from genrecall.decoding.user import UserConfig
from genrecall.devices import find_device
from genrecall.errors import UserError
from genrecall.sid import SidSpace
from trainer.generator.dev import DevQueries
from trainer.generator.examples import Examples, JudgedQueries, examples_of, judged_items, shares_of
from trainer.generator.lexical import Bm25, Words
from trainer.generator.requests import Requests, profiles_of

Pool = tuple[str, list[str]]  # name and texts of a set of texts that a stage draws from


@dataclass(frozen=True)
class TrainingData:
    """The tables that a generator learns from.

    Attributes:
        space: the SIDs; codes: int32 [n, 3], the SID of each row of `items` (ITEMS).
        item_vectors: float32 [n, dim], unit norm.
        queries: QUERIES, the texts of `train` and `dev`.
        train: JUDGMENTS to learn from; dev: JUDGMENTS that early stopping evaluates on. Both may be empty.
        requests: REQUESTS to learn from and to hold out, for stages 3 and 4; None where there are no logs.
        from_logs: whether `train` is what was clicked and bought in the requests.
    """

    space: SidSpace
    codes: np.ndarray
    items: pa.Table
    item_vectors: np.ndarray
    queries: pa.Table
    train: pa.Table
    dev: pa.Table
    requests: tuple[pa.Table, pa.Table] | None = None
    from_logs: bool = False


@dataclass(frozen=True)
class TrainingSettings:
    """How it is trained.

    Attributes:
        cache_dir: of the text vectors.
        device: as `run.device`.
        tensorboard: the folder that curves are logged to as well; None: nowhere.
    """

    generator: GeneratorSection
    encoder: EncoderSection
    seed: int
    cache_dir: Path
    progress: bool = True
    tensorboard: Path | None = None
    device: str = "auto"


@dataclass(frozen=True)
class TrainingContext:
    """What every stage needs, the same for both kinds.

    Attributes:
        rows: int64 [items], the row in `space.sids` of each item's SID; item_vectors: float32 [items, dim].
        held_out: dev queries; empty where there are none. known: int64 items, of each, that training has for the same
            text: they are taken out of its list before it is measured.
        requests, held_out_requests: logged ones to learn from and to evaluate on, each with a click or purchase; None
            where there are no logs.
        profiles: the values of users' fields that occur.
    """

    settings: TrainingSettings
    space: SidSpace
    rows: np.ndarray
    item_vectors: np.ndarray
    examples: Examples
    held_out: JudgedQueries
    known: list[np.ndarray]
    requests: Requests | None = None
    held_out_requests: Requests | None = None
    profiles: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: TrainingData, settings: TrainingSettings) -> TrainingContext:
        """Raises UserError for tables that do not fit together."""
        rows, items, section = data.space.index_of(data.codes), data.items, settings.generator
        if len(data.codes) != items.num_rows or len(data.item_vectors) != items.num_rows:
            raise UserError(
                f"{items.num_rows} items, but {len(data.codes)} codes and {len(data.item_vectors)} vectors: one each "
                "is needed"
            )
        if (rows < 0).any():
            raise UserError(
                f"{int((rows < 0).sum())} items have a SID outside the space: build the space from the same codes"
            )
        requests: Requests | None = None
        held_out: Requests | None = None
        profiles: tuple[str, ...] = ()
        if data.requests is not None and (section.user.stage.steps or section.alignment.steps):
            profiles = profiles_of(data.requests[0])
            logged, dev = (Requests.of(table, items, rows, profiles) for table in data.requests)
            rng = np.random.default_rng(settings.seed)
            sample = rng.permutation(np.flatnonzero(dev.positives))[: section.dev.max_queries]
            requests, held_out = logged if logged.positives.any() else None, dev.take(np.sort(sample))
        examples = examples_of(items, rows, data.train, data.queries, section.sampling, settings.seed)
        judged = judged_items(data.dev, items, data.queries, section.dev.max_queries)
        return cls(
            settings=settings,
            space=data.space,
            rows=rows,
            item_vectors=data.item_vectors,
            examples=examples,
            held_out=judged,
            known=[
                np.setdiff1d(examples.items_of(text), judged.items_of(query)) for query, text in enumerate(judged.texts)
            ],
            requests=requests,
            held_out_requests=held_out,
            profiles=profiles,
        )

    @property
    def section(self) -> GeneratorSection:
        return self.settings.generator

    @property
    def user(self) -> UserConfig | None:
        """What the generator will read of users; None where there is no stage 3."""
        section = self.section.user
        if not section.stage.steps or self.requests is None:
            return None
        return UserConfig(self.profiles, section.recent, section.related)

    def keys(self, *settings: object) -> Iterator[str]:
        """16 hex digits a stage, from what each stage adds to the settings that the result depends on.

        The key of a stage covers all stages before it, and a change of the last stage leaves theirs as they are.
        """
        s = self.section
        digest = hashlib.sha256(
            f"{s.kind} {s.decoder!r} {s.sampling!r} {s.evidence!r} {s.dev!r} "
            f"{self.settings.encoder!r} {self.settings.seed} "
            f"{space_fingerprint(self.space)} {self.user is not None} {self.profiles}".encode()
        )
        for texts in (self.examples.texts, self.held_out.texts):
            digest.update("\n".join(texts).encode("utf-8", "surrogatepass"))
        e, h = self.examples, self.held_out
        arrays = [self.rows, self.item_vectors, e.start, e.item, e.weight, h.start, h.item, h.grade]
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
        """Every set of texts that some stage draws from, by name."""
        pools: list[Pool] = [("examples", self.examples.texts), ("held_out", self.held_out.texts)]
        if self.requests is not None:
            pools.append(("requests", self.requests.texts))
        if self.held_out_requests is not None:
            pools.append(("held_out_requests", self.held_out_requests.texts))
        return pools

    def dev(self, judged: JudgedQueries, known: list[np.ndarray] | None = None) -> DevQueries:
        """known: items to be taken out of the list of each query."""
        return DevQueries(judged, self.rows, len(self.space), self.section.dev, self.item_scores, known)

    @cached_property
    def analyzer(self) -> Analyzer:
        language = self.section.evidence.language
        return Analyzer(language_of(self._titles) if language == "auto" else language)

    @cached_property
    def item_words(self) -> Words:
        return Words.of(self.analyzer, self._titles)

    @property
    def _titles(self) -> list[str]:
        """One of each item."""
        return self.examples.texts[self.examples.groups["title"][0] :]

    @cached_property
    def item_bm25(self) -> Bm25:
        item, term = self.item_words.take(np.arange(len(self.rows)))
        return Bm25.of(term, item, np.ones(len(term)), len(self.rows))

    def item_scores(self, text: str) -> np.ndarray:
        """float32 [items]: BM25 of a query, which orders the items of a SID."""
        return self.item_bm25.scores(hash_terms(self.analyzer(text)), len(self.rows))

    def summary(self) -> dict[str, Any]:
        """What it is trained on, for the metrics: `queries` is "synthetic" for a shop without judgments."""
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


def training_device(settings: TrainingSettings) -> torch.device:
    """Where Trainer will put the model: of several CUDA devices, the one that is current from now on."""
    device = find_device(settings.device, "run.device")
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    return device
