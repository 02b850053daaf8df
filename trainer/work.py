"""What is left of a training: the names in its work folder, and the bundle that it was published as."""

from __future__ import annotations

import re
from pathlib import Path

from genrecall import bundle
from genrecall.bundle import Bundle
from genrecall.errors import BundleError

RECALL = "eval_recall"  # the dev recall of an evaluation, in what a stage logged
WHOLE = "whole"  # marker of a checkpoint that was written completely


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
