"""From a catalogue to a bundle: the method on one page.

    items, queries, judgments, logs -> embed -> codes (CQ-SID, or a simpler quantizer) -> generator -> bundle

Each quantizer named in the configuration is carried through to a generator; the pair that ranks best on the dev queries
is published. Every step leaves its result in the run's folder under a key made of all that it depends on, so a run that
was interrupted, or is asked for again, goes on from what is there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from genrecall import bundle
from genrecall.bundle import Bundle
from genrecall.config import Config
from genrecall.config.quantizer import QuantizerKind
from genrecall.decoding import Generator
from genrecall.embeddings import embed, load_encoder
from genrecall.item_text import item_text
from genrecall.records import Dataset, Split
from genrecall.reports import codes_report, model_card
from genrecall.sid import SidSpace
from trainer import fingerprint, work
from trainer.behaviour import Behaviour, behaviour_of
from trainer.generator import train_generator
from trainer.quantizer import Fitted, Pairs, fit

Score = Callable[[Generator, list[str], np.ndarray], dict[str, float]]
"""(generator, item ids, codes int32 [n, 3]) -> figures on the dev queries, among them `quantizer.select_by`."""


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
    behaviour = behaviour or behaviour_of(config, dataset, split, progress)
    key = fingerprint.of(config, dataset, split, behaviour.key)
    if published := work.find_published(config.run.bundles_dir, codebook, key):
        return published
    folder = work.folder(config.run.dir / "train", f"{split.name}-{key[:12]}")
    write_inputs(config, dataset, split, behaviour, folder)

    vectors = embed(item_text(dataset.items), config.encoder, config.run.cache_dir, progress)
    pairs = query_item_pairs(config, dataset, behaviour)
    candidates: dict[QuantizerKind, dict[str, Any]] = {}
    # without dev queries there is nothing to choose by: the first named is the one
    for kind in config.quantizer.candidates[: None if split.dev.num_rows else 1]:
        fitted = quantize(kind, config, dataset, vectors, pairs, folder / kind, progress)
        learned = generate(config, dataset, split, behaviour, vectors, fitted, folder / kind, progress)
        candidates[kind] = {
            "codes": fitted.report,
            "generator": learned,
            "dev": measure(score, dataset, fitted, folder / kind, split),
        }
    chosen = choose(candidates, config.quantizer.select_by)
    return publish(config, dataset, split, behaviour, codebook, key, chosen, candidates, folder / chosen)


def write_inputs(config: Config, dataset: Dataset, split: Split, behaviour: Behaviour, folder: Path) -> None:
    """The resolved configuration and what the data holds, beside the results: what a report begins with."""
    (folder / "config.yaml").write_text(
        yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True), encoding="utf-8"
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
    work.write_json(folder / "data.json", facts)


def query_item_pairs(config: Config, dataset: Dataset, behaviour: Behaviour) -> Pairs | None:
    """What the query-item contrast learns from: the vectors of the training queries and their relevant items.

    None where there is nothing to learn from.
    """
    wanted = behaviour.pairs
    if not wanted.num_rows:
        return None
    text_of = dict(zip(*(behaviour.queries[name].to_pylist() for name in ("query_id", "text")), strict=True))
    row_of = {item: row for row, item in enumerate(dataset.items["item_id"].to_pylist())}
    queries, query_idx = np.unique(np.array(wanted["query_id"].to_pylist()), return_inverse=True)
    return Pairs(
        query_vectors=embed(
            [text_of[query] for query in queries], config.encoder, config.run.cache_dir, progress=False
        ),
        query_idx=query_idx.astype(np.int64),
        item_idx=np.array([row_of[item] for item in wanted["item_id"].to_pylist()], np.int64),
        weight=wanted["grade"].to_numpy().astype(np.float32),
    )


def quantize(
    kind: QuantizerKind,
    config: Config,
    dataset: Dataset,
    vectors: np.ndarray,
    pairs: Pairs | None,
    folder: Path,
    progress: bool,
) -> Fitted:
    """Items -> codes, with the report of how well the codes are used."""
    done = folder / bundle.QUANTIZER
    if done.exists():
        return Fitted.load(done)
    fitted = fit(
        kind, vectors, dataset.items["category"].to_pylist(), pairs, config.quantizer, config.run.seed, progress
    )
    codes_report(fitted.report).write(folder / "codes")
    fitted.save(done)
    return fitted


def generate(
    config: Config,
    dataset: Dataset,
    split: Split,
    behaviour: Behaviour,
    vectors: np.ndarray,
    fitted: Fitted,
    folder: Path,
    progress: bool,
) -> dict[str, Any]:
    """Queries -> SIDs: train the generator of these codes; its metrics."""
    done = folder / "generator.json"
    if not done.exists():
        metrics = train_generator(
            section=config.generator,
            encoder=config.encoder,
            space=SidSpace.of(fitted.codes, fitted.level_sizes),
            codes=fitted.codes,
            items=dataset.items,
            item_vectors=vectors,
            train=behaviour.train,
            queries=behaviour.queries,
            dev=split.dev,
            out=folder / bundle.GENERATOR,
            work=folder / "checkpoints",
            seed=config.run.seed,
            cache_dir=config.run.cache_dir,
            progress=progress,
            requests=(behaviour.requests.train, behaviour.requests.dev) if behaviour.requests else None,
        )
        work.write_json(done, metrics)
    return json.loads(done.read_text(encoding="utf-8"))


def measure(score: Score, dataset: Dataset, fitted: Fitted, folder: Path, split: Split) -> dict[str, float]:
    """The dev figures of one candidate; empty where there are no dev queries."""
    if not split.dev.num_rows:
        return {}
    done = folder / "dev.json"
    if not done.exists():
        generator = Generator.load(folder / bundle.GENERATOR, SidSpace.of(fitted.codes, fitted.level_sizes))
        work.write_json(done, score(generator, dataset.items["item_id"].to_pylist(), fitted.codes))
    return json.loads(done.read_text(encoding="utf-8"))


def choose(candidates: dict[QuantizerKind, dict[str, Any]], select_by: str) -> QuantizerKind:
    """The kind with the best dev figure; the first one named where there is nothing to choose by, or at a tie."""
    return max(candidates, key=lambda kind: candidates[kind]["dev"].get(select_by, 0.0))


def publish(
    config: Config,
    dataset: Dataset,
    split: Split,
    behaviour: Behaviour,
    codebook: str,
    key: str,
    chosen: str,
    candidates: dict[Any, Any],
    folder: Path,
) -> Bundle:
    """Move the winner into a bundle: codes, quantizer, generator, sentence encoder, model card."""
    fitted = Fitted.load(folder / bundle.QUANTIZER)
    metrics = {
        "quantizer": chosen,
        "candidates": candidates,
        "split": split.name,
        "simulated": dataset.simulated,
        "logs": behaviour.report,
    }
    name = work.next_codebook(config.run.bundles_dir) if codebook == "auto" else codebook

    def write(target: Path) -> None:
        shutil.copytree(folder / bundle.GENERATOR, target / bundle.GENERATOR)
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
    return bundle.publish(config.run.bundles_dir, name, contents, write, make_current=codebook == "auto")
