"""`genrecall node`: a real OpenSearch on this machine, for trials and tests."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genrecall.cli.options import DEMO, ConfigFile, Json, Overrides, Quiet, print_json, read_config

if TYPE_CHECKING:
    from genrecall.local_node.node import Node

app = typer.Typer(help="Start, stop and inspect a local OpenSearch node, without containers.", no_args_is_help=True)

Port = Annotated[
    int | None, typer.Option(help="HTTP port; the transport takes the one 100 above.", show_default="9200")
]


@app.command()
def start(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    port: Port = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep indices here.", show_default="the node's own folder")
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="ZIP", help="Plugin to install, may be repeated.", show_default="the newest built one"),
    ] = None,
    without_plugin: Annotated[
        bool, typer.Option("--without-plugin", help="Install no plugin: no `generative` clause.")
    ] = False,
    heap: Annotated[str | None, typer.Option(help="Of the JVM, such as 512m.", show_default="1g")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Assemble a distribution with k-NN, neural-search and our plugin, run it on loopback, wait until it answers.

    A node that runs already is left alone, unless its plugin, heap or version changed: then it is restarted.

    Example: `genrecall node start --port 9201 --heap 512m`
    """
    from genrecall.local_node import node as local
    from genrecall.progress import console

    options = {"port": port, "data": data, "plugins": [] if without_plugin else plugin or None, "heap": heap}
    settings = read_config(config, overrides, {f"opensearch.node.{key}": value for key, value in options.items()})
    node = local.start(settings.opensearch.node, settings.run.cache_dir, console)
    if as_json:
        print_json(_facts(node))


@app.command()
def stop(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    port: Port = None,
    purge: Annotated[bool, typer.Option(help="Also remove the node's folder, with its indices and logs.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stop the node of a port: only a process that `node start` started.

    Example: `genrecall node stop --port 9201 --purge`
    """
    from genrecall.local_node import node as local
    from genrecall.progress import console

    settings = read_config(config, overrides, {"opensearch.node.port": port})
    section = settings.opensearch.node
    node = local.stop(section, settings.run.cache_dir, console, purge)
    if as_json:
        print_json({"stopped": node is not None, "purged": bool(node and purge)})
    elif node is None:
        print(f"no node was started on port {section.port}")
    elif not purge:
        print(f"{node.url}: stopped; its indices stay in {node.data}")
    else:
        kept = "" if node.data.startswith(node.folder) else f"; its data were outside and stay in {node.data}"
        print(f"{node.url}: stopped and removed{kept}")


@app.command()
def status(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    port: Port = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the nodes of this machine. With --port, exit code 1 unless that one answers.

    Example: `genrecall node status`
    """
    from genrecall.local_node import node as local
    from genrecall.local_node.account import node_account

    settings = read_config(config, overrides, {"opensearch.node.port": port})
    section = settings.opensearch.node
    root = local.node_root(section, settings.run.cache_dir, node_account(section.user))
    facts = [_facts(node) for node in local.nodes(root) if port in (None, node.port)]
    if as_json:
        print_json(facts)
    else:
        for row in facts:
            print(f"{row['url']}  {row['state']}: OpenSearch {row['version']} with {row['plugins'] or 'no plugin'}")
            print(f"  heap {row['heap']}, process {row['pid'] or '-'}, data {row['data']}, logs {row['folder']}/logs")
        if not facts:
            print("no nodes; start one with `genrecall node start`")
    if port is not None and not any(row["state"] == "answers" for row in facts):
        raise typer.Exit(1)


def _facts(node: "Node") -> dict[str, Any]:
    from genrecall.local_node.node import answer

    health = answer(node, "/_cluster/health") if node.running else None
    state = "answers" if health else "starting or stuck" if node.running else "stopped"
    plugins = ", ".join(node.plugins)
    return {**asdict(node), "url": node.url, "state": state, "plugins": plugins, "health": health and health["status"]}
