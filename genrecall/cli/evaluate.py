"""`genrecall evaluate`: every channel and their fusions against judgments, with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from evaluation.catalogue import Catalogue
    from evaluation.protocol import Opened
    from genrecall.bundle import Bundle
    from genrecall.config import Config
    from genrecall.records import Dataset, Split

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
    from rich.markdown import Markdown

    from genrecall.config import Config, load

    extra = [
        *(overrides or []),
        *([f"run.name={run}"] if run else []),
        *([f"evaluation.folds={folds}"] if folds else []),
    ]
    settings = load(Config, config, extra)

    import evaluation
    import genrecall.decoding
    import trainer
    from evaluation import pipeline, report
    from evaluation.catalogue import Catalogue
    from genrecall.readers import open_dataset

    dataset = open_dataset(settings.data, settings.run.dir / "rejects.jsonl")
    catalogue = Catalogue.of(dataset, settings, synthetic(dataset, settings), progress=not as_json)
    console = Console(stderr=True)

    @contextmanager
    def channels(split: Split) -> Iterator[Opened]:
        bundle = train(dataset, split, settings, progress=not as_json)
        opened = open_offline(catalogue, split, bundle)
        yield opened

    result = pipeline.evaluate(
        dataset,
        settings,
        "offline" if offline else "node",
        channels,
        [Path(str(part.__file__)).parent for part in (trainer, evaluation, genrecall.decoding)],
        lambda line: console.log(line, highlight=False),
    )
    files = report.write(result, settings.run.dir)
    if as_json:
        print(json.dumps(result))
    else:
        Console().print(Markdown((settings.run.dir / "evaluation.md").read_text(encoding="utf-8")))
        console.print("wrote " + ", ".join(map(str, files)))


def synthetic(dataset: Dataset, config: Config) -> tuple[list[str], np.ndarray]:
    """The synthetic queries that the generator learns from and the item row of each: the adapter gets them too."""
    import numpy as np

    from trainer.generator.examples import examples_of

    rows = np.arange(dataset.items.num_rows)
    none = dataset.judgments.slice(0, 0)
    made = examples_of(dataset.items, rows, none, dataset.queries, config.generator.sampling, config.run.seed)
    first, end = made.groups["synthetic"]
    return made.texts[first:end], made.sid[made.start[first:end]]


def train(dataset: Dataset, split: Split, config: Config, progress: bool) -> Bundle:
    """The bundle of a fold, kept apart from the ones that are served; the one of earlier settings makes room."""
    import shutil

    from evaluation import score_dev
    from trainer import fingerprint, pipeline

    run = config.run.model_copy(update={"bundles_dir": config.run.dir / "evaluation" / "bundles"})
    config = config.model_copy(update={"run": run})
    codebook = f"{split.name}-{fingerprint.of(config, dataset, split)[:8]}"
    for old in run.bundles_dir.glob(f"{split.name}-*"):
        if old.name != codebook:
            shutil.rmtree(old)
    return pipeline.train(config, dataset, split, codebook, score_dev(dataset, split, config), progress=progress)


def open_offline(catalogue: Catalogue, split: Split, bundle: Bundle) -> Opened:
    """The channels of a fold without a node."""
    from evaluation.protocol import Opened
    from genrecall.bundle import codes_of
    from genrecall.decoding import Generator

    generator = Generator.load(bundle.generator_dir, bundle.space)
    items = bundle.items()
    channels = catalogue.channels(split) | catalogue.generative(
        generator.generate, items["item_id"].to_pylist(), codes_of(items)
    )
    return Opened(channels, notes(bundle))


def notes(bundle: Bundle) -> dict[str, object]:
    """What the report tells of how a fold's generator was chosen."""
    metrics = bundle.manifest["metrics"]
    return {
        "model": bundle.model,
        "chosen": metrics["quantizer"],
        "candidates": {kind: of["dev"] for kind, of in metrics["candidates"].items()},
    }
