"""The evaluation: folds, depths, fusion, intervals, and the trained control."""

from typing import Annotated, Literal

from pydantic import Field

from genrecall.config.adapter import AdapterSection
from genrecall.config.base import Section

Bm25Language = Literal[
    "danish",
    "dutch",
    "english",
    "french",
    "german",
    "italian",
    "norwegian",
    "portuguese",
    "russian",
    "spanish",
    "swedish",
    "turkish",
]  # those that bm25s has stop words of


class Bm25Section(Section):
    """BM25 of `--offline`; through a node, the index's own settings decide (Lucene's defaults are the same numbers)."""

    k1: float = Field(1.2, gt=0)
    b: float = Field(0.75, ge=0, le=1)
    language: Bm25Language | Literal["auto"] = Field(
        "auto", description="of stemmer and stop words; auto: that of the catalogue"
    )


class OrderWithinSection(Section):
    """Items of the generated SIDs: log p(SID) - log(items) + weight x (BM25 + vector_weight x cosine)."""

    weight: float = Field(0.3, ge=0, description="of the items' own scores, beside log p(SID)")
    vector_weight: float = Field(20.0, ge=0, description="of the cosine, beside BM25")


class EvaluationSection(Section):
    regimes: list[Literal["unseen", "recurring", "returning"]] | None = Field(
        None, min_length=1, description="null: unseen and recurring, and returning where logs judge"
    )
    folds: int = Field(5, ge=2, description="folds over queries in the unseen regime; a generator is trained for each")
    depth: int = Field(200, ge=10, description="items taken from every channel")
    sids: int = Field(200, ge=1, description="SIDs generated for each query")
    budget: int = Field(300, ge=6, description="candidates of the union, shared equally by its channels")
    rank_constant: int = Field(60, ge=1, description="of reciprocal rank fusion")
    weights: list[float] = Field(
        [0.0, 0.1, 0.3, 0.5, 1.0], min_length=2, description="tried for each channel on dev queries; 0 leaves it out"
    )
    tune_on: list[Annotated[str, Field(pattern=r"^(R|nDCG|Success)@[1-9]\d*$")]] = Field(
        ["R@50", "nDCG@10"], min_length=1, description="measures whose mean the weights raise"
    )
    resamples: int = Field(10_000, ge=100, description="of queries, for the bootstrap intervals")
    examples: int = Field(3, ge=0, description="queries shown where the generator helps and hurts most")
    linear_weights: list[float] = Field(
        [0.0, 5.0, 10.0, 20.0, 40.0, 80.0],
        min_length=1,
        description="of the cosine beside BM25, tried on dev queries for the control without SIDs",
    )
    boosts: list[float] = Field(
        [1.0, 2.0, 5.0, 10.0, 20.0, 50.0],
        min_length=1,
        description="of an item wanted before, beside BM25, tried on dev queries for the control of returning queries",
    )
    order_within: OrderWithinSection = OrderWithinSection()
    bm25: Bm25Section = Bm25Section()
    adapter: AdapterSection = AdapterSection()
