"""What is simulated: a shop of any size (items, queries with graded relevance, logs), or logs for a judged dataset."""

from genrecall.synthesize.simulation import simulate
from genrecall.synthesize.write import synthesize

__all__ = ["simulate", "synthesize"]
