"""`genrecall train`: from a configuration to a bundle."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from genrecall.cli.options import DEMO, ConfigFile, Json, Overrides, Quiet, print_json, read_config, stdout

if TYPE_CHECKING:
    from genrecall.bundle import Bundle

app = typer.Typer()


@app.command()
def train(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the steps of this run that are done.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train codes and generator, choose on dev queries, publish a bundle.

    An interrupted run resumes; one that is done already returns its bundle.

    Example: `genrecall train -c demo run.seed=7`
    """
    settings = read_config(config, overrides)
    from genrecall.bundle import pointer
    from genrecall.evaluation.training import train_run

    before = pointer(settings.run.bundles_dir, "current")
    bundle = train_run(settings, fresh)
    current = pointer(settings.run.bundles_dir, "current")
    if as_json:
        where = {"codebook": bundle.codebook, "path": str(bundle.path), "current": current}
        print_json({**where, **bundle.manifest["metrics"]})
        return
    show(bundle)
    print(about_current(bundle.codebook, before, current))
    print(f"what it learned, stage by stage: genrecall report -c {config} {' '.join(overrides or [])}".rstrip())


def about_current(codebook: str, before: str | None, current: str | None) -> str:
    """Whether `current` moved, which `serve` and `index` take where no bundle is named."""
    if current == codebook:
        return f"current -> {codebook}" + (f" (before: {before})" if before not in (None, codebook) else "")
    stays = f"current stays {current}" if current else "no bundle is current"
    return f"{stays}: a bundle of a given name does not move it; `genrecall bundle use {codebook}` does"


def show(bundle: "Bundle") -> None:
    """What was tried and what was published."""
    metrics = bundle.manifest["metrics"]
    figures = list(dict.fromkeys(name for of in metrics["candidates"].values() for name in of["dev"]))
    label = " (simulated)" if metrics["simulated"] else ""
    table = Table(title=f"on the dev queries of {metrics['split']}{label}", padding=(0, 0, 0, 1))
    for name in ("codes", "SIDs", *figures):
        table.add_column(name.replace(" ", "\n"), min_width=14 if name == "codes" else None)
    for kind, of in metrics["candidates"].items():
        mark = " *" if kind == metrics["quantizer"] else ""
        table.add_row(
            f"{kind}{mark}",
            f"{of['codes']['sids']['count']:,}",
            *(f"{of['dev'][name]:.3f}".lstrip("0") for name in figures),
        )
    if figures:
        stdout.print(table)
        stdout.print(
            "fused: one list of BM25, k-NN and the generator by reciprocal rank fusion; union: the recall of all their "
            "candidates together, the budget shared equally",
            soft_wrap=True,
        )
    stdout.print(
        f"* published ({metrics['chosen_for']}): bundle {bundle.codebook} ({bundle.size / 1e6:.1f} MB, "
        f"{bundle.manifest['sids']:,} SIDs for {bundle.manifest['items']:,} items, {bundle.model}) in {bundle.path}",
        soft_wrap=True,
    )
