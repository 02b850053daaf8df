"""`genrecall export`: a bundle's generator for another runtime."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from genrecall.cli.options import BundleName, BundlesFolder, Json, Quiet, open_bundle, print_json
from genrecall.errors import UserError

app = typer.Typer()


class Format(StrEnum):
    onnx = "onnx"
    tensorrt = "tensorrt"


class Dtype(StrEnum):
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


@app.command()
def export(
    bundle: BundleName = "current",
    bundles: BundlesFolder = Path("bundles"),
    format_: Annotated[Format, typer.Option("--format", help="ONNX, or TensorRT from the ONNX export.")] = Format.onnx,
    dtype: Annotated[Dtype, typer.Option(help="Of the weights: float32 is exact; int8 is for CPUs.")] = Dtype.float32,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Compare with torch on these queries, one a line, instead of those the bundle was trained on.",
        ),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(help="TensorRT: BATCHxTOKENSxBEAMS that engines are tuned for (may be repeated)."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export the search and the scoring of a bundle, compare them with torch, and keep them inside the bundle.

    `genrecall serve` then takes them by itself (`server.engine=auto`). The constraint tables are inputs of the graphs.

    Example: `genrecall export --bundle current --dtype float32`
    """
    from genrecall.progress import console
    from trainer.export.attach import attach_onnx, attach_tensorrt
    from trainer.export.tensorrt import Profile

    opened = open_bundle(bundles, bundle)
    facts: Mapping[str, Any] = {}
    with console.status(f"exporting {opened.codebook} to {format_.value} {dtype.value} (a minute or so)"):
        if format_ is Format.onnx:
            path, facts = attach_onnx(opened, dtype.value, _texts(opened, queries))
        else:
            profiles = [Profile.parse(text) for text in profile or ["1x32x50", "8x64x50", "32x128x100"]]
            path = attach_tensorrt(opened, dtype.value, profiles)
    size = sum(file.stat().st_size for file in path.iterdir())
    if as_json:
        print_json({"path": str(path), "bytes": size, "compared": facts})
        return
    print(f"{path} ({size / 1e6:.1f} MB)")
    if facts:
        print(
            f"on {facts['queries']} queries with {facts['beams']} beams, against torch in float32: "
            f"the first SID is the same for {facts['same_first']:.1%}, {facts['overlap_10']:.1%} of the first ten "
            f"and {facts['overlap']:.1%} of all SIDs are; scores differ by {facts['largest_difference']:.2g} at most"
        )


def _texts(opened, queries: Path | None, most: int = 64) -> list[str]:  # type: ignore[no-untyped-def]  # Bundle
    """Queries to compare on, evenly spread over those there are."""
    if queries is not None:
        try:
            lines = queries.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--queries {queries} cannot be read: {error}") from None
    else:
        from genrecall.config.data import DataSection
        from genrecall.data.readers import read_dataset

        try:
            dataset = read_dataset(DataSection.model_validate(opened.manifest["config"]["data"]))
        except (UserError, KeyError) as error:
            raise UserError(f"the dataset of {opened.codebook} cannot be read ({error}): give --queries FILE") from None
        lines = dataset.queries["text"].to_pylist() or dataset.items["title"].to_pylist()
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise UserError(f"--queries {queries} has no query: one a line" if queries else "the dataset has no query")
    return texts[:: max(1, len(texts) // most)][:most]
