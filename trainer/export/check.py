"""An export against the generator it came from, on real queries: what differs, as figures for its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrecall.decoding import GeneratedSids, Generator
from genrecall.decoding.export_modules import ModuleInputs
from genrecall.decoding.request_tokenizer import TokenizedPrompt
from genrecall.decoding.score import CHUNK
from trainer.export.onnx import SCORE, SEARCH

BATCH = 8
CUDA = "CUDAExecutionProvider"
TOP = 10
TIE = 1e-5  # of scores: words alone may leave several SIDs equally likely


def on_cuda() -> bool:
    """Whether ONNX Runtime can compute on a GPU here."""
    import onnxruntime

    return CUDA in onnxruntime.get_available_providers() and torch.cuda.is_available()


def compare(
    generator: Generator, folder: Path, texts: Sequence[str], width: int = 50, cuda: bool = False
) -> dict[str, Any]:
    """Run the graphs in `folder`, on the CPU or on CUDA, beside `generator` (float32, on the CPU).

    Returns:
        queries, beams; `same_first`: share of queries whose likeliest SID is the same; `overlap_10` and `overlap`: mean
        share of the first ten and of all SIDs that both found; `largest_difference`: of the scores of SIDs that both
        found; `largest_score_difference`: of `score.onnx`, over the SIDs that torch found.
    """
    import onnxruntime

    providers = [CUDA, "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]
    search, score = (onnxruntime.InferenceSession(folder / name, providers=providers) for name in (SEARCH, SCORE))
    inputs = ModuleInputs.of(generator)
    width = min(width, len(generator.space))
    overlap, overlap10, first, gap, score_gap = [], [], [], 0.0, 0.0
    for prompts in _batches(generator.request_tokenizer(texts)):
        expected = generator.search(prompts, width)
        sid, scores = _run(search, {**inputs.prompts(prompts), **inputs.of_codebook, "beams": np.arange(width)})
        exported = GeneratedSids.of(generator.space, sid, scores, width)
        for row, prompt in enumerate(prompts):
            ours, theirs = _ranked(generator, expected, row), _ranked(generator, exported, row)
            both = ours.keys() & theirs.keys()
            overlap.append(len(both) / len(ours))
            overlap10.append(len({*list(ours)[:TOP]} & {*list(theirs)[:TOP]}) / min(TOP, len(ours)))
            first.append(ours.get(next(iter(theirs)), -np.inf) >= max(ours.values()) - TIE)
            gap = max([gap, *(abs(ours[sid] - theirs[sid]) for sid in both)])
            rows = np.sort(np.array(list(ours)))[:CHUNK]
            arrays = {**inputs.prompts([prompt]), **inputs.of_codebook, **inputs.trees(rows)[0]}
            difference = _run(score, arrays)[0] - [ours[sid] for sid in rows.tolist()]
            score_gap = max(score_gap, float(np.abs(difference).max()))
    return {
        "queries": len(texts),
        "beams": width,
        "same_first": round(float(np.mean(first)), 4),
        "overlap_10": round(float(np.mean(overlap10)), 4),
        "overlap": round(float(np.mean(overlap)), 4),
        "largest_difference": float(f"{gap:.3g}"),
        "largest_score_difference": float(f"{score_gap:.3g}"),
    }


def _batches(prompts: Sequence[TokenizedPrompt]) -> Iterator[Sequence[TokenizedPrompt]]:
    for start in range(0, len(prompts), BATCH):
        yield prompts[start : start + BATCH]


def _run(session: Any, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    names = {tensor.name for tensor in session.get_inputs()}
    return list(session.run(None, {name: array for name, array in arrays.items() if name in names}))


def _ranked(generator: Generator, sids: GeneratedSids, row: int) -> dict[int, float]:
    """SID row -> score, likeliest first."""
    valid = sids.valid[row]
    rows = generator.space.index_of(sids.codes[row, valid])
    return dict(zip(rows.tolist(), sids.scores[row, valid].tolist(), strict=True))
