"""Evaluation: runs channels over queries, fuses them, measures against judgments, tests differences.

The way of a figure: `collection` (channels) -> `protocol` (regimes, folds, runs on disk) -> `results` (what is
compared) -> `genrecall.reports`. Training chooses between two codebooks by `score_dev`.
"""

from genrecall.evaluation.selection import Score, score_dev

__all__ = ["Score", "score_dev"]
