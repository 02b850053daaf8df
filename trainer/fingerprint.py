"""What a bundle depends on, as one hash: the same key means that training again would give the same bundle."""

from __future__ import annotations

import genrecall
from genrecall import files
from genrecall.checkpoints import content_of
from genrecall.config import Config
from genrecall.records import Dataset, Split

SECTIONS = ("data", "logs", "encoder", "quantizer", "generator")


def of(config: Config, dataset: Dataset, split: Split, logs: str = "") -> str:
    """sha256 over the sections that training reads, the seed, the data, the split and the version of genrecall.

    logs: what changes with the logs that are trained on; "" where there are none.
    """
    settings = {name: getattr(config, name).model_dump(mode="json") for name in SECTIONS}
    settings["data"].pop("folder", None)  # the same files in another folder are the same data
    for name in ("extra", "numbers"):  # nobody learns from these
        settings["data"]["items"]["fields"].pop(name, None)
    settings["encoder"]["checkpoint"] = content_of(config.encoder.checkpoint)  # as for checkpoints: never the path
    if config.generator.kind == "lm" and (checkpoint := config.generator.lm.checkpoint):
        settings["generator"]["lm"]["checkpoint"] = content_of(checkpoint)
    judged = [files.key_of(table.to_pydict()) for table in (split.train, split.dev)]
    fingerprints = sorted(dataset.fingerprints.items())
    return files.key_of([genrecall.__version__, config.run.seed, settings, fingerprints, split.name, logs, judged])
