"""`genrecall train`: from a configuration to a bundle."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer()


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A file in configs/.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings such as generator.encoder.steps=200.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the steps of this run that are done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the bundle's metrics as JSON.")] = False,
) -> None:
    """Train codes and generator, choose on dev queries, publish a bundle.

    A run that was interrupted goes on from where it was; one that is done already returns its bundle.

    Example: `genrecall train configs/demo.yaml run.seed=7`
    """
    from genrecall.config import Config, load
    from genrecall.errors import UserError

    settings = load(Config, config, overrides or [])
    if fresh:
        import shutil

        shutil.rmtree(settings.run.dir / "train", ignore_errors=True)

    from evaluation import score_dev
    from genrecall.readers import open_dataset
    from genrecall.splits import kfold
    from trainer.pipeline import train as run

    dataset = open_dataset(settings.data, settings.run.dir / "rejects.jsonl")
    if not dataset.items.num_rows:
        raise UserError("the dataset has no items: nothing to train on")
    split = kfold(dataset, settings.evaluation.folds, settings.run.seed)[0]
    score = score_dev(dataset, split, settings)
    bundle = run(settings, dataset, split, settings.run.codebook, score, progress=not as_json)
    if as_json:
        print(json.dumps({"codebook": bundle.codebook, "path": str(bundle.path), **bundle.manifest["metrics"]}))
    else:
        Console().print(f"bundle {bundle.codebook} ({bundle.size / 1e6:.1f} MB, {bundle.model}) in {bundle.path}")
