"""`genrecall evaluate`: every channel and their fusions against judgments, with intervals."""

from __future__ import annotations

from typing import Annotated

import typer

from genrecall.cli.options import Json, Overrides, OwnConfig, Quiet, RunName, Url, print_json, read_config

app = typer.Typer()


@app.command()
def evaluate(
    overrides: Overrides = None,
    config: OwnConfig = None,
    offline: Annotated[bool, typer.Option("--offline", help="The same channels without a node.")] = False,
    run: RunName = None,
    folds: Annotated[int | None, typer.Option("--folds", help="The same as evaluation.folds=N.")] = None,
    url: Url = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask BM25, k-NN, adapted k-NN and the generator; fuse; compare. Trains a generator for each fold.

    Writes evaluation.json, evaluation.md and plots into runs/NAME/. Folds that an earlier run finished are taken as
    they are.

    Example: `genrecall evaluate -c demo --offline --folds 3`
    """
    from genrecall.evaluation import pipeline
    from genrecall.progress import console
    from genrecall.reports import evaluation_report, summary, verdict

    settings = read_config(config, overrides, {"run.name": run, "evaluation.folds": folds, "opensearch.url": url})
    result = pipeline.evaluate_run(settings, offline, log=console.print)
    files = evaluation_report(result).write(settings.run.dir)
    if as_json:
        print_json(result)
    else:
        print("\n".join(verdict(result)) + "\n")
        print(summary(result) + "\n")
        print("wrote " + ", ".join(map(str, files)))
