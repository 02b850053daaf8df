"""What is left of a training: the names in its work folder, and the bundle that it was published as."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
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


def link(source: str, target: str) -> None:
    """A second name of a file that is never changed, where the file system allows it; else a copy."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copy2(source, target)


def prune(folder: Path, kinds: Sequence[str], chosen: str) -> None:
    """Remove from a training's folder what nothing reads after its publication: checkpoints, and the generators of the
    candidates that were not chosen. The chosen one's stays (it takes no room, see `link`), to be published again under
    another name; so do codes, figures and curves, for `genrecall report`.
    """
    for kind in kinds:
        shutil.rmtree(folder / kind / "checkpoints", ignore_errors=True)
        if kind != chosen:
            shutil.rmtree(folder / kind / bundle.GENERATOR, ignore_errors=True)


def next_codebook(root: Path) -> str:
    """`v1`, or one more than the highest `v<n>` published."""
    numbers = [int(m.group(1)) for b in bundle.list_bundles(root) if (m := re.fullmatch(r"v(\d+)", b.codebook))]
    return f"v{max(numbers, default=0) + 1}"
