"""`genrecall demo`: the whole path, each step the command that a user would type."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from genrecall.cli.options import DEMO, ConfigFile, Overrides, Quiet, read_config
from genrecall.config import Config
from genrecall.errors import UserError

app = typer.Typer()
console = Console(highlight=False)
SHOP = Path("data/shop")
SHOP_ITEMS = 5_000


@app.command()
def demo(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    query: Annotated[str, typer.Option(help="The sample search; empty: a test query, unseen in training.")] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the OpenSearch node running for your own searches.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Data, codes, generator, bundle, server, OpenSearch node, index, a search, and the evaluation.

    What an earlier run finished is used again. Everything runs on loopback and is stopped at the end.

    Example: `genrecall demo --keep`
    """
    from genrecall.cli import evaluate, index, node, train
    from genrecall.evaluation import sample
    from genrecall.evaluation.folds_node import plugin_endpoint
    from genrecall.evaluation.server_process import inference_server
    from genrecall.opensearch import connect

    began = time.monotonic()
    changes = list(overrides or [])
    with step("1/6 data", "genrecall data fetch esci"):
        changes += choose_data(read_config(config, changes))
    settings = read_config(config, changes)
    typed = " ".join([f"-c {config}", *changes])

    with step("2/6 codes, generator, bundle", f"genrecall train {typed}"):
        train.train(changes, config)
    with step("3/6 OpenSearch with the plugin", f"genrecall node start {typed}"):
        node.start(changes, config)
    try:
        with step("4/6 index", f"genrecall index load --switch {typed}"):
            index.load(changes, config, switch=True)
        log = settings.run.dir / "server.log"
        with (
            step("5/6 a hybrid search with a generative clause", f"genrecall serve {typed}"),
            inference_server(settings, ["current"], log) as endpoint,
            plugin_endpoint(connect(settings.opensearch), endpoint),
        ):
            sample.show(settings, endpoint, query, console)
        with step("6/6 evaluation through the node", f"genrecall evaluate {typed}"):
            evaluate.evaluate(changes, config)
    finally:
        if not keep:
            node.stop(changes, config)
    console.print(f"\n[bold]done in {time.monotonic() - began:.0f} s[/]")
    print(f"tables and plots are in {settings.run.dir}/\n{next_steps(settings, keep)}")


def choose_data(settings: Config) -> list[str]:
    """Overrides that name the dataset: ESCI where it can be had, else the generated shop, said so."""
    from genrecall.cli import data

    if settings.data.folder != Path("data/esci-us"):
        print(f"using {settings.data.folder}, as configured")
        return []
    try:
        data.fetch("esci")
        console.print("dataset: [bold]ESCI[/], real products and queries, graded by people")
        return []
    except UserError as error:
        print(f"ESCI cannot be had here: {error}")
    if not SHOP.exists():
        data.synthesize(SHOP, items=SHOP_ITEMS)
    console.print(f"dataset: [bold]a generated shop[/] of {SHOP_ITEMS:,} items; every figure below is simulated")
    return [f"data.folder={SHOP}"]


@contextmanager
def step(title: str, command: str) -> Iterator[None]:
    """A heading, the command that does the same, and how long it took."""
    console.rule(f"[bold]{title}", align="left")
    console.print(f"[dim]$ {escape(command.strip())}[/]")
    began = time.monotonic()
    yield
    console.print(f"[dim]{time.monotonic() - began:.1f} s[/]")


def next_steps(settings: Config, kept: bool) -> str:
    run = "the node still runs" if kept else "start the node again with `genrecall node start`"
    return (
        f"Next, after `. .venv/bin/activate`: {run}, run `genrecall serve`, then\n"
        f"  curl -s {settings.opensearch.hosts[0]}/{settings.opensearch.index}/_search \\\n"
        "    -H 'Content-Type: application/json' \\\n"
        """    -d '{"query": {"generative": {"sid": {"query_text": "red shoes", "k": 20, "timeout": "1s",\n"""
        """         "order_within": {"query": {"match": {"title": "red shoes"}}, "weight": 0.3}}}}}'\n"""
        "README.md goes on from here, with your own catalogue and your own judgments."
    )
