"""`genrecall evaluate`: every channel and their fusions against judgments, with intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def evaluate(
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings such as evaluation.depth=100.")] = None,
    config: Annotated[Path, typer.Option("--config", "-c", help="A file in configs/.")] = Path("configs/demo.yaml"),
    offline: Annotated[bool, typer.Option("--offline", help="The same channels without a node.")] = False,
    run: Annotated[str | None, typer.Option("--run", help="Name of the run; the same as run.name=NAME.")] = None,
    folds: Annotated[int | None, typer.Option("--folds", help="The same as evaluation.folds=N.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print evaluation.json.")] = False,
) -> None:
    """Ask BM25, k-NN, adapted k-NN and the generator; fuse; compare. Trains a generator for each fold.

    Writes evaluation.json, evaluation.md and plots into runs/NAME/. Folds that an earlier run finished are taken as
    they are.

    Example: `genrecall evaluate -c configs/demo.yaml --offline --folds 3`
    """
    from rich.console import Console

    from genrecall.config import Config, load

    extra = [
        *(overrides or []),
        *([f"run.name={run}"] if run is not None else []),
        *([f"evaluation.folds={folds}"] if folds is not None else []),
    ]
    settings = load(Config, config, extra)

    from genrecall.evaluation import pipeline
    from genrecall.reports import evaluation_report, summary, verdict

    console = Console(stderr=True)
    result = pipeline.evaluate_run(
        settings, offline, progress=not as_json, tell=lambda line: console.print(line, highlight=False)
    )
    files = evaluation_report(result).write(settings.run.dir)
    if as_json:
        print(json.dumps(result))
    else:
        print("\n".join(verdict(result)) + "\n")
        print(summary(result) + "\n")
        print("wrote " + ", ".join(map(str, files)))
