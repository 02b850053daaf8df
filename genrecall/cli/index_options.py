"""What the verbs of `genrecall index` share: a bundle as an index needs it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from genrecall.cli.options import read_config

if TYPE_CHECKING:
    from genrecall.bundle import Bundle
    from genrecall.config import Config
    from index_mappings.lifecycle import Meta


def opened(config: Path, overrides: list[str] | None, name: str) -> "tuple[Config, Bundle]":
    from genrecall import bundle

    settings = read_config(config, overrides)
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
