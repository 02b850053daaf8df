"""What the trainer writes beside its results: the report of a codebook, and the model card of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genrecall.records import Dataset
from genrecall.reports import plots
from genrecall.reports.markdown import share, table
from genrecall.reports.render import Plot, Report, render


def codes_report(facts: Mapping[str, Any]) -> Report:
    """codes.json, codes.md, codes.png. facts: `trainer.quantizer.statistics`, with the "kind" where it is known."""
    title = f"{facts.get('kind', 'codebook')}: {facts['items']:,} items in {facts['sids']['count']:,} SIDs"
    plot = Plot("codes.png", title, lambda: plots.codes(facts, title))
    return Report("codes", render("codes", title=title, **facts), (plot,), facts)


def model_card(codebook: str, generator: str, dataset: Dataset, metrics: Mapping[str, Any]) -> Report:
    """MODEL_CARD.md: what a bundle was made of, what it can do, what it must not be trusted with.

    generator: its kind. metrics: those of the manifest, with the dev figures of every candidate.
    """
    candidates, chosen = metrics["candidates"], metrics["quantizer"]
    evidence = candidates[chosen]["generator"].get("evidence")
    names = sorted({name for candidate in candidates.values() for name in candidate["dev"]})
    rows = [
        [kind + (" (published)" if kind == chosen else ""), *(share(candidate["dev"].get(name)) for name in names)]
        for kind, candidate in candidates.items()
    ]
    text = render(
        "model_card",
        codebook=codebook,
        generator=generator,
        dataset=dataset,
        metrics=metrics,
        stages=list(candidates[chosen]["generator"]["stages"]),
        evidence=evidence and {"weights": ", ".join(f"{weight:.3g}" for weight in evidence["weights"])},
        memory=candidates[chosen]["generator"].get("memory"),
        gates=evidence and {name: share(evidence["gates"][name]) for name in ("new", "familiar", "user")},
        vectors=generator == "encoder",
        dev=table(["codes", *names], rows) if names else None,
    )
    return Report("MODEL_CARD", text)
