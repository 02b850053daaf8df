"""Search pipelines of `hybrid` queries: how the lists of several clauses become one."""

from __future__ import annotations

from typing import Any

from opensearchpy import OpenSearch

from genrecall.config.opensearch import FusionSection
from index_mappings.render import render


def put_pipelines(client: OpenSearch, fusion: FusionSection) -> None:
    """Store the pipelines: for two and three clauses by normalized scores, for any number by ranks."""
    for name, body in (
        (fusion.two, normalization(fusion.weights_two)),
        (fusion.three, normalization(fusion.weights_three)),
        (fusion.rrf, reciprocal_rank(fusion.rank_constant)),
    ):
        client.search_pipeline.put(id=name, body=body)


def normalization(weights: tuple[float, ...]) -> dict[str, Any]:
    """A pipeline, to be stored or sent with a request: min-max normalized scores, weighted mean."""
    return render("normalization", weights=list(weights))


def reciprocal_rank(rank_constant: int, weights: tuple[float, ...] | None = None) -> dict[str, Any]:
    """A pipeline, as `normalization`: reciprocal rank fusion, with a weight for each clause if weights are given."""
    if weights is None:
        return render("rrf", rank_constant=rank_constant)
    return render("rrf_weighted", rank_constant=rank_constant, weights=list(weights))
