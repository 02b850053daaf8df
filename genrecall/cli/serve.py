"""`genrecall serve`: bundles behind gRPC."""

from pathlib import Path
from typing import Annotated

import typer

from genrecall.cli.options import BUNDLES, DEMO, ConfigFile, Json, Overrides, Quiet, print_json, read_config

app = typer.Typer()


@app.command()
def serve(
    overrides: Overrides = None,
    config: ConfigFile = DEMO,
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            "--bundle", metavar="NAME", help="Serve this codebook (may be repeated; the first answers by default)."
        ),
    ] = None,
    bundles: Annotated[Path | None, BUNDLES] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log each call.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Serve bundles over gRPC until SIGTERM or Ctrl-C; calls in flight are finished first.

    Without `--bundle` the current bundle and the newest others are served, `server.max_loaded` in all.

    Example: `genrecall serve server.port=50051`
    """
    from inference_server.server import serve as run
    from inference_server.startup import ReadyInfo
    from inference_server.telemetry import logs

    settings = read_config(config, overrides, {"run.bundles_dir": bundles})
    logs.configure(settings.server.log_format, verbose)

    def ready(server: ReadyInfo) -> None:
        address = settings.server.address(server.port)
        if as_json:  # one line: what starts a server waits for it
            facts = {"endpoint": address, "port": server.port, "codebooks": server.codebooks}
            print_json({**facts, "http_port": server.http_port, "metrics_port": server.metrics_port}, indent=None)
        else:
            names = server.codebooks
            print(f"listening on {address}, codebooks: {', '.join(names)} (default {names[0]})", flush=True)

    run(settings.run.bundles_dir, bundle or [], settings.server, ready)
