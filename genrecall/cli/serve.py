"""`genrecall serve`: bundles behind gRPC."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def serve(
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings such as server.port=50052.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Its sections `server` and `run` are used.")
    ] = None,
    codebook: Annotated[
        list[str] | None, typer.Option(help="Serve this codebook (may be repeated; the first answers by default).")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log each call.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Serve bundles over gRPC until SIGTERM or Ctrl-C; calls in flight are finished first.

    Without `--codebook` the current bundle and the newest others are served, `server.max_loaded` in all.

    Example: `genrecall serve server.port=50051`, then `genrecall generate "red shoes"`
    """
    from genrecall.config import Config, load
    from inference_server.startup import ReadyInfo
    from inference_server.telemetry import logs

    settings = load(Config, config, overrides or [])
    logs.configure(settings.server.log_format, verbose)

    def ready(server: ReadyInfo) -> None:
        address = f"{settings.server.host}:{server.port}"
        if as_json:
            fields = {"endpoint": address, "port": server.port, "codebooks": server.codebooks}
            print(json.dumps({**fields, "metrics_port": server.metrics_port}), flush=True)
        else:
            names = server.codebooks
            print(f"listening on {address}, codebooks: {', '.join(names)} (default {names[0]})", flush=True)

    if settings.server.processes > 1:
        from inference_server.processes.supervisor import supervise

        supervise(settings.run.bundles_dir, codebook or [], settings.server, verbose, ready)
    else:
        from inference_server.server import serve as run

        run(settings.run.bundles_dir, codebook or [], settings.server, ready)
