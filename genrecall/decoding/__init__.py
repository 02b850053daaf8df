"""Constrained decoding of SIDs, on torch, NumPy and transformers alone: tables, lean decoder, search, generator."""

from genrecall.decoding.generator import GeneratedSids, Generator

__all__ = ["GeneratedSids", "Generator"]
