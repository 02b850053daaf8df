"""Evaluation: runs channels over queries, fuses them, measures against judgments, tests differences, draws.

The way of a figure: `catalogue` (channels) -> `protocol` (regimes, folds, runs on disk) -> `results` (what is
compared) -> `report` (tables and words). `score_dev` is what training asks to choose between two codebooks.
"""

from genrecall.evaluation.selection import Score, score_dev

__all__ = ["Score", "score_dev"]
