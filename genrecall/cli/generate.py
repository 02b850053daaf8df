"""`genrecall generate`: ask an inference server for the SIDs of a text."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer()


@app.command()
def generate(
    text: Annotated[str, typer.Argument(help="The query.")],
    k: Annotated[int, typer.Option(help="SIDs wanted.", min=1)] = 10,
    codebook: Annotated[str, typer.Option(help="Default: the server's current one.")] = "",
    beam_width: Annotated[int, typer.Option(help="0: as wide as k.", min=0)] = 0,
    endpoint: Annotated[str, typer.Option(help="The server's host:port.")] = "127.0.0.1:50051",
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 10.0,
    certificates: Annotated[Path | None, typer.Option(help="PEM file of trusted certificates; turns TLS on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Print the likeliest SIDs of a text, with their probabilities.

    Example: `genrecall generate "red running shoes" --k 5`
    """
    from genrecall.client import Client
    from genrecall.sid import Sid

    with Client(endpoint, timeout, certificates) as client:
        reply = client.generate([text], codebook=codebook, k=k, beam_width=beam_width)
    rows = [
        (Sid(*codes).term(reply.codebook), score)
        for codes, score in zip(reply.codes[0].tolist(), reply.scores[0].tolist(), strict=True)
    ]
    if as_json:
        sids = [{"sid": term, "score": score} for term, score in rows]
        print(json.dumps({"codebook": reply.codebook, "model": reply.model, "sids": sids, "timings_ms": reply.timings}))
        return
    table = Table("SID", "probability", title=f"{text} - {reply.model}, {reply.timings['total']:.1f} ms")
    for term, score in rows:
        table.add_row(term, f"{math.exp(score):.4f}")
    Console().print(table)
