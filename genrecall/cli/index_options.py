"""What the verbs of `genrecall index` share: their options, and a bundle as an index needs it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from genrecall.bundle import Bundle
    from genrecall.config import Config
    from index_mappings.lifecycle import Meta

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Such as opensearch.url=http://127.0.0.1:9201", show_default=False)
]
ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="YAML of the run.")]
BundleName = Annotated[str, typer.Option("--bundle", help="A codebook such as v1, `current`, `previous`, or a folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

DEMO = Path("configs/demo.yaml")


def opened(config: Path, overrides: list[str] | None, name: str) -> "tuple[Config, Bundle]":
    from genrecall import bundle
    from genrecall.config import Config, load

    settings = load(Config, config, overrides or [])
    folder = Path(name)
    return settings, bundle.open(folder if "/" in name else bundle.resolve(settings.run.bundles_dir, name))


def meta_of(settings: "Config", of: "Bundle") -> "Meta":
    from genrecall.bundle import ITEMS
    from index_mappings.lifecycle import Meta

    return Meta(of.codebook, of.manifest["files"][ITEMS]["sha256"], settings.encoder.checkpoint)


def dimension_of(settings: "Config") -> int:
    """Of the encoder's vectors, without loading it."""
    from genrecall.checkpoints import resolve

    file = resolve(settings.encoder.checkpoint) / "config.json"
    return int(json.loads(file.read_text(encoding="utf-8"))["hidden_size"])
