"""Query bodies of the three channels and their hybrid, and the lists that come back.

The clauses are plain dictionaries, so they nest anywhere. `generative` is the plugin's clause; `sid_terms`, with an
`order_within` `ordered_sids`, is what it becomes, and what `index_mappings.compose.composer` puts in its place for
clusters that cannot take the plugin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from opensearchpy import OpenSearch

from genrecall.config.opensearch import OpenSearchSection
from genrecall.errors import UserError
from genrecall.opensearch import reason_of
from index_mappings.render import render

Clause = dict[str, Any]
Hits = tuple[np.ndarray, np.ndarray]
"""(item ids [n] of str, scores float32 [n]), best first."""


def bm25(text: str, section: OpenSearchSection) -> Clause:
    """BM25 over the text fields as if they were one (BM25F, Robertson and Zaragoza 2009): with fields scored apart, a
    word of a short field such as `brand` outweighs the title.
    """
    return {"combined_fields": {"query": text, "fields": list(section.bm25_fields)}}


def knn(vector: np.ndarray, k: int, filter: Clause | None = None) -> Clause:
    """The `k` nearest items; `filter` is applied while the graph is walked, so `k` are found."""
    body: Clause = {"vector": vector.astype(float).tolist(), "k": k}
    return {"knn": {"vector": {**body, "filter": filter} if filter else body}}


def generative(
    text: str | None = None, sids: Sequence[str | Clause] | None = None, k: int | None = None, **options: Any
) -> Clause:
    """The plugin's clause: SIDs generated for `text`, or those given (`v7/12/40/733`, or as an object).

    options: user, beam_width, timeout, on_failure, min_score, order_within (that of `order_by_text` or
    `order_by_text_and_vector`, or any), boost, _name, as the plugin documents them.
    """
    body = {"query_text": text, "sids": list(sids) if sids is not None else None, "k": k, **options}
    return {"generative": {"sid": {key: value for key, value in body.items() if value is not None}}}


def order_by_text(text: str, section: OpenSearchSection, weight: float = 1.0) -> Clause:
    """An `order_within` by the score of `bm25`: it needs no vector in the index."""
    return render("order_within_text", text=text, fields=list(section.bm25_fields), weight=weight)


def order_by_text_and_vector(
    text: str, vector: np.ndarray, section: OpenSearchSection, text_weight: float = 1.0, vector_weight: float = 20.0
) -> Clause:
    """An `order_within` by `text_weight` x the score of `bm25` + `vector_weight` x (1 + cosine of `vector`).

    The cosine is computed from the vectors of the SIDs' items, exactly; an item without a vector counts as if it were
    -1. It needs the k-NN plugin's scripts (of 3.x, where `knn_score` is half of 1 + cosine) and a field `vector`, but
    no graph.
    """
    return render(
        "order_within_text_and_vector",
        text=text,
        fields=list(section.bm25_fields),
        vector=vector.astype(float).tolist(),
        text_weight=text_weight,
        vector_weight=2 * vector_weight,
    )


def sid_terms(terms: Sequence[str], probabilities: Sequence[float], field: str = "sid") -> Clause:
    """Items of any of the SIDs in `field`, scored by the SID's probability (finite, >= 0)."""
    return {"bool": {"should": _constants(terms, _checked(terms, probabilities), field), "minimum_should_match": 1}}


def ordered_sids(
    terms: Sequence[str],
    probabilities: Sequence[float],
    items: Sequence[int],
    query: Clause,
    weight: float = 1.0,
    field: str = "sid",
    boost: float = 1.0,
) -> Clause:
    """Items of any of the SIDs in `field`: `boost` x (`item_scores` of the best of their SIDs + `weight` x `query`'s).

    Boosts are multiplied in, as a `function_score` with a `boost_mode` of replace ignores those around it.
    """
    scores = boost * item_scores(_checked(terms, probabilities), items)
    weighted = {"function_score": {"query": query, "weight": boost * weight}}
    return {"bool": {"must": [{"dis_max": {"queries": _constants(terms, scores, field)}}], "should": [weighted]}}


def item_scores(probabilities: np.ndarray, items: Sequence[int]) -> np.ndarray:
    """log p - log(items) of each SID, moved so that the least is 1, as scores must be positive. float64 [n].

    OpenSearch takes no negative score, and `hybrid` takes one of 0 for no match. A probability of 0 counts as the least
    float32 above it. The plugin's `SidQuery` computes the same.
    """
    least_float = np.finfo(np.float32).smallest_subnormal.astype(float)
    logs = np.log(np.maximum(probabilities, least_float)) - np.log(np.asarray(items, dtype=float))
    scores: np.ndarray = 1 + logs - logs.min()
    return scores


def _checked(terms: Sequence[str], probabilities: Sequence[float]) -> np.ndarray:
    scores = np.asarray(probabilities, dtype=float)
    if len(scores) != len(terms) or not np.isfinite(scores).all() or (scores < 0).any():
        raise ValueError("each SID needs a finite probability of at least 0: log-probabilities are exponentiated first")
    return scores


def _constants(terms: Sequence[str], scores: np.ndarray, field: str) -> list[Clause]:
    return [
        {"constant_score": {"filter": {"term": {field: term}}, "boost": float(score)}}
        for term, score in zip(terms, scores, strict=True)
    ]


def hybrid(clauses: Sequence[Clause], filter: Clause | None = None, depth: int | None = None) -> Clause:
    """The clauses side by side, fused by a search pipeline. `depth`: hits of each clause that enter the fusion."""
    body: Clause = {"queries": list(clauses)}
    if filter:
        body["filter"] = filter
    if depth:
        body["pagination_depth"] = depth
    return {"hybrid": body}


def body(
    query: Clause,
    size: int,
    pipeline: str | Clause | None = None,
    source: Sequence[str] | bool = False,
) -> Clause:
    """A search request. `pipeline`: of a hybrid query, the name of a stored search pipeline or the pipeline itself."""
    request: Clause = {"query": query, "size": size, "_source": source if isinstance(source, bool) else list(source)}
    return {**request, "search_pipeline": pipeline} if pipeline else request


def search_all(client: OpenSearch, index: str, bodies: Iterable[Clause], together: int = 20) -> list[Hits]:
    """The hits of every request, `together` of them in one call. UserError for the first that failed."""
    requests = list(bodies)
    found: list[Hits] = []
    for first in range(0, len(requests), together):
        some = requests[first : first + together]
        answer = client.msearch(body=[line for request in some for line in ({"index": index}, request)])
        found += [_hits(response, request) for response, request in zip(answer["responses"], some, strict=True)]
    return found


def _hits(response: dict[str, Any], request: Clause) -> Hits:
    shards = response.get("_shards", {})
    if "error" in response or shards.get("failed"):
        failure = response if "error" in response else shards["failures"][0]["reason"]
        raise UserError(f"a search failed: {reason_of(failure)}; the request was {str(request)[:300]}")
    hits = response["hits"]["hits"]
    ids = np.array([hit["_id"] for hit in hits], dtype=str)
    return ids, np.array([hit["_score"] for hit in hits], dtype=np.float32)
