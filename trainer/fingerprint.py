"""What a bundle depends on, as one hash: the same key means that training again would give the same bundle."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa

import genrecall
from genrecall.config import Config
from genrecall.records import Dataset, Split

SECTIONS = ("data", "logs", "encoder", "quantizer", "generator")


def of(config: Config, dataset: Dataset, split: Split, logs: str = "") -> str:
    """sha256 over the sections that training reads, the seed, the data, the split and the version of genrecall.

    logs: what changes with the logs that are trained on; "" where there are none.
    """
    digest = hashlib.sha256()
    settings = {name: getattr(config, name).model_dump(mode="json") for name in SECTIONS}
    settings["data"].pop("folder", None)  # the same files in another folder are the same data
    about = [genrecall.__version__, config.run.seed, settings, sorted(dataset.fingerprints.items()), split.name, logs]
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for table in (split.train, split.dev):
        digest.update(_content(table))
    return digest.hexdigest()


def _content(table: pa.Table) -> bytes:
    digest = hashlib.sha256()
    for column in table.columns:
        digest.update(json.dumps(column.to_pylist(), default=str).encode())
    return digest.digest()
