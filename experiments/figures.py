"""Values by query of many variants and seeds -> means, differences with intervals, a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from genrecall.evaluation.metrics import Interval, bootstrap
from genrecall.reports.markdown import Markdown, clear_points, table

Values = Mapping[str, Mapping[str, float]]
"""measure -> query -> value."""


def merged(folds: Sequence[Values]) -> dict[str, dict[str, float]]:
    """The values of several folds of one seed, averaged where a query is in more than one."""
    measures = {measure: None for values in folds for measure in values}
    return {measure: by_query([v for v in folds if measure in v], measure) for measure in measures}


def by_query(seeds: Sequence[Values], measure: str) -> dict[str, float]:
    """query -> the mean over the seeds that have it."""
    found: dict[str, list[float]] = {}
    for values in seeds:
        for query, value in values[measure].items():
            found.setdefault(query, []).append(value)
    return {query: float(np.mean(of)) for query, of in found.items()}


def mean(seeds: Sequence[Values], measure: str, resamples: int = 10_000, seed: int = 13) -> Interval:
    """Over queries, each the mean of its seeds."""
    return bootstrap(np.array(list(by_query(seeds, measure).values())), resamples, seed)


def difference(
    ours: Sequence[Values], theirs: Sequence[Values], measure: str, resamples: int = 10_000, seed: int = 13
) -> Interval:
    """Mean difference by query of the mean over seeds; the interval is over queries."""
    one, other = by_query(ours, measure), by_query(theirs, measure)
    return bootstrap(np.array([one[query] - other[query] for query in one]), resamples, seed)


def table_of_differences(variants: Mapping[str, Sequence[Values]], base: str, measures: Sequence[str]) -> str:
    """Markdown: the base's values, and of every other variant the difference to it in points, clear ones bold.

    Behind each difference with several seeds stand those of the seeds alone.
    """

    def cell(seeds: Sequence[Values], measure: str) -> str:
        of = clear_points(difference(seeds, variants[base], measure)._asdict(), digits=2)
        alone = [difference([s], [b], measure, 100).mean for s, b in zip(seeds, variants[base], strict=True)]
        each = " ".join(f"{100 * value:+.1f}" for value in alone)
        return Markdown(f"{of} ({each})" if len(alone) > 1 else of)

    rows = [
        [name, *(f"{mean(seeds, m).mean:.4f}".lstrip("0") if name == base else cell(seeds, m) for m in measures)]
        for name, seeds in variants.items()
    ]
    return table(["variant", *measures], rows)
