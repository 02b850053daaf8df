"""The folder of a training run: where its steps leave their results, and what of it is published already."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from genrecall import bundle
from genrecall.bundle import Bundle
from genrecall.errors import BundleError

RECALL = "eval_recall"  # the dev recall of a look, in what a stage logged
WHOLE = "whole"  # marker of a checkpoint that was written to its end


def folder(root: Path, name: str) -> Path:
    """`root/name`, made where it is missing."""
    path = root / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_json(path: Path, value: Any) -> None:
    """Write at once or not at all: the presence of the file means that its step is done."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2, default=float) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def find_published(root: Path, codebook: str, key: str) -> Bundle | None:
    """The bundle of this training key: under `codebook`, or under any name where that is "auto".

    Raises BundleError when `codebook` is taken by a bundle made of other data or another configuration.
    """
    for published in bundle.list_bundles(root):
        same = published.manifest["fingerprints"].get("training") == key
        if codebook == "auto" and same:
            opened = bundle.open(published.path)
            bundle.point(root, opened.codebook)
            return opened
        if published.codebook == codebook:
            if same:
                return bundle.open(published.path)
            raise BundleError(
                f"codebook {codebook!r} in {root} was trained on other data or another configuration and is never "
                "changed: choose another run.codebook, or 'auto' for the next free one"
            )
    return None


def next_codebook(root: Path) -> str:
    """`v1`, or one more than the highest `v<n>` published."""
    numbers = [int(m.group(1)) for b in bundle.list_bundles(root) if (m := re.fullmatch(r"v(\d+)", b.codebook))]
    return f"v{max(numbers, default=0) + 1}"
