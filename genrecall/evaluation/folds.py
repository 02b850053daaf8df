"""The channels of a fold: its generator trained, then asked offline or served beside a real node.

Owns what `protocol.run_fold` opens: from a split to a trained bundle, and from that to callable channels. Which folds
there are belongs to `protocol`, what is compared to `results`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from opensearchpy import OpenSearch

from genrecall.bundle import Bundle, codes_of
from genrecall.config import Config
from genrecall.decoding import Generator
from genrecall.evaluation.catalogue import Catalogue
from genrecall.evaluation.channels_node import asked_of
from genrecall.evaluation.channels_offline import Vectors
from genrecall.evaluation.protocol import Opened
from genrecall.evaluation.results import ADAPTED, BM25, GENERATIVE, HYBRID, KNN
from genrecall.evaluation.runs import Channel
from genrecall.evaluation.selection import score_dev
from genrecall.evaluation.server_process import inference_server
from genrecall.opensearch import connect, explain_errors
from genrecall.records import Dataset, Split
from index_mappings import search
from index_mappings.create import check_plugins
from index_mappings.load import LoadInput, load, terms_of
from index_mappings.meta import IndexMeta
from trainer import fingerprint, pipeline
from trainer.behaviour import behaviour_of
from trainer.generator.examples import examples_of

TIMEOUT = "30s"  # of a generative clause: a slow machine must not turn into a bad figure


def check_node(config: Config) -> None:
    """Raise UserError where no node answers, or one without the plugins: before anything is trained."""
    with explain_errors(config.opensearch):
        check_plugins(connect(config.opensearch), config.opensearch)


def synthetic(dataset: Dataset, config: Config) -> tuple[list[str], np.ndarray]:
    """The synthetic queries that the generator learns from and the item row of each: the adapter gets them too."""
    rows = np.arange(dataset.items.num_rows)
    none = dataset.judgments.slice(0, 0)
    made = examples_of(dataset.items, rows, none, dataset.queries, config.generator.sampling, config.run.seed)
    first, end = made.groups["synthetic"]
    return made.texts[first:end], made.sid[made.start[first:end]]


def train(dataset: Dataset, split: Split, config: Config, progress: bool) -> Bundle:
    """The bundle of a fold, kept apart from the ones that are served; the one of earlier settings makes room."""
    run = config.run.model_copy(update={"bundles_dir": config.run.dir / "evaluation" / "bundles"})
    config = config.model_copy(update={"run": run})
    behaviour = behaviour_of(config, dataset, split, progress)
    codebook = f"{split.name}-{fingerprint.of(config, dataset, split, behaviour.key)[:8]}"
    for old in run.bundles_dir.glob(f"{split.name}-*"):
        if old.name != codebook:
            shutil.rmtree(old)
    return pipeline.train(config, dataset, split, codebook, score_dev(dataset, split, config), progress, behaviour)


@contextmanager
def open_offline(catalogue: Catalogue, split: Split, bundle: Bundle) -> Iterator[Opened]:
    """The channels of a fold without a node."""
    generator = Generator.load(bundle.generator_dir, bundle.space)
    items = bundle.items()
    generative = catalogue.generative(generator.generate, items["item_id"].to_pylist(), codes_of(items))
    yield Opened(catalogue.channels(split) | generative, notes(bundle))


@contextmanager
def open_node(catalogue: Catalogue, split: Split, bundle: Bundle) -> Iterator[Opened]:
    """The channels of a fold asked of the node: its bundle served, its items in an index of their own, both gone after.

    The cluster setting `genrecall.endpoint` points to the fold's server meanwhile: evaluate on a cluster of your own.
    """
    config, dataset = catalogue.config, catalogue.dataset
    section = config.opensearch.model_copy(update={"index": f"{config.opensearch.index}-evaluation"})
    folder = config.run.dir / "evaluation"
    served = config.model_copy(update={"run": config.run.model_copy(update={"bundles_dir": bundle.path.parent})})
    adapted = catalogue.adapted(split)
    client = connect(section)

    def bm25(text: str) -> search.Clause:
        return search.bm25(text, section)

    def generative(text: str) -> search.Clause:
        return search.generative(text, k=config.evaluation.sids, timeout=TIMEOUT, on_failure="fail")

    def hybrid(text: str, vector: np.ndarray, depth: int) -> search.Clause:
        return search.hybrid([bm25(text), search.knn(vector, depth), generative(text)], depth=depth)

    with (
        explain_errors(section),
        inference_server(served, [bundle.codebook], folder / "server.log") as endpoint,
        asking(client, endpoint),
    ):
        source = LoadInput(
            IndexMeta.of(bundle, config.encoder),
            dataset.items,
            terms_of(bundle.items(), bundle.codebook),
            catalogue.item_vectors,
            dataset.fingerprints,
        )
        report = load(client, section, source, folder / "index")

        def each(clause: Callable[[str, np.ndarray, int], search.Clause], vectors: Vectors, **body: str) -> Channel:
            return asked_of(
                lambda bodies: search.search_all(client, report.index, bodies),
                lambda texts, depth: [
                    search.body(clause(text, vector, depth), depth, **body)
                    for text, vector in zip(texts, vectors(texts), strict=True)
                ],
            )

        try:
            yield Opened(
                {
                    BM25: each(lambda text, vector, depth: bm25(text), catalogue.vectors),
                    KNN: each(lambda text, vector, depth: search.knn(vector, depth), catalogue.vectors),
                    ADAPTED: each(lambda text, vector, depth: search.knn(vector, depth), adapted),
                    GENERATIVE: each(lambda text, vector, depth: generative(text), catalogue.vectors),
                    HYBRID: each(hybrid, catalogue.vectors, pipeline=section.fusion.rrf),
                },
                notes(bundle),
            )
        finally:
            client.indices.delete(index=report.index)


@contextmanager
def asking(client: OpenSearch, endpoint: str) -> Iterator[None]:
    """The plugin asks the server at `endpoint` meanwhile, and afterwards the one it asked before."""
    name = "genrecall.endpoint"
    before = client.cluster.get_settings(params={"flat_settings": "true"})["persistent"].get(name)
    client.cluster.put_settings(body={"persistent": {name: endpoint}})
    try:
        yield
    finally:
        client.cluster.put_settings(body={"persistent": {name: before}})


def notes(bundle: Bundle) -> dict[str, object]:
    """What the report tells of how a fold's generator was chosen."""
    metrics = bundle.manifest["metrics"]
    return {
        "model": bundle.model,
        "chosen": metrics["quantizer"],
        "candidates": {kind: of["dev"] for kind, of in metrics["candidates"].items()},
    }
