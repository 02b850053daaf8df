"""A fold through a real OpenSearch node: its bundle served, its items in an index of their own, both gone after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from opensearchpy import OpenSearch

from genrecall.bundle import Bundle
from genrecall.config import Config
from genrecall.evaluation.channels_node import node_channel
from genrecall.evaluation.channels_offline import Vectors
from genrecall.evaluation.collection import Collection
from genrecall.evaluation.folds import notes
from genrecall.evaluation.protocol import FoldChannels
from genrecall.evaluation.results import ADAPTED, BM25, GENERATIVE, GENERATIVE_TEXT, HYBRID, KNN
from genrecall.evaluation.runs import Channel
from genrecall.evaluation.server_process import inference_server
from genrecall.opensearch import connect, explain_errors
from genrecall.records import Split
from index_mappings import search
from index_mappings.create import check_plugins
from index_mappings.load import LoadInput, load, terms_of
from index_mappings.meta import IndexMeta

TIMEOUT = "30s"  # of a generative clause: a slow machine must not turn into a bad figure


def check_node(config: Config) -> None:
    """Raise UserError where no node answers, or one without the plugins: before anything is trained."""
    with explain_errors(config.opensearch):
        check_plugins(connect(config.opensearch), config.opensearch)


@contextmanager
def open_node(collection: Collection, split: Split, bundle: Bundle) -> Iterator[FoldChannels]:
    """The channels of a fold as search requests.

    The cluster setting `genrecall.endpoint` points to the fold's server meanwhile: evaluate on a cluster of your own.
    """
    config, dataset, order = collection.config, collection.dataset, collection.config.evaluation.order_within
    section = config.opensearch.model_copy(update={"index": f"{config.opensearch.index}-evaluation"})
    folder = config.run.dir / "evaluation"
    served = config.model_copy(update={"run": config.run.model_copy(update={"bundles_dir": bundle.path.parent})})
    adapted = collection.adapted(split)
    client = connect(section)

    def bm25(text: str, vector: np.ndarray, depth: int) -> search.Clause:
        return search.bm25(text, section)

    def knn(text: str, vector: np.ndarray, depth: int) -> search.Clause:
        return search.knn(vector, depth)

    def ordered(text: str, order_within: search.Clause) -> search.Clause:
        sids = config.evaluation.sids
        return search.generative(text, k=sids, timeout=TIMEOUT, on_failure="fail", order_within=order_within)

    def generative(text: str, vector: np.ndarray, depth: int) -> search.Clause:
        weights = (order.weight, order.weight * order.vector_weight)
        return ordered(text, search.order_by_text_and_vector(text, vector, section, *weights))

    def generative_text(text: str, vector: np.ndarray, depth: int) -> search.Clause:
        return ordered(text, search.order_by_text(text, section, order.weight))

    def hybrid(text: str, vector: np.ndarray, depth: int) -> search.Clause:
        return search.hybrid([of(text, vector, depth) for of in (bm25, knn, generative)], depth=depth)

    with (
        explain_errors(section),
        inference_server(served, [bundle.codebook], folder / "server.log") as endpoint,
        plugin_endpoint(client, endpoint),
    ):
        source = LoadInput(
            meta=IndexMeta.of(bundle, config.encoder),
            items=dataset.items,
            terms=terms_of(bundle.items(), bundle.codebook),
            vectors=collection.item_vectors,
            fingerprints=dataset.fingerprints,
        )
        report = load(client, section, source, folder / "index")

        def channel(
            clause: Callable[[str, np.ndarray, int], search.Clause],
            vectors: Vectors = collection.vectors,
            **body: str,
        ) -> Channel:
            return node_channel(
                lambda bodies: search.search_all(client, report.index, bodies),
                lambda texts, depth: [
                    search.body(clause(text, vector, depth), depth, **body)
                    for text, vector in zip(texts, vectors(texts), strict=True)
                ],
            )

        channels = {
            BM25: channel(bm25),
            KNN: channel(knn),
            ADAPTED: channel(knn, adapted),
            GENERATIVE: channel(generative, adapted),
            GENERATIVE_TEXT: channel(generative_text),
            HYBRID: channel(hybrid, adapted, pipeline=section.fusion.rrf),
        }
        try:
            yield FoldChannels(channels | collection.controls(split, adapted), notes(bundle))
        finally:
            client.indices.delete(index=report.index)


@contextmanager
def plugin_endpoint(client: OpenSearch, endpoint: str) -> Iterator[None]:
    """The plugin calls the server at `endpoint` meanwhile, and afterwards the one that it called before."""
    name = "genrecall.endpoint"
    before = client.cluster.get_settings(params={"flat_settings": "true"})["persistent"].get(name)
    client.cluster.put_settings(body={"persistent": {name: endpoint}})
    try:
        yield
    finally:
        client.cluster.put_settings(body={"persistent": {name: before}})
