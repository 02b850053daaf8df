"""`genrecall generate`: ask an inference server for the SIDs of a text."""

import math
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
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

if TYPE_CHECKING:
    from genrecall.bundle import Bundle

app = typer.Typer()
EXAMPLES = 3  # items shown of a SID
TITLE = 60  # characters shown of a title


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

    Where --bundles has the codebook that answered, items of each SID are shown, by their titles where the dataset that
    it was trained on is still there, and a text whose tokens the encoder does not know is warned of.

    Example: `genrecall generate "red running shoes" --k 5`
    """
    from genrecall.client import Client
    from genrecall.sid import Sid

    with Client(endpoint or ENDPOINT, timeout, ca_cert, client_certificate=cert, client_key=key) as client:
        reply = client.generate([text], codebook=bundle, k=k, beam_width=beam_width, memory=memory)
    rows = [
        (Sid(*codes).term(reply.codebook), score)
        for codes, score in zip(reply.codes[0].tolist(), reply.scores[0].tolist(), strict=True)
    ]
    shown: dict[str, dict[str, str]] = {}
    if (bundles / reply.codebook / "manifest.json").is_file():  # the server may be elsewhere
        from genrecall import bundle as bundle_files

        answered = bundle_files.open(bundles / reply.codebook, check=False)
        _warn_of_unknown(text, answered)
        shown = _examples(answered, [term for term, _ in rows])
    if as_json:
        sids = [{"sid": term, "score": score} for term, score in rows]
        for sid, items in zip(sids, reply.items[0].tolist(), strict=False):  # none from a server that does not tell
            sid["items"] = items
        for sid in sids if shown else []:
            sid["such_as"] = [{"item_id": item, "title": title} for item, title in shown.get(sid["sid"], {}).items()]
        print_json({"codebook": reply.codebook, "model": reply.model, "sids": sids, "timings_ms": reply.timings})
        return
    items = reply.items[0].tolist()  # none from a server that does not tell
    columns = ["SID", "probability", *(["items"] if items else []), *(["such as"] if shown else [])]
    table = Table(*columns, title=f"{text} - {reply.model}, {reply.timings['total']:.1f} ms")
    for row, (term, score) in enumerate(rows):
        such = [f"{title or item}"[:TITLE] for item, title in shown.get(term, {}).items()]
        cells = [*([str(items[row])] if items else []), *([escape("\n".join(such))] if shown else [])]
        table.add_row(term, f"{math.exp(score):.4f}", *cells)
    stdout.print(table)


def _examples(answered: "Bundle", terms: list[str]) -> dict[str, dict[str, str]]:
    """SID term -> up to EXAMPLES of its items: id -> title, "" where the dataset is gone or not to be read."""
    from genrecall.config.data import DataSection
    from genrecall.data.titles import titles_of
    from genrecall.errors import UserError

    wanted: dict[str, list[str]] = {term: [] for term in terms}
    items = answered.items()
    for item, path in zip(items["item_id"].to_pylist(), items["path"].to_pylist(), strict=True):
        ids = wanted.get(f"{answered.codebook}/{path}")
        if ids is not None and len(ids) < EXAMPLES:
            ids.append(item)
    titles: dict[str, str] = {}
    with suppress(UserError, ValueError):  # trained elsewhere, by another version, or the catalogue moved since
        section = DataSection.model_validate(answered.manifest["config"].get("data", {}))
        titles = titles_of(section, {item for ids in wanted.values() for item in ids})
    return {term: {item: titles.get(item, "") for item in ids} for term, ids in wanted.items()}


def _warn_of_unknown(text: str, answered: "Bundle") -> None:
    if find_spec("tokenizers") is None:  # of the extras; to ask a server needs none
        return
    from genrecall.decoding.request_tokenizer import unknown_note
    from genrecall.progress import console

    if note := unknown_note(answered.encoder_dir or answered.generator_dir, [text], "this text"):
        console.print(f"warning: {note}", style="yellow", markup=False)
