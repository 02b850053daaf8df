"""Whether a filled index may replace another, and how its answers differ: the drift report.

Codes of two codebooks cannot be compared unless one was made from the other, so drift is measured on answers: the share
of a query's hits that stay. `same_path` compares the codes themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from opensearchpy import OpenSearch

from genrecall.config.opensearch import RefreshSection
from genrecall.errors import UserError
from index_mappings.meta import read_mapping
from index_mappings.migration import changes
from index_mappings.migration.context import IndexPair, MigrationContext, Search
from index_mappings.search import Hits
from index_mappings.sids import Sids

SEED = 13
PROBE = "shoes"  # sent where there are no sample queries: the clause must answer, whatever it finds
SAMPLE_SIZE = 200  # documents whose SID is checked
PRIMARY = {"preference": "_primary"}  # replicas may lag behind
FIELDS = 100  # counted in one request


@dataclass(frozen=True)
class Drift:
    """What the switch will change.

    Attributes:
        documents, without_sid: of the new index.
        not_in_bundle: documents whose SID the server assigned, or that have none.
        not_in_index: items of the bundle without a document.
        sids, largest_sid: distinct SIDs of the documents (approximate above some thousands), documents of the largest.
        sampled, same_path: documents checked, and the share of them whose codes stay.
        queries: sent to both indices.
        overlap: mean share of a query's hits before that it finds after; None where no query had hits before.
        empty_before, empty_after: queries without a hit.
    """

    documents: int
    without_sid: int
    not_in_bundle: int
    not_in_index: int
    sids: int
    largest_sid: int
    sampled: int
    same_path: float | None
    queries: int
    overlap: float | None
    empty_before: int
    empty_after: int


def check(
    client: OpenSearch, settings: RefreshSection, pair: IndexPair, context: MigrationContext
) -> dict[str, int | float | None]:
    """The Drift from `pair.source` to `pair.target` as a mapping. UserError where the target must not serve."""
    target, sids = pair.target, context.sids
    documents = changes.count(client, target)
    without = documents - changes.count(client, target, {"exists": {"field": "sid"}})
    if pair.new and without > settings.max_without_sid * documents:  # the way back must stay open
        raise UserError(
            f"{without:,} of {documents:,} documents of {target!r} would have no SID and be lost to the generative "
            f"clause (opensearch.refresh.max_without_sid is {settings.max_without_sid:.1%}): train a bundle that knows "
            "them, let the server assign SIDs (opensearch.refresh.endpoint), or raise the limit. The alias was not "
            "moved"
        )
    known = sum(id in sids.terms for id in changes.ids(client, target))
    sampled, same = _sample(client, pair, sids)
    before, after = [], []
    if context.search and settings.sample_queries:
        after = _search(context.search, pair, context.queries or [PROBE])[: len(context.queries)]
        before = context.search(pair.source, context.queries)
    overlaps = [float(np.isin(old, new).mean()) for (old, _), (new, _) in zip(before, after, strict=True) if len(old)]
    overlap = round(float(np.mean(overlaps)), 4) if overlaps else None
    empty = [sum(len(ids) == 0 for ids, _ in answers) for answers in (before, after)]
    if overlap is not None and overlap < settings.min_overlap:
        raise UserError(
            f"queries keep {overlap:.1%} of their hits, but opensearch.refresh.min_overlap is "
            f"{settings.min_overlap:.1%}: check the new bundle, or lower the limit. The alias was not moved"
        )
    if after and empty[1] > empty[0] and empty[1] == len(after):
        raise UserError(f"no sample query finds anything in {target!r}. The alias was not moved")
    distinct, largest = _sizes(client, target)
    return asdict(
        Drift(
            documents=documents,
            without_sid=without,
            not_in_bundle=documents - known,
            not_in_index=len(sids.terms) - known,
            sids=distinct,
            largest_sid=largest,
            sampled=sampled,
            same_path=same,
            queries=len(after),
            overlap=overlap,
            empty_before=empty[0],
            empty_after=empty[1],
        )
    )


def documents_with_fields(client: OpenSearch, index: str) -> dict[str, int]:
    """How many documents have each mapped field, by its path; as far as searches see it."""
    fields = list(_fields(read_mapping(client, index).get("properties", {})))
    counts: dict[str, int] = {}
    for first in range(0, len(fields), FIELDS):
        filters = {name: {"exists": {"field": name}} for name in fields[first : first + FIELDS]}
        body = {"size": 0, "aggs": {"fields": {"filters": {"filters": filters}}}}
        params = {**PRIMARY, "allow_partial_search_results": "false"}
        answer = client.search(index=index, body=body, params=params)["aggregations"]["fields"]["buckets"]
        counts |= {name: bucket["doc_count"] for name, bucket in answer.items()}
    return counts


def check_fields(wanted: Mapping[str, int], found: Mapping[str, int], written: int, pair: IndexPair) -> None:
    """UserError where a field got lost on the way.

    Args:
        wanted: of the source, before its last writes were copied; found: of the target, after that.
        written: how many writes those were: each may have removed a field.
    """
    lost = {
        name: (count, found.get(name, 0))
        for name, count in wanted.items()
        if name != "sid" and found.get(name, 0) + written < count
    }
    if lost:
        name, (before, after) = next(iter(lost.items()))
        raise UserError(
            f"field {name!r} is in {before:,} documents of {pair.source!r}, but in {after:,} of {pair.target!r}"
            f"{f' (and {len(lost) - 1} more fields)' if len(lost) > 1 else ''}: copies are not what was read. Does a "
            "template, a pipeline or a setting change them? The alias was not moved; `genrecall index refresh "
            "--abandon`, mend that and begin again"
        )


def _fields(properties: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, field in properties.items():
        full = f"{path}{name}"
        if "properties" in field and field.get("type", "object") == "object":
            yield from _fields(field["properties"], f"{full}.")
        elif field.get("type") not in ("alias", "nested"):
            yield full


def _search(search: Search, pair: IndexPair, queries: Sequence[str]) -> list[Hits]:
    """UserError where the clause gets no answer in the new codebook: once the alias moved, no search would."""
    try:
        return search(pair.target, queries)
    except UserError as error:
        raise UserError(
            f"the generative clause gets no answer in codebook {pair.codebook!r}: {error}. Let the inference servers "
            "that the clause asks load that bundle too, and run the same command again. The alias was not moved"
        ) from None


def _sample(client: OpenSearch, pair: IndexPair, sids: Sids) -> tuple[int, float | None]:
    """(documents checked, share whose codes are those of the source). UserError for a SID that is not the bundle's."""
    random = {"function_score": {"query": {"match_all": {}}, "random_score": {"seed": SEED, "field": "_seq_no"}}}
    body = {"query": random, "size": SAMPLE_SIZE, "_source": ["sid"]}
    hits = client.search(index=pair.target, body=body, params=PRIMARY)["hits"]["hits"]
    found = {hit["_id"]: hit["_source"].get("sid") for hit in hits}
    for id, term in found.items():
        wanted = sids.terms.get(id)
        if (wanted is None or not pair.new) and (term is None or term.startswith(f"{pair.codebook}/")):
            continue  # the server's, or none
        if term != wanted:
            raise UserError(
                f"document {id!r} of {pair.target!r} has SID {term!r}, but the bundle has {wanted!r}: another program "
                "writes to that index, or the bundle changed; `genrecall index refresh --abandon`, then begin again"
            )
    if not found:
        return 0, None
    docs = changes.by_id(client, pair.source, list(found), ["sid"])
    old = {doc["_id"]: path_of(doc.get("_source", {}).get("sid")) for doc in docs}
    return len(found), round(float(np.mean([path_of(term) == old.get(id) for id, term in found.items()])), 4)


def path_of(term: str | None) -> str | None:
    """The codes of a term, without its codebook."""
    return term.partition("/")[2] if term else None


def _sizes(client: OpenSearch, index: str) -> tuple[int, int]:
    """(distinct SIDs, documents of the largest)."""
    aggs = {"sids": {"cardinality": {"field": "sid"}}, "largest": {"terms": {"field": "sid", "size": 1}}}
    answer = client.search(index=index, body={"size": 0, "aggs": aggs}, params=PRIMARY)["aggregations"]
    return answer["sids"]["value"], max((bucket["doc_count"] for bucket in answer["largest"]["buckets"]), default=0)
