"""Evaluation: runs channels over queries, fuses them, measures against judgments, tests differences, draws."""
