"""What is simulated: a shop of any size (items, queries with graded relevance, logs), or logs for a judged dataset."""

from simulation.simulation import simulate
from simulation.write import synthesize

__all__ = ["simulate", "synthesize"]
