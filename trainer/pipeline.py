"""From a catalogue to a bundle: the method on one page.

    items, queries, judgments, logs -> embed -> codes (CQ-SID, or a simpler quantizer) -> generator -> bundle

Each quantizer named in the configuration is carried through to a generator; the pair that ranks best on the dev queries
is published. Every step leaves its result in the run's folder under a key made of all that it depends on, so an
interrupted or repeated run resumes from the results that are there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from genrecall import bundle, files
from genrecall.bundle import Bundle
from genrecall.config import Config
from genrecall.config.quantizer import QuantizerKind
from genrecall.decoding import Generator
from genrecall.devices import find_device
from genrecall.embeddings import embed, load_encoder
from genrecall.errors import UserError
from genrecall.item_text import item_text
from genrecall.records import Dataset, Split
from genrecall.reports import codes_report, model_card
from trainer import fingerprint, work
from trainer.behaviour import Behaviour, behaviour_of
from trainer.generator import TrainingData, TrainingSettings, train_generator
from trainer.quantizer import Fitted, QueryItemPairs, fit

TIES = ("R@50", "R@10", "nDCG@10")
"""Dev figures that decide, one after another, between candidates that tie."""

Score = Callable[[Generator, list[str], np.ndarray], dict[str, float]]
"""(generator, item ids, codes int32 [n, 3]) -> figures on the dev queries, among them `quantizer.select_by`."""


@dataclass(frozen=True)
class TrainingRun:
    """What every step reads, and the folder that it leaves its result in."""

    config: Config
    dataset: Dataset
    split: Split
    behaviour: Behaviour
    folder: Path
    progress: bool = True

    @cached_property
    def vectors(self) -> np.ndarray:
        """float32 [items, dim], unit norm."""
        return self.embed(item_text(self.dataset.items), "item", self.progress)

    @cached_property
    def pairs(self) -> QueryItemPairs | None:
        """What the query-item contrast learns from: the training queries and their relevant items; None without any."""
        judgments, queries = self.behaviour.pairs, self.behaviour.queries
        if not judgments.num_rows:
            return None
        text_of = dict(zip(*(queries[name].to_pylist() for name in ("query_id", "text")), strict=True))
        row_of = {item: row for row, item in enumerate(self.dataset.items["item_id"].to_pylist())}
        query_ids, query_idx = np.unique(np.array(judgments["query_id"].to_pylist()), return_inverse=True)
        return QueryItemPairs(
            query_vectors=self.embed([text_of[query] for query in query_ids], "query", progress=False),
            query_idx=query_idx.astype(np.int64),
            item_idx=np.array([row_of[item] for item in judgments["item_id"].to_pylist()], np.int64),
            weight=judgments["grade"].to_numpy().astype(np.float32),
        )

    def embed(self, texts: list[str], kind: Literal["query", "item"], progress: bool) -> np.ndarray:
        return embed(texts, kind, self.config.encoder, self.config.run.cache_dir, progress, self.config.run.device)


def train(
    config: Config,
    dataset: Dataset,
    split: Split,
    codebook: str,
    score: Score,
    progress: bool = True,
    behaviour: Behaviour | None = None,
) -> Bundle:
    """Train on `split.train`, choose on `split.dev`, publish the winner as `codebook` ("auto": the next free `v<n>`).

    A bundle that was made of the same data, configuration and split is returned as it is.

    behaviour: of the three, from a caller that has read it already.
    """
    if config.run.tensorboard and not find_spec("tensorboard"):
        raise UserError("run.tensorboard is true, but TensorBoard is missing: pip install 'genrecall[tensorboard]'")
    behaviour = behaviour or behaviour_of(config, dataset, split, progress)
    key = fingerprint.of(config, dataset, split, behaviour.key)
    if published := work.find_published(config.run.bundles_dir, codebook, key):
        return published
    folder = config.run.dir / "train" / f"{split.name}-{key[:12]}"
    run = TrainingRun(config, dataset, split, behaviour, folder, progress)
    write_inputs(run)

    candidates: dict[QuantizerKind, dict[str, Any]] = {}
    # without dev queries there is nothing to choose by: the first candidate is published
    for kind in config.quantizer.candidates[: None if split.dev.num_rows else 1]:
        fitted = quantize(run, kind)
        learned = generate(run, fitted)
        candidates[kind] = {"codes": fitted.report, "generator": learned, "dev": evaluate_dev(run, fitted, score)}
    chosen, reason = choose(candidates, config.quantizer.select_by)
    return publish(run, codebook, key, chosen, reason, candidates)


def write_inputs(run: TrainingRun) -> None:
    """The resolved configuration and what the data holds, beside the results: what a report begins with."""
    config, dataset, split, behaviour = run.config, run.dataset, run.split, run.behaviour
    files.write_text(
        run.folder / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )
    parts = {"train": behaviour.train, "dev": split.dev, "test": split.test}
    facts = {
        "name": dataset.name,
        "simulated": dataset.simulated,
        "items": dataset.items.num_rows,
        "queries": dataset.queries.num_rows,
        "judgments": dataset.judgments.num_rows,
        "split": split.name,
        "parts": {
            name: {"queries": len(part["query_id"].unique()), "judgments": part.num_rows}
            for name, part in parts.items()
        },
        "logs": behaviour.report,
        "fingerprints": dataset.fingerprints,
    }
    files.write_json(run.folder / "data.json", facts)


def quantize(run: TrainingRun, kind: QuantizerKind) -> Fitted:
    """Items -> codes, with the report of how well the codes are used."""
    done = run.folder / kind / bundle.QUANTIZER
    if not done.exists():
        categories, config = run.dataset.items["category"].to_pylist(), run.config
        given = run.vectors, categories, run.pairs, config.quantizer, config.run.seed, run.progress
        fitted = fit(kind, *given, device=config.run.device)
        codes_report(fitted.report).write(run.folder / kind / "codes")
        fitted.save(done)
    return Fitted.load(done)


def generate(run: TrainingRun, fitted: Fitted) -> dict[str, Any]:
    """Queries -> SIDs: train the generator of these codes; its metrics."""
    folder, config, requests = run.folder / fitted.kind, run.config, run.behaviour.requests
    done = folder / "generator.json"
    if not done.exists():
        data = TrainingData(
            space=fitted.space,
            codes=fitted.codes,
            items=run.dataset.items,
            item_vectors=run.vectors,
            queries=run.behaviour.queries,
            train=run.behaviour.train,
            dev=run.split.dev,
            requests=(requests.train, requests.dev) if requests else None,
            from_logs=run.behaviour.from_logs,
        )
        settings = TrainingSettings(
            generator=config.generator,
            encoder=config.encoder,
            seed=config.run.seed,
            cache_dir=config.run.cache_dir,
            progress=run.progress,
            device=config.run.device,
            tensorboard=folder / "tensorboard" if config.run.tensorboard else None,
        )
        files.write_json(done, train_generator(data, settings, folder / bundle.GENERATOR, folder / "checkpoints"))
    return json.loads(done.read_text(encoding="utf-8"))


def evaluate_dev(run: TrainingRun, fitted: Fitted, score: Score) -> dict[str, float]:
    """The dev figures of one candidate; empty where there are no dev queries."""
    if not run.split.dev.num_rows:
        return {}
    done = run.folder / fitted.kind / "dev.json"
    if not done.exists():
        device = find_device(run.config.run.device, "run.device")
        generator = Generator.load(run.folder / fitted.kind / bundle.GENERATOR, fitted.space, device)
        files.write_json(done, score(generator, run.dataset.items["item_id"].to_pylist(), fitted.codes))
    return json.loads(done.read_text(encoding="utf-8"))


def choose(candidates: dict[QuantizerKind, dict[str, Any]], select_by: str) -> tuple[QuantizerKind, str]:
    """The kind with the best dev figure, and why in words: the next of TIES decides where figures are equal.

    The first one named where there is nothing to choose by.
    """
    left = list(candidates)
    if len(left) == 1:
        return left[0], "the only candidate" if candidates[left[0]]["dev"] else "no dev queries to choose by"
    equal: list[str] = []
    for name in dict.fromkeys((select_by, *TIES)):
        values = {kind: round(candidates[kind]["dev"].get(name, 0.0), 4) for kind in left}
        best = max(values.values())
        if others := sorted({value for value in values.values() if value < best}, reverse=True):
            left = [kind for kind in left if values[kind] == best]
            if len(left) == 1:
                tied = f"{' and '.join(equal)} equal, " if equal else ""
                return left[0], f"{tied}{name} {best:.4f} over {others[0]:.4f}"
        equal.append(name)
    return left[0], f"equal in {', '.join(equal)}: the first named"


def publish(
    run: TrainingRun,
    codebook: str,
    key: str,
    chosen: QuantizerKind,
    reason: str,
    candidates: dict[QuantizerKind, dict[str, Any]],
) -> Bundle:
    """Move the winner into a bundle: codes, quantizer, generator, sentence encoder, model card."""
    config, dataset, folder = run.config, run.dataset, run.folder / chosen
    fitted = Fitted.load(folder / bundle.QUANTIZER)
    metrics = {
        "quantizer": chosen,
        "chosen_for": reason,
        "candidates": candidates,
        "split": run.split.name,
        "simulated": dataset.simulated,
        "logs": run.behaviour.report,
    }
    name = work.next_codebook(config.run.bundles_dir) if codebook == "auto" else codebook

    def write(target: Path) -> None:
        shutil.copytree(folder / bundle.GENERATOR, target / bundle.GENERATOR, copy_function=work.link)
        shutil.copy2(folder / bundle.QUANTIZER, target)
        if config.generator.kind == "lm":  # the other kind keeps it inside the generator, which reads with it
            load_encoder(config.encoder).save(target / bundle.ENCODER)
        model_card(name, config.generator.kind, dataset, metrics).write(target)

    contents = bundle.Contents(
        dataset.items["item_id"].to_pylist(),
        fitted.codes,
        fitted.level_sizes,
        kind=config.generator.kind,
        config=config.model_dump(mode="json"),
        fingerprints={**dataset.fingerprints, "training": key},
        metrics=metrics,
    )
    published = bundle.publish(config.run.bundles_dir, name, contents, write, make_current=codebook == "auto")
    work.prune(run.folder, [*candidates], chosen)
    return published
