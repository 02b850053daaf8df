"""A smoke test of an engine before it serves: are its answers valid SIDs, in order, with finite scores?"""

from __future__ import annotations

import numpy as np

from genrecall.errors import BundleError
from genrecall.sid import SidSpace
from inference_server.engines import Engine

TEXTS = ("red running shoes", "a", "حذاء أحمر 👟", "12 x 3.5 mm", "steel " * 400)
WIDTH = 10


def self_test(engine: Engine) -> None:
    """Search a few texts; raises BundleError, naming what is wrong with the answers."""
    generated = engine.search(engine.prepare(TEXTS), WIDTH)
    space = engine.bundle.space
    for text, codes, scores, valid in zip(TEXTS, generated.codes, generated.scores, generated.valid, strict=True):
        if fault := _fault(codes[valid], scores[valid], space):
            raise BundleError(
                f"bundle {engine.bundle.codebook!r} is not served: its answer to {text[:20]!r} {fault}; "
                "train it again, or set server.engine=torch if it was exported"
            )


def _fault(codes: np.ndarray, scores: np.ndarray, space: SidSpace) -> str | None:
    """What is wrong with the n answers to one text: codes int [n, 3], scores float [n]."""
    if not len(codes):
        return "has no SID"
    rows = space.index_of(codes)
    if (rows < 0).any():
        return f"has {codes[rows < 0][0].tolist()}, which no item has"
    if len(np.unique(rows)) < len(rows):
        return "has a SID twice"
    if not np.isfinite(scores).all():
        return f"has the score {scores[~np.isfinite(scores)][0]}"
    if (np.diff(scores) > 0).any():
        return "is not in order of its scores"
    return None
