"""The bm25s library, kept off the GPU.

Where JAX is installed, bm25s runs it once at import: that takes three quarters of a GPU's memory from torch, and is an
error where torch has taken it already. This computes on the CPU.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import bm25s

__all__ = ["bm25s"]
