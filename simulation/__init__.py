"""Simulated data: a shop of any size (items, queries with graded relevance, logs), or logs for a judged dataset.

Belongs to a source checkout: it is not installed with the package.
"""

from simulation.generated_shop import synthesize
from simulation.judged_dataset import simulate

__all__ = ["simulate", "synthesize"]
