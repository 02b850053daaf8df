"""MODEL_CARD.md of a bundle: what it was made of, what it can do, what it must not be trusted with."""

from __future__ import annotations

from typing import Any

from genrecall.config import Config
from genrecall.records import Dataset


def render(codebook: str, config: Config, dataset: Dataset, metrics: dict[str, Any]) -> str:
    """Markdown, with the dev figures of every candidate."""
    figures = sorted({name for candidate in metrics["candidates"].values() for name in candidate["dev"]})
    rows = [
        f"| {kind}{' (published)' if kind == metrics['quantizer'] else ''} | "
        + " | ".join(f"{candidate['dev'].get(name, float('nan')):.3f}" for name in figures)
        + " |"
        for kind, candidate in metrics["candidates"].items()
    ]
    table = ["| codes | " + " | ".join(figures) + " |", "|---|" + "---|" * len(figures), *rows] if figures else []
    stages = metrics["candidates"][metrics["quantizer"]]["generator"]["stages"]
    label = "simulated judgments: no figure here speaks for real users" if dataset.simulated else "judgments by people"
    return "\n".join(
        [
            f"# {codebook}: generative recall over {dataset.name}",
            "",
            f"Turns a query into semantic ids of the {dataset.items.num_rows:,} items of `{dataset.name}`. "
            f"Generator: `{config.generator.kind}`; codes: `{metrics['quantizer']}`; split: `{metrics['split']}`.",
            "",
            f"Stages of the generator: {', '.join(stages)}. {learned_from(metrics['logs'])}",
            "",
            f"Dev figures of the generative channel alone ({label}):" if table else "There were no dev queries.",
            "",
            *table,
            "",
            "An item that joins the catalogue later gets one of these SIDs from `Encode`, the nearest; what is new",
            "about it, no SID can say. Queries in languages or of a kind that training never saw are answered with the",
            "nearest thing it knows: use it beside BM25 and vectors, not alone.",
            "",
        ]
    )


def learned_from(logs: dict[str, Any]) -> str:
    """One sentence on the logs; the report of a run has the rest."""
    if not logs:
        return "No behaviour logs were used."
    simulated = ", simulated" if logs.get("simulated") else ""
    return f"Behaviour logs{simulated}: {logs['split']['train']:,} requests to learn from."
