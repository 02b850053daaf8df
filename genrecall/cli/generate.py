"""`genrecall generate`: ask an inference server for the SIDs of a text."""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from genrecall.cli.options import (
    ENDPOINT,
    BundlesFolder,
    CaCert,
    Cert,
    Endpoint,
    Json,
    Key,
    Quiet,
    print_json,
    stdout,
)

app = typer.Typer()


@app.command()
def generate(
    text: Annotated[str, typer.Argument(help="The query.")],
    k: Annotated[int, typer.Option(help="SIDs wanted.", min=1)] = 10,
    bundle: Annotated[
        str, typer.Option("--bundle", metavar="NAME", help="A codebook that the server holds; empty: its current one.")
    ] = "",
    beam_width: Annotated[int, typer.Option(help="0: as wide as k.", min=0)] = 0,
    memory: Annotated[bool, typer.Option(help="Count what people wanted for this text before.")] = True,
    endpoint: Endpoint = None,
    bundles: BundlesFolder = Path("bundles"),
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 10.0,
    ca_cert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the likeliest SIDs of a text, with their probabilities.

    Where --bundles has the codebook that answered, it warns of a text whose tokens the encoder does not know.

    Example: `genrecall generate "red running shoes" --k 5`
    """
    from genrecall.client import Client
    from genrecall.sid import Sid

    with Client(endpoint or ENDPOINT, timeout, ca_cert, client_certificate=cert, client_key=key) as client:
        reply = client.generate([text], codebook=bundle, k=k, beam_width=beam_width, memory=memory)
    _warn_of_unknown(text, bundles, reply.codebook)
    rows = [
        (Sid(*codes).term(reply.codebook), score)
        for codes, score in zip(reply.codes[0].tolist(), reply.scores[0].tolist(), strict=True)
    ]
    if as_json:
        sids = [{"sid": term, "score": score} for term, score in rows]
        for sid, items in zip(sids, reply.items[0].tolist(), strict=False):  # none from a server that does not tell
            sid["items"] = items
        print_json({"codebook": reply.codebook, "model": reply.model, "sids": sids, "timings_ms": reply.timings})
        return
    items = reply.items[0].tolist()  # none from a server that does not tell
    columns = ["SID", "probability", *(["items"] if items else [])]
    table = Table(*columns, title=f"{text} - {reply.model}, {reply.timings['total']:.1f} ms")
    for row, (term, score) in enumerate(rows):
        table.add_row(term, f"{math.exp(score):.4f}", *([str(items[row])] if items else []))
    stdout.print(table)


def _warn_of_unknown(text: str, bundles: Path, codebook: str) -> None:
    if not (bundles / codebook / "manifest.json").is_file():  # the server may be elsewhere
        return
    if find_spec("tokenizers") is None:  # of the extras; to ask a server needs none
        return
    from genrecall import bundle
    from genrecall.decoding.request_tokenizer import unknown_note
    from genrecall.progress import console

    answered = bundle.open(bundles / codebook, check=False)
    if note := unknown_note(answered.encoder_dir or answered.generator_dir, [text], "this text"):
        console.print(f"warning: {note}", style="yellow", markup=False)
